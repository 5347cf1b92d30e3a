"""Small files made to need gigabytes or minutes: each ends in an InputError in little memory and time."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.weights.readers import open_checkpoint

from .. import synthetic

ROOT = Path(__file__).parents[3]
GROWTH = 300  # MB in the child, over what it had before it opened the file
SECONDS = 20  # of processor time

_CHILD = """
import json, resource, sys, time
import h5py, tarfile  # what the readers bring in is not the file's
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.weights.readers import open_checkpoint
def held():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before, start, said = held(), time.process_time(), ""
try:
    with open_checkpoint(sys.argv[1]) as checkpoint:
        kept = [checkpoint.read(name) for name in checkpoint.tensors]
except InputError as error:
    said = str(error)
print(json.dumps([said, held() - before, time.process_time() - start]))
"""


def opened(path: Path) -> str:
    """What opening and reading a file ends in, in a process of its own, within GROWTH and SECONDS."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path)],
        cwd=ROOT, capture_output=True, text=True, timeout=20 * SECONDS, check=True,
    )  # fmt: skip
    said, grown, seconds = json.loads(done.stdout)
    assert grown < GROWTH, f"{path.stat().st_size} bytes needed {grown} MB"
    assert seconds < SECONDS, f"{path.stat().st_size} bytes took {seconds:.0f} s"
    return str(said)


def pickled(path: Path, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", bytes(16))
    return path


def doubled(levels: int) -> bytes:
    """A tuple of two of a tuple of two of …: memo `levels`, a few bytes that stand for 2**levels."""
    steps = (b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) + b"0" for n in range(levels))
    return b")q\x000" + b"".join(steps)


LAUGH = b"h" + bytes([28])
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"


@pytest.mark.parametrize(
    "use",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + LAUGH + b"))tR",  # an offset
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00" + LAUGH + b")tR",  # a size
        b"(" + LAUGH + b"ctorch\nFloatStorage\nK\x00K\x00K\x04tQ",  # a kind of storage
        b"(X\x07\x00\x00\x00storage" + LAUGH + b"K\x00K\x00K\x04tQ",
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + LAUGH + b"K\x00K\x04tQ",  # its key
        LAUGH + b")R",  # what is called
        LAUGH + b"X\x01\x00\x00\x00x\x93",  # a module's name
    ],
)
def test_references_are_never_written_out(tmp_path: Path, use: bytes) -> None:
    path = pickled(tmp_path / "a.pt", b"\x80\x04}X\x01\x00\x00\x00w" + doubled(28) + use + b"s.")
    assert "is refused" in (said := opened(path)) or "in it " in said
    assert len(said) < 500


def test_a_legacy_file_names_its_storages_by_strings(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
    system = b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s."
    state = (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00K\x04\x85K\x01\x85tRs."
    )
    path.write_bytes(magic + b"\x80\x02M\xe9\x03." + system + state + b"\x80\x02]" + doubled(28) + LAUGH + b"a.")
    assert "has a tuple as the name of a storage" in opened(path)


def test_a_size_of_many_numbers_is_refused(tmp_path: Path) -> None:
    many = b"]q\x00(" + b"N" * 400_000 + b"e"
    said = opened(pickled(tmp_path / "a.pt", b"\x80\x02" + many + b"ctorch\nSize\nh\x00\x85R" * 1200 + b"."))
    assert "not a list of at most 8 numbers" in said


def test_marks_on_a_deep_stack_cost_nothing(tmp_path: Path) -> None:
    """Half a million values, and a hundred thousand lists of arguments above them: not one copy of the stack each."""
    opened(pickled(tmp_path / "a.pt", b"\x80\x02" + b"N" * 500_000 + b"(t0" * 100_000 + b"."))


def test_a_pickle_of_too_many_steps_is_refused(tmp_path: Path) -> None:
    assert "more than 1000000 opcodes" in opened(pickled(tmp_path / "a.pt", b"\x80\x02" + b"}" * 8_000_000 + b"."))


def test_small_views_of_two_storages_in_turn_hold_no_copies_of_them(tmp_path: Path) -> None:
    """Two storages of 20 MB and 400 tensors of three numbers of them, in turn: 8 GB if each held its storage."""
    storages = [synthetic._Storage(str(number), np.zeros(5 * 2**20, np.float32)) for number in range(2)]
    state = {f"w{number}": _View(storages[number % 2], number) for number in range(400)}
    out = io.BytesIO()
    _Pickler(out, protocol=2).dump(state)
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", out.getvalue())
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.array.tobytes())
    assert opened(path) == ""


class _View:
    def __init__(self, storage: synthetic._Storage, offset: int) -> None:
        self.storage, self.offset = storage, offset


class _Pickler(synthetic._Pickler):
    def save(self, value: object, save_persistent_id: bool = True) -> object:
        if not isinstance(value, _View):
            return super().save(value, save_persistent_id)
        super().save(synthetic._Name("torch._utils", "_rebuild_tensor_v2"))
        super().save((value.storage, value.offset, (3,), (1,), False, {}))
        self.write(b"R")
        return None


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (tarfile.GNUTYPE_LONGNAME, "its headers claim"),
        (tarfile.XHDTYPE, "its headers claim"),
        (tarfile.XGLTYPE, "its headers claim"),
        (tarfile.REGTYPE, "unpacks to more than"),
    ],
)
def test_a_long_header_of_an_archive_is_not_read(tmp_path: Path, kind: bytes, complaint: str) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 3 * 2**30 if kind == tarfile.REGTYPE else 600 * 2**20
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb", 1) as out:
        out.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(600):
            out.write(bytes(2**20))
    assert complaint in opened(path)


def test_folders_of_an_archive_are_counted(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for number in range(100):
            folder = tarfile.TarInfo(f"d{number}")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
    with pytest.raises(InputError, match="or 64 members"):
        open_checkpoint(tmp_path / "a.tar.gz")


def test_strings_in_hdf5_are_not_read(tmp_path: Path) -> None:
    """A thousand strings that are all the same one, a megabyte long."""
    import h5py

    path, count, kind = tmp_path / "a.h5", 1000, h5py.string_dtype()
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.attrs["name"] = "c"
        one, many = group.create_dataset("9", (1,), kind), group.create_dataset("0", (count,), kind)
        one[:], many[:] = "x" * 2**20, ["y"] * count
        at, there = one.id.get_offset(), many.id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[there : there + 16 * count] = raw[at : at + 16] * count
    path.write_bytes(raw)
    assert "does not hold numbers" in opened(path)
