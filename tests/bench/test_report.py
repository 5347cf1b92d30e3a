import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inception_resnet_keras.bench.report import PASSES, make_rows

seconds = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20)


def turn(name: str, number: int, times: list[float], *, task: str = "inference", batch: int = 8) -> dict[str, Any]:
    figures = {"seconds": times, "first_call_seconds": 1.0 + number, "peak_memory": 100 + number}
    return {"contender": name, "task": task, "round": number, "batch": batch, **figures}


def result(*turns: dict[str, Any], peak: float | None = None, macs: int | None = None) -> dict[str, Any]:
    names = ["base", "mine"]
    facts: dict[str, Any] = {name: {"failures": {}, "macs": macs} for name in names}
    return {"plan": {"contenders": names}, "peak": peak, "contenders": facts, "turns": list(turns)}


@given(st.lists(seconds, min_size=1, max_size=5), st.lists(st.none() | seconds, min_size=5, max_size=5))
def test_a_rows_figures_follow_from_the_raw_seconds(own: list[list[float]], others: list[list[float] | None]) -> None:
    baseline = {number: times for number, times in enumerate(others) if times is not None and number < len(own)}
    turns = [turn("mine", number, times) for number, times in enumerate(own)]
    turns += [turn("base", number, times) for number, times in baseline.items()]
    row = make_rows(result(*turns, peak=1e6, macs=1000))[-1]
    assert row["contender"] == "mine"
    every = np.concatenate(own)
    assert row["calls"] == len(every)
    assert math.isclose(row["median_seconds"], np.median(every))
    assert min(every) <= row["median_seconds"] <= max(every)
    speeds = [8 / np.median(times) for times in own]
    assert row["images_per_second"] == pytest.approx(
        {"median": np.median(speeds), "low": min(speeds), "high": max(speeds)}
    )
    ratios = [np.median(times) / np.median(own[number]) for number, times in baseline.items()]
    if ratios:
        assert row["ratio"] == pytest.approx({"median": np.median(ratios), "low": min(ratios), "high": max(ratios)})
    else:
        assert row["ratio"] is None
    assert row["share_of_peak"] == pytest.approx(1000 * np.median(speeds) / 1e6)
    assert row["peak_memory"] == 100 + len(own) - 1


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that halves its speed in the second round leaves them as they are."""
    turns = [turn("base", 0, [2.0]), turn("mine", 0, [1.0]), turn("base", 1, [4.0]), turn("mine", 1, [2.0])]
    base, mine = make_rows(result(*turns))
    assert base["ratio"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert mine["ratio"] == {"median": 2.0, "low": 2.0, "high": 2.0}
    assert mine["share_of_peak"] is None
    assert mine["startup_seconds"] is None


def test_rows_are_by_task_batch_and_contender() -> None:
    keys = [("training", 2, "mine"), ("inference", 8, "mine"), ("inference", 1, "mine"), ("inference", 8, "base")]
    rows = make_rows(result(*(turn(name, 0, [1.0], task=task, batch=batch) for task, batch, name in keys), macs=10))
    found = [(row["task"], row["batch"], row["contender"]) for row in rows]
    assert found == [("inference", 1, "mine"), ("inference", 8, "base"), ("inference", 8, "mine"), keys[0]]


def test_a_training_step_has_three_times_the_multiply_adds() -> None:
    turns = [turn("mine", 0, [1.0]), turn("mine", 0, [1.0], task="training")]
    inference, training = make_rows(result(*turns, peak=1e3, macs=10))
    assert training["share_of_peak"] == PASSES["training"] * inference["share_of_peak"] == pytest.approx(0.24)
