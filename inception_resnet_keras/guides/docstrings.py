"""Docstrings that are put together when their module is imported, for griffe, which reads the source alone."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import griffe


class ComposedDocstrings(griffe.Extension):
    """Gives the factories the docstring that `help()` shows: their own, and the arguments that all share."""

    def on_function_instance(self, *, func: griffe.Function, **options: Any) -> None:
        decorators = [str(decorator.value) for decorator in func.decorators]
        if "_documented" in decorators and func.docstring:
            function = getattr(import_module(func.parent.path), func.name)
            func.docstring.value = inspect.cleandoc(function.__doc__)
