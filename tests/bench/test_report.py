from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inception_resnet_keras.bench.report import PASSES, make_notes, make_rows

seconds = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20)


def turn(name: str, number: int, times: list[float], *, task: str = "inference", batch: int = 8) -> dict[str, Any]:
    figures = {"seconds": times, "first_call_seconds": 1.0 + number, "peak_memory": 100 + number}
    return {"contender": name, "task": task, "round": number, "batch": batch, **figures}


def result(
    *turns: dict[str, Any],
    peak: float | None = None,
    macs: int | None = None,
    names: tuple[str, ...] = ("base", "mine"),
) -> dict[str, Any]:
    facts: dict[str, Any] = {name: {"failures": {}, "macs": macs} for name in names}
    machine = {"load_average": 0.0, "cores": 2}
    plan = {"contenders": list(names)}
    return {"plan": plan, "machine": machine, "peak": peak, "contenders": facts, "turns": list(turns)}


def notes(found: dict[str, Any]) -> list[str]:
    return make_notes({**found, "rows": make_rows(found)})


@given(st.lists(seconds, min_size=1, max_size=5), st.lists(st.none() | seconds, min_size=5, max_size=5))
def test_a_rows_figures_follow_from_the_raw_seconds(own: list[list[float]], others: list[list[float] | None]) -> None:
    baseline = {number: times for number, times in enumerate(others) if times is not None and number < len(own)}
    turns = [turn("mine", number, times) for number, times in enumerate(own)]
    turns += [turn("base", number, times) for number, times in baseline.items()]
    [row] = [row for row in make_rows(result(*turns, peak=1e6, macs=1000)) if row["contender"] == "mine"]
    assert row["calls"] == sum(map(len, own))
    medians = [np.median(times) for times in own]
    assert row["seconds"] == pytest.approx({"median": np.median(medians), "low": min(medians), "high": max(medians)})
    # Times and images/s are of the same calls, so that each follows from the other.
    speed = row["images_per_second"]
    assert speed["median"] == pytest.approx(8 / row["seconds"]["median"])
    assert (speed["low"], speed["high"]) == pytest.approx((8 / row["seconds"]["high"], 8 / row["seconds"]["low"]))
    ratios = [np.median(times) / np.median(own[number]) for number, times in baseline.items()]
    if ratios:
        assert row["ratio"] == pytest.approx({"median": np.median(ratios), "low": min(ratios), "high": max(ratios)})
    else:
        assert row["ratio"] is None
    assert row["share_of_peak"] == pytest.approx(1000 * speed["median"] / 1e6)
    assert row["peak_memory"] == 100 + len(own) - 1


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that halves its speed in the second round leaves them as they are."""
    turns = [turn("base", 0, [2.0]), turn("mine", 0, [1.0]), turn("base", 1, [4.0]), turn("mine", 1, [2.0])]
    mine, base = make_rows(result(*turns))  # the fastest first
    assert base["ratio"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert mine["ratio"] == {"median": 2.0, "low": 2.0, "high": 2.0}
    assert mine["share_of_peak"] is None
    assert mine["startup_seconds"] is None


def test_rows_are_by_task_and_batch_and_the_fastest_first() -> None:
    times = {("training", 2, "mine"): 1.0, ("inference", 8, "mine"): 1.0, ("inference", 1, "mine"): 3.0}
    times |= {("inference", 8, "base"): 2.0, ("inference", 1, "base"): 2.0}
    rows = make_rows(result(*(turn(name, 0, [each], task=task, batch=b) for (task, b, name), each in times.items())))
    assert [(row["task"], row["batch"], row["contender"]) for row in rows] == [
        ("inference", 1, "base"),
        ("inference", 1, "mine"),
        ("inference", 8, "mine"),
        ("inference", 8, "base"),
        ("training", 2, "mine"),
    ]


def rounds(**times: list[float]) -> list[dict[str, Any]]:
    return [turn(name, number, [each]) for name, own in times.items() for number, each in enumerate(own)]


def test_a_quiet_run_has_no_notes_and_a_busy_machine_is_said() -> None:
    found = result(*rounds(base=[2.0, 2.02], mine=[1.0, 1.01]))
    assert notes(found) == []
    found["machine"]["load_average"] = 1.5
    assert notes(found) == ["other programs ran at the start: a load of 1.5 on 2 cores in the minute before"]


def test_a_noisy_run_says_what_can_still_be_trusted() -> None:
    """The second round is twice as slow; in each, `mine` is twice as fast as the baseline, and `like` is alike."""
    turns = rounds(base=[2.0, 4.0, 2.0], mine=[1.0, 2.1, 1.0], like=[1.99, 4.01, 1.99])
    found = notes(result(*turns, names=("base", "mine", "like")))
    assert found == [
        "inference at batch 8: noisy: a contender's times differ by up to 110% between rounds, and so may ms, images/s "
        "and shares of the peak; ratios, which compare times within rounds, differ by up to 5%",
        "inference at batch 8: nevertheless faster than base in every round: mine",
        "inference at batch 8: like and base cannot be ranked: each was faster in some round",
    ]


def test_a_single_round_shows_no_noise() -> None:
    assert notes(result(*rounds(base=[2.0], mine=[1.0]))) == [
        "inference at batch 8: a single round does not show noise, so small differences may be chance: use --rounds 5"
    ]


def test_contenders_of_other_rounds_are_named_and_not_ranked() -> None:
    """`late` was timed in the slow rounds only, `mine` in the first only: their medians are not of the same moments."""
    turns = rounds(base=[2.0, 3.9, 4.0], mine=[1.0, 1.01, 1.02])
    turns += [turn("late", number, [seconds]) for number, seconds in ((1, 3.8), (2, 3.85))]
    turns += [turn("early", 0, [2.5])]
    found = notes(result(*turns, names=("base", "mine", "late", "early")))
    title = "inference at batch 8: "
    assert f"{title}late was measured in only 2 of 3 rounds" in found
    assert f"{title}early was measured in only 1 of 3 rounds" in found
    assert f"{title}early and late cannot be ranked: they were measured in different rounds" in found
    assert not any("mine" in note and "ranked" in note for note in found)
    assert f"{title}nevertheless faster than base in every round: mine, late" in found


def test_ratios_of_a_baseline_that_failed_later_are_of_its_rounds() -> None:
    found = result(*rounds(base=[2.0, 2.0], mine=[1.0, 1.0, 1.01]))
    [mine, _] = make_rows(found)
    assert mine["ratio"] == {"median": 2.0, "low": 2.0, "high": 2.0}
    assert notes(found) == ["inference at batch 8: base was measured in only 2 of 3 rounds, and so were all ratios"]


@pytest.mark.parametrize("key", ["preparation", "inference 8"])
def test_a_failed_baseline_is_said_to_be_one(key: str) -> None:
    found = result(*rounds(mine=[1.0, 1.0]))
    found["contenders"]["base"]["failures"] = {key: "it is damaged"}
    assert notes(found) == ["inference at batch 8: no ratios, because the baseline base failed: it is damaged"]


def test_a_training_step_has_three_times_the_multiply_adds() -> None:
    turns = [turn("mine", 0, [1.0]), turn("mine", 0, [1.0], task="training")]
    inference, training = make_rows(result(*turns, peak=1e3, macs=10))
    assert training["share_of_peak"] == PASSES["training"] * inference["share_of_peak"] == pytest.approx(0.24)
