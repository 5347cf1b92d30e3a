"""The search for copies: pictures with the same pixels, and resized, recompressed or slightly changed versions.

Every picture is decoded once to compute its fingerprint: the SHA-256 of its pixels, a perceptual hash of 64 bits
(`imagehash.phash`) and a small grey thumbnail. Identical pictures have the same SHA-256. Near-identical pictures have
hashes that differ in few bits. Because unrelated pictures may have similar hashes too, the thumbnails must also be
correlated.

Nearly uniform pictures get no hash, because it would be noise. Small pictures, such as handwritten digits of 8×8
pixels, count as near-identical only if their thumbnails are almost equal.
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
HASHED_SIDE = 32  # side of the grey picture that is hashed
THUMBNAIL = 16  # side of the thumbnail
FLAT = 4.0  # standard deviation of the thumbnail, on the scale of 0-255, below which a picture gets no hash
SMALL = 64  # shorter side in pixels below which LIKENESS_OF_SMALL applies
LIKENESS, LIKENESS_OF_SMALL = 0.95, 0.995  # least correlation of the thumbnails of near-identical pictures
DECODED_AT_ONCE = 64  # pictures per thread; Ctrl-C waits for them
BLOCK = 512, 4096  # numbers of hashes that are compared in one step
IDENTICAL = -1  # the distance recorded for pictures with the same pixels


@dataclass(frozen=True)
class Fingerprints:
    """The fingerprints of n pictures, by which copies are recognised.

    Attributes:
        pixels: SHA-256 of the pixels, hexadecimal; "" if the picture cannot be decoded.
        hashes: uint64 (n,), the perceptual hashes.
        hashed: bool (n,), whether the picture has one.
        thumbnails: uint8 (n, 256).
        small: bool (n,), whether the picture is small.
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
        """The perceptual hashes as 16 hexadecimal digits; "" for a picture without a hash."""
        return [f"{value:016x}" if has else "" for value, has in zip(self.hashes.tolist(), self.hashed, strict=True)]


@dataclass(frozen=True)
class CopyPairs:
    """The m pairs of copies that were found.

    Attributes:
        one, other: int64 (m,), the indices of the two pictures, the lower one first.
        distance: int64 (m,), the number of differing bits of the two hashes; IDENTICAL for the same pixels.

    In a group of identical pictures, each is paired with the first only.
    """

    one: np.ndarray
    other: np.ndarray
    distance: np.ndarray

    def __len__(self) -> int:
        return len(self.one)


def fingerprint_pictures(source: Source, progress: Progress = lambda done, total: None) -> Fingerprints:
    """Fingerprint every picture of a source. Each picture is decoded once, in threads.

    A picture that cannot be decoded is not listed in `source.corrupt` here; training lists it.

    Args:
        progress: Called with the number of pictures decoded so far and the total.
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
    """Empty fingerprints, for `count` pictures that are not searched for copies."""
    none = np.zeros(count, bool)
    return Fingerprints([""] * count, np.zeros(count, np.uint64), none, np.zeros((count, THUMBNAIL**2), np.uint8), none)


def fingerprint_files(paths: Sequence[str], value_range: tuple[float, float] | None = None) -> Fingerprints:
    """The fingerprints of files; those of a missing or unreadable file are empty."""

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
    """SHA-256 of a picture's size and RGB pixels; equal for all files that decode to the same picture."""
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
    """The perceptual hash of a picture, whether the picture is varied enough for the hash to count, the thumbnail."""
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
    """Find identical and near-identical pictures.

    Args:
        prints: The fingerprints of the pictures.
        distance: The largest number of differing bits, of 64, between the hashes of near-identical pictures.
        progress: Called with the number of pictures that were compared with all others, and the total.

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
    """Find the near-identical pairs between two sets of pictures.

    Args:
        prints: The fingerprints of the first set; every picture has a hash.
        others: The fingerprints of the second set; every picture has a hash.
        distance: The largest number of differing bits, of 64, between the two hashes.
        progress: Called with the number of `prints` done so far and the total.
        one_set: Whether `others` is the same set as `prints`; each pair is then returned once.
        thumbnails: Whether to compare the thumbnails too.

    Returns:
        int64 (m, 2), the indices of both pictures, and int64 (m,), the number of differing bits.
    """
    rows, columns = BLOCK
    count, starts = len(prints), range(0, len(prints), rows)

    def compare_block(start: int) -> tuple[np.ndarray, np.ndarray]:
        """Compare one block of pictures with all others; all pairs at once would take 80 GB for 100,000 pictures."""
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
    """bool (m,): whether the thumbnails of each pair are correlated enough to be near-identical."""
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
    """int (count,): a cluster number per picture; copies, and copies of copies, have the same number."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(pairs), np.int8), (pairs.one, pairs.other)), shape=(count, count))
    numbers: np.ndarray = connected_components(edges, directed=False)[1]
    return numbers


# ----------------------------------------------------------------------------------------------------------------------
# The report on the copies among a run's pictures
# ----------------------------------------------------------------------------------------------------------------------
COPIES_FILE = "copies.csv"
COPY_COLUMNS = ("picture", "label", "split", "copy", "copy_label", "copy_split", "kind", "bits", "problem")
LEFT_OUT = "left out"  # the part of a picture that is in neither train, val nor test
IDENTICAL_PIXELS, NEAR = "identical", "near"
TWO_LABELS, ACROSS = "two labels", "across the split"


@dataclass(frozen=True)
class CopyReport:
    """The copies among the pictures of a run.

    Attributes:
        sources: The pictures, numbered through, one source after the other.
        pairs: The copies.
        parts: The part of each picture, or LEFT_OUT.
        seconds: Duration of the search.
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
        """One sentence about the result of the search, and a list of warnings for the user to act on."""
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
        """A picture by its name; a white one if the file no longer exists."""
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
    """The names of the pictures marked as left out in a run's copies.csv; empty if it is missing or damaged."""
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
