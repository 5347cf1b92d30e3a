"""A SavedModel is a program: one that would touch files or run other code is refused before it is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError

# Operations that read or write files, call Python or talk to other machines; a network needs none of them.
_UNWANTED = re.compile(
    "File|PyFunc|Reader|Record|Save|Restore|Checkpoint|LoadAndRemap|Dataset|Iterator|Summary|Debug|Print|Rpc|Table"
)


def refuse_unsafe(path: Path, name: str = "saved_model.pb") -> None:
    """Raises InputError where what loading or running a SavedModel may call has an operation that no network needs."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf import saved_model_pb2

    found = saved_model_pb2.SavedModel()
    try:
        found.ParseFromString((path / name).read_bytes())
    except DecodeError as error:
        raise InputError(f"{path}: its {name} is damaged: {error}") from None
    for graph in found.meta_graphs:
        functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
        for operation in _reachable(graph.object_graph_def.concrete_functions, functions):
            if _UNWANTED.search(operation):
                raise InputError(
                    f"{path}: would run {operation}, which no network needs, so it is not opened: a SavedModel is a "
                    "program, take it from a place you trust"
                )


def _reachable(names: Iterable[str], functions: dict[str, Any]) -> Iterator[str]:
    """The operations of functions, and of those that they call."""
    waiting, seen = list(names), set(names)
    while waiting:
        for node in functions.get(waiting.pop(), ()):
            yield node.op
            called = [node.op, *(each for value in node.attr.values() for each in _called(value))]
            fresh = [name for name in called if name in functions and name not in seen]
            waiting += fresh
            seen.update(fresh)


def _called(value: Any) -> Iterator[str]:
    if value.HasField("func"):
        yield value.func.name
    yield from (function.name for function in value.list.func)
