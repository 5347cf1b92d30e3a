"""Reads the pickles of PyTorch files without unpickling: a few opcodes, interpreted over plain data.

Nothing is imported or called. A pickle may name the few things of `_KNOWN`; any other name, and any
other opcode, is refused by name. What is built is no larger than the pickle.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from ...errors import InputError

STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


@dataclass(frozen=True)
class Global:
    """Something a pickle names: its name only."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Storage:
    """A run of numbers elsewhere in the file."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class View:
    """A tensor: elements of a storage, by offset, size and stride."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Mark:
    """Where a list of arguments begins on the stack."""


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> View:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, Storage) or len(size) != len(stride) or len(size) > 8:
        raise InputError("a tensor in it is not built from a storage")
    if any(type(number) is not int or not 0 <= number < 2**48 for number in numbers):
        raise InputError(f"a tensor in it has offset {offset}, size {size}, stride {stride}")
    return View(storage, offset, tuple(size), tuple(stride))


def _parameter(tensor: Any, *rest: Any) -> View:
    if not isinstance(tensor, View):
        raise InputError("a parameter in it is no tensor")
    return tensor


def _dictionary(*rest: Any) -> dict[Any, Any]:
    if rest:
        raise InputError("an OrderedDict in it is built from arguments")
    return {}


_KNOWN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _dictionary,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": tuple,
}
_STORAGES = {f"torch.{name}" for name in STORAGES}


def read(stream: IO[bytes]) -> Any:
    """The next pickle of a stream as dicts, lists, tuples, numbers, strings, `Storage` and `View`.

    Raises InputError for whatever is not one of these; other exceptions where the bytes are no pickle.
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(stream):
        machine.step(opcode.name, argument)
    return machine.result()


_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT = ("BINPUT", "LONG_BINPUT")
_GET = ("BINGET", "LONG_BINGET")
_NOTHING = ("PROTO", "FRAME", "STOP")


class _Machine:
    """The stack and the memo; one method for what needs more than a line."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}  # a dict: a memo index of four billion allocates nothing

    def result(self) -> Any:
        (value,) = self.stack
        return value

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name in _PUT:
            self.memo[argument] = stack[-1]
        elif name in _GET:
            stack.append(self.memo[argument])
        elif name not in _NOTHING:
            handler = getattr(self, f"_{name.lower()}", None)
            if handler is None:
                raise InputError(f"its pickle uses {name}, which no checkpoint needs: it is refused")
            handler(argument)

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _mark(self, _: Any) -> None:
        self.stack.append(Mark)

    def _since_mark(self) -> list[Any]:
        start = len(self.stack) - 1 - self.stack[::-1].index(Mark)
        items = self.stack[start + 1 :]
        del self.stack[start:]
        return items

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self._top(list).append(item)

    def _appends(self, _: Any) -> None:
        items = self._since_mark()
        self._top(list).extend(items)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set(key, value)

    def _setitems(self, _: Any) -> None:
        items = self._since_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(key, value)

    def _set(self, key: Any, value: Any) -> None:
        if not isinstance(key, str) and not (type(key) is int and abs(key) < 2**31):
            raise InputError(f"a dict in its pickle has a key of type {type(key).__name__}")
        self._top(dict)[key] = value

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise InputError(f"its pickle fills a {type(self.stack[-1]).__name__} as if it were a {kind.__name__}")
        return self.stack[-1]

    def _global(self, argument: str) -> None:
        self._name(*argument.split(" ", 1))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._name(str(module), str(name))

    def _name(self, module: str, name: str) -> None:
        found = Global(module, name)
        if str(found) not in _KNOWN and str(found) not in _STORAGES:
            raise InputError(
                f"its pickle names {found}, and a checkpoint holds tensors and containers only: it is refused, "
                "and nothing of it was run. Where the file is trusted, save its state_dict alone"
            )
        self.stack.append(found)

    def _reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        builder = _KNOWN.get(str(called)) if isinstance(called, Global) else None
        if builder is None or not isinstance(arguments, tuple):
            raise InputError(f"its pickle calls {called}: it is refused")
        self.stack.append(builder(*arguments))

    def _build(self, _: Any) -> None:
        """Attributes set on a state dict (PyTorch's `_metadata`) are passed over."""
        self.stack.pop()
        self._top(dict)

    def _binpersid(self, _: Any) -> None:
        kind, storage, key, _device, count, *view = self.stack.pop()
        if kind != "storage" or not isinstance(storage, Global) or str(storage) not in _STORAGES:
            raise InputError(f"its pickle refers to a {kind} of {storage}: it is refused")
        if not isinstance(key, str) or type(count) is not int or count < 0 or view not in ([], [None]):
            raise InputError(f"a storage in it has key {key!r} and {count!r} elements")
        self.stack.append(Storage(key, STORAGES[storage.name], count))
