"""What of an engine's start reaches the user: of the real one, and of ones that fail in every way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inception_resnet_keras.common.chatter import hush_engine

CHATTER = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    "I0000 00:00:1795750747.226312   18488 port.cc:153] oneDNN custom operations are on.\n"
)
ERROR = "E0000 00:00:1795750747.226313   18488 cuda_executor.cc:1] no driver\n"
START = "from inception_resnet_keras.common.chatter import hush_engine\nhush_engine()\n"


def started(program: str, *paths: Path, level: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, [*paths, *filter(None, sys.path)]))}
    environment |= {} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A folder for `sys.path` with an engine that writes as TensorFlow does, then does what $END says."""
    package = tmp_path / "tensorflow"
    package.mkdir()
    (package / "__init__.py").write_text(
        f"import ctypes, os, signal, sys\nos.write(2, {(CHATTER + ERROR + CHATTER).encode()!r})\n"
        "os.write(2, b'the last words')\n"
        "exec(os.environ.get('END', ''))\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("os.abort()", -signal.SIGABRT),
        ("ctypes.string_at(0)", -signal.SIGSEGV),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os._exit(3)", 3),
    ],
)
def test_an_engine_that_ends_while_it_starts_has_the_last_word(
    engine: Path, monkeypatch: pytest.MonkeyPatch, end: str, status: int
) -> None:
    monkeypatch.setenv("END", end)
    done = started(f"{START}import tensorflow", engine)
    assert done.returncode == status
    assert done.stderr == f"{ERROR}the last words"


@pytest.mark.parametrize(
    "error", ["ImportError('libcudart.so.12')", "KeyboardInterrupt('now')", "SystemExit('no AVX')"]
)
def test_an_import_that_fails_says_why_after_what_the_engine_said(
    engine: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    monkeypatch.setenv("END", f"raise {error}")
    done = started(f"{START}import tensorflow", engine)
    assert done.returncode
    assert done.stderr.startswith(f"{ERROR}the last words")
    assert error.split("'")[1] in done.stderr
    assert "absl" not in done.stderr


def test_what_is_written_after_the_start_goes_straight_to_the_stream(engine: Path) -> None:
    before = "import os\nends = [os.fstat(end) for end in (0, 1, 2)]\n"
    after = (
        "assert os.path.samestat(os.fstat(2), ends[2]) and os.listdir('/proc/self/fd') == open_before\n"
        "assert not any('chatter' in type(each).__module__ for each in [*sys.meta_path, tensorflow.__spec__.loader])\n"
        f"os.write(2, {CHATTER.encode()!r})\nos.abort()"
    )
    program = f"{before}import sys\nopen_before = os.listdir('/proc/self/fd')\n{START}import tensorflow\n{after}"
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("open files are listed by Linux only")
    done = started(program, engine)
    assert done.returncode == -signal.SIGABRT, done.stderr
    assert done.stderr == f"{ERROR}the last words{CHATTER}"


def test_a_program_that_the_engine_starts_holds_nothing_up(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a program has the pipe: its lines are passed on for as long as it lives."""
    child = "import time, os; time.sleep(3); os.write(2, b'of the child\\n')"
    monkeypatch.setenv("END", f"import subprocess; subprocess.Popen([sys.executable, '-c', {child!r}])")
    patience = "from inception_resnet_keras.common import chatter\nchatter.PATIENCE = 0.2\n"
    begun = time.monotonic()
    done = started(f"{START}{patience}import tensorflow\nimport os\nos.write(2, b'done\\n')", engine)
    assert done.returncode == 0
    assert done.stderr == f"{ERROR}done\nthe last wordsof the child\n"
    assert time.monotonic() - begun > 3


def test_a_later_engines_note_is_left_out_where_the_command_line_asked_for_it() -> None:
    note = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"
    program = (
        "import os\nfrom inception_resnet_keras.common.chatter import hush_engine, hushed\n{}\n"
        f"with hushed():\n    os.write(2, {note!r} + b'an error\\n')\nos.write(2, {note!r})"
    )
    assert started(program.format("")).stderr == f"{note.decode()}an error\n{note.decode()}"
    assert started(program.format("hush_engine()")).stderr == f"an error\n{note.decode()}"


def test_chatter_that_was_asked_for_stays(engine: Path) -> None:
    assert started(f"{START}import tensorflow", engine, level="0").stderr == f"{CHATTER}{ERROR}{CHATTER}the last words"
    assert started(f"{START}import tensorflow", engine, level="3").stderr == f"{ERROR}the last words"


def test_a_closed_stream_and_a_missing_engine_change_nothing(engine: Path) -> None:
    (engine / "tensorflow" / "__init__.py").write_text("")
    assert started(f"{START}import os\nos.close(2)\nimport tensorflow", engine).returncode == 0
    blocked = "import sys\nsys.modules['tensorflow'] = None\n"
    assert "ModuleNotFoundError" in started(f"{blocked}{START}import tensorflow").stderr


def test_an_engine_that_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    before = list(sys.meta_path)
    hush_engine()
    assert sys.meta_path == before


def test_the_first_line_of_the_command_is_ours(run: Path, digits: Path) -> None:
    """Of the real engine nothing is heard, and the picture's classes are printed."""
    picture = next(digits.glob("*/*"))
    done = started(
        "import sys\nfrom inception_resnet_keras.cli import main\n"
        f"sys.exit(main(['predict', {str(run)!r}, {str(picture)!r}]))"
    )
    assert done.returncode == 0, done.stderr
    # Where the machine is slow, the progress of the work is shown too.
    assert [line for line in done.stderr.splitlines() if not line.startswith("predicting: ")] == []
    assert picture.name in done.stdout


@pytest.mark.slow
def test_a_crash_of_the_real_engine_is_heard() -> None:
    program = (
        f"{START}import tensorflow as tf\nassert not tf.config.list_physical_devices('TPU')\n"
        "from tensorflow.python.platform import tf_logging\ntf_logging.error('an error of the engine')\n"
        "import ctypes, faulthandler\nfaulthandler.enable()\nctypes.string_at(0)"
    )
    done = started(program)
    assert done.returncode == -signal.SIGSEGV
    assert "an error of the engine" in done.stderr
    assert "Segmentation fault" in done.stderr
    assert "oneDNN" not in done.stderr
