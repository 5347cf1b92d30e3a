"""The benchmark in earnest: real processes, of small networks."""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from inception_resnet_keras import networks
from inception_resnet_keras.bench import run
from inception_resnet_keras.bench.engines import Files, parse
from inception_resnet_keras.bench.report import make_rows
from inception_resnet_keras.bench.run import Benchmark, Plan, time_steps
from inception_resnet_keras.cli import bench, main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.common.worker import WorkerError, run_in_worker
from inception_resnet_keras.networks.trace import trace

from .. import tiny
from . import workers

pytestmark = pytest.mark.usefixtures("charts")


def test_from_the_command_line_to_table_json_and_chart(
    run: Path, exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    damaged, figures, chart = Path("damaged.keras"), Path("figures.json"), Path("chart.png")
    damaged.write_bytes((run / "model.keras").read_bytes()[:1000])
    Path("run").symlink_to(run)
    onnx = f"{exported['onnx'][0]}@onnx"
    options = ["--size", str(tiny.SIDE), "--batch", "3,1", "--rounds", "1", "--seconds", "0.05", "--device", "cpu"]
    files = ["--json", str(figures), "--chart", str(chart), "--threads", "1"]
    assert main(["bench", onnx, str(damaged), "--baseline", "run@graph", *options, *files]) == 0

    found = json.loads(figures.read_text())
    assert found["plan"]["contenders"] == ["run@graph", onnx, "damaged.keras@graph"]
    assert "damaged" in found["contenders"]["damaged.keras@graph"]["failures"]["preparation"]
    macs = sum(node.macs or 0 for node in trace(tiny.TINY, (tiny.SIDE, tiny.SIDE), classes=tiny.CLASSES))
    for name in ("run@graph", onnx):  # the export is compared with the run that it was made of
        facts = found["contenders"][name]
        assert facts["failures"] == {}
        assert facts["macs"] == macs
        assert facts["check"]["passed"]
        assert facts["check"]["difference"] < 1e-4
    keys = [(row["batch"], row["contender"]) for row in found["rows"]]
    assert sorted(keys) == sorted((batch, name) for batch in (1, 3) for name in ("run@graph", onnx))
    order = [(row["batch"], -row["images_per_second"]["median"]) for row in found["rows"]]
    assert order == sorted(order)
    for row in found["rows"]:
        [turn] = [
            each for each in found["turns"] if (each["batch"], each["contender"]) == (row["batch"], row["contender"])
        ]
        assert turn["round"] == 0
        assert len(turn["seconds"]) == row["calls"] >= 3
        assert row["seconds"]["median"] == pytest.approx(statistics.median(turn["seconds"]))
        assert 1e7 < row["peak_memory"] < 64e9
        assert row["first_call_seconds"] > 0
        assert (row["startup_seconds"] is not None) == (row["batch"] == 1)
    assert found["peak"] > 1e8
    assert found["plan"]["inference"] == [1, 3]
    assert found["rounds_done"] == 1
    shown = capsys.readouterr().out
    for fact in ("inference at batch 1", "inference at batch 3", found["machine"]["cpu"], "a single round"):
        assert fact in shown
    assert "damaged.keras@graph: preparation: " in shown
    for row in found["rows"]:
        assert "{median:.2f}".format(**row["ratio"]) in shown
    assert Image.open(chart).size[0] > 1000


def plan_of(*names: str, **options: Any) -> Plan:
    """`size` may be a side."""
    if isinstance(options.get("size"), int):
        options["size"] = (options["size"],) * 2
    return Plan(contenders=tuple(map(parse, names)), **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rounds": 0}, "rounds: got 0"),
        ({"seconds": -1.0}, "seconds: got -1"),
        ({"inference": (0,)}, "batch: got 0"),
        ({"training": (-1,)}, "train-batch: got -1"),
        ({"inference": ()}, "batch: none is given"),
        ({"size": 74}, "size: got '74×74'; it takes a side or HEIGHTxWIDTH from 75"),
        ({"size": 10**6}, "size: got '1000000×1000000'"),
        ({"size": (75, 74)}, "size: got '75×74'"),
        ({"size": (0, 75)}, "size: got 0"),
        ({"threads": 0}, "threads: got 0"),
        ({"device": "tpu"}, "device: got 'tpu'"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        plan_of("inception_v4", **options)


@pytest.mark.parametrize(
    ("line", "options", "says"),
    [
        ("inception_v4@openvino", {"device": "gpu"}, "runs on the CPU"),
        ("inception_v4@graph,tf32", {}, "only NVIDIA GPUs have tf32"),
    ],
)
def test_a_contender_that_the_plan_cannot_run_is_refused(line: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        plan_of(line, **options)


@pytest.mark.parametrize(
    ("options", "contenders", "training"),
    [
        (["inception_v4"], ["inception_v4:paper"], ()),
        (["--train", "inception_v4:slim"], ["inception_v4:slim"], (32,)),
        (["inception_v4", "--train-batch", "4,2"], ["inception_v4:paper"], (2, 4)),
        (["--train-batch", "8", "--train", "inception_v4"], ["inception_v4:paper"], (8,)),
        (["inception_v4", "keras-applications@xla"], ["keras-applications@xla", "inception_v4:paper"], ()),
        (["inception_v4", "--baseline", "inception_v4@xla"], ["inception_v4@xla", "inception_v4"], ()),
        (["inception_v4:slim", "inception_v4", "inception_v4:slim"], ["inception_v4:slim", "inception_v4"], ()),
        (["--preset", "cpu", "--train"], bench.PRESETS["cpu"].contenders, (32,)),
        (["--train"], bench.PRESETS["train"].contenders, bench.PRESETS["train"].training),
        (["--train", "--train-batch", "32"], bench.PRESETS["train"].contenders, (32,)),
        (["--preset", "gpu", "--device", "gpu"], bench.PRESETS["gpu"].contenders, bench.PRESETS["gpu"].training),
        (["--preset", "gpu", "--device", "gpu", "--train-batch", "16"], bench.PRESETS["gpu"].contenders, (16,)),
    ],
)
def test_options_become_a_plan(options: list[str], contenders: list[str], training: tuple[int, ...]) -> None:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    plan = bench.plan_of(parser.parse_args(["--device", "cpu", *options]))
    assert list(plan.contenders) == list(map(parse, contenders))
    assert plan.training == training


@pytest.mark.parametrize("file", ["figures.txt", "nowhere/figures.json"])
def test_where_nothing_can_be_written_nothing_is_started(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "inception_v4", "--json", file]) == 1
    assert "--json: got" in capsys.readouterr().err


@pytest.mark.parametrize("batches", [(16,), (2, 16, 32), (2, 4)])
def test_a_batch_that_does_not_fit_names_the_largest_that_does(
    batches: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "measure", workers.has_memory_for_four)
    exported = tmp_path / "a.onnx"
    exported.touch()
    plan = plan_of(str(exported), inference=batches, rounds=2, seconds=0.0)
    benchmark = Benchmark(plan, lambda line: None, lambda result: None)
    [contender] = plan.contenders
    benchmark.files[contender] = Files(str(exported))
    for number in range(2):
        benchmark._turn(contender, "inference", number)
    reason = "does not fit in memory; the largest batch tried that fits is 4"
    failures = benchmark.facts[str(contender)]["failures"]
    assert failures == {f"inference {batch}": reason for batch in batches if batch > 4}
    measured = [(turn["round"], turn["batch"]) for turn in benchmark.result["turns"]]
    assert measured == [(number, batch) for number in range(2) for batch in batches if batch <= 4]


def test_wrong_outputs_leave_a_contender_out_of_every_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "measure", workers.has_wrong_outputs)
    plan = plan_of("inception_v4", inference=(1, 8), training=(2,), rounds=1, seconds=0.0)
    benchmark = Benchmark(plan, lambda line: None, lambda result: None)
    [contender] = plan.contenders
    benchmark.files[contender] = Files("model.keras")
    for task in run.TASKS:
        benchmark._turn(contender, task, 0)
    reason = "left out: its outputs differ from the network's in float32 by 0.5, more than 0.001"
    failures = benchmark.facts[str(contender)]["failures"]
    assert failures == dict.fromkeys(("inference 1", "inference 8", "training 2"), reason)
    assert benchmark.result["turns"] == []


def test_a_contender_without_a_task_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").touch()
    plan = plan_of(str(tmp_path / "a.onnx"), inference=(), training=(2,))
    benchmark = Benchmark(plan, lambda line: None, lambda result: None)
    benchmark._make_files()
    reason = "only its inference is timed: give it a batch"
    assert benchmark.facts[str(plan.contenders[0])]["failures"] == {"preparation": reason}


def test_a_step_is_timed_until_its_numbers_exist() -> None:
    begun: list[float] = []

    def step() -> float:
        begun.append(time.perf_counter())
        return begun[-1]

    def fetch(started: float) -> None:
        time.sleep(0.01)

    found = time_steps(step, fetch, 0.05, 1)
    assert len(found) == len(begun) >= 3
    assert min(found) >= 0.01
    begun.clear()
    queued = time_steps(step, fetch, 0.0, 4)
    assert len(begun) == 4 * len(queued) == 12
    assert min(queued) >= 0.0025


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    try:
        import timm  # noqa: F401
    except ModuleNotFoundError:
        pass
    else:
        pytest.skip("timm is installed")
    plan = plan_of("timm:inception_v4", size=75, inference=(1,), rounds=1, seconds=0.0)
    benchmark = Benchmark(plan, lambda line: None, lambda result: None)
    benchmark.folder = tmp_path
    benchmark._make_files()
    assert "timm" in benchmark.facts["timm:inception_v4@eager"]["failures"]["preparation"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_run_that_is_stopped_keeps_its_turns_and_leaves_nothing_else(model: Path, tmp_path: Path) -> None:
    temporary, figures = tmp_path / "temporary", tmp_path / "figures.json"
    temporary.mkdir()
    options = ["--size", str(tiny.SIDE), "--batch", "1", "--rounds", "500", "--seconds", "0", "--device", "cpu"]
    command = [sys.executable, "-m", "inception_resnet_keras", "bench", f"{model}@onnx", *options]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    running = subprocess.Popen(
        [*command, "--json", str(figures)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
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
    assert found["rounds_done"] < 500
    assert len(found["turns"]) >= 1
    assert found["rows"][0]["calls"] >= 3


@pytest.mark.slow
def test_a_real_network_with_training_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "inception_resnet_v1:paper@graph,mixed_bfloat16"
    plan = plan_of(line, size=75, inference=(1,), training=(2,), rounds=1, seconds=0.0)
    found = Benchmark(plan, lambda text: None, lambda result: None).run()
    macs = sum(node.macs or 0 for node in trace(networks.find("inception_resnet_v1"), (75, 75), classes=1000))
    facts = found["contenders"][line]
    assert facts["failures"] == {}
    assert facts["check"]["passed"], facts
    assert facts["check"]["difference"] > 1e-5  # which float32 does not reach
    assert facts["macs"] == macs
    inference, training = make_rows(found)
    for row, times in ((inference, 1), (training, 3)):
        speed = row["images_per_second"]["median"]
        assert row["share_of_peak"] == pytest.approx(times * macs * speed / found["peak"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is limited by its RLIMIT_AS")
def test_out_of_memory_in_a_real_engine(model: Path, tmp_path: Path) -> None:
    from inception_resnet_keras.deploy.export import export_model

    exported = tmp_path / "model.onnx"
    export_model(model, exported, "onnx", min_agreement=0.0)
    plan = plan_of(str(exported), size=tiny.SIDE, inference=(1, 100_000), rounds=1, seconds=0.0)
    [contender] = plan.contenders
    arguments = (Files(str(exported), None, 0), contender, "inference", plan)
    found: list[Any] = []
    with pytest.raises(WorkerError) as caught:
        found.extend(run_in_worker(workers.has_little_memory, *arguments))
    assert [value["batch"] for key, value in found if key == "turn"] == [1]
    assert caught.value.out_of_memory
