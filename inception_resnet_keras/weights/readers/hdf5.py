"""Keras's HDF5 files: legacy weights and models, and Keras 3's .weights.h5, alone or inside a .keras file."""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ...errors import InputError
from .checkpoint import Checkpoint, Tensor, within

KERAS_MEMBER = "model.weights.h5"
_ROLES = {  # Keras 3 numbers a layer's variables
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("beta", "moving_mean", "moving_variance"),
}


def read(path: Path, *, inside: Path | None = None) -> Checkpoint:
    """`inside`: the HDF5 file itself where `path` is what it was taken out of."""
    import h5py

    with ExitStack() as resources:
        file = resources.enter_context(h5py.File(inside or path, "r"))
        size = (inside or path).stat().st_size
        group = file["model_weights"] if _is_group(file, "model_weights") else file
        if "layer_names" in group.attrs or "layer_names0" in group.attrs:
            kind, found = "Keras HDF5 (legacy)", _legacy(path, group, size)
        elif _is_group(file, "layers"):
            kind, found = "Keras 3 weights", _keras3(file["layers"])
        else:
            raise InputError(f"{path}: is an HDF5 file, but holds no weights of a Keras model")
        tensors = {name: _lazy(path, name, dataset, size) for name, dataset in found.items()}
        return Checkpoint(path, kind, tensors, resources.pop_all())


def read_keras(path: Path, archive: zipfile.ZipFile) -> Checkpoint:
    """The weights in a .keras archive, unpacked beside the reading: HDF5 needs a file to seek in."""
    info = archive.getinfo(KERAS_MEMBER)
    if info.compress_type != zipfile.ZIP_STORED:
        raise InputError(f"{path}: member {KERAS_MEMBER} is compressed, which Keras does not do: it is refused")
    within(path, f"member {KERAS_MEMBER}", info.file_size, path.stat().st_size)
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="inception-resnet-keras-")))
        unpacked = folder / KERAS_MEMBER
        with archive.open(info) as member, unpacked.open("wb") as out:
            shutil.copyfileobj(member, out, 2**20)
        checkpoint = read(path, inside=unpacked)
        resources.callback(checkpoint.resources.close)
        return Checkpoint(path, "Keras 3 model", checkpoint.tensors, resources.pop_all())


def _legacy(path: Path, group: Any, size: int) -> dict[str, Any]:
    """`layer/kernel` → dataset, by the names that the groups' attributes list."""
    found: dict[str, Any] = {}
    for layer in _strings(path, group, "layer_names", size):
        inner = _member(path, group, layer)
        for weight in _strings(path, inner, "weight_names", size):
            name = f"{layer}/{weight.rpartition('/')[2].partition(':')[0]}"
            if name in found:
                raise InputError(f"{path}: lists {name} twice")
            found[name] = _member(path, inner, weight)
    return found


def _strings(path: Path, group: Any, name: str, size: int) -> list[str]:
    """A list of names; Keras cuts a long one into name0, name1, …"""
    numbered = [f"{name}{number}" for number in range(len(group.attrs)) if f"{name}{number}" in group.attrs]
    found: list[str] = []
    for part in [name] if name in group.attrs else numbered:
        attribute = group.attrs.get_id(part)
        length = math.prod(attribute.shape) * attribute.dtype.itemsize
        within(path, f"attribute {part} of {group.name}", length, size)
        found += [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in group.attrs[part]]
    return found


def _member(path: Path, group: Any, name: str) -> Any:
    """A member of this very file: a link that leaves it is refused."""
    import h5py

    for part in name.split("/"):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{path}: {name} is not in the file, or is a link out of it")
        group = group[part]
    return group


def _is_group(file: Any, name: str) -> bool:
    import h5py

    return isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Group)


def _keras3(layers: Any) -> dict[str, Any]:
    """`layer/kernel` → dataset, by the layers' own names, which Keras writes beside their variables."""
    found: dict[str, Any] = {}
    for group in layers:
        if not _is_group(layers, group) or not _is_group(layers[group], "vars"):
            continue
        variables = layers[group]["vars"]
        name = str(variables.attrs.get("name", group))
        kind = group.rstrip("0123456789").rstrip("_") if group.rpartition("_")[2].isdigit() else group
        roles = _ROLES.get(kind, ())
        for number in variables:
            role = roles[int(number)] if number.isdigit() and int(number) < len(roles) else number
            found[f"{name}/{role}"] = variables[number] if _is_dataset(variables, number) else None
    return found


def _is_dataset(group: Any, name: str) -> bool:
    import h5py

    return isinstance(group.get(name, getlink=True), h5py.HardLink) and isinstance(group[name], h5py.Dataset)


def _lazy(path: Path, name: str, dataset: Any, size: int) -> Tensor:
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{path}: {name} is no array")
    properties = dataset.id.get_create_plist()
    if properties.get_nfilters() or properties.get_external_count() or dataset.is_virtual:
        raise InputError(f"{path}: {name} is compressed or lies in another file: save it again, plain")
    within(path, name, dataset.nbytes, size)
    return Tensor(tuple(dataset.shape), dataset.dtype.name, lambda: dataset[()])
