"""What griffe, which reads the source alone, does not make of this project's docstrings."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

import griffe


class ComposedDocstrings(griffe.Extension):
    """The factories' docstrings as `help()` shows them, with the arguments that all share; and fields as lists."""

    def on_class_instance(self, *, cls: griffe.Class, **options: Any) -> None:
        if cls.docstring:
            cls.docstring.value = listed(cls.docstring.value)

    def on_function_instance(self, *, func: griffe.Function, **options: Any) -> None:
        decorators = [str(decorator.value) for decorator in func.decorators]
        if "_documented" in decorators and func.docstring:
            function = getattr(import_module(func.parent.path), func.name)
            func.docstring.value = inspect.cleandoc(function.__doc__)


def listed(text: str) -> str:
    """A class's docstring with each paragraph that tells of fields, `name: …` a line, as a list."""
    return "\n\n".join(map(_paragraph, text.split("\n\n")))


def _paragraph(text: str) -> str:
    if not _FIELD.match(text):
        return text
    return _FIELD.sub(lambda found: f"- {', '.join(f'`{name}`' for name in found[1].split(', '))}: ", text)


_FIELD = re.compile(r"^([a-z][a-z0-9_]*(?:, [a-z][a-z0-9_]*)*): ", re.MULTILINE)
