"""The benchmark in earnest: real processes, of small networks."""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inception_resnet_keras import networks
from inception_resnet_keras.bench import run
from inception_resnet_keras.bench.engines import PRESETS, parse_all
from inception_resnet_keras.bench.report import report
from inception_resnet_keras.bench.run import (
    Benchmark,
    Meter,
    Plan,
    Turn,
    Worker,
    WorkerError,
    available_memory,
    baseline_of,
    describe,
    parse_gpus,
    peak_rss,
)
from inception_resnet_keras.cli import bench, main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.networks.trace import trace

from .. import tiny
from . import workers


def test_from_the_command_line_to_table_json_and_chart(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.keras"
    damaged.write_bytes(model.read_bytes()[:1000])
    figures, chart = tmp_path / "figures.json", tmp_path / "chart.png"
    named = [f"{model}@graph", f"{model}@xla", str(damaged)]
    options = ["--size", str(tiny.SIDE), "--batch", "3,1", "--rounds", "2", "--seconds", "0.05", "--device", "cpu"]
    options += ["--workers", "together"]  # whatever memory is free
    files = ["--json", str(figures), "--chart", str(chart)]
    assert main(["bench", *named, "--baseline", named[0], *options, *files]) == 0

    found = json.loads(figures.read_text())
    assert [each["name"] for each in found["contenders"]] == [f"{model}@graph", f"{model}@xla", f"{damaged}@graph"]
    own, xla, broken = found["contenders"]
    assert "is damaged or no .keras file" in broken["failure"]
    assert broken["inference"]["rows"] == []
    for each in (own, xla):
        assert each["failure"] is None
        assert each["check"]["passed"]
        assert each["check"]["difference"] < 1e-4
        assert len(each["startup_seconds"]) == 1
        assert [row["batch"] for row in each["inference"]["rows"]] == [1, 3]
        for row, reference in zip(each["inference"]["rows"], own["inference"]["rows"], strict=True):
            check_row(row, reference)
    assert found["peaks"]["float32"]["macs_per_second"] > 1e8
    assert found["plan"]["batches"] == [3, 1]
    assert found["rounds_done"] == 2
    said = capsys.readouterr().out
    for fact in ("inference at batch 1", "inference at batch 3", f"{model}@xla", found["machine"]["cpu"]["model"]):
        assert fact in said
    assert f"{damaged}@graph: {damaged}: is damaged" in said
    median = xla["inference"]["rows"][0]["ratio"]["median"]
    assert f"{median:.2f} (" in said
    assert Image.open(chart).size[0] > 1000


def check_row(row: dict[str, Any], reference: dict[str, Any]) -> None:
    """What is told follows from the raw seconds of the rounds."""
    every = [second for turn in row["rounds"] for second in turn["seconds"]]
    assert len(row["rounds"]) == 2
    assert row["calls"] == len(every)
    assert row["median_seconds"] == pytest.approx(statistics.median(every))
    assert min(every) <= row["median_seconds"] <= row["p95_seconds"] <= max(every)
    speeds = [row["batch"] / statistics.median(turn["seconds"]) for turn in row["rounds"]]
    theirs = [row["batch"] / statistics.median(turn["seconds"]) for turn in reference["rounds"]]
    assert row["images_per_second"]["median"] == pytest.approx(statistics.median(speeds))
    pairs = [mine / its for mine, its in zip(speeds, theirs, strict=True)]
    assert row["ratio"]["rounds"] == pytest.approx(pairs)
    assert row["ratio"]["median"] == pytest.approx(statistics.median(pairs))
    assert row["first_call_seconds"] > 0
    if sys.platform == "linux":
        assert 1e7 < row["peak_rss"] < 64e9
        assert row["threads"] is None or row["threads"] >= 1  # too short a turn has no ticks to tell by


def plan_of(*names: str, **options: Any) -> Plan:
    contenders = parse_all(names)
    return Plan(contenders=tuple(contenders), baseline=baseline_of(contenders, None), **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rounds": 0}, "rounds: got 0"),
        ({"seconds": -1.0}, "seconds: got -1"),
        ({"batches": (0,)}, "batches: got 0"),
        ({"batches": ()}, "nothing to measure"),
        ({"size": 74}, "size: got 74; it takes an integer of at least 75"),
        ({"size": 10**6}, "size: got 1000000"),
        ({"threads": 0}, "threads: got 0"),
        ({"device": "tpu"}, "device: got 'tpu'"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        plan_of("inception_v4", **options)


@pytest.mark.parametrize(
    ("options", "contenders", "training"),
    [
        (["inception_v4"], ["inception_v4:paper@graph"], ()),
        (["--train", "inception_v4:slim"], ["inception_v4:slim@graph"], (32,)),
        (["inception_v4", "--train-batch", "2,4"], ["inception_v4:paper@graph"], (2, 4)),
        (["--train-batch", "8", "--train", "inception_v4"], ["inception_v4:paper@graph"], (8,)),
        (["--preset", "cpu", "--train"], list(map(str, parse_all(PRESETS["cpu"].contenders))), (32,)),
        (["--preset", "gpu"], list(map(str, parse_all(PRESETS["gpu"].contenders))), PRESETS["gpu"].training),
        (["--preset", "gpu", "--train-batch", "16"], list(map(str, parse_all(PRESETS["gpu"].contenders))), (16,)),
    ],
)
def test_training_steps_are_asked_for(options: list[str], contenders: list[str], training: tuple[int, ...]) -> None:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    plan = bench.plan_of(parser.parse_args([*options, "--workers", "apart", "--device", "cpu"]), print)
    assert [str(each) for each in plan.contenders] == contenders
    assert plan.training == training


def test_exports_run_on_the_cpu() -> None:
    with pytest.raises(InputError, match="runs on the CPU"):
        plan_of("inception_v4@openvino", device="gpu")


def test_the_baseline_is_keras_applications_where_it_takes_part() -> None:
    contenders = parse_all(["inception_v4", "keras-applications@xla", "keras-applications@graph"])
    assert str(baseline_of(contenders, None)) == "keras-applications@graph"
    assert baseline_of(contenders[:2], None) == contenders[1]
    assert baseline_of(contenders[:1], None) == contenders[0]
    assert baseline_of(contenders, contenders[0]) == contenders[0]


@pytest.mark.parametrize("file", ["figures.txt", "nowhere/figures.json"])
def test_where_nothing_can_be_written_nothing_is_started(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "inception_v4", "--json", file]) == 1
    assert "--json: got" in capsys.readouterr().err


def test_a_worker_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with (
        closing(Worker(tmp_path, target=workers.dies)) as worker,
        pytest.raises(WorkerError, match=r"status 3: no such instruction"),
    ):
        worker.ask("facts")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_worker_that_the_system_kills_ran_out_of_memory(tmp_path: Path) -> None:
    with (
        closing(Worker(tmp_path, target=workers.is_killed)) as worker,
        pytest.raises(WorkerError, match="for want of memory") as caught,
    ):
        worker.ask("facts")
    assert caught.value.out_of_memory


def test_a_worker_that_never_answers_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PATIENCE", 0.5)
    with (
        closing(Worker(tmp_path, target=workers.never_answers)) as worker,
        pytest.raises(WorkerError, match="no answer in"),
    ):
        worker.ask("facts")


def test_an_error_of_a_worker_is_an_answer(tmp_path: Path) -> None:
    with closing(Worker(tmp_path)) as worker:
        for _ in range(2):  # it goes on after the first
            with pytest.raises(WorkerError, match=r"TypeError: .*missing"):
                worker.ask("open")


@pytest.mark.parametrize("batches", [(16,), (16, 32), (2, 16), (2, 4)])
def test_memory_that_ends_at_the_first_batch_too_names_the_largest_that_fits(batches: tuple[int, ...]) -> None:
    plan = plan_of("a.onnx", batches=batches, rounds=2, seconds=0.0)
    [entry] = Benchmark(plan, target=workers.has_memory_for_four).run().entries
    assert entry.failure is None
    assert entry.limits == {("inference", batch): 4 for batch in batches if batch > 4}
    for batch in batches:
        turns = entry.turns["inference", batch]
        assert [turn and turn.images_per_second for turn in turns] == [2.0 * batch if batch <= 4 else None] * 2


def test_what_cannot_be_prepared_is_reported_for_those_that_need_it() -> None:
    plan = plan_of("inception_v4", "inception_resnet_v1", "a.onnx", size=75, batches=(1,), rounds=1, seconds=0.0)
    told: list[str] = []
    one, other, exported = Benchmark(plan, tell=told.append, target=workers.has_no_room).run().entries
    assert one.failure == other.failure == "no space left on device"
    assert exported.failure is None
    assert exported.turns["inference", 1] == [Turn([0.5], 2.0, {})]
    assert [line for line in told if "preparing" in line] == [
        "preparing inception_v4:paper@graph",
        "preparing inception_resnet_v1:paper@graph",
    ]


def test_an_exported_model_needs_no_pictures() -> None:
    told: list[str] = []
    plan = plan_of("a.onnx", batches=(1,), rounds=1, seconds=0.0)
    Benchmark(plan, tell=told.append, target=workers.has_no_room).run()
    assert not any("preparing" in line for line in told)


def test_what_is_not_installed_is_named_with_how_to_get_it() -> None:
    pytest.importorskip("sklearn")
    try:
        import timm  # noqa: F401
    except ModuleNotFoundError:
        pass
    else:
        pytest.skip("timm is installed")
    [entry] = Benchmark(plan_of("timm:inception_v4", size=75, batches=(1,), rounds=1, seconds=0.0)).run().entries
    assert entry.failure == "timm is not installed: pip install torch timm"


def test_the_peak_is_measured_with_the_threads_asked_for(tmp_path: Path) -> None:
    with closing(Worker(tmp_path, target=workers.reports_its_threads)) as worker:
        assert worker.ask("peaks", ["float32"], "cpu", 1) == (1, 1, 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_run_that_is_stopped_keeps_its_rounds_and_leaves_nothing_else(model: Path, tmp_path: Path) -> None:
    temporary, figures = tmp_path / "temporary", tmp_path / "figures.json"
    temporary.mkdir()
    options = ["--size", str(tiny.SIDE), "--batch", "1", "--rounds", "500", "--seconds", "0", "--device", "cpu"]
    command = [sys.executable, "-m", "inception_resnet_keras", "bench", str(model), *options, "--json", str(figures)]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 500
        while not figures.exists() and running.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        assert figures.exists()
        assert list(temporary.glob("inception-resnet-bench-*/pictures/*/*.jpg"))
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=300) != 0
    finally:
        running.kill()
    assert not list(temporary.glob("inception-resnet-bench-*"))
    assert sorted(tmp_path.iterdir()) == [figures, temporary]
    found = json.loads(figures.read_text())
    assert 1 <= found["rounds_done"] < 500
    [row] = found["contenders"][0]["inference"]["rows"]
    assert sum(turn is not None for turn in row["rounds"]) == found["rounds_done"]
    assert any("was stopped" in said for said in found["unseen"])


@pytest.mark.slow
def test_a_real_network_with_training_steps() -> None:
    plan = plan_of(
        "inception_resnet_v1:paper@graph,mixed_bfloat16", size=75, batches=(1,), training=(2,), rounds=1, seconds=0.1
    )
    found = report(Benchmark(plan, target=workers.has_a_small_peak).run(), "bench")
    macs = sum(node.macs or 0 for node in trace(networks.find("inception_resnet_v1"), (75, 75), classes=1000))
    [each] = found["contenders"]
    assert each["check"]["passed"], each
    assert each["check"]["difference"] > 1e-5  # which float32 does not reach
    assert each["macs"] == macs
    for task, times in (("inference", 1), ("training", 3)):
        [row] = each[task]["rows"]
        assert row["macs_per_second"] == pytest.approx(times * macs * row["images_per_second"]["median"])
        peak = found["peaks"]["bfloat16"]["macs_per_second"]
        assert row["share_of_peak"] == pytest.approx(row["macs_per_second"] / peak)
    assert any("single round" in said for said in found["unseen"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is limited by its RLIMIT_AS")
def test_out_of_memory_names_the_largest_batch_that_fits(model: Path, tmp_path: Path) -> None:
    from inception_resnet_keras.deploy.export import export_model

    exported = tmp_path / "model.onnx"
    export_model(model, exported, "onnx", min_agreement=0.0)
    plan = plan_of(str(exported), size=tiny.SIDE, batches=(1, 100_000), rounds=1, seconds=0.0)
    found = report(Benchmark(plan, target=workers.has_little_memory).run(), "bench")
    [each] = found["contenders"]
    assert each["failure"] is None
    assert each["check"] is None  # of a file that was exported before: it was checked then
    assert [row["batch"] for row in each["inference"]["rows"]] == [1]
    [limit] = each["inference"]["out_of_memory"]
    assert limit["batch"] == 100_000
    assert 1000 < limit["largest_that_fits"] < 100_000
    assert each["runs_on"]["network"] == ["tiny", "paper"]


def test_the_machine_is_described() -> None:
    found = describe()
    assert found["cpu"]["usable"] >= 1
    assert found["cpu"]["model"]
    assert found["versions"]["keras"].startswith("3.")
    assert found["date"].endswith("+00:00")


def test_gpus_are_read_from_what_nvidia_smi_says() -> None:
    text = "NVIDIA H100 80GB HBM3, 550.54.15, 81559 MiB, 700.00 W, 1980 MHz, 3 %, 4 MiB\n\nbroken line\n"
    [found] = parse_gpus(text)
    assert found["name"] == "NVIDIA H100 80GB HBM3"
    assert found["driver_version"] == "550.54.15"


def test_a_meter_tells_own_work_from_others() -> None:
    before = Meter()
    while time.perf_counter() - before.wall < 0.3:
        sum(range(1000))
    found = Meter().since(before)
    assert 0 < found["cores"] < 1.5
    assert 0 <= found["others"] <= 1
    assert 0 <= found["stolen"] <= 1
    assert found["threads"] >= 1


def test_peak_memory_is_this_processs_own() -> None:
    before = peak_rss()
    held = np.ones(100_000_000, np.uint8)
    now = peak_rss()
    assert now >= min(before + 1, held.nbytes)
    assert now < 64e9


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
    assert available_memory(tmp_path) == 1_250_000
    (group / limit).write_text("max\n")
    assert available_memory(tmp_path) > 1_250_000  # the machine's own
