"""Keras's HDF5 files: legacy weights and models, and Keras 3's .weights.h5, alone or inside a .keras file."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ...common.errors import InputError
from .checkpoint import Checkpoint, Tensor, within

KERAS_FORMAT = "Keras 3 model"
KERAS_MEMBER = "model.weights.h5"
_CONFIG_MEMBER = "config.json"
_CONFIG_LIMIT = 16 * 2**20  # bytes; the largest network's takes 400 kB
_LONGEST = 256  # characters of a name
_NUMBERS = "fiub"  # NumPy's kinds: a string's length is not known before it is read

_KERAS_1 = re.compile(r".*_(?:W|b|running_mean|running_std)(?:_\d+)?(?::0)?")  # its names of a layer's arrays

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
        datasets = dict(_datasets(path, file))
        if any(_KERAS_1.fullmatch(name) for name in datasets):
            raise InputError(
                f"{path}: was written by Keras 1, whose files are not read: open it in Keras 2 (2.2.4 reads Keras 1's "
                "files) and save it again, model.load_weights(...), then model.save_weights('….h5')"
            )
        if "layer_names" in group.attrs or "layer_names0" in group.attrs:
            kind, found = "Keras HDF5 (legacy)", _legacy(path, group, datasets)
        elif _is_group(file, "layers"):
            kind, found = "Keras 3 weights", _keras3(path, file, datasets)
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
        layers = _layers(path, archive)
        return Checkpoint(path, KERAS_FORMAT, checkpoint.tensors, resources.pop_all(), layers)


def _layers(path: Path, archive: zipfile.ZipFile) -> dict[str, dict[str, Any]]:
    """The layers' settings as Keras wrote them, by name; nothing is built from them."""
    info = archive.getinfo(_CONFIG_MEMBER)
    within(path, f"member {_CONFIG_MEMBER}", info.file_size, _CONFIG_LIMIT)
    layers = json.loads(archive.read(info))["config"].get("layers", [])
    return {layer["config"]["name"]: layer["config"] | {"class": layer["class_name"]} for layer in layers}


def _datasets(path: Path, group: Any, seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """Every array below a group by its path; a link that leaves the file, or comes back, is refused."""
    import h5py

    seen = set() if seen is None else seen
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{path}: {name[:_LONGEST]} is not in the file, or is a link out of it")
        child = group[name]
        address = h5py.h5o.get_info(child.id).addr
        if address in seen or len(name) > _LONGEST:
            raise InputError(f"{path}: {name[:_LONGEST]} is there twice, or its name is too long: it is damaged")
        seen.add(address)
        if isinstance(child, h5py.Group):
            yield from _datasets(path, child, seen)
        elif isinstance(child, h5py.Dataset):
            yield child.name.removeprefix("/"), child
        else:
            raise InputError(f"{path}: {child.name} is no array")


def _legacy(path: Path, group: Any, datasets: dict[str, Any]) -> dict[str, Any]:
    """`layer/kernel` → dataset, by where they lie: Keras's lists of names say the same, and could swell when read.

    What is beside the layers (an optimizer's state) keeps its path.
    """
    inside = f"{group.name}/".removeprefix("/").removeprefix("/")
    found: dict[str, Any] = {}
    for place, dataset in datasets.items():
        parts = place.removeprefix(inside).split("/")
        weight = place.startswith(inside) and len(parts) > 1
        name = f"{parts[0]}/{parts[-1].partition(':')[0]}" if weight else place
        if name in found:
            raise InputError(f"{path}: {name} is there twice")
        found[name] = dataset
    return found


def _is_group(file: Any, name: str) -> bool:
    import h5py

    return isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Group)


def _keras3(path: Path, file: Any, datasets: dict[str, Any]) -> dict[str, Any]:
    """`layer/kernel` → dataset, by the layers' own names, which Keras writes beside their variables.

    What is no layer's own (an optimizer's state, the parts of a layer that is a model) keeps its path.
    """
    found: dict[str, Any] = {}
    for place, dataset in datasets.items():
        parts = place.split("/")
        own = len(parts) == 4 and (parts[0], parts[2]) == ("layers", "vars")
        name = _variable(path, file, parts[1], parts[3]) if own else place
        if name in found:
            raise InputError(f"{path}: {name} is there twice")
        found[name] = dataset
    return found


def _variable(path: Path, file: Any, group: str, number: str) -> str:
    name = _attribute(path, file["layers"][group]["vars"], "name") or group
    kind = group.rstrip("0123456789").rstrip("_") if group.rpartition("_")[2].isdigit() else group
    roles = _ROLES.get(kind, ())
    return f"{name}/{roles[int(number)] if number in map(str, range(len(roles))) else number}"


def _attribute(path: Path, group: Any, name: str) -> str:
    """One string that is written beside a group; "" where there is none."""
    import h5py

    if name not in group.attrs:
        return ""
    attribute = group.attrs.get_id(name)
    if attribute.shape != () or h5py.check_string_dtype(attribute.dtype) is None:
        raise InputError(f"{path}: attribute {name} of {group.name} is no name")
    value = group.attrs[name]
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise InputError(f"{path}: attribute {name} of {group.name} is no name of at most {_LONGEST} letters")
    return value


def _lazy(path: Path, name: str, dataset: Any, size: int) -> Tensor:
    if dataset.dtype.kind not in _NUMBERS:
        raise InputError(f"{path}: {name} holds no numbers")
    properties = dataset.id.get_create_plist()
    if properties.get_nfilters() or properties.get_external_count() or dataset.is_virtual:
        raise InputError(f"{path}: {name} is compressed or lies in another file: save it again, plain")
    within(path, name, dataset.nbytes, size)
    if dataset.id.get_storage_size() < dataset.nbytes:
        raise InputError(f"{path}: {name} was made and never written: save it again")
    return Tensor(tuple(dataset.shape), dataset.dtype.name, lambda: dataset[()])
