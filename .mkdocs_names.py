"""Tells the documentation's generator that the names in `__init__.pyi` are the package's own, to be shown there."""

from typing import Any

from griffe import Extension, Module


class PublicNames(Extension):
    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        pkg.exports = [name for name, member in pkg.members.items() if member.is_alias and not name.startswith("_")]
