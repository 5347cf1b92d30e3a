"""Copies are found where there are some, and not where there are none."""

import csv
import io
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from inception_resnet_keras.data import copies
from inception_resnet_keras.data.copies import (
    IDENTICAL,
    CopyReport,
    Fingerprints,
    clusters,
    find_copies,
    fingerprint_pictures,
    left_out_names,
)
from inception_resnet_keras.data.labelled import CorruptPictures, Memory, Source
from inception_resnet_keras.data.sources import open_source

from .photographs import photograph


def in_memory(images: list[Image.Image], labels: list[int] | None = None) -> Source:
    contents = []
    for image in images:
        content = io.BytesIO()
        image.save(content, "PNG")
        contents.append(content.getvalue())
    return Source(
        class_names=["a", "b"],
        names=[f"p{index}" for index in range(len(images))],
        labels=np.array(labels or [0] * len(images), np.int64),
        sizes=np.array([image.size[::-1] for image in images], np.int32),
        kinds=np.zeros(len(images), np.uint8),
        contents=Memory(contents),
        corrupt=CorruptPictures(0, len(images)),
    )


def compressed(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content)


@pytest.fixture(scope="module")
def cells() -> list[Image.Image]:
    """Twelve pictures of different parts of a photograph."""
    whole = photograph(426, 640)
    return [whole.crop((x, y, x + 160, y + 142)) for y in range(0, 426, 142) for x in range(0, 640, 160)]


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as a JPEG": lambda image: compressed(image, 50),
    "half as large": lambda image: image.resize((image.width // 2, image.height // 2)),
    "twice as large": lambda image: image.resize((image.width * 2, image.height * 2)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "with more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "grey": lambda image: image.convert("L"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_pictures_are_near_identical_to_their_originals_only(cells: list[Image.Image], change: str) -> None:
    changed = [CHANGES[change](cell) for cell in cells]
    prints = fingerprint_pictures(in_memory([*cells, *changed]))
    pairs = find_copies(prints)
    found = set(zip(pairs.one.tolist(), pairs.other.tolist(), strict=True))
    hashed = prints.hashed[: len(cells)] & prints.hashed[len(cells) :]
    wanted = {(index, index + len(cells)) for index in np.flatnonzero(hashed).tolist()}
    assert found <= wanted
    assert len(found) >= len(wanted) - 1
    assert len(wanted) >= 8  # the sky has cells without a hash


def test_identical_pixels_are_found_in_any_format_and_flat_pictures_are_no_near_copies(
    cells: list[Image.Image],
) -> None:
    flat = [Image.new("RGB", (100, 100), (200 + shade, 200, 200)) for shade in range(5)]
    images = [*cells[:3], cells[1].copy(), *flat, flat[2].copy(), cells[1].copy()]
    source = in_memory(images)
    bitmap = io.BytesIO()
    cells[1].save(bitmap, "BMP")
    source.contents.contents[3] = bitmap.getvalue()  # type: ignore[attr-defined]
    prints = fingerprint_pictures(source)
    pairs = find_copies(prints)
    assert list(zip(pairs.one.tolist(), pairs.other.tolist(), pairs.distance.tolist(), strict=True)) == [
        (1, 3, IDENTICAL),
        (1, 10, IDENTICAL),
        (6, 9, IDENTICAL),
    ]
    numbers = clusters(len(images), pairs)
    assert len(set(numbers.tolist())) == len(images) - 3
    assert numbers[1] == numbers[3] == numbers[10]


def test_handwritten_digits_are_no_copies_of_one_another() -> None:
    calls: list[tuple[int, int]] = []
    prints = fingerprint_pictures(open_source("digits"), progress=lambda *call: calls.append(call))
    assert calls[-1] == (1797, 1797)
    assert prints.small.all()
    for distance in (8, 16):
        assert not len(find_copies(prints, distance))


def test_every_pair_is_compared_whatever_the_blocks() -> None:
    random = np.random.default_rng(0)
    count = 5000  # more than a block of either side
    hashes = random.integers(0, 2**63, count, dtype=np.uint64)
    thumbnails = random.integers(0, 255, (count, 256), dtype=np.uint8)
    originals = random.permutation(count)[:40]
    for one, other in zip(originals[:20].tolist(), originals[20:].tolist(), strict=True):
        hashes[other] = hashes[one] ^ np.uint64(0b1011)
        thumbnails[other] = thumbnails[one]
    every = np.ones(count, bool)
    prints = Fingerprints([str(index) for index in range(count)], hashes, every, thumbnails, ~every)
    wanted = {tuple(sorted(pair)) for pair in zip(originals[:20].tolist(), originals[20:].tolist(), strict=True)}
    calls: list[tuple[int, int]] = []
    pairs = find_copies(prints, 3, lambda *call: calls.append(call))
    assert set(zip(pairs.one.tolist(), pairs.other.tolist(), strict=True)) == wanted
    assert set(pairs.distance.tolist()) == {3}
    assert calls[-1] == (count, count)
    assert not len(find_copies(prints, 2))
    some = prints.take(np.arange(300))
    slowly = {
        (one, other)
        for one, other in combinations(range(300), 2)
        if int(some.hashes[one] ^ some.hashes[other]).bit_count() <= 20
    }
    alike = Fingerprints(some.pixels, some.hashes, some.hashed, np.tile(thumbnails[:1], (300, 1)), some.small)
    found = find_copies(alike, 20)
    assert set(zip(found.one.tolist(), found.other.tolist(), strict=True)) == slowly


@given(seed=st.integers(0, 10_000), nearest=st.integers(1, 3), dense=st.sampled_from([0, 10**9]))
def test_large_clusters_stay_whole_with_few_pairs(seed: int, nearest: int, dense: int) -> None:
    """The clusters are those of all pairs, and each picture is paired with the nearest before it."""
    random = np.random.default_rng(seed)
    count = int(random.integers(2, 90))
    flips = random.random((count, 64)) < 0.04
    hashes = random.integers(0, 2**63, 4, dtype=np.uint64)[random.integers(0, 4, count)]
    hashes ^= np.packbits(flips, axis=1).view(np.uint64)[:, 0]
    looks = random.integers(0, 255, (3, 256))[random.integers(0, 3, count)]
    thumbnails = np.clip(looks + random.normal(0, 12, (count, 256)), 0, 255).astype(np.uint8)
    every = np.ones(count, bool)
    prints = Fingerprints([str(index) for index in range(count)], hashes, every, thumbnails, random.random(count) < 0.2)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"BLOCK": (16, 32), "NEAREST": nearest, "DENSE": dense}.items():
            patch.setattr(copies, name, value)
        assert copies.near_pairs.__kwdefaults__ is not None
        patch.setitem(copies.near_pairs.__kwdefaults__, "nearest", nearest)
        found = find_copies(prints, 4)
    apart = {
        (one, other): int(hashes[one] ^ hashes[other]).bit_count()
        for one, other in combinations(range(count), 2)
        if int(hashes[one] ^ hashes[other]).bit_count() <= 4
        and np.corrcoef(thumbnails[one].astype(float), thumbnails[other].astype(float))[0, 1]
        >= (0.995 if prints.small[[one, other]].any() else 0.95)
    }
    assert found.near == len(apart)
    listed = dict(zip(zip(found.one.tolist(), found.other.tolist(), strict=True), found.distance.tolist(), strict=True))
    assert listed.items() <= apart.items()
    graph = connected_components(
        coo_array((np.ones(len(apart)), tuple(np.array(list(apart), int).reshape(-1, 2).T)), shape=(count, count))
    )[1]
    assert len(set(zip(graph.tolist(), clusters(count, found).tolist(), strict=True))) == graph.max() + 1
    for picture in range(count):
        before = sorted((bits, one) for (one, other), bits in apart.items() if other == picture)[:nearest]
        assert {(one, picture) for _, one in before} <= set(listed)
    assert len(listed) <= count * nearest + count


def test_a_film_of_equal_frames_does_not_fill_the_memory() -> None:
    """Of the two million pairs of 2,000 pictures, 19,945 are kept."""
    count, random = 2000, np.random.default_rng(0)
    thumbnails = np.tile(random.integers(0, 255, 256, dtype=np.uint8), (count, 1))
    hashes = np.full(count, 2**60 + 5, np.uint64)
    every = np.ones(count, bool)
    prints = Fingerprints([str(index) for index in range(count)], hashes, every, thumbnails, ~every)
    found = find_copies(prints)
    assert len(found) == 10 * (count - 10) + 45
    assert found.near == count * (count - 1) // 2
    assert np.unique(np.bincount(found.other, minlength=count)).tolist() == list(range(11))
    assert len(np.unique(clusters(count, found))) == 1
    frames = in_memory([Image.new("RGB", (8, 8))] * count)
    said, warnings = CopyReport([frames], found, ["train"] * (count - 1) + ["val"], 1.0).sentences()
    assert "near-identical pairs: 1,999,000, of which the 10 nearest of each picture are listed in copies.csv" in said
    assert warnings == ["copies across the split, which make the figures too good: at least 10 pairs"]


def test_copies_across_the_split_are_reported_beside_one_that_is_left_out(cells: list[Image.Image]) -> None:
    source = in_memory([cells[4], cells[4].copy(), cells[4].copy(), cells[4].copy()], [0, 0, 0, 0])
    pairs = find_copies(fingerprint_pictures(source))
    report = CopyReport([source], pairs, ["left out", "val", "test", "left out"], 1.0)
    assert [(row[0], row[3]) for row in report.rows() if row[8] == "across the split"] == [("p1", "p2")]
    assert any(warning.startswith("copies across the split") for warning in report.sentences()[1])
    report = CopyReport([source], pairs, ["left out", "val", "val", "left out"], 1.0)
    assert not any("across the split" in row[8] for row in report.rows())


def test_the_report_names_what_needs_a_look(cells: list[Image.Image], tmp_path: Path) -> None:
    images = [
        cells[4],
        cells[4].copy(),
        cells[5],
        cells[5].copy(),
        cells[6],
        cells[6].resize((80, 71)),
        cells[7],
        cells[7].copy(),
    ]
    source = in_memory(images, [0, 1, 0, 0, 0, 0, 0, 0])
    pairs = find_copies(fingerprint_pictures(source))
    report = CopyReport([source], pairs, ["train"] * 2 + ["train", "val"] + ["left out", "test"] + ["train"] * 2, 1.25)
    rows = report.rows()
    assert [(row[0], row[3], row[6], row[8]) for row in rows] == [
        ("p0", "p1", "identical", "two labels"),
        ("p2", "p3", "identical", "across the split"),
        ("p4", "p5", "near", ""),
        ("p6", "p7", "identical", ""),
    ]
    said, warnings = report.sentences()
    assert "8 pictures were decoded and compared in 1.2 s; identical pairs: 3, near-identical pairs: 1" in said
    assert [warning.partition(",")[0] for warning in warnings] == [
        "copies under two labels",
        "copies across the split",
        "training pictures left out",
    ]
    with (tmp_path / "copies.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [("picture", "label", "split", "copy", "copy_label", "copy_split", "kind", "bits", "problem"), *rows]
        )
    assert left_out_names(tmp_path / "copies.csv") == {"p4"}
    assert left_out_names(tmp_path / "none.csv") == set()
