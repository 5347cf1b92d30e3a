"""Copies among pictures: the same pixels, and pictures that were resized, recompressed or slightly changed.

Every picture is decoded once, which gives its fingerprint: the SHA-256 of its pixels, a perceptual hash of 64 bits
(`imagehash.phash`) and a small grey thumbnail. Equal pixels have equal SHA-256. Near-identical pictures have hashes
that differ in few bits; as other pictures may have such hashes too, their thumbnails must be correlated as well.

The hash says little of a picture that is nearly uniform, which gets none, or of small ones, such as handwritten digits
of 8×8 pixels, whose thumbnails must be almost equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.console import counted
from ..common.devices import usable_cores
from ..common.errors import InputError
from ..common.packages import required
from .images import UnreadableImageError, decode
from .labelled import Source
from .manifest import manifest_rows
from .options import COPY_DISTANCE

Progress = Callable[[int, int], None]
HASHED_SIDE = 32  # of the grey picture that the hash is taken of
THUMBNAIL = 16  # side
FLAT = 4.0  # standard deviation of a thumbnail, of 255, below which a picture has no hash
SMALL = 64  # pixels: the shorter side below which LIKENESS_OF_SMALL holds
LIKENESS, LIKENESS_OF_SMALL = 0.95, 0.995  # least correlation of the thumbnails of near-identical pictures
DECODED_AT_ONCE = 64  # pictures, per thread; Ctrl-C waits for them
BLOCK = 512, 4096  # hashes that are compared at once
IDENTICAL = -1  # the distance of pictures with the same pixels


@dataclass(frozen=True)
class Fingerprints:
    """What copies are recognised by, one row per picture.

    pixels: SHA-256 of the pixels, hexadecimal; "" for a picture that cannot be decoded.
    hashes: uint64 (n,), the perceptual hashes. hashed: bool (n,), which pictures have one.
    thumbnails: uint8 (n, 256). small: bool (n,), which pictures are small.
    """

    pixels: Sequence[str]
    hashes: np.ndarray
    hashed: np.ndarray
    thumbnails: np.ndarray
    small: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, chosen: np.ndarray) -> Fingerprints:
        pixels = [self.pixels[index] for index in chosen.tolist()]
        return Fingerprints(
            pixels, self.hashes[chosen], self.hashed[chosen], self.thumbnails[chosen], self.small[chosen]
        )

    def hash_texts(self) -> list[str]:
        """The perceptual hashes as 16 hexadecimal digits; "" for a picture without."""
        return [f"{value:016x}" if has else "" for value, has in zip(self.hashes.tolist(), self.hashed, strict=True)]


@dataclass(frozen=True)
class CopyPairs:
    """Pairs of copies.

    one, other: int64 (m,), numbers of pictures, `one` the lower. distance: int64 (m,), in how many of 64 bits their
    hashes differ; IDENTICAL for the same pixels. Of many identical pictures each is paired with the first.
    """

    one: np.ndarray
    other: np.ndarray
    distance: np.ndarray

    def __len__(self) -> int:
        return len(self.one)


def fingerprint_pictures(source: Source, progress: Progress = lambda done, total: None) -> Fingerprints:
    """Decodes every picture once, in threads. One that cannot be decoded is not listed as corrupt: training does that.

    progress: Called with the number of pictures decoded, and their total.
    """
    return joined([fingerprint_some(source, range(len(source)), progress)])


def fingerprint_some(
    source: Source, indices: Sequence[int], progress: Progress = lambda done, total: None
) -> Fingerprints:
    """The fingerprints of some pictures of a source, in the order of `indices`."""
    required("imagehash", "the search for copies")

    def read(index: int) -> Image.Image | None:
        try:
            content = source.contents.read(index)
            return decode(Path(source.names[index]), content=content, value_range=source.value_range)
        except (UnreadableImageError, OSError):
            return None

    return _fingerprints(read, indices, progress)


def no_fingerprints(count: int) -> Fingerprints:
    """Those of pictures that are not looked at."""
    none = np.zeros(count, bool)
    return Fingerprints([""] * count, np.zeros(count, np.uint64), none, np.zeros((count, THUMBNAIL**2), np.uint8), none)


def fingerprint_files(paths: Sequence[str], value_range: tuple[float, float] | None = None) -> Fingerprints:
    """The fingerprints of files; a file that cannot be decoded, or is no longer there, has none."""

    def read(index: int) -> Image.Image | None:
        try:
            return decode(Path(paths[index]), value_range=value_range)
        except (UnreadableImageError, OSError):
            return None

    return _fingerprints(read, range(len(paths)), lambda done, total: None)


def joined(several: Sequence[Fingerprints]) -> Fingerprints:
    """The fingerprints of several sources, one after the other."""
    return Fingerprints(
        [digest for each in several for digest in each.pixels],
        np.concatenate([each.hashes for each in several]),
        np.concatenate([each.hashed for each in several]),
        np.concatenate([each.thumbnails for each in several]),
        np.concatenate([each.small for each in several]),
    )


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of a picture's size and RGB pixels; the same of every file that decodes to the same picture."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    digest = hashlib.sha256(f"{rgb.width}x{rgb.height} ".encode())
    digest.update(rgb.tobytes())
    return digest.hexdigest()


def _fingerprints(
    read: Callable[[int], Image.Image | None], indices: Sequence[int], progress: Progress
) -> Fingerprints:
    count = len(indices)
    pixels = [""] * count
    hashes, hashed, small = np.zeros(count, np.uint64), np.zeros(count, bool), np.zeros(count, bool)
    thumbnails = np.zeros((count, THUMBNAIL**2), np.uint8)

    def look(place: int) -> None:
        image = read(indices[place])
        if image is None:
            return
        pixels[place], small[place] = pixel_hash(image), min(image.size) < SMALL
        hashes[place], hashed[place], thumbnails[place] = _perceptual(image)

    done = 0
    with ThreadPoolExecutor(usable_cores()) as threads:
        # Bounded, so that an interrupted run ends at once and never holds many decoded pictures.
        for chunk in _chunks(range(count), usable_cores() * DECODED_AT_ONCE):
            list(threads.map(look, chunk))
            done += len(chunk)
            progress(done, count)
    return Fingerprints(pixels, hashes, hashed, thumbnails, small)


def _perceptual(image: Image.Image) -> tuple[np.uint64, bool, np.ndarray]:
    """The perceptual hash of a picture, whether it counts, and the thumbnail."""
    import imagehash

    grey = image.convert("L").resize((HASHED_SIDE, HASHED_SIDE), Image.Resampling.BOX)
    thumbnail = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
    bits = imagehash.phash(grey).hash.ravel()
    value = np.packbits(bits).view(">u8")[0].astype(np.uint64)
    return value, bool(thumbnail.std() >= FLAT), thumbnail.ravel()


def _chunks(items: Iterable[int], length: int) -> Iterator[list[int]]:
    rest = iter(items)
    while chunk := list(islice(rest, length)):
        yield chunk


def find_copies(
    prints: Fingerprints, distance: int = COPY_DISTANCE, progress: Progress = lambda done, total: None
) -> CopyPairs:
    """Finds identical and near-identical pictures.

    Args:
        prints: The pictures.
        distance: In how many of 64 bits the hashes of near-identical pictures may differ.
        progress: Called with the number of pictures compared with all others, and their total.

    Returns:
        The pairs, sorted by their first picture.
    """
    first: dict[str, int] = {}
    same: list[tuple[int, int]] = []
    for index, digest in enumerate(prints.pixels):
        if digest and (earlier := first.setdefault(digest, index)) != index:
            same.append((earlier, index))
    different = np.array(sorted(first.values()), np.int64)
    chosen = different[prints.hashed[different]] if len(different) else different
    near, apart = near_pairs(prints.take(chosen), prints.take(chosen), distance, progress, one_set=True)
    one = np.concatenate([np.array([pair[0] for pair in same], np.int64), chosen[near[:, 0]]])
    other = np.concatenate([np.array([pair[1] for pair in same], np.int64), chosen[near[:, 1]]])
    distances = np.concatenate([np.full(len(same), IDENTICAL), apart])
    order = np.lexsort((other, one))
    return CopyPairs(one[order], other[order], distances[order])


def near_pairs(
    prints: Fingerprints,
    others: Fingerprints,
    distance: int,
    progress: Progress = lambda done, total: None,
    *,
    one_set: bool = False,
    thumbnails: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a picture and another one that are near-identical.

    Args:
        prints, others: The pictures, all of which have hashes.
        distance: In how many of 64 bits the hashes may differ.
        progress: Called with the number of `prints` done, and their total.
        one_set: Whether `others` are the same pictures, each pair of which is looked at once.
        thumbnails: Whether to compare the thumbnails too.

    Returns:
        int64 (m, 2), numbers of the pictures, and int64 (m,), in how many bits they differ.
    """
    rows, columns = BLOCK
    count, starts = len(prints), range(0, len(prints), rows)

    def compare_block(start: int) -> tuple[np.ndarray, np.ndarray]:
        """One stretch of pictures with all others: every pair at once would take 80 GB for 100,000 pictures."""
        found: list[np.ndarray] = []
        apart: list[np.ndarray] = []
        block = prints.hashes[start : start + rows, None]
        for left in range(start if one_set else 0, len(others), columns):
            bits = np.bitwise_count(block ^ others.hashes[None, left : left + columns])
            one, other = np.nonzero(bits <= distance)
            differ = bits[one, other].astype(np.int64)
            one, other = one + start, other + left
            kept = one < other if one_set else np.full(len(one), True)
            if thumbnails:
                kept[kept] = alike_pairs(prints, others, one[kept], other[kept])
            found.append(np.stack([one[kept], other[kept]], axis=1))
            apart.append(differ[kept])
        return np.concatenate(found or [np.empty((0, 2), np.int64)]), np.concatenate(apart or [np.empty(0, np.int64)])

    blocks: list[tuple[np.ndarray, np.ndarray]] = []
    with ThreadPoolExecutor(usable_cores()) as threads:
        for chunk in _chunks(starts, 4 * usable_cores()):
            blocks += threads.map(compare_block, chunk)
            progress(min(chunk[-1] + rows, count), count)
    pairs = np.concatenate([pairs for pairs, _ in blocks] or [np.empty((0, 2), np.int64)])
    return pairs, np.concatenate([apart for _, apart in blocks] or [np.empty(0, np.int64)])


def alike_pairs(prints: Fingerprints, others: Fingerprints, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """bool: whether the thumbnails of each pair are correlated as those of near-identical pictures are."""
    alike = np.zeros(len(one), bool)
    for start in range(0, len(one), BLOCK[1]):
        some = slice(start, start + BLOCK[1])
        first, second = (
            each.astype(np.float32) - each.mean(axis=1, keepdims=True, dtype=np.float32)
            for each in (prints.thumbnails[one[some]], others.thumbnails[other[some]])
        )
        norms = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
        correlation = (first * second).sum(axis=1) / np.maximum(norms, 1e-6)
        small = prints.small[one[some]] | others.small[other[some]]
        alike[some] = correlation >= np.where(small, LIKENESS_OF_SMALL, LIKENESS)
    return alike


def clusters(count: int, pairs: CopyPairs) -> np.ndarray:
    """int (count,): a number per picture, equal for those that are copies of one another, directly or by others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(pairs), np.int8), (pairs.one, pairs.other)), shape=(count, count))
    numbers: np.ndarray = connected_components(edges, directed=False)[1]
    return numbers


# ----------------------------------------------------------------------------------------------------------------------
# What a run reports of its copies
# ----------------------------------------------------------------------------------------------------------------------
COPIES_FILE = "copies.csv"
COPY_COLUMNS = ("picture", "label", "split", "copy", "copy_label", "copy_split", "kind", "bits", "problem")
LEFT_OUT = "left out"  # in place of the part of a picture that is in none
IDENTICAL_PIXELS, NEAR = "identical", "near"
TWO_LABELS, ACROSS = "two labels", "across the split"


@dataclass(frozen=True)
class CopyReport:
    """The copies among the pictures of a run.

    sources: where the pictures are, numbered one source after the other. pairs: the copies. parts: the part of each
    picture, or LEFT_OUT. seconds: how long it took to find them.
    """

    sources: Sequence[Source]
    pairs: CopyPairs
    parts: Sequence[str]
    seconds: float

    def rows(self) -> list[tuple[str, ...]]:
        """The rows of copies.csv: pairs under two labels first, then those across the split."""
        names = [name for source in self.sources for name in source.names]
        labels = [label for source in self.sources for label in source.label_texts()]
        found = []
        pairs = zip(self.pairs.one.tolist(), self.pairs.other.tolist(), self.pairs.distance.tolist(), strict=True)
        for one, other, distance in pairs:
            problems = [TWO_LABELS] if labels[one] != labels[other] else []
            parts = self.parts[one], self.parts[other]
            if LEFT_OUT not in parts and parts[0] != parts[1]:
                problems.append(ACROSS)
            kind, bits = (IDENTICAL_PIXELS, "") if distance == IDENTICAL else (NEAR, str(distance))
            first = (names[one], labels[one], parts[0], names[other], labels[other], parts[1])
            found.append((*first, kind, bits, "; ".join(problems)))
        return sorted(found, key=lambda row: (TWO_LABELS not in row[-1], ACROSS not in row[-1]))

    def sentences(self) -> tuple[str, list[str]]:
        """What was found, and what the user should look at."""
        rows = self.rows()
        count = sum(map(len, self.sources))
        kinds = [sum(row[6] == kind for row in rows) for kind in (IDENTICAL_PIXELS, NEAR)]
        listed = f", listed in {COPIES_FILE} and shown in {COPIES_FILE.replace('.csv', '.png')}" if rows else ""
        found = (
            f"copies: {counted(count, 'picture', 'was', 'were')} decoded and compared in {self.seconds:.1f} s; "
            f"identical pairs: {kinds[0]:,}, near-identical pairs: {kinds[1]:,}{listed}"
        )
        warnings = []
        if labels := sum(TWO_LABELS in row[-1] for row in rows):
            warnings.append(
                f"copies under two labels, one of which is wrong: {counted(labels, 'pair')}, see {COPIES_FILE}"
            )
        if across := sum(ACROSS in row[-1] for row in rows):
            warnings.append(f"copies across the split, which make the figures too good: {counted(across, 'pair')}")
        if left_out := sum(part == LEFT_OUT for part in self.parts):
            warnings.append(f"training pictures left out, as copies of held-out or test pictures: {left_out:,}")
        return found, warnings

    def decode(self, name: str) -> Image.Image:
        """A picture by its name; white where it has gone since."""
        for source in self.sources:
            if name in source.names:
                try:
                    index = source.names.index(name)
                    content = source.contents.read(index)
                    return decode(Path(name), (200, 200), content=content, value_range=source.value_range)
                except (UnreadableImageError, OSError):
                    break
        return Image.new("RGB", (1, 1), "white")


def left_out_names(path: Path) -> set[str]:
    """The pictures that a run's copies.csv names as left out; none where there is no such file, or it is damaged."""
    try:
        rows = manifest_rows(path, ("picture", "split", "copy", "copy_split"))
        return {
            name
            for _, (one, part, other, other_part) in rows
            for name, of in ((one, part), (other, other_part))
            if of == LEFT_OUT
        }
    except InputError:
        return set()
