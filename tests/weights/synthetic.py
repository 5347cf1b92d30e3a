"""Checkpoints as other projects write them, of synthetic weights: each tensor is made from its own name.

The recipe is the one that the outputs in tests/golden/parity were computed with, by those projects' own code.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import pickle
import tarfile
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from inception_resnet_keras.weights.readers.tf_tables import TABLE_MAGIC, crc32c

GOLDEN = Path(__file__).parents[1] / "golden" / "parity"
Arrays = dict[str, np.ndarray]


def manifest(name: str) -> dict[str, tuple[int, ...]]:
    """Every tensor that the project writes, with its shape, in its order."""
    entries = json.loads((GOLDEN / f"{name}.manifest.json").read_text())
    return {key: tuple(shape) for key, shape in entries.items()}


def outputs(name: str) -> Any:
    return np.load(GOLDEN / f"{name}.npz")


def images(size: int) -> np.ndarray:
    return np.random.default_rng(0).random((2, size, size, 3), dtype=np.float32) * 2 - 1


def tensor(name: str, shape: tuple[int, ...], *, channels_first: bool) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode("utf-8"))))
    kind = name.replace("/", ".").rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if kind in ("moving_variance", "running_var"):
        return np.float32(0.5) + rng.random(shape, dtype=np.float32)
    values = rng.standard_normal(shape, dtype=np.float32)
    if len(shape) > 1:
        inputs = math.prod(shape[1:] if channels_first else shape[:-1])
        return values * np.float32(math.sqrt(2 / inputs))
    return 1 + values * np.float32(0.1) if kind == "weight" else values * np.float32(0.1)


def arrays(name: str) -> Arrays:
    """A project's whole checkpoint."""
    channels_first = name.startswith(("timm", "facenet_pytorch"))
    return {key: tensor(key, shape, channels_first=channels_first) for key, shape in manifest(name).items()}


def write_safetensors(path: Path, values: Arrays) -> Path:
    from safetensors.numpy import save_file

    save_file(values, path)
    return path


class _Name:
    """Pickles as a name, the way PyTorch's classes do."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Storage:
    def __init__(self, key: str, array: np.ndarray) -> None:
        self.key, self.array = key, array


class _Tensor:
    def __init__(self, storage: _Storage) -> None:
        self.storage = storage


_InPython: Any = vars(pickle)["_Pickler"]  # the pickler written in Python: its `save` can be extended


class _Pickler(_InPython):
    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, _Storage):
            return None
        kind = {"float32": "FloatStorage", "int64": "LongStorage"}[value.array.dtype.name]
        return ("storage", _Name("torch", kind), value.key, "cpu", value.array.size)

    def save(self, value: Any, save_persistent_id: bool = True) -> Any:
        if isinstance(value, _Name):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
            return None
        if isinstance(value, _Tensor):
            shape = value.storage.array.shape
            stride = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
            self.save(_Name("torch._utils", "_rebuild_tensor_v2"))
            self.save((value.storage, 0, shape, stride, False, {}))
            self.write(pickle.REDUCE)
            return None
        return super().save(value, save_persistent_id)


def write_torch(path: Path, values: Arrays) -> Path:
    """A state dict as `torch.save` writes it: a zip of a pickle and of one stored member a tensor."""
    state = {name: _Tensor(_Storage(str(number), array)) for number, (name, array) in enumerate(values.items())}
    pickled = io.BytesIO()
    _Pickler(pickled, protocol=2).dump(state)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled.getvalue())
        archive.writestr("archive/byteorder", "little")
        for number, array in enumerate(values.values()):
            archive.writestr(f"archive/data/{number}", np.ascontiguousarray(array).tobytes())
        archive.writestr("archive/version", "3\n")
    return path


def write_tensorflow(path: Path, values: Arrays, version: int) -> Path:
    """A TensorFlow checkpoint: version 1 is one file, version 2 an index and its data."""
    if find_spec("tensorflow") is None and version == 2:
        return write_bundle(path, values)
    import tensorflow as tf

    names, data = list(values), [tf.constant(array) for array in values.values()]
    if version == 1:
        tf.raw_ops.Save(filename=str(path), tensor_names=names, data=data)
    else:
        tf.raw_ops.SaveV2(prefix=str(path), tensor_names=names, shape_and_slices=[""] * len(names), tensors=data)
    return path


def write_bundle(path: Path, values: Arrays) -> Path:
    """A TensorFlow checkpoint of version 2, written without TensorFlow: one table of one block, one file of data."""
    kinds = {"float32": 1, "int64": 9}
    entries, offset = [(b"", _field(1, 1) + _field(3, _field(1, 1)))], 0
    with path.with_name(f"{path.name}.data-00000-of-00001").open("wb") as file:
        for name in sorted(values, key=str.encode):
            data = np.ascontiguousarray(values[name]).tobytes()
            file.write(data)
            shape = b"".join(_field(2, _field(1, side)) for side in values[name].shape)
            place = _field(4, offset) + _field(5, len(data)) + bytes([6 << 3 | 5]) + _masked(data)
            entries.append((name.encode(), _field(1, kinds[values[name].dtype.name]) + _field(2, shape) + place))
            offset += len(data)
    table = b""
    handles = []
    for block in (_block(entries), _block([])):
        handles.append(_varint(len(table)) + _varint(len(block)))
        table += block + b"\0" + _masked(block + b"\0")
    index = _block([(entries[-1][0], handles[0])])
    handles.append(_varint(len(table)) + _varint(len(index)))
    table += index + b"\0" + _masked(index + b"\0")
    footer = (handles[1] + handles[2]).ljust(40, b"\0") + TABLE_MAGIC
    path.with_name(f"{path.name}.index").write_bytes(table + footer)
    return path


def _varint(number: int) -> bytes:
    digits = []
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def _field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer: a number, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _masked(data: bytes) -> bytes:
    """The checksum of a table's block, or of a tensor."""
    checksum = crc32c(data)
    return (((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Each key written whole, as one is where a block restarts."""
    rows = [b"\0" + _varint(len(key)) + _varint(len(value)) + key + value for key, value in entries]
    starts = [0, *itertools.accumulate(map(len, rows))][: max(len(rows), 1)]
    numbers = [*starts, len(starts)]
    return b"".join(rows) + b"".join(number.to_bytes(4, "little") for number in numbers)


def write_archive(path: Path, *files: Path) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for file in files:
            archive.add(file, file.name)
    return path


def write_legacy_hdf5(path: Path, values: Arrays) -> Path:
    """Keras's old HDF5, from names such as `conv2d_1|conv2d_1/kernel:0`."""
    import h5py

    layers: dict[str, list[str]] = {}
    for name in values:
        layers.setdefault(name.partition("|")[0], []).append(name)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, names in layers.items():
            group = file.create_group(layer)
            weights = [name.partition("|")[2] for name in names]
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for name, weight in zip(names, weights, strict=True):
                group.create_dataset(weight, data=values[name])
    return path


def crc32c_by_tensorflow(data: bytes) -> int:
    """The CRC-32C that TensorFlow writes after a record of a TFRecord file, unmasked."""
    import tempfile

    import tensorflow as tf

    with tempfile.NamedTemporaryFile() as file:
        with tf.io.TFRecordWriter(file.name) as writer:
            writer.write(data)
        masked = int.from_bytes(Path(file.name).read_bytes()[-4:], "little")
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF
