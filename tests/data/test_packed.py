"""Packing and reading what was packed, and datasets of tensorflow-datasets."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.images import PILLOW, read_image
from inception_resnet_keras.data.labelled import Source
from inception_resnet_keras.data.options import DataOptions
from inception_resnet_keras.data.packed import INDEX, TABLE, pack, read_records, verify_packed
from inception_resnet_keras.data.pipeline import batches
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.pictures import open_pictures

from .photographs import write_formats, write_photographs


def packed(tmp_path: Path, **given: Any) -> tuple[Source, Path]:
    source = open_source(write_photographs(tmp_path / "pictures"), max_corrupt=1)
    pack(source, tmp_path / "packed", **given)
    return source, tmp_path / "packed"


def test_what_is_packed_comes_back(tmp_path: Path) -> None:
    source, path = packed(tmp_path, shard_bytes=10_000)
    found = open_source(path)
    assert len(list(path.glob("*.tfrecord"))) > 2
    assert found.class_names == source.class_names
    assert found.names != source.names  # shuffled
    for index, name in enumerate(found.names):
        original = source.names.index(name)
        assert found.labels[index] == source.labels[original]
        assert found.kinds[index] == source.kinds[original]
        assert found.contents.read(index) == source.contents.read(original)
    assert sorted(found.names) == sorted(source.names)
    assert verify_packed(path) == len(list(path.glob("*.tfrecord")))
    again = tmp_path / "again"
    pack(source, again, shard_bytes=10_000)
    assert (again / INDEX).read_bytes() == (path / INDEX).read_bytes()


def test_parts_groups_weights_and_several_labels_come_back(tmp_path: Path) -> None:
    write_photographs(tmp_path / "set", (3, 2))
    lines = [
        "path,labels,split,group,weight",
        "set/class 0/0.jpg,a|b,train,p1,1",
        "set/class 0/1.jpg,b,train,p1,0.5",
        "set/class 0/2.jpg,a,val,p2,2",
        "set/class 1/0.jpg,,test,,0",
    ]
    (tmp_path / "set.csv").write_text("\n".join(lines))
    source = open_source(tmp_path / "set.csv")
    pack(source, tmp_path / "packed")
    found = open_source(tmp_path / "packed")
    order = np.array([source.names.index(name) for name in found.names])
    assert order.tolist() != [0, 1, 2, 3]
    same = source.take(order)
    np.testing.assert_array_equal(found.labels, same.labels)
    assert found.labels.dtype == np.uint8
    assert found.weights is not None
    np.testing.assert_array_equal(found.weights, same.weights)
    assert (found.parts, found.groups) == (same.parts, same.groups)
    assert open_source(f"{tmp_path / 'packed'}:val").names == [source.names[2]]
    pack(open_source(tmp_path / "set"), tmp_path / "plain")
    with pytest.raises(InputError, match="has no part 'val'; it has none"):
        open_source(f"{tmp_path / 'plain'}:val")
    assert json.loads((tmp_path / "packed" / INDEX).read_text())["format"].endswith("pictures 2")
    assert json.loads((tmp_path / "plain" / INDEX).read_text())["format"].endswith("pictures 1")
    table = dict(np.load(tmp_path / "packed" / TABLE))
    for name, column in (("parts", np.full(4, 3, np.uint8)), ("weights", np.full(4, np.nan, np.float32))):
        np.savez_compressed(tmp_path / "packed" / TABLE, **{**table, name: column})
        with pytest.raises(InputError, match=f"its {name} are not those of 4 pictures"):
            open_source(tmp_path / "packed")


def test_batches_of_what_was_packed(tmp_path: Path) -> None:
    source, path = packed(tmp_path)
    found = open_source(path)
    same = source.take(np.array([source.names.index(name) for name in found.names]))
    for options in (DataOptions("inception"), DataOptions("inception", cache="memory")):
        given: Any = {"size": (20, 30), "batch_size": 4, "training": True, "seed": 1}
        for (images, labels), (others, of) in zip(
            batches(found, options, **given), batches(same, options, **given), strict=True
        ):
            np.testing.assert_array_equal(images, others)
            np.testing.assert_array_equal(labels, of)


def test_records_are_tensorflows(tmp_path: Path) -> None:
    _, path = packed(tmp_path)
    found = open_source(path)
    [shard] = path.glob("*.tfrecord")
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
    }
    rows = [tf.io.parse_single_example(record, features) for record in tf.data.TFRecordDataset(str(shard))]
    assert [row["image/filename"].numpy().decode() for row in rows] == found.names
    assert [row["image/class/label"].numpy() for row in rows] == found.labels.tolist()
    assert [row["image/encoded"].numpy() for row in rows] == [found.contents.read(index) for index in range(11)]
    ours = [data for _, data in read_records(shard)]
    assert ours == [record.numpy() for record in tf.data.TFRecordDataset(str(shard))]


def test_every_format_is_packed_so_that_tensorflow_reads_it(tmp_path: Path) -> None:
    write_formats(tmp_path / "set" / "a")
    write_formats(tmp_path / "set" / "b")
    pack(open_source(tmp_path / "set"), tmp_path / "packed")
    found = open_source(tmp_path / "packed")
    assert PILLOW not in found.kinds
    for index, name in enumerate(found.names):
        np.testing.assert_array_equal(found.read(index), read_image(Path(name)))
        assert tuple(found.sizes[index]) == read_image(Path(name)).shape[:2]


def test_corrupt_pictures_are_left_out(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "pictures")
    for number in (1, 2):
        path = folder / "class 0" / f"{number}.jpg"
        path.write_bytes(path.read_bytes()[:700])
    source = open_source(folder, max_corrupt=2)
    assert pack(source, tmp_path / "packed").pictures == 9
    assert len(source.corrupt) == 2
    assert len(open_source(tmp_path / "packed")) == 9
    with pytest.raises(InputError, match="2 of 11 pictures cannot be read"):
        pack(open_source(folder, max_corrupt=1), tmp_path / "other")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["packed", "pictures"]


def test_a_class_that_would_vanish(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "pictures", (1, 5))
    path = folder / "class 0" / "0.jpg"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(InputError, match="class 'class 0' has no readable picture"):
        pack(open_source(folder, max_corrupt=3), tmp_path / "packed")
    assert [entry.name for entry in tmp_path.iterdir()] == ["pictures"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    source = open_source(write_photographs(tmp_path / "pictures"))
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="already exists"):
        pack(source, tmp_path / "there")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="already exists"):
        pack(source, tmp_path / "link")

    def meanwhile(done: int, total: int) -> None:
        (tmp_path / "late").mkdir(exist_ok=True)
        (tmp_path / "late" / "kept").write_text("a user's")

    with pytest.raises(InputError, match="appeared during the work"):
        pack(source, tmp_path / "late", progress=meanwhile)
    assert (tmp_path / "late" / "kept").read_text() == "a user's"
    assert not list(tmp_path.glob(".*partial"))


PACKS = """
import os, pathlib, signal, sys
from inception_resnet_keras.data.packed import pack
from inception_resnet_keras.data.sources import open_source
def die(done, total):
    done < 8 or os.kill(os.getpid(), signal.SIGKILL)
pack(open_source(sys.argv[1]), pathlib.Path(sys.argv[2]), shard_bytes=10_000, progress=die)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    pictures, path = write_photographs(tmp_path / "pictures"), tmp_path / "packed"
    killed = subprocess.run([sys.executable, "-c", PACKS, str(pictures), str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    [left] = tmp_path.glob(".*")
    assert left.match(".packed.*.partial")
    assert (left / "packed" / "pictures-00000.tfrecord").is_file()
    pack(open_source(pictures), path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["packed", "pictures"]
    assert len(open_source(path)) == 11


@pytest.mark.parametrize("given", [{"seed": -1}, {"shard_bytes": 0}])
def test_wrong_arguments(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(given))}: got"):
        pack(open_source("digits"), tmp_path / "packed", **given)


def damage_index(path: Path, **values: Any) -> None:
    index = json.loads((path / INDEX).read_text())
    (path / INDEX).write_text(json.dumps(index | values))


def damage_table(path: Path, **values: Any) -> None:
    with np.load(path / TABLE) as columns:
        table = dict(columns)
    np.savez(path / TABLE, **{name: values.get(name, lambda column: column)(column) for name, column in table.items()})


def raised(column: np.ndarray) -> np.ndarray:
    return np.concatenate([column[:-1], column[-1:] + 10**7])


def lowered(column: np.ndarray) -> np.ndarray:
    return np.concatenate([column[:-1], -1 - column[-1:].astype(np.int64)])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: (path / INDEX).write_text("{"), "index.json: is missing or damaged"),
        (lambda path: damage_index(path, format="another"), "has the format 'another'"),
        (lambda path: damage_index(path, shards=[{}]), "index.json: is missing or damaged"),
        (lambda path: damage_index(path, pictures=12), "not those of 12 pictures"),
        (lambda path: damage_index(path, class_names=["a"]), "points outside"),
        (lambda path: (path / TABLE).unlink(), "index.npz: is missing or damaged"),
        (lambda path: (path / TABLE).write_bytes(b"PK"), "index.npz: is missing or damaged"),
        (lambda path: np.savez(path / TABLE, labels=np.zeros(10**6)), "larger than an index of 11 pictures"),
        (lambda path: np.savez(path / TABLE, labels=np.array([print], object)), "missing or damaged"),
        (lambda path: damage_table(path, labels=lowered), "points outside"),
        (lambda path: damage_table(path, offsets=raised), "points outside"),
        (lambda path: damage_table(path, offsets=lowered), "points outside"),
        (lambda path: damage_table(path, lengths=raised), "points outside"),
        (lambda path: damage_table(path, shards=raised), "points outside"),
        (lambda path: damage_table(path, kinds=lambda kinds: kinds + 7), "points outside"),
        (lambda path: damage_table(path, sizes=lambda sizes: sizes * 0 + 2**16), "points outside"),
        (lambda path: damage_table(path, sizes=lambda sizes: sizes[:, 0]), "not those of 11 pictures"),
        (lambda path: damage_table(path, labels=lambda labels: labels * 1.0), "not those of 11 pictures"),
        (lambda path: next(path.glob("*.tfrecord")).unlink(), "tfrecord: is missing"),
        (lambda path: next(path.glob("*.tfrecord")).write_bytes(b"short"), "has 5 bytes instead of"),
    ],
)
def test_damaged_packs_are_refused(tmp_path: Path, damage: Any, says: str) -> None:
    _, path = packed(tmp_path)
    damage(path)
    with pytest.raises(InputError, match=says):
        open_source(path)


def test_a_shard_is_looked_for_in_its_folder_only(tmp_path: Path) -> None:
    _, path = packed(tmp_path)
    shard = next(path.glob("*.tfrecord"))
    shutil.copy(shard, tmp_path / "outside")
    index = json.loads((path / INDEX).read_text())
    damage_index(path, shards=[index["shards"][0] | {"file": "../outside"}])
    with pytest.raises(InputError, match=r"packed/outside: is missing"):
        open_source(path)


def test_changed_bytes_are_found_by_their_hash(tmp_path: Path) -> None:
    _, path = packed(tmp_path)
    shard = next(path.glob("*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match="has SHA-256"):
        verify_packed(path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_photographs(tmp_path / "pictures")
    bad = folder / "class 0" / "1.jpg"
    bad.write_bytes(bad.read_bytes()[:700])
    out = str(tmp_path / "packed")
    assert main(["pack", str(folder), out, "--max-corrupt", "1"]) == 0
    said = capsys.readouterr().out
    assert f"left out: {bad}: cannot be decoded" in said
    assert "10 pictures of 2 classes" in said
    assert main(["pack", out, "--verify"]) == 0
    assert "1 shard is unchanged since packing" in capsys.readouterr().out
    for wrong, says in (
        (["pack", str(folder)], "OUT: name the folder"),
        (["pack", out, out, "--verify"], "OUT: name the folder"),
        (["pack", str(folder), out, "--max-corrupt", "1"], "already exists"),
        (["pack", str(folder), out + "2", "--max-corrupt", "0"], "1 of 11 pictures cannot be read"),
        (["pack", str(folder), out + "2", "--max-corrupt", "-1"], "max_corrupt: got -1"),
        (["pack", str(folder), "--verify"], "index.json: is missing"),
    ):
        assert main(wrong) == 1
        assert says in capsys.readouterr().err


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A dataset that tensorflow-datasets makes of pictures here, as it does of what it downloads."""
    tfds: Any = pytest.importorskip("tensorflow_datasets")
    folder = write_photographs(tmp_path / "pictures")

    class Photographs(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["class 0", "class 1"])}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, _: Any) -> Any:
            return {"train": self._generate_examples("*[1-9].jpg"), "test": self._generate_examples("*0.jpg")}

        def _generate_examples(self, pattern: str) -> Any:
            for path in sorted(folder.glob(f"*/{pattern}")):
                yield str(path), {"image": str(path), "label": path.parent.name}

    monkeypatch.setattr(tfds, "builder", lambda name: Photographs(data_dir=tmp_path / "tfds"))
    return "tfds:photographs"


def test_a_dataset_of_tfds(tmp_path: Path, prepared: str) -> None:
    import tensorflow_datasets as tfds

    with pytest.raises(InputError, match=r"is not prepared in .*tfds build photographs"):
        open_source(prepared)
    tfds.builder("photographs").download_and_prepare()
    source = open_source(prepared)
    assert source.class_names == ["class 0", "class 1"]
    expected = tfds.builder("photographs").as_dataset(split="train", shuffle_files=False)
    for index, row in enumerate(expected):
        assert source.labels[index] == row["label"].numpy()
        assert np.abs(source.read(index).astype(int) - row["image"].numpy()).mean() < 2  # two JPEG decoders
    assert len(source) == len(expected) == 9
    assert len(open_source(f"{prepared}:test")) == 2
    with pytest.raises(InputError, match="has no split 'val'; it has"):
        open_source(f"{prepared}:val")
    made = batches(source, DataOptions("inception"), size=(20, 30), batch_size=9, training=True, seed=0)
    [(images, _)] = made
    assert images.shape == (9, 20, 30, 3)
    assert pack(source, tmp_path / "packed").pictures == 9
    training, held_out, _ = open_pictures(TrainConfig(data=prepared, val=f"{prepared}:test"), Console(quiet=True)).parts
    assert (len(training), len(held_out)) == (9, 2)
