import contextlib
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inception_resnet_keras.data import images
from inception_resnet_keras.data.images import MAX_PIXELS, MAX_SIDE, UnreadableImageError, header, read_image

from ..fifos import make_fifo, without_waiting

RED = (255, 0, 0)


def gradient(height: int = 40, width: int = 60) -> np.ndarray:
    """A picture whose corners differ, smooth enough for JPEG."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, np.full_like(rows, 64)], -1).astype(np.uint8)


@pytest.mark.parametrize(("suffix", "tolerance"), [("png", 0), ("bmp", 0), ("webp", 40), ("jpg", 12), ("gif", 50)])
def test_formats_are_told_by_content(tmp_path: Path, suffix: str, tolerance: int) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(gradient()).save(path)
    misnamed = path.rename(tmp_path / "without_suffix")
    read = read_image(misnamed)
    assert read.shape == (40, 60, 3)
    assert read.dtype == np.uint8
    assert np.abs(read.astype(int) - gradient()).max() <= tolerance


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_modes_of_png(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (5, 4), "white").convert(mode).save(path)
    assert (read_image(path) == 255).all()


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    half = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    half.putpixel((1, 0), (*RED, 255))
    half.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[255, 255, 255], list(RED)]]
    palette = Image.new("P", (1, 1))
    palette.putpalette([0, 0, 0])
    palette.save(tmp_path / "b.png", transparency=0)
    assert read_image(tmp_path / "b.png").tolist() == [[[255, 255, 255]]]


def test_sixteen_bits_keep_their_range(tmp_path: Path) -> None:
    values = np.array([[0, 257, 255, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 1, 255]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - RED).max() < 8


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (3, 3), colour) for colour in (RED, (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "a.gif") == RED).all()


def test_exif_orientation_turns_it_upright(tmp_path: Path) -> None:
    image = Image.fromarray(gradient())
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90° clockwise
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (60, 40, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_resizing_keeps_the_whole_picture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(gradient(800, 1200)).save(path, quality=95)
    small = read_image(path, (20, 30))
    assert small.shape == (20, 30, 3)
    expected = Image.fromarray(gradient(800, 1200)).resize((30, 20), Image.Resampling.BILINEAR)
    assert np.abs(small.astype(int) - np.asarray(expected)).max() <= 6


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("crop", [0.875, 0.5])
def test_a_central_crop_is_the_middle(tmp_path: Path, suffix: str, crop: float) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(gradient(800, 1200)).save(path, quality=95)
    small = read_image(path, (20, 30), crop=crop)
    rows, columns = (round(side * (1 - crop) / 2) for side in (800, 1200))
    middle = Image.fromarray(gradient(800, 1200)[rows : 800 - rows, columns : 1200 - columns])
    expected = np.asarray(middle.resize((30, 20), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(small.astype(int) - expected).max() <= 6
    same = read_image(path, (800, 1200), crop=crop)  # of the picture's own size, and yet the middle
    assert same.shape == (800, 1200, 3)
    assert np.abs(same[0, 0].astype(int) - gradient(800, 1200)[rows, columns]).max() <= 6


def png_claiming(width: int, height: int, pixels: bytes = zlib.compress(b"\0" * 100), colour: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def grey_png(width: int, height: int) -> bytes:
    """A whole black picture: each row a byte for its filter, then its pixels."""
    return png_claiming(width, height, zlib.compress(bytes((width + 1) * height), 1), colour=0)


@pytest.mark.parametrize("side", [2**13 + 1, 2**16, 2**31 - 1])
def test_a_picture_too_large_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(side, side))
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(UnreadableImageError, match=r"bomb\.png") as error:
        read_image(path)
    assert time.process_time() - started < 1
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert f"at most {MAX_PIXELS:,} pixels" in str(error.value)


NARROW = """
import resource, sys
from pathlib import Path
import numpy as np
from inception_resnet_keras.data.crops import View, cut
from inception_resnet_keras.data.images import UnreadableImageError, decode, header, read_image

def used():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)

before = used()
for path in map(Path, sys.argv[2:]):
    if sys.argv[1] == "refused":
        for read in (header, decode, read_image):
            try:
                read(path)
            except UnreadableImageError as error:
                assert f"{path}: is " in str(error) and "at most 67,108,864 pixels, and 65,535 of width" in str(error)
            else:
                raise SystemExit(f"{read} takes {path}")
    else:
        assert read_image(path, (299, 299), crop=0.875).shape == (299, 299, 3)
        for view in (View((299, 299), 0.875, "center", "bicubic"), View((299, 299), 1, "squash", "lanczos")):
            assert cut(decode(path), view, 12).shape == (12, 299, 299, 3)
            assert cut(decode(path), view, 1).shape == (1, 299, 299, 3)
print((used() - before) / 1e6)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no getrusage")
@pytest.mark.parametrize(("says", "length", "megabytes"), [("refused", MAX_PIXELS, 20), ("read", MAX_SIDE, 200)])
def test_a_picture_one_pixel_wide_takes_little_memory(tmp_path: Path, says: str, length: int, megabytes: int) -> None:
    """The first was once decoded in 2 GB, from a file of 130 kB."""
    (tmp_path / "high.png").write_bytes(grey_png(1, length))
    (tmp_path / "wide.png").write_bytes(grey_png(length, 1))
    command = [sys.executable, "-c", NARROW, says, str(tmp_path / "high.png"), str(tmp_path / "wide.png")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < megabytes


@pytest.mark.skipif(os.name != "posix", reason="FIFOs are POSIX's")
def test_a_fifo_is_no_picture_and_is_not_waited_for(tmp_path: Path) -> None:
    fifo = make_fifo(tmp_path / "a.png")
    readers: tuple[Callable[[Path], object], ...] = (read_image, header)
    for read in readers:
        with pytest.raises(UnreadableImageError, match=r"a\.png: is a FIFO, and only regular files are read"):
            without_waiting(fifo, partial(read, fifo))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImageError, match=r"cannot be decoded|header is damaged"):
        read_image(path)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    for name, reason in [
        ("a.png", "not a JPEG"),
        ("empty.jpg", "is empty"),
        ("none.png", "no such file"),
        (".", "folder"),
    ]:
        with pytest.raises(UnreadableImageError, match=reason):
            read_image(tmp_path / name)


def test_formats_outside_those_are_not_opened(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.ppm")
    with pytest.raises(UnreadableImageError, match="is not a JPEG, PNG, WebP, BMP, GIF, TIFF or DICOM"):
        read_image(tmp_path / "a.ppm")


@settings(max_examples=300, deadline=None)
@given(data=st.data(), suffix=st.sampled_from(["png", "jpg", "webp", "gif", "bmp"]))
def test_damage_is_a_reason_or_a_picture_never_another_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("damaged") / f"a.{suffix}"
    Image.fromarray(gradient(12, 10)).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(UnreadableImageError):
        assert read_image(path, (8, 8)).shape == (8, 8, 3)


def plain_files(folder: Path) -> list[Path]:
    """JPEG and PNG files as programs write them, of every kind that their headers tell apart."""
    folder.mkdir(exist_ok=True)
    image = Image.fromarray(gradient(30, 20))
    turned = Image.Exif()
    turned[0x0112] = 6
    options: dict[str, dict[str, Any]] = {
        "plain.jpg": {},
        "progressive.jpg": {"progressive": True, "optimize": True},
        "comment.jpg": {"comment": b"a", "dpi": (72, 72), "restart_marker_rows": 1},
        "profile.jpg": {"icc_profile": b"p" * 300},
        "turned.jpg": {"exif": turned},
        "plain.png": {"dpi": (72, 72)},
        "turned.png": {"exif": turned},
        "profile.png": {"icc_profile": b"p" * 300},
    }
    for name, saved in options.items():
        image.save(folder / name, **saved)
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        image.convert("L" if mode == "I;16" else mode).convert(mode).save(folder / f"{mode[0]}{len(mode)}.png")
    image.convert("P").save(folder / "transparent.png", transparency=0)
    image.save(folder / "animated.png", save_all=True, append_images=[image.rotate(90)])
    for mode in ("L", "CMYK"):
        image.convert(mode).save(folder / f"{mode}.jpg")
    at_end = (folder / "plain.png").read_bytes()
    exif = (folder / "turned.png").read_bytes()
    chunk = exif[exif.index(b"eXIf") - 4 :][: 12 + len(turned.tobytes()[6:])]
    (folder / "turned at its end.png").write_bytes(at_end[:-12] + chunk + at_end[-12:])
    return sorted(folder.iterdir())


def test_plain_headers_are_read_as_pillow_reads_them(tmp_path: Path) -> None:
    quick = {file.name for file in plain_files(tmp_path) if images._plain_header(file, None)}
    assert quick == {
        *("plain.jpg", "progressive.jpg", "comment.jpg", "profile.jpg", "L.jpg"),
        *("plain.png", "L1.png", "P1.png"),
    }
    for file in plain_files(tmp_path):
        assert header(file) == header(file, file.read_bytes()) == images._pillow_header(file, None)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_damaged_plain_headers_are_left_to_pillow(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "plain"
    if not folder.exists():
        plain_files(folder)
    name = data.draw(st.sampled_from(sorted(file.name for file in folder.iterdir())))
    content = bytearray((folder / name).read_bytes())
    end = data.draw(st.sampled_from([len(content), min(700, len(content))]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2, 100]))])
    quick = images._plain_header(folder / name, damaged)
    if quick:
        assert quick == images._pillow_header(folder / name, damaged)
