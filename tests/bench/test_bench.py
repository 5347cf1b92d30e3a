"""The benchmark in earnest: real processes, of small networks."""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from inception_resnet_keras import networks
from inception_resnet_keras.bench import making
from inception_resnet_keras.bench.contenders import parse_all
from inception_resnet_keras.bench.figures import Turn
from inception_resnet_keras.bench.plan import Plan, baseline_of
from inception_resnet_keras.bench.presets import PRESETS
from inception_resnet_keras.bench.processes import COMMAND, Process, WorkerError
from inception_resnet_keras.bench.report import report
from inception_resnet_keras.bench.rounds import measure
from inception_resnet_keras.cli import bench, main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.models.model_file import Card, save_model
from inception_resnet_keras.networks.trace import trace

from .. import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "model.keras"
    classes = [str(number) for number in range(tiny.CLASSES)]
    save_model(tiny.build(include_preprocessing=True), path, Card("tiny", "paper", classes, (tiny.SIDE, tiny.SIDE)))
    return path


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


def test_an_export_may_have_its_siblings_apart(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    job: dict[str, Any] = {"model": str(model), "folder": str(tmp_path), "pictures": ""}
    counts = []
    for contender in parse_all([f"{model}@openvino", f"{model}+apart@openvino", f"{model}@onnxruntime"]):
        formed = making.make({**job, "make": "form", "form": contender.form}) if contender.form else {}
        exported = making.make({**job, **formed, "make": "export", "contender": asdict(contender)})["model"]
        counts.append(operations(Path(exported)))
    joined, apart, onnx = counts
    assert apart["VariadicSplit"] == onnx["Split"] == 0 < joined["VariadicSplit"]
    assert (
        apart["Convolution"] == onnx["Conv"] == joined["Convolution"] + joined["VariadicSplit"]
    )  # of two siblings each


def operations(exported: Path) -> Counter[str]:
    if exported.suffix == ".xml":
        return Counter(re.findall(r'<layer [^>]*type="(\w+)"', exported.read_text(encoding="utf-8")))
    import onnx

    return Counter(node.op_type for node in onnx.load(exported).graph.node)


def plan_of(*names: str, **options: Any) -> Plan:
    contenders = parse_all(names)
    return Plan(tuple(contenders), baseline_of(contenders, None), **options)


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


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_a_worker_that_dies_is_told_of_with_its_last_words() -> None:
    code = "import os, sys; print('no such instruction', file=sys.stderr, flush=True); os._exit(3)"
    with Process(command=python(code)) as process, pytest.raises(WorkerError, match=r"status 3: no such instruction"):
        process.ask("facts")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_worker_that_the_system_kills_ran_out_of_memory() -> None:
    with (
        Process(command=python("import os; input(); os.kill(os.getpid(), 9)")) as process,
        pytest.raises(WorkerError, match="for want of memory") as caught,
    ):
        process.ask("facts")
    assert caught.value.out_of_memory


def test_a_worker_that_never_answers_is_ended() -> None:
    with (
        Process(command=python("import time; time.sleep(60)"), patience=0.5) as process,
        pytest.raises(WorkerError, match="no answer in"),
    ):
        process.ask("facts")


# A worker that has memory for four pictures, and answers each verb at once.
OF_FOUR = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    batch = message.get("setting", message).get("batch", 0)
    said = {"answer": {"seconds": [0.5], "images_per_second": 2.0 * batch, "facts": {}}}
    if message["do"] in ("facts", "peak", "open", "fits"):
        said = {"answer": {}}
    if batch > 4:
        said = {"error": "bad_alloc", "out_of_memory": True, "missing": None}
    print(json.dumps(said), flush=True)
"""


@pytest.mark.parametrize("batches", [(16,), (16, 32), (2, 16), (2, 4)])
def test_memory_that_ends_at_the_first_batch_too_names_the_largest_that_fits(batches: tuple[int, ...]) -> None:
    outcome = measure(plan_of("a.onnx", batches=batches, rounds=2, seconds=0.0), command=python(OF_FOUR))
    [entry] = outcome.entries
    assert entry.failure is None
    assert entry.limits == {("inference", batch): 4 for batch in batches if batch > 4}
    for batch in batches:
        turns = entry.turns["inference", batch]
        assert [turn and turn.images_per_second for turn in turns] == [2.0 * batch if batch <= 4 else None] * 2


# A worker that finds no room where it is to make something, and runs what is there already.
NO_ROOM = OF_FOUR.replace(
    "    print",
    """\
    if message["do"] == "make":
        said = {"error": "no space left on device", "out_of_memory": False, "missing": None}
    print""",
)


def test_what_cannot_be_made_is_told_of_those_that_need_it() -> None:
    plan = plan_of("inception_v4", "inception_resnet_v1", "a.onnx", size=75, batches=(1,), rounds=1, seconds=0.0)
    told: list[str] = []
    one, other, exported = measure(plan, tell=told.append, command=python(NO_ROOM)).entries
    assert one.failure == other.failure == "no space left on device"
    assert exported.failure is None
    assert exported.turns["inference", 1] == [Turn([0.5], 2.0, {})]
    assert told.count("making pictures") == 1


def test_an_exported_model_needs_no_pictures() -> None:
    told: list[str] = []
    measure(plan_of("a.onnx", batches=(1,), rounds=1, seconds=0.0), tell=told.append, command=python(NO_ROOM))
    assert not any("making" in line for line in told)


def test_what_is_not_installed_is_named_with_how_to_get_it() -> None:
    pytest.importorskip("sklearn")
    try:
        import timm  # noqa: F401
    except ModuleNotFoundError:
        pass
    else:
        pytest.skip("timm is installed")
    outcome = measure(plan_of("timm:inception_v4", size=75, batches=(1,), rounds=1, seconds=0.0))
    [entry] = outcome.entries
    assert entry.failure == "timm is not installed: pip install torch timm"


def test_the_peak_is_measured_with_the_threads_asked_for() -> None:
    code = (
        "from inception_resnet_keras.bench import peak\n"
        "peak.SIDES, peak.SECONDS = {'cpu': 256}, 0.0\n"
        "found = peak.measure(['float32'], 'cpu', 1)\n"
        "import tensorflow as tf\n"
        "of = tf.config.threading\n"
        "print(len(found), of.get_intra_op_parallelism_threads(), of.get_inter_op_parallelism_threads())"
    )
    done = subprocess.run(python(code), capture_output=True, text=True, check=False, timeout=400)
    assert done.stdout.split() == ["1", "1", "1"], done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_run_that_is_stopped_keeps_its_rounds_and_leaves_nothing_else(model: Path, tmp_path: Path) -> None:
    temporary, figures = tmp_path / "temporary", tmp_path / "figures.json"
    temporary.mkdir()
    options = ["--size", str(tiny.SIDE), "--batch", "1", "--rounds", "500", "--seconds", "0", "--device", "cpu"]
    command = [sys.executable, "-m", "inception_resnet_keras", "bench", str(model), *options, "--json", str(figures)]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 500
        while not figures.exists() and run.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        assert figures.exists()
        assert list(temporary.glob("inception-resnet-bench-*/pictures/*/*.jpg"))
        run.send_signal(signal.SIGTERM)
        assert run.wait(timeout=300) != 0
    finally:
        run.kill()
    assert not list(temporary.glob("inception-resnet-bench-*"))
    assert sorted(tmp_path.iterdir()) == [figures, temporary]
    found = json.loads(figures.read_text())
    assert 1 <= found["rounds_done"] < 500
    [row] = found["contenders"][0]["inference"]["rows"]
    assert sum(turn is not None for turn in row["rounds"]) == found["rounds_done"]
    assert any("was stopped" in said for said in found["unseen"])


# A worker whose largest product is a small one, which takes no seconds.
OF_A_SMALL_PEAK = """
from runpy import run_module
from inception_resnet_keras.bench import peak
peak.SIDES, peak.SECONDS = {"cpu": 256}, 0.0
run_module("inception_resnet_keras.bench.worker", run_name="__main__")
"""


@pytest.mark.slow
def test_a_real_network_with_training_steps() -> None:
    plan = plan_of(
        "inception_resnet_v1:paper@graph,mixed_bfloat16", size=75, batches=(1,), training=(2,), rounds=1, seconds=0.1
    )
    found = report(plan, measure(plan, command=python(OF_A_SMALL_PEAK)), "bench")
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
@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is limited by the shell's ulimit")
def test_out_of_memory_names_the_largest_batch_that_fits(model: Path, tmp_path: Path) -> None:
    from inception_resnet_keras.deploy.export import export_model

    exported = tmp_path / "model.onnx"
    export_model(model, exported, "onnx", min_agreement=0.0)
    limited = ("sh", "-c", f"ulimit -v 1800000; exec {COMMAND[0]} -m {COMMAND[2]}")
    plan = plan_of(str(exported), size=tiny.SIDE, batches=(1, 100_000), rounds=1, seconds=0.0)
    found = report(plan, measure(plan, command=limited), "bench")
    [each] = found["contenders"]
    assert each["failure"] is None
    assert each["check"] is None  # of a file that was exported before: it was checked then
    assert [row["batch"] for row in each["inference"]["rows"]] == [1]
    [limit] = each["inference"]["out_of_memory"]
    assert limit["batch"] == 100_000
    assert 1000 < limit["largest_that_fits"] < 100_000
    assert each["runs_on"]["network"] == ["tiny", "paper"]
