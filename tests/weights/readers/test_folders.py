"""What leads to a checkpoint (a folder, TensorFlow's text file `checkpoint`, a .meta file), and what is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.weights.readers import open_checkpoint

from .. import synthetic

SMALL = {"conv/weights": np.arange(12, dtype=np.float32).reshape(3, 4)}


def tensorflow(folder: Path, *steps: int, version: int = 2) -> Path:
    """A trainer's folder, with the text file that names the last step."""
    folder.mkdir(exist_ok=True)
    for step in steps:
        synthetic.write_tensorflow(folder / f"model.ckpt-{step}", {"step": np.array(step, np.float32)} | SMALL, version)
        (folder / f"model.ckpt-{step}.meta").write_bytes(b"\n\xc8\x01\x12\x05graph")
    (folder / "checkpoint").write_text(
        f'model_checkpoint_path: "model.ckpt-{steps[-1]}"\n'
        + "".join(f'all_model_checkpoint_paths: "model.ckpt-{step}"\n' for step in steps)
    )
    return folder


def step_of(path: Path) -> float:
    with open_checkpoint(path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("conv/weights"), SMALL["conv/weights"])
        return float(checkpoint.read("step"))


def test_a_folder_of_one_checkpoint_leads_to_it(tmp_path: Path) -> None:
    folder = tensorflow(tmp_path / "run", 7)
    assert [step_of(folder / name) for name in ("", "checkpoint", "model.ckpt-7.meta", "model.ckpt-7")] == [7, 7, 7, 7]


def test_several_checkpoints_are_listed_and_the_text_file_names_the_newest(tmp_path: Path) -> None:
    folder = tensorflow(tmp_path / "run", 7, 9)
    with pytest.raises(InputError, match=r"has 2 checkpoints: give one of them, '.*model\.ckpt-7', '.*-9'"):
        open_checkpoint(folder)
    assert step_of(folder / "checkpoint") == 9
    assert step_of(folder / "model.ckpt-7.meta") == 7


def test_a_text_file_of_another_machine_names_a_file_beside_it(tmp_path: Path) -> None:
    folder = tensorflow(tmp_path / "run", 7, 9)
    (folder / "checkpoint").write_text('model_checkpoint_path: "/home/a b/run/model.ckpt-7"\n')
    assert step_of(folder / "checkpoint") == 7
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-8"\n')
    with pytest.raises(InputError, match="has 2 checkpoints"):
        open_checkpoint(folder / "checkpoint")
    for file in folder.glob("model.ckpt-7.*"):
        file.unlink()
    assert step_of(folder / "checkpoint") == 9  # the one that is there


def test_facenets_meta_file_has_another_name_than_its_checkpoint(tmp_path: Path) -> None:
    folder = tensorflow(tmp_path / "run", 80000)
    (folder / "model.ckpt-80000.meta").rename(folder / "model-20170511-185253.meta")
    assert step_of(folder / "model-20170511-185253.meta") == 80000
    assert step_of(folder) == 80000


def test_a_meta_file_alone_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt-1.meta").write_bytes(b"\n\xc8\x01")
    for path in (tmp_path, tmp_path / "model.ckpt-1.meta"):
        with pytest.raises(InputError, match="without"):
            open_checkpoint(path)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "h5", "v1", "tar.gz"])
def test_a_folder_of_another_formats_file(kind: str, tmp_path: Path) -> None:
    values = {"step": np.array(3, np.float32), **SMALL}
    path = tmp_path / "model"
    match kind:
        case "safetensors":
            synthetic.write_safetensors(path, values)
        case "pt":
            synthetic.write_torch(path, values)
        case "h5":
            synthetic.write_legacy_hdf5(path, {"conv|conv/weights:0": SMALL["conv/weights"]})
        case "v1" | "tar.gz":
            synthetic.write_tensorflow(path, values, 1)
    if kind == "tar.gz":
        synthetic.write_archive(tmp_path / "model.tar.gz", path)
        path.unlink()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "readme.md").write_text("# a model, of which this is no checkpoint")
    with open_checkpoint(tmp_path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("conv/weights"), SMALL["conv/weights"])
    synthetic.write_safetensors(tmp_path / "other.safetensors", SMALL)
    with pytest.raises(InputError, match=r"has 2 checkpoints.*other\.safetensors"):
        open_checkpoint(tmp_path)


def test_object_checkpoints_of_tensorflow_2_are_refused_with_the_way_out(tmp_path: Path) -> None:
    import tensorflow as tf

    written = tf.train.Checkpoint(layer=tf.Module(), step=tf.Variable(1.0)).write(str(tmp_path / "ckpt"))
    for path in (Path(written), tmp_path / "ckpt.index", tmp_path):
        with pytest.raises(InputError, match=r"object checkpoint of TensorFlow 2 .*save_weights\('….weights.h5'\)"):
            open_checkpoint(path)


def test_what_keras_2_wrote_in_tensorflows_format_is_refused(tmp_path: Path) -> None:
    names = [
        f"layer_with_weights-{number}/{role}/.ATTRIBUTES/VARIABLE_VALUE"
        for number in range(2)
        for role in ("kernel", "bias")
    ]
    synthetic.write_tensorflow(tmp_path / "w", {name: np.ones(3, np.float32) for name in names}, 2)
    with pytest.raises(InputError, match="object checkpoint of TensorFlow 2"):
        open_checkpoint(tmp_path / "w")


@pytest.mark.parametrize("suffix", ["", ":0", "_1:0"])
@pytest.mark.parametrize("inside", ["", "model_weights/"])
def test_files_of_keras_1_are_refused_with_the_way_out(suffix: str, inside: str, tmp_path: Path) -> None:
    layers = {
        "convolution2d_1": ("W", "b"),
        "batchnormalization_1": ("gamma", "beta", "running_mean", "running_std"),
    }
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.require_group(inside) if inside else file
        group.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, roles in layers.items():
            part = group.create_group(layer)
            part.attrs["weight_names"] = [f"{layer}_{role}{suffix}".encode() for role in roles]
            for role in roles:
                part.create_dataset(f"{layer}_{role}{suffix}", data=np.ones(3, np.float32))
    with pytest.raises(InputError, match=r"a\.h5: was written by Keras 1, .*open it in Keras 2"):
        open_checkpoint(tmp_path / "a.h5")
