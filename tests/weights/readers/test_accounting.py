"""Every array of a file is told of, and what is wrong with this machine is not told as damage."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.weights.readers import open_checkpoint
from inception_resnet_keras.weights.readers.checkpoint import damage


def keras3(path: Path, **arrays: str) -> Path:
    """Weights as Keras 3 writes them: by the path of each layer its name."""
    with h5py.File(path, "w") as file:
        for place, name in arrays.items():
            group = file.create_group(place)
            if name:
                group.attrs["name"] = name
            group["0"] = np.ones(3, np.float32)
    return path


def test_optimizers_and_nested_layers_are_there(tmp_path: Path) -> None:
    places = {
        "layers/conv2d/vars": "c",
        "layers/multi/query_dense/vars": "",
        "layers/seq/layers/dense/vars": "d",
        "layers/dropout/seed_generator/vars": "",
        "optimizer/vars": "",
    }
    with open_checkpoint(keras3(tmp_path / "a.h5", **places)) as checkpoint:
        kept = {f"{place}/0" for place in places if "2d" not in place and "seq" not in place}
        assert set(checkpoint.tensors) == {"c/kernel", "seq/d/kernel"} | kept


def test_weights_without_names_are_refused(tmp_path: Path) -> None:
    """Keras 2's: its groups are counted in an order that is not that in which any project names its layers."""
    path = keras3(tmp_path / "a.weights.h5", **{"layers/conv2d/vars": "", "layers/conv2d_1/vars": ""})
    with pytest.raises(InputError, match="without the names of their layers, as Keras 2 writes them"):
        open_checkpoint(path)


def test_two_layers_of_one_name_are_refused(tmp_path: Path) -> None:
    path = keras3(tmp_path / "a.h5", **{"layers/conv2d/vars": "c", "layers/conv2d_1/vars": "c"})
    with pytest.raises(InputError, match="c/kernel occurs twice"):
        open_checkpoint(path)


def test_an_array_that_was_never_written_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.attrs["name"] = "c"
        group.create_dataset("0", (3,), "f4")
    with pytest.raises(InputError, match="c/kernel was created but never written"):
        open_checkpoint(tmp_path / "a.h5")


def test_a_group_that_holds_itself_is_refused(tmp_path: Path) -> None:
    with h5py.File(keras3(tmp_path / "a.h5", **{"layers/conv2d/vars": "c"}), "a") as file:
        file["layers/conv2d/again"] = file["layers"]
    with pytest.raises(InputError, match="occurs twice"):
        open_checkpoint(tmp_path / "a.h5")


def test_numbers_of_eight_bits_are_told(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(InputError, match="a has type F8_E4M3; supported are F64, F32"):
        open_checkpoint(path)


@pytest.mark.parametrize("error", [ImportError("libcuda")])
def test_what_this_machine_lacks_is_not_damage(error: Exception) -> None:
    with pytest.raises(type(error)), damage(Path("a"), "it"):
        raise error
