"""Crops of evaluation, box by box."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data import crops
from inception_resnet_keras.data.crops import Changes, Crop, View
from inception_resnet_keras.data.images import decode, read_image

from .photographs import photograph, write_formats

SIDES = st.integers(1, 700)
# GoogLeNet's own input of 224, a picture of 256 by 400: squares at 0, 72 and 144; 256 - 224 = 32 is spare in each.
LANDSCAPE = {
    "left": [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)],
    "middle": [(0, 72), (0, 104), (32, 72), (32, 104), (16, 88)],
    "right": [(0, 144), (0, 176), (32, 144), (32, 176), (16, 160)],
}


def boxes(found: list[Crop]) -> list[tuple[float, ...]]:
    return [crop.box for crop in found]


def test_the_first_length_of_a_landscape_picture() -> None:
    first = crops.googlenet_crops(224, 256, 400)[:36]
    assert {crop.grid for crop in first} == {(256, 400)}
    wanted: list[tuple[float, ...]] = []
    for offset, corners in zip((0, 72, 144), LANDSCAPE.values(), strict=True):
        for box in [*((top, left, 224, 224) for top, left in corners), (0, offset, 256, 256)]:
            wanted += [box, box]
    assert boxes(first) == wanted
    assert [crop.mirrored for crop in first] == [False, True] * 18
    assert first[24].window(256, 400) == (144, 0, 368, 224)


def test_the_first_length_of_a_portrait_picture() -> None:
    first = crops.googlenet_crops(224, 400, 256)[:36]
    assert {crop.grid for crop in first} == {(400, 256)}
    wanted: list[tuple[float, ...]] = []
    for offset, corners in zip((0, 72, 144), LANDSCAPE.values(), strict=True):
        for box in [*((top, left, 224, 224) for left, top in corners), (offset, 0, 256, 256)]:
            wanted += [box, box]
    # The corners go left to right, then down; of a portrait picture that is another order of the turned ones.
    assert sorted(boxes(first)) == sorted(wanted)
    assert boxes(first)[:12:2] == [
        (0, 0, 224, 224),
        (0, 32, 224, 224),
        (32, 0, 224, 224),
        (32, 32, 224, 224),
        (16, 16, 224, 224),
        (0, 0, 256, 256),
    ]
    assert boxes(first)[24:36:2] == [
        (144, 0, 224, 224),
        (144, 32, 224, 224),
        (176, 0, 224, 224),
        (176, 32, 224, 224),
        (160, 16, 224, 224),
        (144, 0, 256, 256),
    ]


def test_the_last_length_at_299_of_a_photograph() -> None:
    """470 of 500 × 375 is 626 × 470: squares at 0, 78 and 156, of which 299 leaves 171."""
    every = crops.googlenet_crops(299, 375, 500)
    assert len(every) == 144
    assert crops.lengths(299) == [342, 384, 427, 470]
    assert [every[36 * n].grid for n in range(4)] == [(342, 456), (384, 512), (427, 569), (470, 626)]
    last = boxes(every[132:])
    assert last[::2] == [
        (0, 156, 299, 299),
        (0, 327, 299, 299),
        (171, 156, 299, 299),
        (171, 327, 299, 299),
        (85, 241, 299, 299),
        (0, 156, 470, 470),
    ]
    left, top, right, bottom = every[142].window(375, 500)
    assert (left, top, right, bottom) == pytest.approx((156 * 500 / 626, 0, 500, 375))


def test_twelve_are_the_middle_square_of_the_first_length() -> None:
    view = View((224, 224))
    twelve, every = crops.make_crops(view, 12, 256, 400), crops.make_crops(view, 144, 256, 400)
    assert len(twelve) == 12
    assert boxes(twelve)[::2] == [*((top, left, 224, 224) for top, left in LANDSCAPE["middle"]), (0, 72, 256, 256)]
    assert twelve == every[12:24]


@given(height=SIDES, width=SIDES, side=st.integers(1, 331))
def test_crops_lie_in_any_picture(height: int, width: int, side: int) -> None:
    every = crops.googlenet_crops(side, height, width)
    assert len(every) == 144
    for crop in every:
        top, left, tall, wide = crop.box
        assert tall == wide >= side
        assert min(top, left) >= 0
        assert top + tall <= crop.grid[0]
        assert left + wide <= crop.grid[1]
        x, y, right, bottom = crop.window(height, width)
        assert 0 <= x < right <= width
        assert 0 <= y < bottom <= height
    assert [crop._replace(mirrored=True) for crop in every[::2]] == every[1::2]
    for grid in {crop.grid for crop in every}:
        assert min(grid) in crops.lengths(side)


@given(height=SIDES, width=SIDES, fraction=st.sampled_from([0.25, 0.5, 0.875, 0.8975, 1.0]))
def test_squash_is_tensorflows_central_crop(height: int, width: int, fraction: float) -> None:
    """TF-Slim's evaluation is `tf.image.central_crop`, which cuts at whole pixels, then a resize."""
    _, (top, left, tall, wide), _ = crops.central_crop(View((299, 299), fraction), height, width)
    rows = np.arange(height)[:, None].repeat(width, 1)
    both = np.stack([rows, np.arange(width)[None].repeat(height, 0)], axis=-1)
    cropped = tf.image.central_crop(both, fraction).numpy()
    assert (tall, wide) == pytest.approx((fraction * height, fraction * width))
    assert np.abs(np.array(cropped.shape[:2]) - (tall, wide)).max() < 2
    assert np.abs(cropped[0, 0] - (top, left)).max() < 1


@pytest.mark.parametrize(
    ("fraction", "height", "width", "grid", "box"),
    [
        (0.875, 375, 500, (341, 454), (21, 78, 299, 299)),  # 299 / 0.875 = 341.7; 341 × 500 / 375 = 454.7
        (0.8975, 375, 500, (333, 444), (17, 72, 299, 299)),  # 299 / 0.8975 = 333.1; 72.5 rounds to even
        (0.8975, 500, 375, (444, 333), (72, 17, 299, 299)),
        (1.0, 300, 300, (299, 299), (0, 0, 299, 299)),
    ],
)
def test_center_is_timms(
    fraction: float, height: int, width: int, grid: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    """Its `Resize(floor(size / crop_pct))`, then `CenterCrop(size)`."""
    assert crops.central_crop(View((299, 299), fraction, "center", "bicubic"), height, width) == Crop(grid, box)


@pytest.mark.parametrize("size", [(427, 640), (640, 427), (40, 30)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pixels_are_those_of_a_resized_picture_that_is_cut(size: tuple[int, int], interpolation: str) -> None:
    """One resize of a window gives what resizing all and cutting gives, as timm does; to a rounding or two."""
    image, method = photograph(*size), Image.Resampling[interpolation.upper()]
    view = View((75, 75), 0.8975, "center", interpolation)
    (found,) = crops.cut(image, view, 1)
    grid, (top, left, tall, wide), _ = crops.central_crop(view, *size)
    whole = image.resize((grid[1], grid[0]), method)
    wanted = np.asarray(whole.crop((left, top, left + wide, top + tall)))
    np.testing.assert_allclose(found.astype(int), wanted.astype(int), atol=2)


@pytest.mark.parametrize("count", [12, 144])
def test_many_crops_as_pixels(count: int) -> None:
    image, view = photograph(60, 80), View((32, 32))
    found = crops.cut(image, view, count)
    assert found.shape == (count, 32, 32, 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[1::2], found[::2, :, ::-1])
    for pixels, crop in zip(found[::2], crops.make_crops(view, count, 60, 80)[::2], strict=True):
        grid, (top, left, tall, wide), _ = crop
        whole = image.resize((grid[1], grid[0]), Image.Resampling.BILINEAR).crop((left, top, left + wide, top + tall))
        twice = np.asarray(whole.resize((32, 32), Image.Resampling.BILINEAR))  # as GoogLeNet: the square once more
        apart = np.abs(pixels.astype(int) - twice)
        assert apart.max() <= 2 if tall == 32 else apart.mean() < 5


@pytest.mark.parametrize("fraction", [1.0, 0.875])
def test_plain_views_are_what_prediction_looks_at(tmp_path: Path, fraction: float) -> None:
    view = View((75, 75), fraction)
    assert view.plain
    for path in write_formats(tmp_path / "formats", (400, 600)).values():
        image = decode(path, crops.decoding_size(view, 1))
        np.testing.assert_array_equal(crops.cut(image, view, 1)[0], read_image(path, (75, 75), crop=fraction))


def test_a_picture_is_decoded_whole_for_other_crops() -> None:
    plain, bicubic = View((75, 100)), View((299, 299), 0.875, interpolation="bicubic")
    assert crops.decoding_size(View((90, 80), 0.5), 1) == (180, 160)
    assert crops.decoding_size(bicubic, 1) is None
    assert crops.decoding_size(plain, 12) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"fraction": 0}, r"crop fraction: got 0; it takes a number in \(0, 1\]"),
        ({"fraction": 1.1}, "crop fraction: got 1.1"),
        ({"fraction": float("nan")}, "crop fraction: got nan"),
        ({"mode": "middle"}, "crop mode: got 'middle'; it takes 'squash' or 'center'"),
        ({"interpolation": "area"}, "interpolation: got 'area'"),
    ],
)
def test_views_out_of_range_are_refused(arguments: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        View((32, 32), **arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=says):
        Changes(**arguments)  # type: ignore[arg-type]


def test_square_crops_need_a_square_input() -> None:
    with pytest.raises(InputError, match="this is 32×64"):
        View((32, 64), mode="center")
    with pytest.raises(InputError, match="this is 32×64"):
        crops.make_crops(View((32, 64)), 12, 100, 100)
    with pytest.raises(InputError, match="crops: got 10; it takes 1 or 12 or 144"):
        crops.make_crops(View((32, 32)), 10, 100, 100)
    assert Changes(mode="center").of(View((32, 32), 0.875)) == View((32, 32), 0.875, "center")


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("side", [150, 256, 601, 1024])
def test_a_jpeg_is_decoded_for_each_size_as_for_it_alone(tmp_path: Path, side: int, orientation: int) -> None:
    path = tmp_path / "large.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph(side, side + side // 3).save(path, exif=exif)
    sizes = [(32.0, 32.0), (64.0, 64.0), (40.0, 90.0), (37.5, 37.5), (128.0, 128.0)]
    asked: list[crops.Enough] = []

    def counted(enough: crops.Enough) -> Image.Image:
        asked.append(enough)
        return decode(path, enough)

    for chosen in (sizes, [None, *sizes]):
        found = crops.decoded(counted, chosen)
        for enough in chosen:
            np.testing.assert_array_equal(np.asarray(found[enough]), np.asarray(decode(path, enough)))
    assert len(asked) < 2 * len(sizes) + 1
