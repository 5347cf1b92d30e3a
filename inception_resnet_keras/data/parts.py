"""Splitting pictures into training, held-out and test parts, with groups and copies kept on one side."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from math import ceil
from typing import NamedTuple

import numpy as np

from ..common.console import counted
from ..common.errors import InputError, refuse
from .copies import LEFT_OUT
from .labelled import PARTS, TEST, TRAIN, VAL, Source
from .manifest import manifest_header, manifest_rows, picture_path, unread_columns
from .options import PARENT, PATTERN, SplitRules
from .sources import SourceKind, source_kind, source_part
from .spelling import alike_note, canonical

MOST_FOLDS = 20  # largest number of folds from which a share of groups is drawn


class Parts(NamedTuple):
    """The pictures of each part of a run. The test part is used once, after the last epoch; it may be None."""

    training: Source
    held_out: Source
    test: Source | None = None


def held_out_split(source: Source, seed: int) -> tuple[Source, Source]:
    """Split off a fifth of every class, at least one picture: the training and the held-out pictures.

    The split is the same for the same seed.
    """
    training, held_out, _ = divide(source, draw_split(source, SplitRules(seed=seed)))
    return training, held_out


def divide(source: Source, parts: np.ndarray, held_out: Source | None = None) -> Parts:
    """The pictures of each part, in the source's order. The test part is None if it is empty.

    Args:
        held_out: The held-out pictures, if they are given separately.
    """
    training, own, test = (source.take(np.flatnonzero(parts == part)) for part in PARTS)
    return Parts(training, own if held_out is None else held_out, test if len(test) else None)


def draw_split(
    source: Source,
    rules: SplitRules,
    groups: Sequence[str] | None = None,
    copies: np.ndarray | None = None,
    *,
    val_given: bool = False,
) -> np.ndarray:
    """Draw the part of every picture, stratified by class. The result is the same for the same seed.

    Parts declared by the source are used as they are. If it declares training pictures but no held-out or no test
    pictures, the missing part is drawn from the training pictures.

    Args:
        source: The pictures.
        rules: Shares, seed and folds.
        groups: The group of each picture. Pictures of one group are kept in one part, and the classes are balanced as
            far as that allows. A picture with the group "" is a group of its own. None for no groups.
        copies: int (n,), a number per picture that is equal for copies, which are kept in one part too. None for no
            copies.
        val_given: Draw no held-out pictures, because they are given separately.

    Returns:
        str (n,): TRAIN, VAL or TEST.

    Raises:
        InputError: A class has too few pictures or groups, or the source declares parts that contradict the rules.
    """
    declared = source.parts is not None and len(set(source.parts)) > 1  # one part alone was named by the user
    parts = np.array(source.parts if declared else [TRAIN] * len(source), dtype="U8")
    _require_drawable(parts, rules, declared=declared)
    draws_val, draws_test = VAL not in parts and not val_given, rules.test_fraction > 0 and TEST not in parts
    if not draws_val and not draws_test:
        return parts
    free = np.flatnonzero(parts == TRAIN)
    shares = [rules.val_fraction if draws_val and not rules.folds else 0.0, rules.test_fraction * draws_test]
    # Strata with fewer pictures than this are merged, because a share of them would be less than one picture.
    least = max([rules.folds if draws_val else 0, *(ceil(1 / share) for share in shares if share)])
    strata = _strata(source.labels[free], least)
    units = np.arange(len(free)) if copies is None else np.unique(copies[free], return_inverse=True)[1]
    if groups is None:
        drawn = _draw_units(source.take(free), strata, units, shares, rules.seed)
        if rules.folds:
            rest = np.flatnonzero(drawn == TRAIN)
            drawn[rest] = np.where(_unit_fold(source.take(free[rest]), strata[rest], units[rest], rules), VAL, TRAIN)
    else:
        joined = _joined(_group_numbers([groups[index] for index in free.tolist()]), units)
        drawn = _draw_groups(source.take(free), strata, joined, rules, draws_val=draws_val, draws_test=draws_test)
    parts[free] = drawn
    _require_every_class(source, parts)
    return parts


def draw_parts(
    pictures: Source, held_out: Source | None, rules: SplitRules, copies: np.ndarray | None = None
) -> np.ndarray:
    """Draw the part of every picture as `draw_split` does, and leave out copies of held-out and test pictures.

    Where parts are drawn, copies are kept together. Where parts are declared, or held-out pictures are given
    separately, a training picture with a copy among the held-out or test pictures is left out.

    Args:
        pictures: The pictures.
        held_out: The held-out pictures, with the same class names, if they are given separately. None uses the
            declared ones or draws them.
        rules: Shares, seed and folds.
        copies: int (n,), a number per picture and then per picture of `held_out`, equal for copies. None ignores
            copies.

    Returns:
        str (n,): TRAIN, VAL, TEST or LEFT_OUT.

    Raises:
        InputError: As in `draw_split`; or `pictures` declares held-out pictures although `held_out` is given; or a
            class is left without training pictures.
    """
    of_pictures = None if copies is None else copies[: len(pictures)]
    if held_out is not None:
        _require_apart(pictures, held_out, rules)
    parts = draw_split(pictures, rules, pictures.groups, of_pictures, val_given=held_out is not None)
    if copies is None or of_pictures is None:
        return parts
    elsewhere = np.concatenate([of_pictures[parts != TRAIN], copies[len(pictures) :]])
    parts[(parts == TRAIN) & np.isin(of_pictures, elsewhere)] = LEFT_OUT
    _require_every_class(pictures, parts)
    return parts


def _require_apart(pictures: Source, held_out: Source, rules: SplitRules) -> None:
    if rules.folds:
        raise InputError("folds: folds are drawn from the training pictures; leave out either folds or val")
    if VAL in (pictures.parts or ()):
        raise InputError("val: data declares its own held-out pictures; leave val out, or give data without them")
    if len({*(held_out.parts or ())}) > 1:
        raise InputError("val: declares several parts of its own; name one of them, such as FOLDER:val")


def split_warnings(parts: Parts) -> list[str]:
    """Warnings to print before training: groups that are in several parts, and classes that are missing in a part."""
    found = []
    groups = {part: set(source.groups or ()) - {""} for part, source in named_parts(parts)}
    for one, other in combinations(groups, 2):
        if both := sorted(groups[one] & groups[other]):
            shown = ", ".join(both[:5] + ["…"] * (len(both) > 5))
            found.append(f"{counted(len(both), 'group', 'is', 'are')} in both {one} and {other}: {shown}")
    for part, source in named_parts(parts):
        lacking = np.flatnonzero(_class_counts(source, np.full(len(source), True)) == 0).tolist()
        if lacking and len(lacking) < len(source.class_names):
            shown = ", ".join([source.class_names[label] for label in lacking[:5]] + ["…"] * (len(lacking) > 5))
            found.append(
                f"{len(lacking):,} of {counted(len(source.class_names), 'class')} without a {part} picture: {shown}"
            )
    return found


def named_parts(parts: Parts) -> list[tuple[str, Source]]:
    return [(part, source) for part, source in zip(PARTS, parts, strict=True) if source is not None]


def _require_drawable(parts: np.ndarray, rules: SplitRules, *, declared: bool) -> None:
    if not declared:
        return
    if TRAIN not in parts:
        raise InputError("data: declares held-out and test pictures but no training pictures; name these train")
    if rules.folds and VAL in parts:
        raise InputError(
            "folds: data declares its own held-out pictures (val), and folds are drawn from the training pictures; "
            "leave out folds, or declare train and test only"
        )
    if rules.test_fraction and TEST in parts:
        raise refuse("test_fraction", rules.test_fraction, "0, because data declares its own test pictures")


def _strata(labels: np.ndarray, least: int) -> np.ndarray:
    """int64 (n,): the stratum of each picture, which is its class.

    With several labels per picture, it is the combination of its labels. If fewer than `least` pictures have a
    combination, it is the rarest label of the picture instead, so that rare labels are spread over the parts too.
    """
    if labels.ndim == 1:
        return labels
    _, together, counts = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    together = together.reshape(-1)
    rarest = np.where(labels == 1, labels.sum(axis=0, dtype=np.int64), len(labels) + 1).argmin(axis=1)
    found = np.where(counts[together] < least, len(counts) + rarest, together)
    strata: np.ndarray = np.unique(found, return_inverse=True)[1]
    return strata


def _draw_units(
    source: Source, strata: np.ndarray, units: np.ndarray, shares: Sequence[float], seed: int
) -> np.ndarray:
    """Draw shares of every class for VAL and TEST, at least one picture each.

    A unit is a set of pictures that stay together; it counts for the class of its first picture. The units of a class
    are shuffled; the first are held out and the next are tested, so that the held-out pictures do not depend on the
    test share.
    """
    numbers, first, sizes = np.unique(units, return_index=True, return_counts=True)
    of_class = strata[first]
    wanted = [(part, share) for part, share in zip((VAL, TEST), shares, strict=True) if share]
    by_class = [numbers[of_class == label] for label in np.unique(strata)] if len(numbers) < len(units) else None
    if by_class is None:  # without copies every unit is one picture: one sort suffices
        order = np.argsort(strata, kind="stable")
        by_class = np.split(order, np.flatnonzero(np.diff(strata[order])) + 1)
    if not source.multi_label:
        _require_units(source, by_class, first, len(wanted) + 1)
    random = np.random.default_rng(seed)
    of_unit = np.full(len(numbers), TRAIN, dtype="U8")
    for members in by_class:
        left = random.permutation(members)
        count = int(sizes[members].sum())
        for index, (part, share) in enumerate(wanted):
            spare = len(left) - (len(wanted) - index)  # leave at least one unit for each part that follows
            if spare < 1:
                break
            chosen = _fill(left, sizes, max(1, round(share * count)), spare)
            of_unit[left[chosen]] = part
            left = left[~chosen]
    return of_unit[units]


def _fill(order: np.ndarray, sizes: np.ndarray, target: int, most: int) -> np.ndarray:
    """bool (units,): the units to take, in order, up to `target` pictures and `most` units, but at least one unit."""
    chosen, taken = np.zeros(len(order), bool), 0
    for place, size in enumerate(sizes[order].tolist()):
        if taken + size <= target and chosen.sum() < most:
            chosen[place] = True
            taken += size
        if taken == target:
            break
    if not taken:
        chosen[np.argmin(sizes[order])] = True
    return chosen


def _require_units(source: Source, by_class: Sequence[np.ndarray], first: np.ndarray, least: int) -> None:
    """Raise InputError if a class has fewer pictures than there are parts; copies count as one picture."""
    few = [first[members[0]] for members in by_class if len(members) < least]
    if not few:
        return
    names = [f"{source.class_names[source.labels[index]]!r} ({source.names[index]})" for index in few]
    listed = ", ".join(names[:10] + ["…"] * (len(names) > 10))
    have, needed = ("one readable picture", "two") if least == 2 else (f"fewer than {least} readable pictures", least)
    once, otherwise = "", ""
    if len(first) < len(source):
        once = ", counting copies of one picture once"
        otherwise = "; if these are not copies, give --set copy_distance=0, or --set copies=allow"
    raise InputError(
        f"{counted(len(few), 'class', 'has', 'have')} {have}{once}: {listed}; at least {needed} are needed to hold one "
        f"out: add pictures, or give separate held-out pictures (val){otherwise}"
    )


def _unit_fold(source: Source, strata: np.ndarray, units: np.ndarray, rules: SplitRules) -> np.ndarray:
    """bool (n,): the pictures of the held-out fold, with only copies kept together."""
    from sklearn.model_selection import StratifiedKFold

    numbers, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    of_units = strata[first]
    classes, counts = np.unique(of_units, return_counts=True)
    if source.multi_label:
        if len(numbers) < rules.folds:
            raise refuse("folds", rules.folds, f"at most {counted(len(numbers), 'picture')}, copies counted once")
        if counts.max() < rules.folds:  # no stratum is large enough to be spread over the folds
            of_units = np.zeros_like(of_units)
    elif counts.min() < rules.folds:
        label = int(classes[counts.argmin()])
        raise refuse(
            "folds",
            rules.folds,
            f"at most {counts.min()}, the pictures of class {source.class_names[label]!r}, copies counted once",
        )
    folds = StratifiedKFold(rules.folds, shuffle=True, random_state=rules.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns about rare combinations of labels
        held = list(folds.split(numbers, of_units))[rules.fold - 1][1]
    return np.isin(inverse, held)


def _draw_groups(
    source: Source, strata: np.ndarray, groups: np.ndarray, rules: SplitRules, *, draws_val: bool, draws_test: bool
) -> np.ndarray:
    """Draw the test and the held-out part in whole groups, with scikit-learn's StratifiedGroupKFold."""
    parts = np.full(len(source), TRAIN, dtype="U8")
    if draws_test:
        parts[_held_groups(strata, groups, rules.test_fraction, rules.seed)] = TEST
    if draws_val:
        rest = np.flatnonzero(parts == TRAIN)
        if rules.folds:
            chosen = _group_folds(strata[rest], groups[rest], rules.folds, rules.seed)[rules.fold - 1]
        else:
            share = rules.val_fraction * len(source) / len(rest)
            chosen = _held_groups(strata[rest], groups[rest], share, rules.seed)
        parts[rest[chosen]] = VAL
    return parts


def _held_groups(strata: np.ndarray, groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """int (n,): the pictures of some groups, about `share` of each class, with every class on both sides if possible.

    The share is taken as a number of folds, such as 3 of 20 folds for 0.15. These are consecutive folds; the first
    start that leaves every class on both sides is used, or else the start that leaves the most classes.
    """
    largest = int(np.bincount(strata).max())
    most = min(len(np.unique(groups)), largest if largest > 1 else MOST_FOLDS, MOST_FOLDS)
    if most < 2:
        raise InputError(
            "group: all pictures that are left to draw from are in one group, and a group is kept on one side, so "
            "nothing can be held out; give another group, or separate held-out pictures (val)"
        )
    ratio = Fraction(share).limit_denominator(most)
    total = ratio.denominator if 0 < ratio < 1 else most
    taken = ratio.numerator if 0 < ratio < 1 else max(1, round(share * most) - 1)
    folds = _group_folds(strata, groups, total, seed)
    classes = len(np.unique(strata))
    best: tuple[int, np.ndarray] = (-1, folds[0])
    for start in range(total):
        chosen = np.concatenate([folds[(start + step) % total] for step in range(taken)])
        left = np.delete(strata, chosen)
        # A class without training pictures cannot be learned; one without held-out pictures is only not measured.
        score = len(np.unique(left)) * (classes + 1) + len(np.unique(strata[chosen]))
        if len(chosen) and score > best[0]:
            best = score, chosen
    return best[1]


def _group_folds(strata: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """The pictures of each fold."""
    from sklearn.model_selection import StratifiedGroupKFold

    count = len(np.unique(groups))
    if folds > count:
        takes = f"at most {count}, the number of groups, because a group is kept on one side"
        raise refuse("folds", folds, takes)
    if np.bincount(strata).max() < folds:  # no stratum is large enough to be spread over the folds
        strata = np.zeros_like(strata)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer pictures than folds; the callers check every class
        return [held for _, held in splitter.split(strata, strata, groups)]


def _group_numbers(groups: Sequence[str]) -> np.ndarray:
    """int64 (n,): a number per group; a picture without a group has one of its own."""
    numbers: dict[str, int] = {}
    return np.array(
        [numbers.setdefault(group or f"\0{index}", len(numbers)) for index, group in enumerate(groups)], np.int64
    )


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """int (n,): a number per picture, equal for pictures that are connected by equal numbers of either numbering."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first = int(one.max()) + 1
    size = first + int(other.max()) + 1
    edges = coo_array((np.ones(len(one), np.int8), (one, first + other)), shape=(size, size))
    joined: np.ndarray = connected_components(edges, directed=False)[1][one]
    return joined


def _require_every_class(source: Source, parts: np.ndarray) -> None:
    """Raise InputError if a class that has pictures has no training picture left."""
    every, trained = _class_counts(source, np.full(len(source), True)), _class_counts(source, parts == TRAIN)
    if lacking := np.flatnonzero((every > 0) & (trained == 0)).tolist():
        names = ", ".join(repr(source.class_names[label]) for label in lacking[:10])
        raise InputError(
            f"{counted(len(lacking), 'class')} would have no training picture: {names}; all their pictures would be "
            "held out together, because of their groups or as copies of one another. Give another seed, smaller "
            "fractions or smaller groups; or copies=allow or a smaller copy_distance, if the pictures are not copies"
        )


def _class_counts(source: Source, chosen: np.ndarray) -> np.ndarray:
    """int (classes,): the number of chosen pictures of each class."""
    if source.multi_label:
        return source.labels[chosen].sum(axis=0, dtype=np.int64)
    return np.bincount(source.labels[chosen], minlength=len(source.class_names))


def picture_groups(source: Source, group: str | None, data: str) -> Sequence[str] | None:
    """The group of each picture.

    Args:
        source: The pictures.
        group: "parent" for the name of the folder that contains the picture; "re:PATTERN" for the first group of a
            regular expression that is searched in the picture's path below `data`; or the name of a column, if `data`
            is a CSV file. None takes the groups of the source.
        data: The path or name from which the source was opened.

    Returns:
        A text per picture, "" for a picture that is a group of its own; None without groups.

    Raises:
        InputError: `data` has no such column, or a path does not match the pattern.
    """
    groups = _groups_as_written(source, group, data)
    return None if groups is None else [canonical(name) for name in groups]


def with_groups(source: Source, group: str | None, data: str) -> Source:
    """The source with its groups by `picture_groups`, and with a note on groups whose names look alike.

    A column that names the groups is no longer listed among the columns that are not read.
    """
    groups = picture_groups(source, group, data)
    beside = source.beside
    if group is not None and source_kind(data) is SourceKind.MANIFEST:
        path, _ = source_part(data)
        every, others = unread_columns(path), unread_columns(path, used=[group])
        beside = [entry for entry in beside if entry not in every] + others
    return replace(source, groups=groups, beside=beside, notes=[*source.notes, *alike_note("groups", groups or ())])


def _groups_as_written(source: Source, group: str | None, data: str) -> Sequence[str] | None:
    if group is None:
        return source.groups
    if (group == PARENT or group.startswith(PATTERN)) and source_kind(data) in (SourceKind.DIGITS, SourceKind.TFDS):
        raise refuse("group", group, f"nothing: the pictures of {data} have no paths")
    if group == PARENT:
        return [os.path.basename(os.path.dirname(name)) for name in source.names]
    if group.startswith(PATTERN):
        root, _ = source_part(data)
        prefix = os.path.join(root if root.is_dir() else root.parent, "")
        pattern = re.compile(group.removeprefix(PATTERN))
        found = [pattern.search(name.removeprefix(prefix)) for name in source.names]
        if missing := [name for name, match in zip(source.names, found, strict=True) if not match]:
            raise InputError(
                f"group: {group.removeprefix(PATTERN)!r} is not found in {len(missing):,} of {len(source):,} paths, "
                f"such as {missing[0]}; every path must match: make the parts that vary optional"
            )
        return [match[1] or "" for match in found if match]
    return _column(source, group, data)


def _column(source: Source, column: str, data: str) -> list[str]:
    path, _ = source_part(data)
    if source_kind(data) is not SourceKind.MANIFEST:
        raise refuse("group", column, f"{PARENT}, {PATTERN}PATTERN, or a column of a .csv, which {data} is not")
    path_column = next((name for name in manifest_header(path) if name.strip().casefold() == "path"), "path")
    values: dict[str, str] = {}
    for line, (name, value) in manifest_rows(path, (path_column, column)):
        file = os.path.abspath(picture_path(path.parent, name))
        if values.setdefault(file, value) != value:
            raise InputError(
                f"{path}, line {line}: {name} is already listed with {column} {values[file]!r} instead of {value!r}; "
                "keep one of the two lines"
            )
    groups = [values.get(os.path.abspath(name)) for name in source.names]
    if None in groups:
        raise InputError(f"{path}: the column {column} has no row for {source.names[groups.index(None)]}")
    return [group or "" for group in groups]
