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
BLOCK = 512, 1024  # numbers of hashes that are compared in one step
NEAREST = 10  # the most near-identical pictures that each picture is paired with, besides what connects a cluster
DENSE = 5000  # pairs of similar hashes in a block above which all its thumbnails are compared, by a matrix product
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
        near: The number of near-identical pairs that were found.

    In a group of identical pictures, each is paired with the first only. Among near-identical pictures, such as the
    frames of a video, each is paired with the NEAREST of those before it, and with others only where they connect
    pictures that no other pair connects: all pairs of a cluster of 100,000 pictures would fill the memory.
    """

    one: np.ndarray
    other: np.ndarray
    distance: np.ndarray
    near: int = 0

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
    of_chosen = prints.take(chosen)
    near, apart, count = near_pairs(of_chosen, of_chosen, distance, progress, one_set=True)
    one = np.concatenate([np.array([pair[0] for pair in same], np.int64), chosen[near[:, 0]]])
    other = np.concatenate([np.array([pair[1] for pair in same], np.int64), chosen[near[:, 1]]])
    distances = np.concatenate([np.full(len(same), IDENTICAL), apart])
    order = np.lexsort((other, one))
    return CopyPairs(one[order], other[order], distances[order], count)


def near_pairs(
    prints: Fingerprints,
    others: Fingerprints,
    distance: int,
    progress: Progress = lambda done, total: None,
    *,
    one_set: bool = False,
    thumbnails: bool = True,
    nearest: int = NEAREST,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Find the near-identical pairs between two sets of pictures.

    Args:
        prints: The fingerprints of the first set; every picture has a hash.
        others: The fingerprints of the second set; every picture has a hash.
        distance: The largest number of differing bits, of 64, between the two hashes.
        progress: Called with the number of `prints` done so far and the total.
        one_set: Whether `others` is the same set as `prints`; each pair is then found once.
        thumbnails: Whether to compare the thumbnails too.
        nearest: The most pairs per picture that are returned: those of the fewest differing bits. In one set these are
            pairs with earlier pictures, and further pairs are returned where they alone connect two pictures.

    Returns:
        int64 (m, 2), the indices of both pictures; int64 (m,), the number of differing bits; and the number of pairs
        that were found.
    """
    rows, columns = BLOCK
    count, starts = len(prints), range(0, len(prints), rows)

    def compare_block(start: int) -> tuple[Pairs, int]:
        """Compare one block of pictures with all others; all pairs at once would take 80 GB for 100,000 pictures."""
        found, number = [NO_PAIRS], 0
        block = slice(start, start + rows)
        for left in range(start if one_set else 0, len(others), columns):
            bits = np.bitwise_count(prints.hashes[block, None] ^ others.hashes[None, left : left + columns])
            near = bits <= distance
            if one_set and left < start + rows:
                near &= np.arange(start, start + len(near))[:, None] < np.arange(left, left + near.shape[1])
            dense = np.count_nonzero(near) > DENSE
            if dense:
                if thumbnails:
                    near &= _alike_block(prints, others, block, slice(left, left + columns))
                number += int(np.count_nonzero(near))
                near = _nearest_of_block(near, bits, max(start - left, -rows), nearest, one_set=one_set)
            one, other = np.nonzero(near)
            apart = bits[one, other].astype(np.int64)
            one, other = one + start, other + left
            if not dense:
                if thumbnails:
                    alike = alike_pairs(prints, others, one, other)
                    one, other, apart = one[alike], other[alike], apart[alike]
                number += len(one)
            found.append(_thinned((one, other, apart), nearest, one_set=one_set))
        return _thinned(_together(found), nearest, one_set=one_set), number

    pairs, total = NO_PAIRS, 0
    with ThreadPoolExecutor(usable_cores()) as threads:
        for chunk in _chunks(starts, 4 * usable_cores()):
            blocks = list(threads.map(compare_block, chunk))
            pairs = _thinned(_together([pairs, *(found for found, _ in blocks)]), nearest, one_set=one_set)
            total += sum(number for _, number in blocks)
            progress(min(chunk[-1] + rows, count), count)
    one, other, apart = pairs
    order = np.lexsort((other, one))
    return np.stack([one, other], axis=1)[order], apart[order], total


Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]  # int64 (m,) each: two pictures, and the number of differing bits
NO_PAIRS: Pairs = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))


def _together(several: Sequence[Pairs]) -> Pairs:
    one, other, apart = (np.concatenate(each) for each in zip(*several, strict=True))
    return one, other, apart


def _thinned(pairs: Pairs, nearest: int, *, one_set: bool) -> Pairs:
    """The nearest pairs of each picture, and in one set those that connect what these do not.

    The nearest pairs of a part of the pairs contain those of the whole, so that parts can be thinned first.
    """
    one, other, apart = pairs
    if len(one) <= nearest:
        return pairs
    # One number per pair, because numpy sorts numbers faster than it sorts by three keys.
    picture, partner = (other, one) if one_set else (one, other)
    keys = np.sort((picture << 35) | (apart << 28) | partner)
    picture, apart, partner = keys >> 35, (keys >> 28) & 127, keys & (2**28 - 1)
    firsts = np.flatnonzero(np.diff(picture, prepend=-1))
    ranks = np.arange(len(keys)) - np.repeat(firsts, np.diff(firsts, append=len(keys)))
    kept = ranks < nearest
    if one_set and not kept.all():
        kept |= _links(picture, partner, apart, kept)
    picture, apart, partner = picture[kept], apart[kept], partner[kept]
    return (partner, picture, apart) if one_set else (picture, partner, apart)


def _nearest_of_block(near: np.ndarray, bits: np.ndarray, offset: int, nearest: int, *, one_set: bool) -> np.ndarray:
    """bool (rows, columns): what `_thinned` needs of the pairs of a block, found without a list of all its pairs.

    Args:
        near: bool (rows, columns), the pairs.
        bits: uint8 (rows, columns), the differing bits.
        offset: The number of the first row's picture minus that of the first column's; minus the height or less if no
            picture is both a row and a column.
        nearest, one_set: As for `_thinned`.
    """
    height, width = near.shape
    axis = 0 if one_set else 1
    places = np.arange(height)[:, None] if one_set else np.arange(width)[None, :]
    keys = np.where(near, bits.astype(np.uint32) * max(height, width) + places.astype(np.uint32), 2**32 - 1)
    last = min(nearest, near.shape[axis]) - 1
    kept: np.ndarray = near & (keys <= np.take(np.partition(keys, last, axis=axis), [last], axis=axis))
    if one_set:
        # Each row's nearest column connects most rows; of the pairs between what is still apart, all are returned.
        by_row = np.where(near, bits, 255)
        kept[np.arange(height), by_row.argmin(axis=1)] |= near.any(axis=1)
        rows, columns = np.nonzero(kept)
        joined_by = clusters(height + width + abs(offset), CopyPairs(*_numbers(rows, columns, offset), rows))
        ends = _numbers(np.arange(height), np.arange(width), offset)
        kept |= near & (joined_by[ends[0]][:, None] != joined_by[ends[1]][None, :])
    return kept


def _numbers(rows: np.ndarray, columns: np.ndarray, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers from 0 of a block's pictures, which are the same for a picture that is both a row and a column."""
    return rows + max(offset, 0), columns + max(-offset, 0)


def _links(one: np.ndarray, other: np.ndarray, apart: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """bool (m,): the pairs that are not kept but connect pictures that kept pairs do not, as few and near as possible.

    kept: bool (m,).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    numbers, places = np.unique(np.concatenate([one, other]), return_inverse=True)
    ends = places.reshape(2, -1)
    joined_by = clusters(len(numbers), CopyPairs(ends[0, kept], ends[1, kept], apart[kept]))[ends]
    apart_still = np.flatnonzero(joined_by[0] != joined_by[1])
    found = np.zeros(len(one), bool)
    if not len(apart_still):
        return found
    # Between two clusters the nearest pair is enough, and of all such pairs a spanning tree.
    low, high = np.sort(joined_by[:, apart_still], axis=0).astype(np.int64)
    between = low * len(numbers) + high
    order = np.lexsort((apart[apart_still], between))
    firsts = order[np.flatnonzero(np.diff(between[order], prepend=-1))]
    chosen = apart_still[firsts]
    edges = coo_array((apart[chosen] + 1, (low[firsts], high[firsts])), shape=(len(numbers), len(numbers)))
    tree = minimum_spanning_tree(edges.tocsr()).tocoo()
    found[chosen[np.isin(between[firsts], tree.row.astype(np.int64) * len(numbers) + tree.col)]] = True
    return found


def _alike_block(prints: Fingerprints, others: Fingerprints, rows: slice, columns: slice) -> np.ndarray:
    """bool (rows, columns): what `alike_pairs` says of all pairs of two blocks."""
    first, second = _centred(prints.thumbnails[rows]), _centred(others.thumbnails[columns])
    norms = np.outer(*(np.sqrt((each**2).sum(axis=1)) for each in (first, second)))
    small = prints.small[rows, None] | others.small[None, columns]
    alike: np.ndarray = first @ second.T / np.maximum(norms, 1e-6) >= _least_likeness(small)
    return alike


def _centred(thumbnails: np.ndarray) -> np.ndarray:
    """float32 (m, 256): thumbnails less their means, whose inner products are proportional to their correlations."""
    return thumbnails.astype(np.float32) - thumbnails.mean(axis=1, keepdims=True, dtype=np.float32)


def _least_likeness(small: np.ndarray) -> np.ndarray:
    """The least correlation of near-identical pictures. small: Whether one of the two is small."""
    return np.where(small, LIKENESS_OF_SMALL, LIKENESS)


def alike_pairs(prints: Fingerprints, others: Fingerprints, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """bool (m,): whether the thumbnails of each pair are correlated enough to be near-identical."""
    alike = np.zeros(len(one), bool)
    for start in range(0, len(one), BLOCK[1]):
        some = slice(start, start + BLOCK[1])
        first, second = _centred(prints.thumbnails[one[some]]), _centred(others.thumbnails[other[some]])
        norms = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
        correlation = (first * second).sum(axis=1) / np.maximum(norms, 1e-6)
        small = prints.small[one[some]] | others.small[other[some]]
        alike[some] = correlation >= _least_likeness(small)
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
        for one, other, distance in self._pairs_and_kept():
            problems = [TWO_LABELS] if labels[one] != labels[other] else []
            parts = self.parts[one], self.parts[other]
            if LEFT_OUT not in parts and parts[0] != parts[1]:
                problems.append(ACROSS)
            kind, bits = (IDENTICAL_PIXELS, "") if distance == IDENTICAL else (NEAR, str(distance))
            first = (names[one], labels[one], parts[0], names[other], labels[other], parts[1])
            found.append((*first, kind, bits, "; ".join(problems)))
        return sorted(found, key=lambda row: (TWO_LABELS not in row[-1], ACROSS not in row[-1]))

    def _pairs_and_kept(self) -> list[tuple[int, int, int]]:
        """(one, other, distance) of every pair, and of identical pictures that are paired only with one left out."""
        pairs = zip(self.pairs.one.tolist(), self.pairs.other.tolist(), self.pairs.distance.tolist(), strict=True)
        found = list(pairs)
        kept: dict[int, int] = {}  # the first picture that is identical to one left out, and not left out itself
        for one, other, distance in tuple(found):
            if distance == IDENTICAL and self.parts[one] == LEFT_OUT and self.parts[other] != LEFT_OUT:
                first = kept.setdefault(one, other)
                found += [(first, other, IDENTICAL)] if first != other else []
        return found

    def sentences(self) -> tuple[str, list[str]]:
        """One sentence about the result of the search, and a list of warnings for the user to act on."""
        rows = self.rows()
        count = sum(map(len, self.sources))
        identical, near = (sum(row[6] == kind for row in rows) for kind in (IDENTICAL_PIXELS, NEAR))
        thinned = self.pairs.near > near
        listed = f", listed in {COPIES_FILE} and shown in {COPIES_FILE.replace('.csv', '.png')}" if rows else ""
        if thinned:
            listed = f", of which the {NEAREST} nearest of each picture are{listed.removeprefix(',')}"
        found = (
            f"copies: {counted(count, 'picture', 'was', 'were')} decoded and compared in {self.seconds:.1f} s; "
            f"identical pairs: {identical:,}, near-identical pairs: {max(near, self.pairs.near):,}{listed}"
        )
        warnings, least = [], "at least " if thinned else ""
        if labels := sum(TWO_LABELS in row[-1] for row in rows):
            warnings.append(
                f"copies under two labels, one of which is wrong: {least}{counted(labels, 'pair')}, see {COPIES_FILE}"
            )
        if across := sum(ACROSS in row[-1] for row in rows):
            warnings.append(
                f"copies across the split, which make the figures too good: {least}{counted(across, 'pair')}"
            )
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
