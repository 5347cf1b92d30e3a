"""Prepares the package's docstrings for the documentation's generator.

The names in `__init__.pyi` become the package's own, and defaults that are constants are shown by their values. In
docstrings, fields that are written as "name: text" become lists of attributes or parameters. A line that only looks
like a heading, because it has a colon and the next line is indented, stays a sentence: Google's style would make a note
of it.
"""

import re
from collections.abc import Iterator
from typing import Any

from griffe import Attribute, Class, ExprName, Extension, Function, Module, Object

SECTION = r"(?:Args|Attributes|Examples?|Raises|Returns|Warns|Yields):"
BREAK = re.compile(rf"\n(?: *\n)+|\n(?={SECTION}\n)")


class Docstrings(Extension):
    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        pkg.exports = [name for name, member in pkg.members.items() if member.is_alias and not name.startswith("_")]
        for each in _objects(pkg):
            for parameter in each.parameters if isinstance(each, Function) else ():
                parameter.default = _value(each, parameter.default)
            if isinstance(each, Attribute) and isinstance(each.parent, Class):  # a data class's field
                each.value = _value(each, each.value)
            if each.docstring:
                title = "Args" if isinstance(each, Function) else "Attributes"
                each.docstring.value = prepared(each.docstring.value, _fields(each), title)


def _objects(parent: Object) -> Iterator[Object]:
    yield parent
    for member in parent.members.values():
        if isinstance(member, Object):
            yield from _objects(member)


def _value(owner: Object, default: Any) -> Any:
    """The number or text of a default that a constant's name stands for; else the default as it is written."""
    if isinstance(default, ExprName):
        try:
            constant = owner.modules_collection[default.canonical_path]
        except KeyError:  # a built-in name
            return default
        if isinstance(constant, Attribute) and re.fullmatch(r"[-\d._ *]+|[\"'].*[\"']", str(constant.value)):
            return constant.value
    return default


def _fields(each: Object) -> set[str]:
    """What "name: text" may describe in a docstring."""
    parameters = {parameter.name for parameter in each.parameters} if isinstance(each, Function | Class) else set()
    return parameters | (set(each.members) if isinstance(each, Class) else set())


def prepared(docstring: str, fields: set[str], title: str) -> str:
    """A docstring in Google's style; title: the section of its "name: text" lines, if their names are in `fields`."""
    written: list[str] = []
    for paragraph in BREAK.split(docstring):
        lines = paragraph.split("\n")
        if re.fullmatch(SECTION, lines[0]):
            written.append("\n".join(_section(lines)))
        elif lines[0].startswith((" ", ">>>", "```", "- ", "|")):
            written.append(paragraph)  # more of a section, or a block
        else:
            first = next((at for at, line in enumerate(lines) if _names(line, fields)), len(lines))
            if first:
                written.append("\n".join(line.strip() for line in lines[:first]))
            if lines[first:]:
                written.append("\n".join([f"{title}:", *_entries(" ".join(map(str.strip, lines[first:])), fields)]))
    return "\n\n".join(written)


def _section(lines: list[str]) -> list[str]:
    """Types stand in the signature: a colon in the text of Returns does not end one."""
    head, *body = lines
    if head == "Example:":
        return ["Examples:", *body]
    if head in ("Returns:", "Yields:") and body:
        return [head, re.sub(r"^(\s*)", r"\1: ", body[0], count=1), *body[1:]]
    return lines


def _names(line: str, fields: set[str]) -> bool:
    found = re.match(r"(\w+(?:, \w+)*): ", line)
    return bool(found) and set(found[1].split(", ")) <= fields


def _entries(text: str, fields: set[str]) -> list[str]:
    """Each field on a line of its own, also where one follows the other's full stop."""
    starts = [
        match.start()
        for match in re.finditer(r"(?:^|(?<=[.;] ))\w+(?:, \w+)*: ", text)
        if _names(text[match.start() :], fields)
    ]
    return [f"    {text[start:end].strip()}" for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
