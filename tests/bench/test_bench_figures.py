import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inception_resnet_keras.bench import machine
from inception_resnet_keras.bench.checks import BOUNDS, check, difference
from inception_resnet_keras.bench.contenders import parse
from inception_resnet_keras.bench.figures import Spread, Turn, percentile, ratios, row
from inception_resnet_keras.bench.plan import Plan
from inception_resnet_keras.bench.report import report
from inception_resnet_keras.bench.rounds import Entry, Outcome

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
    assert ratios(own, baseline) == pairs
    if not pairs:
        assert found["ratio"] is None
    else:
        assert found["ratio"]["rounds"] == pairs
        assert min(pairs) <= found["ratio"]["median"] <= max(pairs)
    assert found["peak_rss"] == max(len(turn.seconds) for turn in own)


def test_ratios_are_taken_pair_by_pair() -> None:
    """A machine that halves its speed in the second round leaves them as they are."""
    mine, theirs = [Turn([1.0], 8.0, {}), Turn([2.0], 4.0, {})], [Turn([2.0], 4.0, {}), Turn([4.0], 2.0, {})]
    assert ratios(mine, theirs) == [2.0, 2.0]
    assert ratios([mine[0], None], theirs) == [2.0]
    assert Spread.of([1.0, 2.0, 4.0]) == Spread(2.0, 1.0, 4.0)
    assert Spread.of([1.0, 2.0, 4.0]).width == 1.5
    assert percentile(range(101), 95) == 95


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_difference_is_of_logits_and_nothing_hides_it() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(8, 100))
    same = softmax(logits)
    assert difference(same, same) == 0
    assert difference(softmax(logits + 3), same) < 1e-12  # a constant is no difference
    off = softmax(logits + 0.1 * random.normal(size=logits.shape))
    assert 0.08 < difference(off, same) < 0.12
    assert 0.08 < difference(softmax(1.1 * logits), same) < 0.12
    assert difference(softmax(random.normal(size=logits.shape)), same) > 1  # another network
    assert difference(np.full_like(same, 0.01), same) == pytest.approx(1)  # one that says nothing
    embeddings = random.normal(size=(4, 16))
    assert difference(1.1 * embeddings, embeddings) == pytest.approx(0.1)


@pytest.mark.parametrize("computed_in", list(BOUNDS))
def test_outputs_of_another_network_or_of_nan_never_pass(computed_in: str) -> None:
    random = np.random.default_rng(1)
    same = softmax(random.normal(size=(8, 100)))
    assert check(same, same, computed_in).passed
    assert not check(softmax(random.normal(size=(8, 100))), same, computed_in).passed
    assert not check(np.full_like(same, 0.01), same, computed_in).passed
    assert not check(np.full_like(same, np.nan), same, computed_in).passed
    with pytest.raises(ValueError, match="shape"):
        check(same[:, :5], same, computed_in)


def test_the_machine_is_described() -> None:
    found = machine.describe()
    assert found["cpu"]["usable"] >= 1
    assert found["cpu"]["model"]
    assert found["versions"]["keras"].startswith("3.")
    assert found["date"].endswith("+00:00")


def test_gpus_are_read_from_what_nvidia_smi_says() -> None:
    text = "NVIDIA H100 80GB HBM3, 550.54.15, 81559 MiB, 700.00 W, 1980 MHz, 3 %, 4 MiB\n\nbroken line\n"
    [found] = machine.parse_gpus(text)
    assert found["name"] == "NVIDIA H100 80GB HBM3"
    assert found["driver_version"] == "550.54.15"
    described = machine.describe() | {"gpus": [found]}
    assert any("3 % busy" in said for said in machine.unseen(described, [A_TURN], 0.0))


def test_what_disturbed_the_figures_is_said_and_a_quiet_machine_hears_of_nothing() -> None:
    described = machine.describe()
    quiet = {"usable": 8, "logical": 8, "quota": None, "hypervisor": False, "turbo": False}
    described = {**described, "cpu": {**described["cpu"], **quiet}, "gpus": []}
    assert machine.unseen(described, [A_TURN] * 3, 0.01) == []

    def said(
        cpu: dict[str, object] | None = None, turn: Mapping[str, float | None] = A_TURN, wide: float | None = 0
    ) -> str:
        [one] = machine.unseen({**described, "cpu": {**described["cpu"], **(cpu or {})}}, [turn], wide)
        return one

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


def test_a_meter_tells_own_work_from_others() -> None:
    before, started = machine.Meter.read(), time.perf_counter()
    while time.perf_counter() - started < 0.3:
        sum(range(1000))
    found = machine.Meter.read().since(before, time.perf_counter() - started)
    assert 0 < found["cores"] < 1.5
    if found["others"] is None:
        pytest.skip("this system has no /proc")
    assert 0 <= found["others"] <= 1
    assert 0 <= found["stolen"] <= 1
    assert found["threads"] >= 1


def test_peak_memory_is_this_processs_own() -> None:
    before = machine.peak_rss()
    if before is None:
        pytest.skip("this system does not tell")
    held = np.ones(100_000_000, np.uint8)
    now = machine.peak_rss()
    assert now is not None
    assert now >= min(before + 1, held.nbytes)
    assert now < 64e9


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
    entry = Entry(parse(line))
    entry.turns["inference", 1] = [Turn([0.5], 2.0, {})]
    plan = Plan((entry.contender,), entry.contender, batches=(1,), rounds=1)
    cpu = {**machine.describe()["cpu"], "flags": flags}
    peaks = {name: {"macs_per_second": 1e12 * (1 + place)} for place, name in enumerate(BOUNDS)}
    found = report(plan, Outcome([entry], peaks, {**machine.describe(), "cpu": cpu}), "bench")
    [each] = found["contenders"]
    [row] = each["inference"]["rows"]
    assert each["share_of_peak_in"] == kind
    assert row["share_of_peak"] == pytest.approx(2 * each["macs"] / peaks[kind]["macs_per_second"])
    told = [said for said in found["unseen"] if "is multiplied in float32" in said]
    assert bool(told) == (entry.computed_in != kind)
    none = report(plan, Outcome([entry], {}, {**machine.describe(), "cpu": cpu}), "bench")
    assert none["contenders"][0]["inference"]["rows"][0]["share_of_peak"] is None


@pytest.mark.parametrize(
    ("folder", "limit", "used", "cached"),
    [
        (".", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
)
def test_free_memory_is_what_a_container_leaves(
    tmp_path: Path, folder: str, limit: str, used: str, cached: str
) -> None:
    group = tmp_path / folder
    group.mkdir(exist_ok=True)
    (group / limit).write_text("5000000\n")
    (group / used).write_text("4000000\n")
    (group / "memory.stat").write_text(f"anon 1\n{cached} 250000\n")
    assert machine.available_memory(tmp_path) == 1_250_000
    (group / limit).write_text("max\n")
    assert (machine.available_memory(tmp_path) or 2e6) > 1_250_000  # the machine's own


@pytest.mark.parametrize(
    ("line", "calibrated", "untrained"),
    [("inception_v4@openvino,int8", True, True), ("inception_v4", False, True), ("a/b.onnx", False, False)],
)
def test_what_the_pictures_and_weights_do_not_show_is_told(line: str, calibrated: bool, untrained: bool) -> None:
    plan = Plan((parse(line),), parse(line), batches=(1,), rounds=1)
    told = " ".join(report(plan, Outcome([Entry(parse(line))], {}, machine.describe()), "bench")["unseen"])
    assert ("two photographs" in told) == calibrated
    assert ("untrained weights" in told) == untrained
