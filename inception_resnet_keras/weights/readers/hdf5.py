"""Reads Keras's HDF5 files: legacy weights and models, and Keras 3's .weights.h5, also inside a .keras file."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from ...common.errors import InputError
from . import keras_config
from .checkpoint import Checkpoint, Tensor, damage, within

KERAS_FORMAT = "Keras 3 model"
KERAS_MEMBER = "model.weights.h5"
_CONFIG_MEMBER = "config.json"
_METADATA_MEMBER = "metadata.json"
_CONFIG_LIMIT = 16 * 2**20  # bytes; the largest network needs 400 kB
_GRAPH = "model_config"  # the attribute with the graph of a whole model
_VERSION = "keras_version"
_LONGEST = 256  # characters of a name
_NUMBERS = "fiub"  # NumPy's kinds of numbers; strings have no known size before they are read

_VARS = "/vars/"
_KERAS_1 = re.compile(r".*_(?:W|b|running_mean|running_std)(?:_\d+)?(?::0)?")  # Keras 1's names of a layer's arrays

_NORM = ("beta", "moving_mean", "moving_variance")
_ROLES = {  # by the layer's class and its number of variables, because Keras 3 only numbers them
    ("conv2d", 1): ("kernel",),
    ("conv2d", 2): ("kernel", "bias"),
    ("dense", 1): ("kernel",),
    ("dense", 2): ("kernel", "bias"),
    ("batch_normalization", 3): _NORM,
    ("batch_normalization", 4): ("gamma", *_NORM),
}


_HEAP = re.compile(rb"GCOL\x01\0{3}")  # the beginning of a global heap, which stores strings of any length
_HEAP_HEAD = _OBJECT_HEAD = 16  # bytes


def open_hdf5(path: Path, *, shown: Path | None = None) -> Any:
    """Open an HDF5 file for reading, after a check that HDF5 itself does not make.

    A damaged global heap, where HDF5 stores strings, sends HDF5 1.14 into an endless loop that not even Ctrl-C ends.
    A heap is a list of objects with their sizes; an object of size zero would be followed by itself forever.

    Raises InputError, with the name `shown`, for such a file.
    """
    import h5py

    _check_heaps(path, shown or path)
    return h5py.File(path, "r")


def _check_heaps(path: Path, shown: Path) -> None:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return
        with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            for heap in _HEAP.finditer(data):
                if not _ends(data, heap.start()):
                    raise InputError(f"{shown}: is damaged: its strings at byte {heap.start():,} have no end")


def check_keras(path: Path) -> None:
    """Check a .keras archive before Keras reads it.

    Raises InputError if its weights are compressed or larger than the file, its configuration is larger than any
    network's, or its HDF5 file has a list without end.
    """
    with damage(path, "the archive"), zipfile.ZipFile(path) as archive:
        _stored_weights(path, archive)
        for name in (_CONFIG_MEMBER, _METADATA_MEMBER):
            _text_member(path, archive, name)
    _check_heaps(path, path)  # the weights are stored uncompressed in the archive


def _stored_weights(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    info = archive.getinfo(KERAS_MEMBER)
    if info.compress_type != zipfile.ZIP_STORED:
        raise InputError(f"{path}: member {KERAS_MEMBER} is compressed, which Keras never does: it is refused")
    within(path, f"member {KERAS_MEMBER}", info.file_size, path.stat().st_size)
    return info


def _ends(data: Any, start: int) -> bool:
    """Whether the objects of the global heap at `start` lead to the heap's end."""

    def number(place: int, length: int) -> int:
        return int.from_bytes(data[place : place + length], "little")

    end = start + number(start + 8, 8)
    if not start + _HEAP_HEAD <= end <= len(data):
        return True  # HDF5 itself refuses such a heap
    place = start + _HEAP_HEAD
    while place + _OBJECT_HEAD <= end:
        size = number(place + 8, 8)
        is_free = number(place, 2) == 0  # the rest of the heap; its size includes its head
        taken = size if is_free else _OBJECT_HEAD + -size % 8 + size
        if taken < _OBJECT_HEAD:
            return False
        place += taken
    return True


def read(path: Path, *, inside: Path | None = None, graph: Any = None) -> Checkpoint:
    """Open an HDF5 file of Keras.

    Args:
        path: The file, or the archive that contains it.
        inside: The unpacked HDF5 file, if `path` is an archive.
        graph: The model's configuration, if it is stored outside the HDF5 file.
    """
    with ExitStack() as resources:
        file = resources.enter_context(open_hdf5(inside or path, shown=path))
        size = (inside or path).stat().st_size
        group = file["model_weights"] if _is_group(file, "model_weights") else file
        datasets = dict(_datasets(path, file))
        if any(_KERAS_1.fullmatch(name) for name in datasets):
            raise InputError(
                f"{path}: was written by Keras 1, whose files are not read: open it in Keras 2 (2.2.4 reads Keras 1's "
                "files) and save it again, model.load_weights(...), then model.save_weights('….h5')"
            )
        if graph is None and _GRAPH in file.attrs:
            graph = json.loads(_attribute(path, file, _GRAPH, _CONFIG_LIMIT))
        if "layer_names" in group.attrs or "layer_names0" in group.attrs:
            kind, found = "Keras HDF5 (legacy)", _legacy(path, group, datasets)
        elif any(_VARS in f"/{place}" for place in datasets):
            kind, found = "Keras 3 weights", _keras3(path, file, datasets, graph)
        else:
            raise InputError(f"{path}: is an HDF5 file without weights of a Keras model")
        tensors = {name: _lazy(path, name, dataset, size) for name, dataset in found.items()}
        layers = keras_config.read_layers(graph) if graph else {}
        return Checkpoint(path, kind, tensors, resources.pop_all(), layers, checksums=False)


def read_keras(path: Path, archive: zipfile.ZipFile) -> Checkpoint:
    """Open the weights in a .keras archive, unpacked to a temporary file because HDF5 needs a seekable one."""
    info = _stored_weights(path, archive)
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="inception-resnet-keras-")))
        unpacked = folder / KERAS_MEMBER
        with archive.open(info) as member, unpacked.open("wb") as out:
            shutil.copyfileobj(member, out, 2**20)
        config = json.loads(_text_member(path, archive, _CONFIG_MEMBER))
        checkpoint = read(path, inside=unpacked, graph=config)
        resources.callback(checkpoint.resources.close)
        return Checkpoint(path, KERAS_FORMAT, checkpoint.tensors, resources.pop_all(), checkpoint.layers)


@dataclass(frozen=True)
class SavedGraph:
    """The configuration of a whole model's file, and the version of Keras that wrote it; "" if unknown."""

    config: Any
    keras_version: str


def read_graph(path: Path) -> SavedGraph:
    """The graph in a `.keras` archive or in a whole model's HDF5 file, without its weights."""
    with damage(path, "its graph"):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                metadata = json.loads(_text_member(path, archive, _METADATA_MEMBER))
                config = json.loads(_text_member(path, archive, _CONFIG_MEMBER))
            return SavedGraph(config, str(metadata.get(_VERSION, "")))
        with open_hdf5(path) as file:
            config = json.loads(_attribute(path, file, _GRAPH, _CONFIG_LIMIT))
            return SavedGraph(config, _attribute(path, file, _VERSION))


def _text_member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    within(path, f"member {name}", info.file_size, _CONFIG_LIMIT)
    return archive.read(info)


def _datasets(path: Path, group: Any, seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """Every array below a group, with its path. Links out of the file, and repeated ones, are refused."""
    import h5py

    seen = set() if seen is None else seen
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{path}: {name[:_LONGEST]} is not in the file, or is a link to another file")
        child = group[name]
        address = h5py.h5o.get_info(child.id).addr
        if address in seen or len(name) > _LONGEST:
            raise InputError(f"{path}: {name[:_LONGEST]} occurs twice, or its name is too long: it is damaged")
        seen.add(address)
        if isinstance(child, h5py.Group):
            yield from _datasets(path, child, seen)
        elif isinstance(child, h5py.Dataset):
            yield child.name.removeprefix("/"), child
        else:
            raise InputError(f"{path}: {child.name} is not an array")


def _legacy(path: Path, group: Any, datasets: dict[str, Any]) -> dict[str, Any]:
    """`layer/kernel` → dataset, by the datasets' paths.

    Keras also stores lists of names, which are not needed and may expand when they are read. A nested model is one
    group that contains all its layers: `inception_v4/stem_conv_1/kernel`. Data outside the layers, such as an
    optimizer's state, keeps its path.
    """
    inside = f"{group.name}/".removeprefix("/").removeprefix("/")
    parts = {
        place: place.removeprefix(inside).split("/") for place in datasets if place.startswith(inside) and "/" in place
    }
    owners: dict[str, set[tuple[str, ...]]] = {}  # by group: the layers whose weights it holds
    for layer, *rest in parts.values():
        owners.setdefault(layer, set()).add(tuple(rest[:-1]))
    found: dict[str, Any] = {}
    for place, dataset in datasets.items():
        name = place
        if len(parts.get(place, ())) > 1:
            layer, *owner, role = parts[place]
            nested = owner if len(owners[layer]) > 1 else ()
            name = "/".join((layer, *nested, role.partition(":")[0]))
        if name in found:
            raise InputError(f"{path}: {name} occurs twice: it is damaged")
        found[name] = dataset
    return found


def _is_group(file: Any, name: str) -> bool:
    import h5py

    return isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Group)


def _keras3(path: Path, file: Any, datasets: dict[str, Any], graph: Any) -> dict[str, Any]:
    """`layer/kernel` → dataset, by the layers' names, which Keras 3 stores beside their variables.

    A nested model's name comes before its layers': `inception_v4/stem_conv_1/kernel`. Keras 2 stores no names beside
    the variables; they are taken from the graph, if the file has one. Data outside the layers, such as an optimizer's
    state or a random seed, keeps its path.
    """
    # Find the layers' groups and their names, then name each variable after its layer and role.
    known = keras_config.group_paths(graph) if graph else {}
    groups: dict[str, list[str]] = {}  # each layer's group, with the numbers of its variables
    for place in datasets:
        owner, separator, number = place.rpartition(_VARS)
        if separator and owner.split("/")[-2:-1] == ["layers"]:
            groups.setdefault(owner, []).append(number)
    named = {owner: _layer_path(path, file, owner) for owner in groups}
    if groups and not known and not any(named.values()):
        raise InputError(
            f"{path}: has weights without the names of their layers, as Keras 2 writes them: open the model where it "
            "was made and save the whole model, model.save('….keras') or model.save('….h5')"
        )
    found: dict[str, Any] = {}
    for place, dataset in datasets.items():
        owner, _, number = place.rpartition(_VARS)
        name = place
        if owner in groups:
            kind = re.sub(r"_\d+$", "", owner.rpartition("/")[2])
            roles = _ROLES.get((kind, len(groups[owner])), ())
            role = roles[int(number)] if number in map(str, range(len(roles))) else number
            name = f"{named[owner] or known.get(owner) or owner}/{role}"
        if name in found:
            raise InputError(f"{path}: {name} occurs twice: it is damaged")
        found[name] = dataset
    return found


def _layer_path(path: Path, file: Any, owner: str) -> str:
    """The names of a layer and its outer models, as stored beside their variables; "" without the layer's own."""
    parts = owner.split("/")
    names = []
    for end in range(1, len(parts) + 1):
        if parts[end - 1] != "layers":
            group = file["/".join(parts[:end])]
            names.append(
                (_attribute(path, group["vars"], "name") if _is_group(group, "vars") else "") or parts[end - 1]
            )
    own = _attribute(path, file[owner]["vars"], "name")
    return "/".join(names) if own else ""


def _attribute(path: Path, group: Any, name: str, longest: int = _LONGEST) -> str:
    """A string attribute of a group; "" if it does not exist."""
    import h5py

    if name not in group.attrs:
        return ""
    attribute = group.attrs.get_id(name)
    text = h5py.check_string_dtype(attribute.dtype)
    if attribute.shape != () or text is None or (text.length or 0) > longest:
        raise InputError(f"{path}: attribute {name} of {group.name} is not a string")
    value = group.attrs[name]
    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if not isinstance(value, str) or len(value) > longest:
        raise InputError(f"{path}: attribute {name} of {group.name} is not a string of at most {longest} characters")
    return value


def _lazy(path: Path, name: str, dataset: Any, size: int) -> Tensor:
    if dataset.dtype.kind not in _NUMBERS:
        raise InputError(f"{path}: {name} does not hold numbers")
    properties = dataset.id.get_create_plist()
    if properties.get_nfilters() or properties.get_external_count() or dataset.is_virtual:
        raise InputError(f"{path}: {name} is compressed or in another file: save it again without compression")
    within(path, name, dataset.nbytes, size)
    if dataset.id.get_storage_size() < dataset.nbytes:
        raise InputError(f"{path}: {name} was created but never written: save it again")
    return Tensor(tuple(dataset.shape), dataset.dtype.name, lambda: dataset[()])
