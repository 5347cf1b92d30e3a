"""Trainers' .pt files: plain values beside the tensors become data, by a short list of names; nothing is run."""

from __future__ import annotations

import argparse
import collections
import copyreg
import datetime as dt
import decimal
import fractions
import functools
import io
import pathlib
import pickle
import types
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.weights.readers import open_checkpoint, pickles

from .. import synthetic


class Call:
    """Pickles as a name that is called, as PyTorch's own values do."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self.name, self.arguments = synthetic._Name(module, name), arguments


class Pickler(synthetic._Pickler):
    def save(self, value: Any, save_persistent_id: bool = True) -> Any:
        if not isinstance(value, Call):
            return super().save(value, save_persistent_id)
        super().save(value.name)
        super().save(value.arguments)
        self.write(pickle.REDUCE)
        return None


def torch_file(path: Path, state: Any, protocol: int = 2) -> Path:
    """A file of PyTorch's, with tensors where `state` has arrays."""
    arrays: list[np.ndarray] = []

    def tensors(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            arrays.append(value)
            return synthetic._Tensor(synthetic._Storage(str(len(arrays) - 1), value))
        if type(value) is dict:
            return {key: tensors(inside) for key, inside in value.items()}
        return [tensors(inside) for inside in value] if type(value) is list else value

    pickled = io.BytesIO()
    Pickler(pickled, protocol=protocol).dump(tensors(state))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled.getvalue())
        for number, array in enumerate(arrays):
            archive.writestr(f"archive/data/{number}", array.tobytes())
    return path


STATE = {"conv.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "conv.bias": np.ones(2, np.float32)}

PLAIN = {
    "namespace": argparse.Namespace(lr=0.1, data=pathlib.PurePosixPath("/data/train"), gpus=[0, 1], resume=None),
    "simple namespace": types.SimpleNamespace(epochs=3, inner=argparse.Namespace(a=1)),
    "ordered": collections.OrderedDict(a=1, b=[2]),
    "defaultdict": collections.defaultdict(list, {"loss": [1.0, 0.5]}),
    "nested defaultdict": collections.defaultdict(dict, {1: {"x": ()}}),
    "counter": collections.Counter({30: 1, 60: 1}),
    "deque": collections.deque([1, 2, 3], maxlen=5),
    "path": pathlib.Path("a/b/c"),
    "long path": pathlib.Path("/".join("abcdefghijklmnop")),
    "windows path": pathlib.PureWindowsPath("C:/models"),
    "numpy scalars": [np.float32(1.5), np.float64(0.1), np.int64(7), np.bool_(True)],
    "numpy dtype": np.dtype("float32"),
    "numpy type": np.float32,
    "numpy array": np.arange(624, dtype=np.uint32),
    "random state": ("MT19937", np.arange(624, dtype=np.uint32), 3, 0, 0.0),
    "datetime": dt.datetime(2024, 5, 17, 12, 30, tzinfo=dt.UTC),
    "date": [dt.date(2024, 5, 17), dt.time(1, 2), dt.timedelta(hours=3)],
    "device": Call("torch", "device", "cuda", 0),
    "dtype": synthetic._Name("torch", "bfloat16"),
    "size": Call("torch", "Size", (1, 2, 3)),
    "version": Call("torch.torch_version", "TorchVersion", "2.1.0+cu121"),
    "bytes": b"\x00\xff run",
    "bytearray": bytearray(b"\x01"),
    "set": {1, 2, 3},
    "frozenset": frozenset(["a"]),
    "complex": 1 + 2j,
    "range": range(3),
    "slice": slice(1, 2),
    "decimal": decimal.Decimal("1.25"),
    "fraction": fractions.Fraction(1, 3),
    "uuid": uuid.UUID(int=7),
    "type": int,
    "mixed keys": {None: 1, True: 2, 1.5: 3, ("a", 1): 4, 2**40: 5},
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_value_beside_the_tensors_is_no_obstacle(name: str, protocol: int, tmp_path: Path) -> None:
    path = torch_file(tmp_path / "a.pt", {"epoch": 3, "args": PLAIN[name], "state_dict": STATE}, protocol)
    with open_checkpoint(path) as checkpoint:
        assert set(checkpoint.tensors) == {f"state_dict.{key}" for key in STATE}
        np.testing.assert_array_equal(checkpoint.read("state_dict.conv.weight"), STATE["conv.weight"])


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(
        st.sampled_from([value for name, value in PLAIN.items() if name != "mixed keys"]),
        lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=5), inside, max_size=4),
    ),
    st.sampled_from([2, 4]),
)
def test_any_nest_of_plain_values_is_no_obstacle(
    tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int
) -> None:
    path = torch_file(tmp_path_factory.mktemp("nest") / "a.pt", {"model": STATE, "meta": value}, protocol)
    with open_checkpoint(path) as checkpoint:
        assert set(checkpoint.tensors) == {f"model.{key}" for key in STATE}


def test_what_is_rebuilt_is_data() -> None:
    def read(value: Any) -> Any:
        return pickles.read(io.BytesIO(pickle.dumps(value, protocol=2)))

    namespace = read(argparse.Namespace(lr=0.1, names=["a"]))
    assert (namespace.kind, namespace.state) == ("argparse.Namespace", {"lr": 0.1, "names": ["a"]})
    assert read(pathlib.PurePosixPath("/a/b")) == pickles.Plain("pathlib.PurePosixPath", ("/", "a", "b"))
    assert read(collections.defaultdict(list, a=[1])) == {"a": [1]}
    assert read(collections.Counter("aab")) == {"a": 2, "b": 1}
    assert read(collections.deque([1, 2])).state == [1, 2]
    assert read(list) == pickles.Global("__builtin__", "list")


def test_an_object_of_the_oldest_protocols() -> None:
    class Old:
        def __reduce__(self) -> Any:
            return copyreg._reconstructor, (argparse.Namespace, object, None), {"a": 1}  # type: ignore[attr-defined]

    found = pickles.read(io.BytesIO(pickle.dumps(Old(), protocol=2)))
    assert (found.kind, found.state) == ("copy_reg._reconstructor", {"a": 1})


def test_an_ordered_dict_of_pairs_is_moved_not_copied() -> None:
    """Python 2's: a list that is referred to again and again makes one dict."""
    pairs = b"](](X\x01\x00\x00\x00aK\x01ee"
    many = b"\x80\x02]q\x01(" + pairs + b"q\x02" + b"ccollections\nOrderedDict\nh\x02\x85R" * 3 + b"e."
    made = pickles.read(io.BytesIO(many))
    assert made == [[], {"a": 1}, {}, {}]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (functools.partial(print), "functools.partial"),
        (print, "print"),
        (Call("builtins", "eval", "1"), "builtins.eval"),
        (Call("builtins", "getattr", "a", "b"), "builtins.getattr"),
        (Call("builtins", "open", "x"), "builtins.open"),
        (Call("builtins", "type", "x"), "builtins.type"),
        (Call("__builtin__", "exec", "1"), "__builtin__.exec"),
        (Call("os", "system", "true"), "os.system"),
        (Call("subprocess", "Popen", "true"), "subprocess.Popen"),
        (Call("pathlib", "os"), "pathlib.os"),
        (Call("argparse", "ArgumentParser"), "argparse.ArgumentParser"),
        (Call("argparse", "FileType", "w"), "argparse.FileType"),
        (Call("collections", "namedtuple", "a", "b"), "collections.namedtuple"),
        (Call("types", "FunctionType"), "types.FunctionType"),
        (Call("types", "CodeType"), "types.CodeType"),
        (Call("numpy", "load", "x"), "numpy.load"),
        (Call("numpy.core.multiarray", "fromfile", "x"), "numpy.core.multiarray.fromfile"),
        (Call("torch", "load", "x"), "torch.load"),
        (Call("torch.hub", "load", "x"), "torch.hub.load"),
        (Call("_codecs", "lookup", "x"), "_codecs.lookup"),
        (Call("copyreg", "_reduce_ex", "x"), "copyreg._reduce_ex"),
        (Call("datetime", "sys"), "datetime.sys"),
        (synthetic._Name("argparse", "_os.system"), "argparse._os.system"),
        (synthetic._Name("builtins", "dict.update"), "builtins.dict.update"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_every_other_name_is_refused_by_name(value: Any, named: str, protocol: int, tmp_path: Path) -> None:
    path = torch_file(tmp_path / "a.pt", {"state_dict": STATE, "args": value}, protocol)
    with pytest.raises(InputError, match=rf"its pickle names \S*{named}.*nothing in it was run"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("pickled", "complaint"),
    [
        (b"\x80\x02cargparse\nNamespace\n}b.", "treats a Global as"),
        (b"\x80\x02cargparse\nNamespace\n)\x81(K\x01K\x02u.", "treats a Plain as a dict"),
        (b"\x80\x02cargparse\nNamespace\nK\x01\x81.", "creates argparse.Namespace by NEWOBJ"),
        (b"\x80\x02ctorch\nFloatStorage\n)\x81.", "creates torch.FloatStorage by NEWOBJ"),
        (b"\x80\x02K\x01)\x81.", "creates a int by NEWOBJ"),
        (b"\x80\x04]\x94(K\x01\x90.", "treats a list as a set"),
        (b"\x80\x02ccollections\nOrderedDict\n]K\x01a\x85R.", "than a dict or a list of pairs"),
        (b"\x80\x02ccollections\ndefaultdict\nK\x01\x85R.", "other than the name of a type"),
        (b"\x80\x02}(cargparse\nNamespace\n)\x81K\x01u.", "key of type Plain"),
        (b"\x80\x02}(K\x01K\x02\x86\x85K\x01u.", "key of type tuple"),
        (b"\x80\x02cargparse\nNamespace\n)\x81.", "holds a argparse.Namespace, and a state dict"),
        (pickle.dumps(np.float32(1), protocol=2), "holds a numpy.*scalar, and a state dict"),
    ],
)
def test_plain_values_are_used_as_what_they_are(pickled: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    with pytest.raises(InputError, match=complaint):
        open_checkpoint(path)


def test_tensors_are_named_by_the_way_to_them(tmp_path: Path) -> None:
    state = {
        "state_dict": STATE,
        "nets": [{"w": np.zeros(1, np.float32)}, {"w": np.ones(1, np.float32)}],
        "optimizer": {"state": {0: {"exp_avg": np.zeros(2, np.float32)}}, "param_groups": [{"params": [0]}]},
    }
    with open_checkpoint(torch_file(tmp_path / "a.pt", state)) as checkpoint:
        assert set(checkpoint.tensors) == {
            *("state_dict.conv.weight", "state_dict.conv.bias", "nets.0.w", "nets.1.w", "optimizer.state.0.exp_avg"),
        }
        assert checkpoint.read("nets.1.w") == 1


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    state = {"a": {"b": np.zeros(1, np.float32)}, "a.b": np.zeros(1, np.float32)}
    with pytest.raises(InputError, match=r"a\.b occurs twice"):
        open_checkpoint(torch_file(tmp_path / "a.pt", state))


def test_containers_that_hold_themselves_or_are_deep_end(tmp_path: Path) -> None:
    looped: dict[str, Any] = {"w": 1}
    looped["self"] = looped
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(looped, protocol=2))
    with pytest.raises(InputError, match="has no tensors; its first keys are 'w', 'self'"):
        open_checkpoint(path)
    deep = b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b"."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", deep)
    with pytest.raises(InputError, match="over 64 deep"):
        open_checkpoint(path)


def test_one_container_many_times_is_entered_once(tmp_path: Path) -> None:
    """Thirty dicts of two references each to the next: a billion ways to one tensor."""
    state: Any = {"w": np.zeros(1, np.float32)}
    path = tmp_path / "a.pt"
    inner = synthetic._Tensor(synthetic._Storage("0", state["w"]))
    nest: Any = {"w": inner}
    for _ in range(30):
        nest = {"a": nest, "b": nest}
    pickled = io.BytesIO()
    Pickler(pickled, protocol=2).dump(nest)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled.getvalue())
        archive.writestr("archive/data/0", bytes(4))
    with open_checkpoint(path) as checkpoint:
        assert len(checkpoint.tensors) == 1
