"""Pictures of more than 8 bits: PNG, TIFF and DICOM files written by other libraries, scaled by one range."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from rich.console import Console

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data import value_range as range_module
from inception_resnet_keras.data.images import PILLOW, UnreadableImageError, header, read_depth, read_image
from inception_resnet_keras.data.packed import open_packed, pack
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.data.value_range import (
    file_range_notes,
    range_notes,
    with_common_range,
    with_models_range,
    with_value_range,
)
from inception_resnet_keras.models.model_file import Card, card_text, parse_card
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.pictures import open_pictures
from inception_resnet_keras.training.run import RunFolder
from inception_resnet_keras.training.settings import read_config

from ..pictures import png_of_16_bits

RANDOM = np.random.default_rng(0)
DEEP = RANDOM.integers(100, 3900, (12, 9)).astype(np.uint16)


def tiff(values: np.ndarray, **options: Any) -> bytes:
    file = BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def dicom(values: np.ndarray, **elements: Any) -> bytes:
    """A DICOM file of 12 stored bits, as pydicom writes it."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = elements.pop("syntax", ExplicitVRLittleEndian)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = UID("1.2.3")
    data.Rows, data.Columns = values.shape[-2:] if values.dtype == np.uint16 else values.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = values.tobytes()
    for name, value in elements.items():
        setattr(data, name, value)
    file = BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def read(content: bytes, value_range: tuple[float, float] | None = None) -> np.ndarray:
    pixels = read_image(Path("picture"), content=content, value_range=value_range)
    assert header("picture", content) == (*pixels.shape[:2], PILLOW)
    return pixels


@given(
    values=arrays.arrays(np.uint16, (3, 4)),
    ends=st.tuples(st.integers(0, 65535), st.integers(0, 65535)).filter(lambda pair: pair[0] < pair[1]),
)
def test_a_range_becomes_0_to_255_and_what_is_outside_is_clipped(values: np.ndarray, ends: tuple[int, int]) -> None:
    low, high = map(float, ends)
    file = BytesIO()
    Image.fromarray(values).save(file, "PNG")
    expected = np.clip((values.astype(np.float64) - low) * 255 / (high - low), 0, 255)
    for content in (file.getvalue(), tiff(values, photometric="minisblack")):
        pixels = read(content, (low, high))
        assert pixels.dtype == np.uint8
        assert (pixels == pixels[..., :1]).all()
        assert np.abs(pixels[..., 0] - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_files_of_16_bits_in_either_byte_order_are_scaled_as_a_png(order: Any) -> None:
    content = tiff(DEEP.astype(f"{order}u2"), byteorder=order, photometric="minisblack")
    np.testing.assert_array_equal(read(content)[..., 0], np.rint(DEEP / 257).astype(np.uint8))
    assert read_depth(Path("picture"), content).values == (DEEP.min(), DEEP.max())


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint32])
def test_tiff_files_of_32_bits_need_a_range(dtype: Any) -> None:
    values = DEEP.astype(dtype) - (500 if dtype != np.uint32 else 0)
    content = tiff(values, photometric="minisblack")
    with pytest.raises(UnreadableImageError, match="for black and white as value_range"):
        read(content)
    low, high = map(float, (values.min(), values.max()))
    expected = (values.astype(np.float64) - low) * 255 / (high - low)
    assert np.abs(read(content, (low, high))[..., 0] - expected).max() <= 0.5 + 1e-3
    depth = read_depth(Path("picture"), content)
    assert (depth.values, depth.whole) == ((low, high), False)


def test_tiff_files_of_8_bits_are_read_as_any_picture_and_the_first_page_is_taken(tmp_path: Path) -> None:
    colour = RANDOM.integers(0, 256, (6, 7, 3), np.uint8)
    np.testing.assert_array_equal(read(tiff(colour, photometric="rgb"), (0, 4095)), colour)
    pages = RANDOM.integers(0, 256, (3, 6, 7), np.uint8)
    file = tmp_path / "pages.tif"
    file.write_bytes(tiff(pages, photometric="minisblack"))
    np.testing.assert_array_equal(read_image(file)[..., 0], pages[0])
    notes = file_range_notes([str(file), str(tmp_path / "missing.tif")], None, given=False)
    assert notes == ["1 file has several pages or frames, of which the first is read"]
    first, second = (Image.fromarray(page) for page in pages[:2])
    for suffix in ("gif", "webp", "png"):
        first.save(tmp_path / f"moving.{suffix}", save_all=True, append_images=[second])
    phone = tmp_path / "phone.jpg"  # with a second view, such as a preview
    first.save(phone, "MPO", save_all=True, append_images=[second])
    files = [*map(str, tmp_path.glob("moving.*")), str(phone)]
    notes = file_range_notes(files, None, given=False)
    assert notes == ["3 files have several pages or frames, of which the first is read"]
    inverted = tiff(pages[0], photometric="miniswhite")
    np.testing.assert_array_equal(read(inverted)[..., 0], 255 - pages[0])


COLOUR = RANDOM.integers(0, 4096, (12, 9, 4)).astype(np.uint16)


@pytest.mark.parametrize(
    "content",
    [
        png_of_16_bits(COLOUR[..., :3]),
        *(
            tiff(COLOUR[..., :3].astype(f"{order}u2"), byteorder=order, photometric="rgb", compression=compression)
            for order in "<>"
            for compression in (None, "zlib")
        ),
    ],
    ids=["png", "little", "little-zlib", "big", "big-zlib"],
)
def test_colours_of_16_bits_are_scaled_with_all_their_bits(content: bytes) -> None:
    rgb = COLOUR[..., :3]
    for low, high in ((0.0, 4095.0), (100.0, 300.0), (0.0, 65535.0)):
        expected = np.clip((rgb.astype(np.float64) - low) * 255 / (high - low), 0, 255)
        assert np.abs(read(content, (low, high)) - expected).max() <= 0.5 + 1e-3
    np.testing.assert_array_equal(read(content), rgb >> 8)  # without a range
    assert read_depth(Path("picture"), content).values == (rgb.min(), rgb.max())


def test_opacity_of_16_bits_is_not_scaled_by_the_range() -> None:
    values = COLOUR.copy()
    values[..., 3] = RANDOM.choice([0, 65535], values.shape[:2])
    scaled = np.rint(values[..., :3].astype(np.float64) * 255 / 4095)
    expected = np.where(values[..., 3:] > 0, scaled, 255)
    np.testing.assert_array_equal(read(png_of_16_bits(values), (0, 4095)), expected)


def test_grey_with_opacity_and_a_transparent_colour_keep_all_16_bits() -> None:
    grey = COLOUR[..., [0, 3]].copy()
    grey[..., 1] = RANDOM.choice([0, 65535], grey.shape[:2])
    content = png_of_16_bits(grey)
    assert header("picture", content)[2] == PILLOW
    assert read_depth(Path("picture"), content).values == (grey[..., 0].min(), grey[..., 0].max())
    for high in (4095, 65535):
        scaled = np.rint(grey[..., :1].astype(np.float64) * 255 / high)
        expected = np.where(grey[..., 1:] > 0, scaled, 255).repeat(3, axis=-1)
        np.testing.assert_array_equal(read(content, (0, high) if high == 4095 else None), expected)
    rgb = COLOUR[..., :3].copy()
    rgb[2, 3] = rgb[5, 1]
    rgb[7, 7] = rgb[5, 1] + [0, 1, 0]  # the same upper bytes
    expected = np.rint(rgb.astype(np.float64) * 255 / 4095)
    expected[[2, 5], [3, 1]] = 255
    np.testing.assert_array_equal(read(png_of_16_bits(rgb, rgb[5, 1]), (0, 4095)), expected)


def test_a_turned_picture_of_16_bits_is_turned_upright() -> None:
    content = tiff(COLOUR[..., :3], photometric="rgb", extratags=[(274, 3, 1, 6, True)])  # a quarter turn clockwise
    upright = read(content, (0, 4095))
    np.testing.assert_array_equal(upright, np.rot90(read(png_of_16_bits(COLOUR[..., :3]), (0, 4095)), -1))


def test_grey_of_which_0_is_white_is_inverted_within_the_range() -> None:
    content = tiff(DEEP, photometric="miniswhite")
    np.testing.assert_array_equal(read(content)[..., 0], 255 - np.rint(DEEP / 257).astype(np.uint8))
    expected = 255 - DEEP.astype(np.float64) * 255 / 4095
    assert np.abs(read(content, (0, 4095))[..., 0] - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("dtype", [np.uint32, np.int32])
def test_integers_of_32_bits_keep_their_sign_and_all_their_bits(dtype: Any) -> None:
    """float32 would make one value of 2^31 - 100 and 2^31 - 50."""
    values = np.array([[2**31 - 100, 2**31 - 50], [2**31 - 30, 2**31 - 1]], dtype)
    high = 2**31 - 1.0
    if dtype == np.uint32:
        values[1, 1] = high = 2**31 + 155
    content = tiff(values, photometric="minisblack")
    assert read_depth(Path("picture"), content).values == (2**31 - 100, high)
    expected = (values.astype(np.float64) - (2**31 - 100)) * 255 / (high - (2**31 - 100))
    assert np.abs(read(content, (2**31 - 100, high))[..., 0] - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(DEEP.astype(np.int8), photometric="minisblack"), "holds signed 8-bit values"),
        (
            tiff(np.moveaxis(COLOUR[..., :3], -1, 0), photometric="rgb", planarconfig="separate"),
            "holds 16-bit colours in separate planes; save them interleaved",
        ),
        (tiff(COLOUR, photometric="separated"), "holds 16-bit CMYK; save it as RGB, or with 8 bits"),
        (
            tiff(COLOUR, photometric="rgb", extrasamples=["assocalpha"]),
            "holds 16-bit colours premultiplied by their opacity",
        ),
        (
            tiff(DEEP.astype(np.float64), photometric="minisblack"),
            "is a TIFF file that is damaged or of an unsupported kind",
        ),
        (
            tiff(COLOUR[..., :3].astype(np.float32), photometric="rgb"),
            "is a TIFF file that is damaged or of an unsupported kind",
        ),
    ],
)
def test_tiff_files_that_pillow_cannot_read_or_misreads_are_refused(content: bytes, reason: str) -> None:
    for value_range in (None, (0.0, 4095.0)):
        with pytest.raises(UnreadableImageError, match=reason):
            read_image(Path("picture"), content=content, value_range=value_range)


def test_the_window_of_a_dicom_file_is_applied() -> None:
    """By the formula of DICOM PS3.3, C.11.2.1.2.1."""
    content = dicom(DEEP, WindowCenter=900, WindowWidth=1400, RescaleSlope=1, RescaleIntercept=-1024)
    units = DEEP.astype(np.float64) - 1024
    expected = np.clip(((units - (900 - 0.5)) / (1400 - 1) + 0.5), 0, 1) * 255
    for value_range in (None, (0.0, 100.0)):  # the file says itself how it is shown
        assert np.abs(read(content, value_range)[..., 0] - expected).max() <= 0.5 + 1e-2
    assert read_depth(Path("picture"), content).values is None
    inverted = dicom(DEEP, WindowCenter=900, WindowWidth=1400, RescaleSlope=1, RescaleIntercept=-1024)
    inverted = inverted.replace(b"MONOCHROME2", b"MONOCHROME1")
    assert np.abs(read(inverted)[..., 0] - (255 - expected)).max() <= 0.5 + 1e-2


@pytest.mark.parametrize("bits", [8, 12])
def test_the_lookup_table_of_a_dicom_file_is_applied(bits: int) -> None:
    """pydicom.pixels.apply_voi_lut is wrong for entries of 8 bits in a table of more than 256."""
    entries = np.sqrt(np.arange(3000) / 2999) * (2**bits - 1)  # larger values get the last entry
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [3000, 0, bits])
    table.add_new("LUTData", "US", entries.astype(int).tolist())
    expected = entries.astype(int)[np.minimum(DEEP, 2999)] * 255 / (2**bits - 1)
    pixels = read(dicom(DEEP, VOILUTSequence=[table], WindowCenter=900, WindowWidth=1400))
    assert np.abs(pixels[..., 0] - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("count", [256, 4096])
def test_the_palette_of_a_dicom_file_is_applied_or_refused(count: int) -> None:
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    entries = RANDOM.integers(0, 256, (3, count)).astype(np.uint8)
    for name, layer in zip(("Red", "Green", "Blue"), entries, strict=True):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [count, 0, 8]
        palette[f"{name}PaletteColorLookupTableData"] = layer.tobytes()
    content = dicom(DEEP % count, **palette)
    if count > 256:
        with pytest.raises(UnreadableImageError, match="its palette has more than 256 entries of 8 bits"):
            read_image(Path("picture"), content=content)
        return
    np.testing.assert_array_equal(
        read_image(Path("picture"), content=content), np.moveaxis(entries[:, DEEP % count], 0, -1)
    )


def test_colours_of_a_dicom_file_are_scaled_by_its_stored_bits() -> None:
    layers = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    rgb = np.ascontiguousarray(COLOUR[..., :3])
    content = dicom(rgb, **layers, Rows=rgb.shape[0], Columns=rgb.shape[1])
    np.testing.assert_array_equal(read(content), np.rint(rgb * (255 / 4095)))


def test_dicom_files_without_a_window_in_colour_and_of_several_frames() -> None:
    content = dicom(DEEP, RescaleSlope=2, RescaleIntercept=-1024)
    depth = read_depth(Path("picture"), content)
    assert depth.values == (2 * float(DEEP.min()) - 1024, 2 * float(DEEP.max()) - 1024)
    expected = np.clip((2 * DEEP.astype(np.float64) - 1024) * 255 / 4000, 0, 255)
    assert np.abs(read(content, (0, 4000))[..., 0] - expected).max() <= 0.5 + 1e-2
    # Files of both polarities in one data set: each is scaled by the same range, and MONOCHROME1 is then inverted.
    negative = content.replace(b"MONOCHROME2", b"MONOCHROME1")
    assert read_depth(Path("picture"), negative) == depth
    np.testing.assert_array_equal(read(negative, (0, 4000)), 255 - read(content, (0, 4000)))
    frames = np.stack([DEEP, DEEP[::-1]])
    several = dicom(frames, NumberOfFrames=2)
    np.testing.assert_array_equal(read(several, (0, 4095)), read(dicom(DEEP), (0, 4095)))
    assert read_depth(Path("picture"), several).pages
    colour = RANDOM.integers(0, 256, (6, 8, 3), np.uint8)
    flat = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    np.testing.assert_array_equal(read(dicom(colour, **flat, **bits)), colour)


def test_hostile_and_damaged_files_are_refused_before_they_are_decoded() -> None:
    for content, reason in (
        (dicom(DEEP, Rows=65_000, Columns=65_000), "is 65000×65000: at most"),
        (dicom(DEEP)[:-40], "cannot be decoded"),
        (dicom(DEEP, syntax=DeflatedExplicitVRLittleEndian), "it is deflated"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 64, "cannot be decoded"),
        (tiff(DEEP)[:-60], "cannot be decoded"),
        (b"II*\0" + b"\xff" * 40, "is a TIFF file that is damaged or of an unsupported kind"),
    ):
        with pytest.raises(UnreadableImageError, match=reason):
            read_image(Path("picture"), content=content)


def write_set(folder: Path, shift: int = 0) -> Path:
    """Two classes of 12-bit pictures in files of 16 bits."""
    for number in range(12):
        file = folder / "ab"[number % 2] / f"{number}.{'png' if number < 6 else 'tif'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        values = RANDOM.integers(50, 3000, (20, 20)).astype(np.uint16) + shift
        if file.suffix == ".png":
            Image.fromarray(values).save(file)
        else:
            tifffile.imwrite(file, np.stack([values] * (1 + number % 2)), photometric="minisblack")
    return folder


def test_the_range_of_a_data_set_is_the_smallest_number_of_bits_that_holds_it(tmp_path: Path) -> None:
    source = with_value_range(open_source(write_set(tmp_path / "set")))
    assert source.value_range == (0, 4095)
    assert "3 files have several pages or frames, of which the first is read" in source.notes
    assert any(
        "12 pictures have more than 8 bits" in note and "4,095 becomes 255 (from the pictures" in note
        for note in source.notes
    )
    name = next(index for index, name in enumerate(source.names) if name.endswith("tif"))
    values = tifffile.imread(source.names[name])
    expected = np.rint((values if values.ndim == 2 else values[0]).astype(np.float64) * 255 / 4095)
    assert np.abs(source.read(name)[..., 0] - expected).max() <= 1
    given = with_value_range(open_source(tmp_path / "set"), (0, 1000))
    assert given.value_range == (0, 1000)
    assert given.read(name).max() == 255
    assert with_value_range(open_source(write_set(tmp_path / "higher", 2000))).value_range == (0, 8191)


def test_a_resumed_run_takes_the_range_that_it_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet, run = Console(quiet=True), RunFolder(tmp_path)
    config = TrainConfig(data=str(write_set(tmp_path / "set")), copies="skip")
    training = open_pictures(config, quiet, run).parts.training
    run.write_config(replace(config, value_range=training.value_range or ()), {})

    def looked_for(*_: object) -> None:
        raise AssertionError("the pictures were decoded to find their range")

    monkeypatch.setattr(range_module, "read_depth", looked_for)
    resumed = open_pictures(read_config(run.config), quiet, run).parts.training
    assert resumed.value_range == training.value_range == (0, 4095)
    np.testing.assert_array_equal(resumed.read(0), training.read(0))


def test_a_packed_folder_keeps_the_range_its_pictures_were_scaled_by(tmp_path: Path) -> None:
    source = open_source(write_set(tmp_path / "set"))
    pack(source, tmp_path / "packed")
    packed = open_packed(tmp_path / "packed", 0)
    assert packed.value_range == (0, 4095)
    scaled = with_value_range(source)
    for index, name in enumerate(packed.names):
        np.testing.assert_array_equal(packed.read(index), scaled.read(list(scaled.names).index(name)))


def test_packed_pictures_are_not_scaled_by_another_range_again(tmp_path: Path) -> None:
    pack(open_source(write_set(tmp_path / "set")), tmp_path / "packed")
    packed = open_packed(tmp_path / "packed", 0)
    assert with_value_range(packed, (0, 4095)).value_range == (0, 4095)
    with pytest.raises(InputError, match=r"value_range: got \(0, 1000\); it takes \(0.0, 4095.0\), by which"):
        with_value_range(packed, (0, 1000))
    assert with_models_range(packed, (0.0, 4095.0), "packed").value_range == (0, 4095)
    for models in (None, (0.0, 255.0)):
        with pytest.raises(InputError, match=r"packed: its pictures .* were scaled by the range 0 to 4,095"):
            with_models_range(packed, models, "packed")
    assert with_models_range(open_source(tmp_path / "set"), (0.0, 9.0), "set").value_range == (0, 9)


def write_plain(folder: Path) -> Path:
    """Two classes of pictures of 8 bits."""
    for number in range(4):
        file = folder / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (20, 20), np.uint8)).save(file)
    return folder


def test_held_out_pictures_given_separately_are_scaled_as_the_training_pictures(tmp_path: Path) -> None:
    plain, deep = open_source(write_plain(tmp_path / "plain")), open_source(write_set(tmp_path / "deep"))
    training, held_out = with_common_range(with_value_range(plain), deep)
    assert training.value_range == held_out.value_range == (0, 4095)
    assert any("12 pictures have more than 8 bits" in note for note in held_out.notes)
    values = np.asarray(Image.open(name := next(name for name in deep.names if name.endswith("png"))))
    shown = held_out.read(deep.names.index(name))[..., 0]
    assert np.abs(shown - values.astype(np.float64) * 255 / 4095).max() <= 0.51
    # The range of the training pictures holds for all; values outside it are counted.
    higher = open_source(write_set(tmp_path / "higher", 2000))
    training, held_out = with_common_range(with_value_range(deep), higher)
    assert training.value_range == held_out.value_range == (0, 4095)
    assert any("(as in data); values outside are clipped, in 12 pictures" in note for note in held_out.notes)
    pack(higher, tmp_path / "packed")
    with pytest.raises(InputError, match=r"val: its pictures were scaled by the range 0 to 8,191 .* by 0 to 4,095"):
        with_common_range(with_value_range(deep), open_packed(tmp_path / "packed", 0))


@pytest.mark.parametrize(
    ("value_range", "given", "says"),
    [
        ((0, 4095), False, "4,095 becomes 255 (as in the training of the model); values outside are clipped, in 6"),
        ((0, 65_535), True, "65,535 becomes 255 (as given)"),
        (None, False, "65,535 becomes 255 (all 16 bits, because the model has no range"),
    ],
)
def test_the_range_that_a_model_reads_by_is_reported(
    tmp_path: Path, value_range: tuple[float, float] | None, given: bool, says: str
) -> None:
    files = list(map(str, write_plain(tmp_path).glob("*/*")))
    for number in range(12):
        top = 4095 if number % 2 else 5000
        values = np.array([[0, top]], np.uint16)
        Image.fromarray(values).save(file := tmp_path / "ab"[number % 2] / f"deep {number}.png")
        files.append(str(file))
    [note] = file_range_notes(files, value_range, given=given)
    assert note.startswith("12 pictures have more than 8 bits, with values from 0 to 5,000: 0 becomes 0 and ")
    assert says in note
    source = with_models_range(open_source(tmp_path), value_range, "data")
    assert range_notes(source, given=given) == [note]


def test_a_models_card_keeps_its_range(tmp_path: Path) -> None:
    card = Card("inception_v4", "slim", ["a", "b"], (75, 75), value_range=(-10.0, 4095.0))
    assert parse_card(tmp_path, card_text(card)) == card
    with pytest.raises(InputError, match=r"value_range: got .*; it takes two numbers, low < high"):
        parse_card(tmp_path, card_text(card).replace("-10.0", "5000.0"))
