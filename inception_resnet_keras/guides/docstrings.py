"""What griffe, which reads the source alone, does not make of this project's docstrings."""

from __future__ import annotations

import re
from typing import Any

import griffe


class FieldLists(griffe.Extension):
    """The fields in classes' docstrings as lists."""

    def on_class_instance(self, *, cls: griffe.Class, **options: Any) -> None:
        if cls.docstring:
            cls.docstring.value = listed(cls.docstring.value)


def listed(text: str) -> str:
    """A class's docstring with each paragraph that tells of fields, `name: …` a line, as a list."""
    return "\n\n".join(map(_paragraph, text.split("\n\n")))


def _paragraph(text: str) -> str:
    if not _FIELD.match(text):
        return text
    return _FIELD.sub(lambda found: f"- {', '.join(f'`{name}`' for name in found[1].split(', '))}: ", text)


_FIELD = re.compile(r"^([a-z][a-z0-9_]*(?:, [a-z][a-z0-9_]*)*): ", re.MULTILINE)
