from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.draws import inception_boxes
from inception_resnet_keras.data.images import JPEG, read_image
from inception_resnet_keras.data.labelled import Source
from inception_resnet_keras.data.options import DataOptions
from inception_resnet_keras.data.pipeline import NEEDED, BatchPlan, TrainingReader, batches, dct_ratios
from inception_resnet_keras.data.rand_augment import rand_augmented
from inception_resnet_keras.data.sources import open_source

from .photographs import write_formats, write_photographs

SIZE = (24, 32)
BOUNDS = ((0.1, 1.0), (3 / 4, 4 / 3))

POLICIES = {
    "none": DataOptions("none"),
    "shift": DataOptions("shift"),
    "inception": DataOptions("inception"),
    "slow": DataOptions("inception", slow_colour=True),
    "memory": DataOptions("inception", cache="memory"),
    "rand": DataOptions("inception", rand_augment=2),
    "mixed": DataOptions("inception", mixup=0.2, cutmix=1.0),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return open_source(write_photographs(tmp_path_factory.mktemp("photographs")))


def epoch_of(source: Source, options: DataOptions = POLICIES["inception"], **given: Any) -> list[Any]:
    settings = {"size": SIZE, "batch_size": 4, "training": True, "seed": 3, **given}
    with source.corrupt.raising_input_errors():
        return [(images.numpy(), labels.numpy()) for images, labels in batches(source, options, **settings)]


def assert_same(found: list[Any], expected: list[Any]) -> None:
    for batch, other in zip(found, expected, strict=True):
        for values, others in zip(batch, other, strict=True):
            np.testing.assert_array_equal(values, others)


def test_rand_augment_takes_the_place_of_inceptions_colours(source: Source) -> None:
    options = DataOptions(augmentation="inception", rand_augment=2)
    rows = BatchPlan(source, options, SIZE, 4, True, 3, 0, 3, (0, 1)).batch(0)
    crops, _ = TrainingReader(source, SIZE, accurate=False)({name: tf.constant(rows[name]) for name in NEEDED}, 4)
    assert 0 < rows["flip"].sum() < 4
    mirrored = np.where(rows["flip"][:, None, None, None], crops.numpy()[:, :, ::-1], crops.numpy())
    expected = rand_augmented(
        tf.constant(mirrored, tf.float32), tf.constant(rows["operations"]), tf.constant(rows["strengths"])
    )
    images, _ = epoch_of(source, options)[0]
    np.testing.assert_allclose(images, expected, atol=1e-3)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_batch_is_the_same_wherever_the_epoch_was_entered(source: Source, policy: str) -> None:
    options = POLICIES[policy]
    whole = epoch_of(source, options)
    assert [len(labels) for _, labels in whole] == [4, 4, 3]
    assert whole[0][0].shape == (4, *SIZE, 3)
    assert whole[0][0].dtype == np.float32
    assert min(images.min() for images, _ in whole) >= 0
    assert 150 < max(images.max() for images, _ in whole) <= 255
    assert_same(epoch_of(source, options, start=2), whole[2:])
    assert_same(epoch_of(source, options), whole)
    assert epoch_of(source, options, start=3) == []


@pytest.mark.parametrize("policy", ["inception", "shift", "rand", "mixed"])
def test_seed_and_epoch_change_order_and_variation(source: Source, policy: str) -> None:
    def sums(**given: int) -> np.ndarray:
        every = [images.sum(axis=(1, 2, 3)) for images, _ in epoch_of(source, POLICIES[policy], **given)]
        return np.sort(np.concatenate(every))

    first = sums()
    assert not np.isclose(first, sums(seed=4)).all()
    assert not np.isclose(first, sums(epoch=1)).all()


@pytest.mark.parametrize(("policy", "shard"), [("inception", (0, 1)), ("mixed", (1, 2))])
def test_several_epochs_follow_one_another(source: Source, policy: str, shard: tuple[int, int]) -> None:
    given: dict[str, Any] = {"options": POLICIES[policy], "batch_size": 8, "shard": shard}
    apart = [batch for epoch in (4, 5) for batch in epoch_of(source, epoch=epoch, **given)]
    together = epoch_of(source, epoch=4, epochs=2, **given)
    assert_same(together, apart)
    assert_same(epoch_of(source, epoch=4, epochs=2, start=1, **given), apart[1:])


def test_numbered_pictures_are_those_of_the_source(source: Source) -> None:
    made = batches(source, DataOptions("inception"), size=SIZE, batch_size=4, training=True, seed=3, numbered=True)
    numbers = np.concatenate([numbers.numpy() for _, _, numbers in made])
    assert sorted(numbers) == list(range(11))
    labels = np.concatenate([labels for _, labels in epoch_of(source)])
    np.testing.assert_array_equal(source.labels[numbers], labels)


def test_batch_size_does_not_change_a_picture(source: Source) -> None:
    whole = np.concatenate([images for images, _ in epoch_of(source)])
    for size in (1, 5, 11):
        images = np.concatenate([images for images, _ in epoch_of(source, batch_size=size)])
        np.testing.assert_array_equal(images, whole)


@pytest.mark.parametrize(("policy", "count"), [("inception", 2), ("mixed", 4)])
def test_the_workers_parts_make_the_batch(source: Source, policy: str, count: int) -> None:
    options = POLICIES[policy]
    whole = epoch_of(source, options, batch_size=8)
    parts = [epoch_of(source, options, batch_size=8, shard=(number, count)) for number in range(count)]
    for number, (images, labels) in enumerate(whole):
        of_batch = [part[number] for part in parts if number < len(part)]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in of_batch]), images)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in of_batch]), labels)
    assert all(len(part[0][1]) == 8 // count for part in parts)


@settings(deadline=None)
@given(
    pictures=st.integers(1, 100),
    each=st.integers(1, 6).map(lambda half: 2 * half),
    count=st.integers(1, 6),
    mixes=st.booleans(),
)
def test_parts_lie_side_by_side(pictures: int, each: int, count: int, mixes: bool) -> None:
    digits = open_digits().take(np.arange(pictures))
    options = POLICIES["mixed" if mixes else "none"]
    total = -(-pictures // (each * count))
    plans = [
        BatchPlan(digits, options, SIZE, each * count, True, 0, 0, total, (number, count)) for number in range(count)
    ]
    seen: list[int] = []
    for batch in range(total):
        parts = [plan.positions(batch) for plan in plans]
        seen += [position for first, last in parts for position in range(first, last)]
        if batch < pictures // (each * count):
            assert {last - first for first, last in parts} == {each}
        assert not mixes or all((first - batch * each * count) % 2 == 0 for first, last in parts if first < last)
    assert seen == list(range(pictures))
    for plan in plans:
        assert plan.own == sum(first < last for first, last in map(plan.positions, range(total)))


def open_digits(cache: list[Source] = []) -> Source:  # noqa: B006 - opened once
    if not cache:
        cache.append(open_source("digits"))
    return cache[0]


def test_a_worker_may_be_left_nothing() -> None:
    three = open_digits().take(np.arange(3))
    parts = [epoch_of(three, batch_size=4, shard=(number, 4)) for number in range(4)]
    assert sorted(sum(len(labels) for _, labels in part) for part in parts) == [0, 1, 1, 1]


def test_shapes_are_static_where_short_batches_are_left_out(source: Source) -> None:
    made = batches(
        source, DataOptions("inception"), size=SIZE, batch_size=4, training=True, seed=0, drop_remainder=True
    )
    assert made.element_spec[0].shape == (4, *SIZE, 3)
    assert made.cardinality() == len(list(made)) == 2
    assert (
        batches(source, DataOptions("inception"), size=SIZE, batch_size=4, training=True, seed=0, start=1).cardinality()
        == 2
    )


def test_a_balanced_epoch_is_the_same_wherever_it_is_entered_and_shared(source: Source) -> None:
    settings: dict[str, Any] = {"sampler": "balanced", "epoch": 2}
    whole = epoch_of(source, **settings)
    assert [len(labels) for _, labels in whole] == [4, 4, 3]
    labels = np.concatenate([labels for _, labels in whole])
    assert np.bincount(labels).tolist() in ([5, 6], [6, 5])  # of 7 and 4 pictures
    assert_same(epoch_of(source, start=1, **settings), whole[1:])
    workers = [epoch_of(source, shard=(number, 2), **settings) for number in (0, 1)]
    for batch, first, second in zip(whole, *workers, strict=True):
        assert_same([batch], [tuple(map(np.concatenate, zip(first, second, strict=True)))])
    # Evaluation takes every picture once, whatever the sampler.
    assert_same(epoch_of(source, training=False, sampler="balanced"), epoch_of(source, training=False))


def weighted_epoch(source: Source, options: DataOptions, **given: Any) -> list[Any]:
    settings: dict[str, Any] = {"size": SIZE, "batch_size": 4, "training": True, "seed": 3, **given}
    return [tuple(part.numpy() for part in batch) for batch in batches(source, options, **settings)]


def test_a_pictures_weight_goes_with_it(source: Source) -> None:
    """In training alone; also of a picture that takes the place of an unreadable one, and in a resumed epoch."""
    weights = np.arange(1, len(source) + 1, dtype=np.float32)
    found = weighted_epoch(replace(source, weights=weights), POLICIES["none"])
    plain = epoch_of(source, POLICIES["none"])
    assert_same([batch[:2] for batch in found], plain)
    order = BatchPlan(source, POLICIES["none"], SIZE, 4, True, 3, 0, 3, (0, 1)).order(0)
    np.testing.assert_array_equal(np.concatenate([batch[2] for batch in found]), weights[order])
    assert_same(weighted_epoch(replace(source, weights=weights), POLICIES["none"], start=1), found[1:])
    assert len(weighted_epoch(replace(source, weights=weights), POLICIES["none"], training=False)[0]) == 2


def test_a_mixed_label_and_its_weights_are_mixed_alike(source: Source) -> None:
    """The parts of the label times the weights of the pictures that they are of."""
    options, weights = DataOptions("none", mixup=0.5), np.array([1.0, 10.0], np.float32)
    by_class = replace(source, weights=weights[source.labels])
    for (images, labels, parts), plain in zip(
        weighted_epoch(by_class, options), epoch_of(source, options), strict=True
    ):
        assert_same([(images, labels)], [plain])
        np.testing.assert_allclose(parts, labels * weights, rtol=1e-6)
    own = np.linspace(1, 2, len(source), dtype=np.float32)
    plan = BatchPlan(source, options, SIZE, 4, True, 3, 0, 3, (0, 1))
    rows = plan.batch(0)
    one_hot, share = np.eye(2)[rows["label"]], rows["own"][:, None]
    mine = one_hot * own[rows["index"]][:, None]
    expected = share * mine + (1 - share) * mine[[1, 0, 3, 2]]
    np.testing.assert_allclose(weighted_epoch(replace(source, weights=own), options)[0][2], expected, rtol=1e-5)


@pytest.mark.usefixtures("channels_first")
def test_channels_first(source: Source) -> None:
    first = epoch_of(source)
    keras.config.set_image_data_format("channels_last")
    assert_same([(np.moveaxis(images, 1, -1), labels) for images, labels in first], epoch_of(source))


def test_evaluation_is_in_order_and_sees_the_middle(source: Source) -> None:
    made = epoch_of(source, DataOptions("inception", central_crop=0.75), training=False, size=(45, 60))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in made]), source.labels)
    middles = np.stack([source.read(index)[8:52, 10:70] for index in range(len(source))])
    found = np.concatenate([images for images, _ in made])
    assert found.shape == (11, 45, 60, 3)
    assert np.abs(found[:, 1:-1] - middles[:, :43].astype(float)).mean() < 15
    assert_same(epoch_of(source, training=False, seed=9, epoch=4), epoch_of(source, training=False))


@pytest.mark.parametrize("training", [True, False])
def test_every_format_comes_as_read_image_gives_it(tmp_path: Path, training: bool) -> None:
    paths = write_formats(tmp_path / "set" / "a")
    write_formats(tmp_path / "set" / "b")
    source = open_source(tmp_path / "set", max_corrupt=0)
    options = DataOptions("none", central_crop=1.0)
    made = epoch_of(source, options, training=training, size=(50, 70), batch_size=30)
    [(images, _)] = made
    plan = BatchPlan(source, options, (50, 70), 30, training, 3, 0, 1, (0, 1))
    for image, index in zip(images, plan.order(0), strict=True):
        path = paths[Path(source.names[index]).name]
        expected = read_image(path, (50, 70)).astype(float)
        if not training:
            np.testing.assert_array_equal(image, expected)
        # Other decoders round JPEG's transform and WebP's colours a little otherwise.
        tolerance = 3 if path.suffix in (".jpg", ".webp") else 1
        assert np.abs(image - expected).max() <= (tolerance if path.name != "turned.jpg" else 40), path.name
        assert np.abs(image - expected).mean() < 1.5, path.name


def test_large_jpegs_are_decoded_at_a_fraction(tmp_path: Path) -> None:
    boxes = np.array([[0, 0, 47, 200], [0, 0, 48, 64], [0, 0, 96, 128], [0, 0, 600, 600]])
    assert dct_ratios(boxes, SIZE, 1).tolist() == [1, 2, 4, 8]
    assert dct_ratios(boxes, SIZE, 2).tolist() == [1, 1, 2, 8]
    write_photographs(tmp_path, (3, 3), size=(400, 528))
    source = open_source(tmp_path)
    [(images, _)] = epoch_of(source, DataOptions("none", central_crop=1.0), training=False, batch_size=6)
    expected = np.stack([read_image(Path(name), SIZE) for name in source.names])
    assert np.abs(images - expected.astype(float)).mean() < 1.5
    decode = TrainingReader(source, SIZE, accurate=False)
    for index, window in enumerate(inception_boxes(source.sizes, np.random.default_rng(0).random((6, 4)), *BOUNDS)):
        ratio = dct_ratios(window[None], SIZE, 1)[0]
        assert ratio > 1
        row = {"index": index, "present": True, "kind": JPEG, "window": window, "ratio": ratio}
        [crop], [readable] = decode({name: tf.constant([value]) for name, value in row.items()}, 1)
        top, left, height, width = (window // ratio * ratio).tolist()  # to the pixel of what is decoded
        photograph = Image.open(source.names[index]).crop((left, top, left + width, top + height))
        expected = np.asarray(photograph.resize(SIZE[::-1], Image.Resampling.BOX), np.float32)
        assert readable
        assert np.abs(crop.numpy() - expected).mean() < 8


def truncated(tmp_path: Path, pictures: tuple[str, ...]) -> None:
    write_photographs(tmp_path)
    for name in pictures:
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_corrupt_pictures_are_counted_listed_and_skipped(tmp_path: Path, cache: str) -> None:
    truncated(tmp_path, ("class 0/1.jpg", "class 1/4.jpg"))
    source = open_source(tmp_path, max_corrupt=2)
    assert len(source) == 11
    options = DataOptions("inception", cache=cache)
    whole = epoch_of(source, options)
    assert [len(labels) for _, labels in whole] == [4, 4, 3]
    assert all(images.max(axis=(1, 2, 3)).min() > 0 for images, _ in whole)
    assert [Path(name).name for name, _ in source.corrupt.listed()] == ["1.jpg", "4.jpg"]
    assert all("truncated" in reason for _, reason in source.corrupt.listed())
    assert_same(epoch_of(source, options, start=1), whole[1:])
    assert [len(labels) for _, labels in epoch_of(source, options, drop_remainder=True)] == [4, 4]
    held_out = epoch_of(source, options, training=False, drop_remainder=True)
    assert [len(labels) for _, labels in held_out] == [3, 4]
    held_out = epoch_of(source, options, training=False)
    assert [len(labels) for _, labels in held_out] == [3, 4, 2]
    assert len(source.corrupt) == 2


def test_whatever_the_damage_an_epoch_goes_on(tmp_path: Path) -> None:
    """Bytes changed, blocks of zeros, ends cut off: a picture is read or listed, and nothing else is raised."""
    write_photographs(tmp_path, (20, 20))
    random = np.random.default_rng(0)
    damaged = sorted(tmp_path.glob("*/*.jpg"))[::2]
    for number, path in enumerate(damaged):
        content = bytearray(path.read_bytes())
        start = int(random.integers(200, len(content) - 100))
        if number % 3 == 0:
            for place in random.integers(start, len(content), 5):
                content[place] = int(random.integers(256))
        elif number % 3 == 1:
            content[start : start + 64] = bytes(64)
        else:
            del content[start:]
        path.write_bytes(content)
    source = open_source(tmp_path, max_corrupt=20)
    whole = epoch_of(source, batch_size=8)
    assert [len(labels) for _, labels in whole] == [8] * (len(source) // 8) + [len(source) % 8] * (len(source) % 8 > 0)
    listed = {name for name, _ in source.corrupt.listed()}
    assert 3 <= len(listed) <= 20
    assert listed <= set(map(str, damaged))
    assert_same(epoch_of(source, batch_size=8, start=2), whole[2:])
    held_out = epoch_of(source, batch_size=8, training=False)
    assert sum(len(labels) for _, labels in held_out) >= 20


def test_too_many_corrupt_pictures_stop_the_epoch(tmp_path: Path) -> None:
    truncated(tmp_path, ("class 0/1.jpg", "class 1/4.jpg"))
    source = open_source(tmp_path, max_corrupt=1)
    with pytest.raises(InputError, match=r"2 of 11 pictures cannot be read, max_corrupt allows 1: .*truncated"):
        epoch_of(source)


def test_a_picture_that_changed_since_is_corrupt_or_read_anew(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    source = open_source(tmp_path, max_corrupt=1)
    (tmp_path / "class 0" / "0.jpg").unlink()
    path = tmp_path / "class 1" / "0.jpg"
    path.rename(path.with_suffix(".x"))
    write_formats(tmp_path / "more", size=(60, 80))["clear.png"].rename(path)
    assert sum(len(labels) for _, labels in epoch_of(source, training=False)) == 10
    [(name, _)] = source.corrupt.listed()
    assert name.endswith("0.jpg")


def test_a_picture_that_became_smaller(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    source = open_source(tmp_path, max_corrupt=1)
    Image.new("RGB", (3, 3)).save(tmp_path / "class 1" / "2.jpg")
    assert [len(labels) for _, labels in epoch_of(source)] == [4, 4, 3]
    assert source.corrupt.listed() == [(str(tmp_path / "class 1/2.jpg"), "is smaller than when it was opened")]


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"seed": -1}, "seed: got -1"),
        ({"epoch": 0.5}, "epoch: got 0.5"),
        ({"start": 4}, "start: got 4; it takes at most 3"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"batch_size": 12, "drop_remainder": True}, "not enough for a full batch"),
        ({"shard": (2, 2)}, "shard: got"),
        ({"shard": 1}, "shard: got 1"),
        ({"shard": (0, 3)}, "batch_size: got 4; it takes a multiple of the 3 workers"),
        ({"size": (0, 4)}, "size: got 0"),
    ],
)
def test_wrong_arguments(source: Source, given_: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        epoch_of(source, **given_)


def test_workers_that_mix_take_pairs(source: Source) -> None:
    with pytest.raises(InputError, match="an even number of pictures for each"):
        epoch_of(source, POLICIES["mixed"], batch_size=6, shard=(0, 2))


@pytest.mark.parametrize(
    "field",
    [
        {"augmentation": "inceptoin"},
        {"cache": "disk"},
        {"shift": 0.5},
        {"area": (0.5, 0.1)},
        {"area": (0.1, 1.2)},
        {"aspect": 1.0},
        {"slow_colour": 1},
        {"rand_augment": -1},
        {"rand_magnitude": 11},
        {"mixup": -0.1},
        {"cutmix": "1"},
        {"central_crop": 0},
        {"parallel_calls": 0},
    ],
    ids=lambda field: next(iter(field)),
)
def test_wrong_options(field: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(field))}: got"):
        DataOptions(**field)
