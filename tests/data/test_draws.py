"""What is drawn: where from, within which bounds, how it is spread."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inception_resnet_keras.data.draws import (
    BRIGHTNESS,
    CONTRAST,
    HUE,
    SATURATION,
    balanced_order,
    draws,
    inception_boxes,
    order,
    patches,
)
from inception_resnet_keras.data.options import DataOptions

OPTIONS = DataOptions("inception", rand_augment=2, mixup=0.2, cutmix=1.0)


@settings(deadline=None)
@given(first=st.integers(0, 700), length=st.integers(1, 400), seed=st.integers(0, 99), epoch=st.integers(0, 99))
def test_a_positions_draws_depend_on_nothing_else(first: int, length: int, seed: int, epoch: int) -> None:
    every = draws(OPTIONS, seed, epoch, 0, first + length)
    part = draws(OPTIONS, seed, epoch, first, first + length)
    for name, values in vars(part).items():
        assert len(values) == length
        np.testing.assert_array_equal(values, getattr(every, name)[first:], err_msg=name)


def test_seed_epoch_and_position_each_change_the_draws() -> None:
    crops = [draws(OPTIONS, seed, epoch, 0, 600).crop for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    rows = np.concatenate(crops)
    assert len(np.unique(rows[:, 0])) == len(rows)
    orders = [order(50, seed, epoch).tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert orders[0] == orders[3]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert all(sorted(one) == list(range(50)) for one in orders)


@settings(deadline=None)
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any), seed=st.integers(0, 99))
def test_a_balanced_epoch_has_every_class_alike_and_every_picture_before_any_again(
    counts: list[int], seed: int
) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    found = balanced_order(labels, seed, 3)
    assert len(found) == len(labels)
    drawn = np.bincount(labels[found], minlength=len(counts))
    share, present = len(labels) // np.count_nonzero(counts), np.array(counts) > 0
    assert set(drawn[present]) <= {share, share + 1}
    assert not drawn[~present].any()
    times = np.bincount(found, minlength=len(labels))
    for label in np.flatnonzero(present):
        of_class = times[labels == label]
        assert of_class.max() - of_class.min() <= 1


def test_a_balanced_epoch_follows_from_seed_and_epoch_and_is_mixed() -> None:
    labels = np.repeat([0, 1, 2], [500, 25, 6])
    orders = [balanced_order(labels, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))]
    np.testing.assert_array_equal(orders[0], orders[3])
    assert not any(np.array_equal(one, other) for one, other in ((orders[0], orders[1]), (orders[0], orders[2])))
    first = np.bincount(labels[orders[0][:177]], minlength=3)  # a third of the epoch has a third of each class
    assert (abs(first - 59) < 25).all()
    # Over many epochs every picture of a class is drawn equally often.
    times = np.bincount(np.concatenate([balanced_order(labels, 0, epoch) for epoch in range(300)]))
    assert times[:500] == pytest.approx(np.full(500, 300 * 177 / 500), rel=0.4)
    assert times[500:525] == pytest.approx(np.full(25, 300 * 177 / 25), rel=0.02)


def test_the_colours_are_the_released_codes() -> None:
    colour = draws(OPTIONS, 0, 0, 0, 20_000).colour
    for column, (low, high) in enumerate([(-BRIGHTNESS, BRIGHTNESS), SATURATION, (-HUE, HUE), CONTRAST]):
        values = colour[:, column]
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.02 * (high - low))
    assert set(colour[:, 4]) == {0, 1}


@settings(deadline=None)
@given(height=st.integers(1, 900), width=st.integers(1, 900), seed=st.integers(0, 2**32 - 1), low=st.floats(0.01, 0.9))
def test_a_crop_lies_within_its_picture_and_its_bounds(height: int, width: int, seed: int, low: float) -> None:
    uniforms = np.random.default_rng(seed).random((64, 4))
    uniforms[:2] = [[0] * 4, [np.nextafter(1, 0)] * 4]
    boxes = inception_boxes(np.tile([height, width], (64, 1)), uniforms, (low, 1.0), (3 / 4, 4 / 3)).astype(int)
    top, left, rows, columns = boxes.T
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (top + rows <= height).all()
    assert (left + columns <= width).all()
    assert (rows * columns >= low * height * width).all()
    whole = (rows == height) & (columns == width)
    # A side is rounded to a pixel, so the ratio to half a pixel.
    fits = (columns >= rows * 3 / 4 - 0.51) & (columns <= rows * 4 / 3 + 0.51)
    assert (fits | whole).all()


def test_crops_of_imagenets_size_are_spread_as_tensorflows_are() -> None:
    """Against the op that the released code calls."""
    import tensorflow as tf

    count = 3000
    boxes = inception_boxes(
        np.tile([375, 500], (count, 1)), np.random.default_rng(0).random((count, 4)), (0.05, 1.0), (3 / 4, 4 / 3)
    )

    def drawn(seed: tf.Tensor) -> tf.Tensor:
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            [375, 500, 3],
            tf.constant([[[0.0, 0, 1, 1]]]),
            tf.stack([seed, 7]),
            min_object_covered=0.0,  # the released code's 0.1 of the whole picture is no bound where 5 % of it is none
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.05, 1.0),
        )
        return tf.concat([begin[:2], size[:2]], 0)

    theirs = np.stack(list(tf.data.Dataset.range(count).map(lambda n: drawn(tf.cast(n, tf.int32))).as_numpy_iterator()))
    for what, of in {
        "area": lambda box: box[:, 2] * box[:, 3] / (375 * 500),
        "aspect": lambda box: box[:, 3] / box[:, 2],
        "top": lambda box: box[:, 0] / 375,
        "left": lambda box: box[:, 1] / 500,
    }.items():
        levels = np.linspace(0.05, 0.95, 10)
        found, expected = np.quantile(of(boxes), levels), np.quantile(of(theirs), levels)
        np.testing.assert_allclose(found, expected, atol=0.04, err_msg=what)


@given(weight=st.floats(0, 1, width=32), row=st.floats(0, 1, width=32), column=st.floats(0, 1, width=32))
def test_a_patchs_share_is_what_it_covers(weight: float, row: float, column: float) -> None:
    corners, own = patches(np.array([[1, weight, row, column], [0, weight, row, column]], np.float32), (30, 40))
    top, left, bottom, right = corners[0]
    assert 0 <= top <= bottom <= 30
    assert 0 <= left <= right <= 40
    assert own[0] == pytest.approx(1 - (bottom - top) * (right - left) / 1200)
    assert own[1] == pytest.approx(weight)
    assert corners[1].tolist() == [0, 0, 0, 0]
