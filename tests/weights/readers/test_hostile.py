"""Files made to harm: refused by name, never run, never larger in memory than on disk."""

from __future__ import annotations

import io
import pickle
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.weights.readers import open_checkpoint

from .. import synthetic
from .test_containers import PLAIN
from .test_containers import torch_file as torch_container_file

TORCH = synthetic.GOLDEN / "torch_files"
ROOT = Path(__file__).parents[3]
SMALL = {"conv/weights": np.arange(12, dtype=np.float32).reshape(3, 4), "conv/biases": np.ones(4, np.float32)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small file of every format."""
    folder = tmp_path_factory.mktemp("small")
    single = synthetic.write_tensorflow(folder / "v1.ckpt", SMALL, 1)
    synthetic.write_tensorflow(folder / "v2.ckpt", SMALL, 2)
    legacy = synthetic.write_legacy_hdf5(
        folder / "legacy.h5", {f"conv|{name}:0": value for name, value in SMALL.items()}
    )
    model = keras_model()
    model.save(folder / "small.keras")
    model.save_weights(folder / "small.weights.h5")
    return {
        "weights": folder / "small.weights.h5",
        "keras": folder / "small.keras",
        "torch_zip": TORCH / "tensors.pt",
        "torch_containers": containers(folder / "containers.pt"),
        "published_zip": published_zip(folder / "v2.zip", folder / "v2.ckpt"),
        "torch_legacy": TORCH / "legacy.pt",
        "torch_hostile": TORCH / "hostile_reduce.pt",
        "safetensors": synthetic.write_safetensors(folder / "small.safetensors", SMALL),
        "tf_v1": single,
        "tf_v2": folder / "v2.ckpt.index",
        "archive": synthetic.write_archive(folder / "v1.tar.gz", single),
        "hdf5": legacy,
    }


def keras_model() -> Any:
    """A model of one layer, whose names Keras 3 keeps as texts of any length."""
    import keras

    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(4, name="conv")(inputs))
    model.layers[1].set_weights([SMALL["conv/weights"], SMALL["conv/biases"]])
    return model


def containers(path: Path) -> Path:
    """A trainer's file: plain values of every kind beside two tensors."""
    return torch_container_file(path, {"args": list(PLAIN.values()), "state_dict": dict(SMALL)})


def published_zip(path: Path, prefix: Path, *, folder: str = "20170511-185253/") -> Path:
    """A zip file as davidsandberg's models were published in: graphs, the index and its data, in a folder."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(folder, b"")
        archive.writestr(f"{folder}20170511-185253.pb", bytes(1000))
        archive.writestr(f"{folder}model-20170511-185253.meta", bytes(1000))
        for file in sorted(prefix.parent.glob(f"{prefix.name}.*")):
            ending = file.name.removeprefix(prefix.name)
            archive.write(file, f"{folder}model-20170511-185253.ckpt-80000{ending}")
    return path


@pytest.mark.parametrize(("name", "prefix"), [("tensors", ""), ("wrapped", "state_dict."), ("legacy", "")])
def test_what_pytorch_wrote_is_read(name: str, prefix: str) -> None:
    expected = np.load(TORCH / "expected.npz")
    with open_checkpoint(TORCH / f"{name}.pt") as checkpoint:
        assert set(checkpoint.tensors) == {f"{prefix}{tensor}" for tensor in expected}
        for tensor in expected:
            found = checkpoint.read(f"{prefix}{tensor}")
            assert found.dtype.name == ("bfloat16" if tensor == "bf16" else expected[tensor].dtype.name)
            np.testing.assert_array_equal(found.astype(expected[tensor].dtype), expected[tensor])


def test_a_pickle_that_runs_a_command_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"hostile_reduce\.pt: its pickle names posix\.system.*nothing in it was run"):
        open_checkpoint(TORCH / "hostile_reduce.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"truncated\.pt: .* damaged or truncated"):
        open_checkpoint(TORCH / "truncated.pt")


def torch_file(path: Path, pickled: bytes, storage: bytes = bytes(16)) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", storage)
    return path


def tensor_pickle(offset: int, size: tuple[int, ...], stride: tuple[int, ...], count: int = 4) -> bytes:
    """{"w": a tensor of four floats, seen so}."""

    def number(value: int) -> bytes:
        return pickle.LONG1 + b"\x08" + struct.pack("<q", value)

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(count) + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + numbers(size) + numbers(stride)
    return b"\x80\x02}" + text("w") + call + b"\x89}tRs."


def test_the_crafted_tensor_is_one(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "a.pt", tensor_pickle(0, (2, 2), (1, 2)), np.arange(4, dtype=np.float32).tobytes())
    with open_checkpoint(path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("w"), [[0, 2], [1, 3]])


@pytest.mark.parametrize(
    "bad",
    [
        tensor_pickle(1, (4,), (1,)),  # beyond the storage
        tensor_pickle(0, (2**40,), (0,)),  # one number seen a trillion times
        tensor_pickle(0, (2,), (-1,)),
        tensor_pickle(-1, (2,), (1,)),
        tensor_pickle(0, (4,), (1,), count=2**40),
        tensor_pickle(0, (2, 2), (1,)),
    ],
)
def test_a_tensor_that_reaches_outside_its_storage_is_refused(tmp_path: Path, bad: bytes) -> None:
    with pytest.raises(InputError):
        open_checkpoint(torch_file(tmp_path / "a.pt", bad))


@pytest.mark.parametrize(
    ("pickled", "named"),
    [
        (b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.", "builtins.eval"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"\x80\x02ctorch.storage\n_load_from_bytes\n)R.", "torch.storage._load_from_bytes"),
        (b"\x80\x02(S'x'\nios\nsystem\n.", "STRING"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls torch.FloatStorage"),
        (b"\x80\x02ctorch\nFloatStorage\n)\x81.", "NEWOBJ"),
        (b"\x80\x02ccollections\nOrderedDict\n}b.", "Global"),
        (b"\x80\x02}(]]u.", "key of type list"),
        (b"\x80\x02](K\x01tQ.", "data.pkl|cannot be read"),
        (pickle.dumps([1, 2], protocol=2), "holds a list"),
        (pickle.dumps({"epoch": 3}, protocol=2), "has no tensors; its first keys are 'epoch'"),
    ],
)
def test_whatever_is_no_tensor_is_refused_by_name(tmp_path: Path, pickled: bytes, named: str) -> None:
    with pytest.raises(InputError, match=named):
        open_checkpoint(torch_file(tmp_path / "a.pt", pickled))


def test_a_memo_index_of_billions_allocates_nothing(tmp_path: Path) -> None:
    body = tensor_pickle(0, (4,), (1,))
    path = torch_file(tmp_path / "a.pt", body[:3] + b"r\xff\xff\xff\x7f" + body[3:])
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.read("w").shape == (4,)


def test_a_compressed_member_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**20))
    with pytest.raises(InputError, match="compressed"):
        open_checkpoint(tmp_path / "a.pt")


def archive_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, data in members:
            member.size = len(data) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("info", "complaint"),
    [
        (member("../evil.ckpt"), "would be written outside"),
        (member("/etc/evil.ckpt"), "would be written outside"),
        (member("link.ckpt", tarfile.SYMTYPE, "/etc/passwd"), "not a regular file"),
        (member("link.ckpt", tarfile.LNKTYPE, "other"), "not a regular file"),
        (member("pipe.ckpt", tarfile.FIFOTYPE), "not a regular file"),
        (member("disk.ckpt", tarfile.BLKTYPE), "not a regular file"),
        (member("readme.txt"), "has 0 checkpoints among readme.txt"),
    ],
)
def test_members_of_an_archive_are_checked(tmp_path: Path, info: tarfile.TarInfo, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        open_checkpoint(archive_of(tmp_path / "a.tar.gz", (info, b"x" * 20)))
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar.gz"]


def test_the_published_zip_is_read(files: dict[str, Path]) -> None:
    with open_checkpoint(files["published_zip"]) as checkpoint:
        assert checkpoint.format == "TensorFlow checkpoint in a .zip"
        assert set(checkpoint.tensors) == set(SMALL)
        np.testing.assert_array_equal(checkpoint.read("conv/weights"), SMALL["conv/weights"])


def zip_of(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, data in members:
            archive.writestr(info, data)
    return path


def linked(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([("../evil.ckpt-1.index", b"x")], "would be written outside"),
        ([("/etc/evil.ckpt-1.index", b"x")], "would be written outside"),
        ([("a\\b.ckpt-1.index", b"x")], "would be written outside"),
        ([("a/m.ckpt-1.index", b"x"), ("b/m.ckpt-1.index", b"x")], "would be written outside the folder or twice"),
        ([(linked("m.ckpt-1.index"), b"/etc/passwd")], "not a regular file"),
        ([("m.ckpt-1.index", b"x"), ("n.ckpt-1.index", b"x")], "has 2 checkpoints among m.ckpt-1.index, n.ckpt"),
        ([("m.ckpt-1.meta", b"x")], "has 0 checkpoints among no files"),
        ([(f"m.ckpt-{number}", b"x") for number in range(70)], "or 64 members"),
        ([("m.index", bytes(2000))], "unpacks to more than 1000 bytes"),
        ([("readme.txt", b"x")], "not of Keras, PyTorch or a TensorFlow checkpoint"),
    ],
)
def test_members_of_a_zip_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: list[Any], complaint: str
) -> None:
    from inception_resnet_keras.weights.readers import tf_checkpoint

    monkeypatch.setattr(tf_checkpoint, "ARCHIVE_LIMIT", 1000)
    with pytest.raises(InputError, match=complaint):
        open_checkpoint(zip_of(tmp_path / "a.zip", *members))
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", ("m.ckpt-1.index", b"x"))
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(InputError, match="not a regular file"):
        open_checkpoint(path)


def test_an_archive_that_swells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from inception_resnet_keras.weights.readers import tf_checkpoint

    monkeypatch.setattr(tf_checkpoint, "ARCHIVE_LIMIT", 1000)
    with pytest.raises(InputError, match="unpacks to more than 1000 bytes"):
        open_checkpoint(archive_of(tmp_path / "a.tar.gz", (member("a.ckpt"), bytes(2000))))


def test_an_hdf5_file_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.ones(3, np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv2d"]
        group = file.create_group("conv2d")
        group.attrs["weight_names"] = [b"conv2d/kernel:0"]
        group["conv2d/kernel:0"] = h5py.ExternalLink("other.h5", "secret")
    with pytest.raises(InputError, match="a link to another file"):
        open_checkpoint(tmp_path / "a.h5")


@pytest.mark.parametrize("storage", ["compressed", "elsewhere"])
def test_an_hdf5_array_that_is_not_plain_is_refused(tmp_path: Path, storage: str) -> None:
    import h5py

    options: dict[str, Any] = {"compression": "gzip"} if storage == "compressed" else {"external": "raw.bin"}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv2d"]
        group = file.create_group("conv2d")
        group.attrs["weight_names"] = [b"conv2d/kernel:0"]
        group.create_dataset("conv2d/kernel:0", (1000, 1000), "float32", **options)
    with pytest.raises(InputError, match="compressed or in another file"):
        open_checkpoint(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "content", [b"", b"x", b"PK\x03\x04", b"\x1f\x8b", b"\x89HDF\r\n\x1a\n", b"<html>404</html>" * 9]
)
def test_what_is_no_checkpoint_says_what_is_taken(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.h5"):
        open_checkpoint(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"which does not exist; it takes a \.keras"):
        open_checkpoint(tmp_path / "none.pt")
    with pytest.raises(InputError, match="which is a folder without a checkpoint"):
        open_checkpoint(tmp_path)


def test_a_changed_number_is_noticed_or_the_format_says_that_it_cannot(files: dict[str, Path], tmp_path: Path) -> None:
    """One bit of a value is turned over in a file of each format that holds SMALL's values or PyTorch's."""
    value = np.float32(7).tobytes()  # stands in `SMALL` once
    noticed = {}
    for name in ("torch_containers", "safetensors", "tf_v1", "tf_v2", "hdf5", "weights", "keras"):
        folder = tmp_path / name
        shutil.copytree(files[name].parent, folder)
        path = folder / files[name].name
        data = path.with_suffix(".data-00000-of-00001") if name == "tf_v2" else path
        content = bytearray(data.read_bytes())
        content[content.index(value) + 2] ^= 0x10  # 7.5
        data.write_bytes(content)
        try:
            with open_checkpoint(path) as checkpoint:
                assert any(7.5 in checkpoint.read(tensor) for tensor in checkpoint.tensors), name
                says = checkpoint.checksums
            noticed[name] = False
            assert not says, name
        except InputError:
            noticed[name] = True
    assert noticed == {
        "torch_containers": True, "safetensors": False, "tf_v1": True, "tf_v2": True,
        "hdf5": False, "weights": False, "keras": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("torch_zip", 2500),
        ("torch_legacy", 2500),
        ("torch_hostile", 1500),
        ("torch_containers", 2000),
        ("published_zip", 150),
        ("safetensors", 1000),
        ("tf_v1", 300),
        ("tf_v2", 300),
        ("archive", 200),
        ("hdf5", 600),
        ("weights", 600),
        ("keras", 600),
    ],
)
def test_ten_thousand_mutations_end_in_an_error(name: str, times: int, files: dict[str, Path], tmp_path: Path) -> None:
    """In a child that dies of a crash, a hang (5 s a file) or 256 MB more than it began with."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "checkpoint", str(files[name]), str(times), "7"],
        cwd=ROOT, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) > times // 3
    assert not (ROOT / "torch-file-was-executed").exists()
