"""Reads the pickles of PyTorch files without unpickling: a few opcodes are interpreted, and only plain data is built.

Nothing is imported or called. A pickle may name the functions in `_KNOWN`, which have their own implementations here,
and the harmless types in `_PLAIN` that trainers store beside their tensors, which are kept as names and arguments. Any
other name or opcode is refused. References copy nothing and opcodes are counted, so memory is bounded by the file's
size and OPCODES. Error messages contain types, never values: a few bytes can refer to a tuple whose text would take
gigabytes.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, cast

from ...common.errors import InputError

OPCODES = 1_000_000  # per pickle; a thousand tensors with an optimizer's state need 200,000
_ARGUMENTS = 8  # per call; a tensor has seven
_DIMENSIONS = 8
_LONGEST_NAME = 100  # characters shown in messages

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
    """The name of a type or function in a pickle; it is not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Storage:
    """An array of numbers elsewhere in the file."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class View:
    """A tensor: the elements of a storage at an offset, with a size and strides."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass
class Plain:
    """A value of a harmless type, as data: its type's name, its constructor's arguments, and its state."""

    kind: str
    arguments: Any
    state: Any = None


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> View:
    if not isinstance(storage, Storage):
        raise InputError("a tensor in it is not built from a storage")
    if not isinstance(size, tuple) or not isinstance(stride, tuple) or not len(size) == len(stride) <= _DIMENSIONS:
        raise InputError(f"a tensor in it does not have a size and strides of equal length, at most {_DIMENSIONS}")
    if any(type(number) is not int or not 0 <= number < 2**48 for number in (offset, *size, *stride)):
        raise InputError("a tensor in it has an offset, size or stride that is not an integer from 0 to 2**48")
    return View(storage, offset, size, stride)


def _parameter(tensor: Any, *rest: Any) -> View:
    if not isinstance(tensor, View):
        raise InputError("a parameter in it is not a tensor")
    return tensor


def _size(*numbers: Any) -> tuple[Any, ...]:
    if len(numbers) != 1 or not isinstance(numbers[0], tuple | list) or len(numbers[0]) > _DIMENSIONS:
        raise InputError(f"a torch.Size in it is not a list of at most {_DIMENSIONS} numbers")
    return tuple(numbers[0])


def _dictionary(*items: Any) -> dict[Any, Any]:
    """An OrderedDict or a Counter, empty or made from a dict or a list of pairs."""
    if not items:
        return {}
    (given,) = items
    if isinstance(given, dict):
        return given
    if isinstance(given, list) and all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in given):
        pairs = given.copy()
        given.clear()  # the pairs are moved, so that many references to a long list cannot multiply it
        return {_key(key): value for key, value in pairs}
    raise InputError("an OrderedDict or Counter in it is built from something other than a dict or a list of pairs")


def _default_dictionary(factory: Any = None, *rest: Any) -> dict[Any, Any]:
    if rest or not (factory is None or isinstance(factory, Global)):
        raise InputError("a defaultdict in it is built from something other than the name of a type")
    return {}


def _key(key: Any) -> Any:
    """Check that a dict's key is of a type that can be hashed quickly."""
    parts = key if type(key) is tuple and len(key) <= _ARGUMENTS else (key,)
    for part in parts:
        short = isinstance(part, str) and (parts is not key or len(part) <= _LONGEST_NAME)
        if not (short or part is None or type(part) in (bool, float) or (type(part) is int and abs(part) < 2**64)):
            raise InputError(f"a dict in its pickle has a key of type {type(key).__name__}")
    return key


_KNOWN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
    "collections.defaultdict": _default_dictionary,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
}

_STORAGES = {f"torch.{name}" for name in STORAGES}

_BUILTINS = "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple"
_PATHS = "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath"

# Types that trainers store beside the tensors, by module. The names are kept as text and never imported.
_HARMLESS = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "builtins": _BUILTINS,
    "__builtin__": f"{_BUILTINS} long unicode xrange",  # Python 2's name, also used in pickles for it
    "collections": "deque",
    "copyreg": "_reconstructor",  # creates an object in the oldest protocols
    "copy_reg": "_reconstructor",
    "_codecs": "encode",  # bytes, kept as the text that encodes them
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,
    "uuid": "UUID",
    "numpy": "bool bool_ dtype float16 float32 float64 int16 int32 int64 int8 longlong ndarray uint16 uint32 uint64 "
    "uint8",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    "torch": "bfloat16 bool complex128 complex64 device double float float16 float32 float64 half int int16 int32 "
    "int64 int8 long short uint8",
    "torch.torch_version": "TorchVersion",
}
_PLAIN = {f"{module}.{name}" for module, names in _HARMLESS.items() for name in names.split()}


def read(stream: IO[bytes]) -> Any:
    """The next pickle of a stream, as dicts, lists, tuples, numbers, strings, `Plain`, `Storage` and `View`.

    Raises InputError for anything else, and other exceptions if the bytes are not a pickle.
    """
    machine = _Machine()
    for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if number >= OPCODES:
            raise InputError(f"its pickle has more than {OPCODES} opcodes, which no checkpoint needs: it is refused")
        machine.step(opcode.name, argument)
    return machine.result()


_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT = ("BINPUT", "LONG_BINPUT")
_GET = ("BINGET", "LONG_BINGET")
_NOTHING = ("PROTO", "FRAME", "STOP")


class _Machine:
    """The pickle machine's stack and memo. Opcodes that need more than a line have a method each."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []  # positions on the stack where lists of arguments begin
        self.memo: dict[int, Any] = {}  # a dict, so that an index of four billion allocates nothing

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
        self.marks.append(len(self.stack))

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _pop(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def _empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self._list().append(item)

    def _appends(self, _: Any) -> None:
        items = self._since_mark()
        self._list().extend(items)

    def _list(self) -> list[Any]:
        """The list on top of the stack, or a deque's list of items."""
        top = self.stack[-1]
        if isinstance(top, Plain) and top.kind == "collections.deque":
            top.state = top.state or []
            return cast(list[Any], top.state)
        return cast(list[Any], self._top(list))

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set(key, value)

    def _setitems(self, _: Any) -> None:
        items = self._since_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(key, value)

    def _set(self, key: Any, value: Any) -> None:
        self._top(dict)[_key(key)] = value

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise InputError(f"its pickle treats a {type(self.stack[-1]).__name__} as a {kind.__name__}: it is refused")
        return self.stack[-1]

    def _global(self, argument: str) -> None:
        self._name(*argument.split(" ", 1))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise InputError(f"its pickle names a {type(module).__name__} and a {type(name).__name__}: it is refused")
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        found = Global(module, name)
        if str(found) not in _KNOWN and str(found) not in _STORAGES and str(found) not in _PLAIN:
            raise InputError(
                f"its pickle names {str(found)[:_LONGEST_NAME]}, but a checkpoint holds only tensors and containers: "
                "it is refused, and nothing in it was run. If you trust the file, save only its state_dict"
            )
        self.stack.append(found)

    def _reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if isinstance(called, Global) and str(called) in _PLAIN and isinstance(arguments, tuple):
            self.stack.append(Plain(str(called), arguments))
            return
        builder = _KNOWN.get(str(called)) if isinstance(called, Global) else None
        shown = str(called) if isinstance(called, Global) else f"a {type(called).__name__}"
        if builder is None or not isinstance(arguments, tuple) or len(arguments) > _ARGUMENTS:
            raise InputError(f"its pickle calls {shown} with wrong arguments: it is refused")
        self.stack.append(builder(*arguments))

    def _newobj(self, _: Any) -> None:
        arguments, made = self.stack.pop(), self.stack.pop()
        if not isinstance(made, Global) or str(made) not in _PLAIN or not isinstance(arguments, tuple):
            shown = str(made) if isinstance(made, Global) else f"a {type(made).__name__}"
            raise InputError(f"its pickle creates {shown} by NEWOBJ, which no checkpoint needs: it is refused")
        self.stack.append(Plain(str(made), arguments))

    def _build(self, _: Any) -> None:
        """Set a value's state. Attributes of a state dict (PyTorch's `_metadata`) are ignored."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Plain):
            self.stack[-1].state = state
        else:
            self._top(dict)

    def _empty_set(self, _: Any) -> None:
        self.stack.append(Plain("builtins.set", []))

    def _additems(self, _: Any) -> None:
        items, top = self._since_mark(), self.stack[-1]
        if not isinstance(top, Plain) or not isinstance(top.arguments, list):
            raise InputError(f"its pickle treats a {type(top).__name__} as a set: it is refused")
        top.arguments.extend(items)

    def _frozenset(self, _: Any) -> None:
        self.stack.append(Plain("builtins.frozenset", self._since_mark()))

    def _binpersid(self, _: Any) -> None:
        kind, storage, key, _device, count, *view = self.stack.pop()
        if kind != "storage" or not isinstance(storage, Global) or str(storage) not in _STORAGES:
            raise InputError("its pickle refers to something other than a storage of numbers: it is refused")
        if not isinstance(key, str) or type(count) is not int or count < 0 or view not in ([], [None]):
            raise InputError("a storage in it has no name or no number of elements, or is a view of another")
        self.stack.append(Storage(key, STORAGES[storage.name], count))
