import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inception_resnet_keras.bench.engines import BOUNDS, parse
from inception_resnet_keras.bench.report import machine_notes, report, row, spread
from inception_resnet_keras.bench.run import Benchmark, Plan, Turn, describe

seconds = st.floats(1e-6, 1e3)

turns = st.builds(
    lambda calls, batch: Turn(calls, batch / float(np.median(calls)), {"peak_rss": len(calls)}),
    st.lists(seconds, min_size=1, max_size=20),
    st.just(8),
)

A_TURN = {"others": 0.0, "stolen": 0.0}


@given(st.lists(turns, min_size=1, max_size=6), st.data())
def test_a_rows_figures_are_of_its_raw_ones(own: list[Turn], data: st.DataObject) -> None:
    baseline = [data.draw(st.one_of(st.none(), turns)) for _ in own]
    found = row(8, own, baseline, macs=1000)
    every = sorted(second for turn in own for second in turn.seconds)
    assert every[0] <= found["median_seconds"] <= found["p95_seconds"] <= every[-1]
    assert found["calls"] == len(every)
    speeds = sorted(turn.images_per_second for turn in own)
    assert speeds[0] == found["images_per_second"]["low"]
    assert math.isclose(found["macs_per_second"], 1000 * found["images_per_second"]["median"])
    pairs = [mine.images_per_second / its.images_per_second for mine, its in zip(own, baseline, strict=True) if its]
    if not pairs:
        assert found["ratio"] is None
    else:
        assert found["ratio"]["rounds"] == pairs
        assert min(pairs) <= found["ratio"]["median"] <= max(pairs)
    assert found["peak_rss"] == max(len(turn.seconds) for turn in own)


def test_ratios_are_taken_pair_by_pair() -> None:
    """A machine that halves its speed in the second round leaves them as they are."""
    mine, theirs = [Turn([1.0], 8.0, {}), Turn([2.0], 4.0, {})], [Turn([2.0], 4.0, {}), Turn([4.0], 2.0, {})]
    assert row(8, mine, theirs, None)["ratio"] == {"rounds": [2.0, 2.0], "median": 2.0, "low": 2.0, "high": 2.0}
    assert row(8, [mine[0], None], theirs, None)["ratio"]["rounds"] == [2.0]
    assert row(8, mine, [None, None], None)["ratio"] is None
    assert spread([1.0, 2.0, 4.0]) == {"median": 2.0, "low": 1.0, "high": 4.0}
    assert row(8, [Turn(list(range(101)), 1.0, {})], [None], None)["p95_seconds"] == 95


def test_what_disturbed_the_figures_is_said_and_a_quiet_machine_hears_of_nothing() -> None:
    described = describe()
    quiet = {"usable": 8, "logical": 8, "quota": None, "hypervisor": False, "turbo": False}
    described = {**described, "cpu": {**described["cpu"], **quiet}, "gpus": []}
    assert machine_notes(described, [A_TURN] * 3, 0.01) == []

    def said(
        cpu: dict[str, object] | None = None, turn: Mapping[str, float | None] = A_TURN, wide: float | None = 0
    ) -> str:
        [one] = machine_notes({**described, "cpu": {**described["cpu"], **(cpu or {})}}, [turn], wide)
        return one

    gpu = {"utilization.gpu": "3 %"}
    assert machine_notes({**described, "gpus": [gpu]}, [A_TURN], 0.0) == [
        "the GPU was 3 % busy before anything was started"
    ]
    assert "one core" in said({"usable": 1})
    assert "1.5 of 8" in said({"quota": 1.5})
    assert "virtual machine" in said({"hypervisor": True})
    assert "turbo is on" in said({"turbo": True})
    assert "could not be read" in said({"turbo": None})
    assert "other programs took 40%" in said(turn={"others": 0.4, "stolen": 0.0})
    assert "the host took 20%" in said(turn={"others": 0.0, "stolen": 0.2})
    assert "does not tell" in said(turn={"others": None, "stolen": None})
    assert "single round" in said(wide=None)
    assert "varied by 30%" in said(wide=0.3)


@pytest.mark.parametrize(
    ("line", "flags", "kind"),
    [
        ("inception_v4@graph,mixed_float16", ["avx512f", "avx512_bf16"], "float32"),
        ("inception_v4@graph,mixed_float16", ["avx512_fp16"], "float16"),
        ("inception_v4@graph,mixed_bfloat16", ["avx2"], "float32"),
        ("inception_v4@openvino,bfloat16", ["amx_bf16"], "bfloat16"),
        ("inception_v4@openvino,int8", [], "int8"),
        ("inception_v4@litert,float16", ["avx512_fp16"], "float32"),
    ],
)
def test_a_share_is_of_the_peak_of_the_type_that_is_multiplied(line: str, flags: list[str], kind: str) -> None:
    plan = Plan(contenders=(parse(line),), baseline=parse(line), batches=(1,), rounds=1)
    benchmark = Benchmark(plan)
    [entry] = benchmark.entries
    entry.turns["inference", 1] = [Turn([0.5], 2.0, {})]
    benchmark.peaks = peaks = {name: {"macs_per_second": 1e12 * (1 + place)} for place, name in enumerate(BOUNDS)}
    benchmark.machine["cpu"]["flags"] = flags
    found = report(benchmark, "bench")
    [each] = found["contenders"]
    [row] = each["inference"]["rows"]
    assert each["share_of_peak_in"] == kind
    assert row["share_of_peak"] == pytest.approx(2 * each["macs"] / peaks[kind]["macs_per_second"])
    told = [said for said in found["unseen"] if "is multiplied in float32" in said]
    assert bool(told) == (entry.computed_in != kind)
    benchmark.peaks = {}
    none = report(benchmark, "bench")
    assert none["contenders"][0]["inference"]["rows"][0]["share_of_peak"] is None


@pytest.mark.parametrize(
    ("line", "calibrated", "untrained"),
    [("inception_v4@openvino,int8", True, True), ("inception_v4", False, True), ("a/b.onnx", False, False)],
)
def test_what_the_pictures_and_weights_do_not_show_is_told(line: str, calibrated: bool, untrained: bool) -> None:
    plan = Plan(contenders=(parse(line),), baseline=parse(line), batches=(1,), rounds=1)
    told = " ".join(report(Benchmark(plan), "bench")["unseen"])
    assert ("two photographs" in told) == calibrated
    assert ("untrained weights" in told) == untrained
