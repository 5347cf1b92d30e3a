"""Which picture is trained on, held out or tested, and what is kept together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.copies import LEFT_OUT
from inception_resnet_keras.data.options import SplitRules, require_group
from inception_resnet_keras.data.parts import (
    TEST,
    TRAIN,
    VAL,
    divide,
    draw_parts,
    draw_split,
    picture_groups,
    split_warnings,
)
from inception_resnet_keras.data.sources import open_source

from ..pictures import labelled, write_digits


def held_fifth_as_before(labels: np.ndarray, classes: int, seed: int) -> list[int]:
    """The draw of the versions that knew no other split, which their runs are resumed with."""
    by_label = np.argsort(labels, kind="stable")
    by_class = np.split(by_label, np.cumsum(np.bincount(labels, minlength=classes))[:-1])
    random = np.random.default_rng(seed)
    held = [random.permutation(members)[: max(1, round(0.2 * len(members)))] for members in by_class]
    return np.sort(np.concatenate(held)).tolist()


COUNTS = st.lists(st.integers(3, 20), min_size=2, max_size=6)
SEEDS = st.integers(0, 2**32 - 1)


@given(counts=COUNTS, seed=SEEDS, shuffled=st.randoms())
def test_the_default_draw_is_the_one_of_every_version(counts: list[int], seed: int, shuffled: object) -> None:
    source = labelled(counts)
    order = list(range(len(source)))
    shuffled.shuffle(order)  # type: ignore[attr-defined]
    source = source.take(np.array(order))
    expected = held_fifth_as_before(source.labels, len(counts), seed)
    drawn = draw_split(source, SplitRules(seed=seed))
    assert np.flatnonzero(drawn == VAL).tolist() == expected
    assert TEST not in drawn
    # A test part takes from the training pictures only.
    tested = draw_split(source, SplitRules(test_fraction=0.3, seed=seed))
    assert np.flatnonzero(tested == VAL).tolist() == expected
    for label in range(len(counts)):
        of_class = tested[source.labels == label]
        assert {*of_class.tolist()} == {TRAIN, VAL, TEST}


@given(counts=COUNTS, seed=SEEDS, val=st.floats(0.01, 0.9), copied=st.floats(0, 1))
def test_copies_stay_together_and_every_class_is_on_both_sides(
    counts: list[int], seed: int, val: float, copied: float
) -> None:
    source = labelled(counts)
    random = np.random.default_rng(seed)
    copies = np.where(random.random(len(source)) < copied, random.integers(0, 3, len(source)), np.arange(len(source)))
    copies += 1000 * source.labels  # within a class
    few = min(len(set(copies[source.labels == label].tolist())) for label in range(len(counts))) < 2
    if few:
        with pytest.raises(InputError, match=r"ha(s|ve) one readable picture, counting copies of one picture once"):
            draw_split(source, SplitRules(val, seed=seed), copies=copies)
        return
    drawn = draw_split(source, SplitRules(val, seed=seed), copies=copies)
    for number in set(copies.tolist()):
        assert len(set(drawn[copies == number].tolist())) == 1
    for label in range(len(counts)):
        assert {*drawn[source.labels == label].tolist()} == {TRAIN, VAL}


@given(groups=st.lists(st.integers(0, 11), min_size=40, max_size=80), seed=SEEDS, test=st.sampled_from([0.0, 0.2]))
def test_groups_stay_on_one_side(groups: list[int], seed: int, test: float) -> None:
    source = labelled([len(groups) // 2, len(groups) - len(groups) // 2])
    names = [f"g{number}" if number else "" for number in groups]
    rules = SplitRules(0.25, test, seed)
    drawn = draw_split(source, rules, names)
    assert drawn.tolist() == draw_split(source, rules, names).tolist()
    for name in set(names) - {""}:
        assert len({part for part, own in zip(drawn.tolist(), names, strict=True) if own == name}) == 1
    assert {*drawn.tolist()} == ({TRAIN, VAL, TEST} if test else {TRAIN, VAL})
    for label in (0, 1):
        assert TRAIN in drawn[source.labels == label]


@pytest.mark.parametrize("share", [0.1, 0.15, 0.2, 0.25, 0.34, 0.5])
def test_a_share_of_many_groups_is_met_in_every_class(share: float) -> None:
    source = labelled([200, 100])
    groups = [f"g{index // 4}" for index in range(300)]
    drawn = draw_split(source, SplitRules(share), groups)
    for label, count in enumerate((200, 100)):
        assert (drawn[source.labels == label] == VAL).sum() / count == pytest.approx(share, abs=0.05)


def test_groups_and_copies_are_joined() -> None:
    source = labelled([6, 6])
    groups = ["a", "a", "b", "b", "c", "c"] * 2
    copies = np.arange(12)
    copies[2] = copies[0]  # a and b
    for seed in range(5):
        drawn = draw_split(source, SplitRules(0.5, seed=seed), groups, copies)
        assert len({part for part, group in zip(drawn.tolist(), groups, strict=True) if group in "ab"}) == 1
    copies[4] = copies[3]
    with pytest.raises(InputError, match="all pictures that are left to draw from are in one group"):
        draw_split(source, SplitRules(), groups, copies)


@pytest.mark.parametrize("groups", [None, [f"g{index // 2}" for index in range(60)]])
def test_folds_hold_out_each_picture_once(groups: list[str] | None) -> None:
    source = labelled([40, 20])
    copies = np.arange(60)
    copies[:3] = 0
    test = draw_split(source, SplitRules(0.2, 0.2, folds=4, fold=1), groups, copies) == TEST
    held = np.zeros(60, int)
    for fold in range(1, 5):
        drawn = draw_split(source, SplitRules(0.2, 0.2, folds=4, fold=fold), groups, copies)
        assert ((drawn == TEST) == test).all()
        assert len(set(drawn[:3].tolist())) == 1
        held += drawn == VAL
        assert (drawn[source.labels == 1] == VAL).any()
    assert held.tolist() == (~test).astype(int).tolist()
    with pytest.raises(InputError, match=r"folds.*at most"):
        draw_split(source, SplitRules(folds=41, fold=1), groups, copies)


def test_declared_parts_are_used_as_they_are() -> None:
    source = replace(labelled([4, 4]), parts=["train", "val", "test", "train"] * 2)
    assert draw_split(source, SplitRules()).tolist() == source.parts
    with pytest.raises(InputError, match=r"test_fraction.*declares its own test pictures"):
        draw_split(source, SplitRules(test_fraction=0.2))
    with pytest.raises(InputError, match="folds: data declares its own held-out pictures"):
        draw_split(source, SplitRules(folds=2, fold=1))
    with pytest.raises(InputError, match="val: data declares its own held-out pictures"):
        draw_parts(source, labelled([2, 2]), SplitRules())
    without_val = replace(source, parts=["train", "train", "test", "train"] * 2)
    drawn = draw_split(without_val, SplitRules())
    assert ((drawn == TEST) == (np.array(without_val.parts) == TEST)).all()
    assert [(drawn[source.labels == label] == VAL).sum() for label in (0, 1)] == [1, 1]
    apart = labelled([1, 1])
    divided = divide(without_val, draw_parts(without_val, apart, SplitRules()), apart)
    assert [len(part) for part in divided if part] == [6, 2, 2]
    assert divided.held_out is apart
    with pytest.raises(InputError, match="but no training pictures"):
        draw_split(replace(source, parts=["val", "test"] * 4), SplitRules())
    one = replace(source, parts=["val"] * 8)  # of a file's part, which was named
    assert {*draw_split(one, SplitRules()).tolist()} == {TRAIN, VAL}


def test_training_pictures_that_are_copies_of_declared_held_out_ones_are_left_out() -> None:
    source = replace(labelled([4, 4]), parts=["train", "val", "train", "train"] * 2)
    copies = np.array([0, 0, 2, 3, 4, 5, 2, 5])  # train and val; train and train; val and train
    drawn = draw_parts(source, None, SplitRules(), copies)
    assert drawn.tolist() == [LEFT_OUT, VAL, TRAIN, TRAIN, TRAIN, VAL, TRAIN, LEFT_OUT]
    given_apart = draw_parts(labelled([4, 4]), labelled([1, 1]), SplitRules(), np.array([0, 1, 2, 3, 4, 5, 6, 7, 3, 9]))
    assert given_apart.tolist() == [TRAIN] * 3 + [LEFT_OUT] + [TRAIN] * 4
    with pytest.raises(InputError, match="1 class would have no training picture: 'c1'"):
        draw_parts(source, None, SplitRules(), np.array([0, 1, 2, 3, 5, 5, 5, 5]))


def test_with_several_labels_their_combinations_are_spread() -> None:
    labels = np.array([[1, 0, 0]] * 10 + [[0, 1, 1]] * 10 + [[1, 1, 1]], np.uint8)
    source = replace(labelled([21]), labels=labels, class_names=["a", "b", "c"])
    drawn = draw_split(source, SplitRules())
    assert [(drawn[start : start + 10] == VAL).sum() for start in (0, 10)] == [2, 2]
    assert drawn[20] == TRAIN  # a combination that occurs once


def test_rare_labels_are_spread_over_folds_and_shares() -> None:
    """So many labels that most combinations occur once: by chance a fold lacks some of the rare ones."""
    random = np.random.default_rng(0)
    labels = (random.uniform(size=(300, 20)) < np.linspace(0.02, 0.4, 20)).astype(np.uint8)
    labels[:8] = 0  # none at all
    source = replace(labelled([300]), labels=labels, class_names=[f"l{number}" for number in range(20)])
    held = [draw_split(source, SplitRules(folds=5, fold=fold)) == VAL for fold in range(1, 6)]
    assert (np.sum(held, axis=0) == 1).all()
    assert {int(fold.sum()) for fold in held} <= {58, 59, 60, 61, 62}

    def spread(folds: list[np.ndarray]) -> float:
        """How far the folds' counts of a label are from a fifth of it, as a share, on average over labels and folds."""
        counts = np.array([labels[fold].sum(axis=0) for fold in folds])
        return float((np.abs(counts - labels.sum(axis=0) / 5) / labels.sum(axis=0)).mean())

    by_chance = [[np.isin(np.arange(300), part) for part in np.split(random.permutation(300), 5)] for _ in range(20)]
    assert spread(held) < 0.7 * np.mean([spread(folds) for folds in by_chance])
    rare = labels.sum(axis=0) < 20
    assert rare.any()
    assert all(labels[fold][:, rare].any(axis=0).all() for fold in held)
    pairs = np.repeat(np.eye(20, dtype=np.uint8)[random.permutation(20)] | np.eye(20, dtype=np.uint8)[::-1], 2, axis=0)
    twice = replace(labelled([40]), labels=pairs, class_names=source.class_names)
    assert (draw_split(twice, SplitRules(0.1)) == VAL).sum() <= 20  # not one of every combination's two
    assert (draw_split(twice, SplitRules(folds=20, fold=1)) == VAL).sum() == 2
    with pytest.raises(InputError, match="folds: got 41; it takes at most 40 pictures"):
        draw_split(twice, SplitRules(folds=41, fold=1))
    groups = [str(number // 4) for number in range(40)]
    assert (draw_split(twice, SplitRules(folds=10, fold=1), groups) == VAL).sum() == 4
    with pytest.raises(InputError, match="at most 10, the number of groups"):
        draw_split(twice, SplitRules(folds=11, fold=1), groups)


def test_a_class_that_would_not_be_trained_on_is_refused() -> None:
    source = labelled([6, 2])
    groups = ["a", "a", "b", "b", "c", "c", "d", "d"]  # the second class is one group
    drawn = draw_split(source, SplitRules(0.25), groups)
    assert TRAIN in drawn[6:]
    parts = divide(source, np.array([TRAIN, VAL] * 3 + [TRAIN] * 2))
    assert split_warnings(parts) == ["1 of 2 classes without a val picture: c1"]
    grouped = divide(replace(source, groups=groups), np.array([TRAIN, VAL] * 4))
    assert split_warnings(grouped) == ["4 groups are in both train and val: a, b, c, d"]


def test_groups_come_from_folders_patterns_and_columns(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "patient_9" / "data", classes=2, per_class=4)
    for label in "01":
        for number in range(4):
            patient = data / label / f"patient_{number % 2}"
            patient.mkdir(exist_ok=True)
            (data / label / f"{number:03d}.png").rename(patient / f"{number}.png")
    source = open_source(data)
    wanted = ["patient_0"] * 2 + ["patient_1"] * 2 + ["patient_0"] * 2 + ["patient_1"] * 2
    assert picture_groups(source, "parent", str(data)) == wanted
    assert picture_groups(source, r"re:(patient_\d)", str(data)) == wanted  # not the folder above the data
    with pytest.raises(InputError, match=r"group: '\(patient_1\)' is not found in 4 of 8 paths, such as .*patient_0"):
        picture_groups(source, "re:(patient_1)", str(data))
    with pytest.raises(InputError, match=r"group.*a column of a \.csv, which .*data is not"):
        picture_groups(source, "patient", str(data))
    rows = [
        f"{Path(name).relative_to(tmp_path)},{index % 2},{'' if index == 7 else index % 3}"
        for index, name in enumerate(source.names)
    ]
    manifest = tmp_path / "set.csv"
    manifest.write_text("\n".join(["path,label,patient", *rows]))
    named = open_source(manifest)
    assert picture_groups(named, "patient", str(manifest)) == ["0", "1", "2", "0", "1", "2", "0", ""]
    with pytest.raises(InputError, match="lacks the column surgeon"):
        picture_groups(named, "surgeon", str(manifest))
    assert picture_groups(named, None, str(manifest)) is None
    with pytest.raises(InputError, match="the pictures of digits have no paths"):
        picture_groups(open_source("digits"), "parent", "digits")
    for wrong in ("re:patient", "re:(", "re:"):
        with pytest.raises(InputError, match=r"group.*a regular expression with a group in parentheses"):
            require_group(wrong)
