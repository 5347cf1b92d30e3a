"""A function in a process of its own: what it answers, and how it fails."""

import sys
import time
from typing import Any

import pytest

from inception_resnet_keras.common import worker
from inception_resnet_keras.common.worker import WorkerError, run_in_worker

from . import workers


def answers(function: Any, *arguments: Any) -> tuple[list[Any], WorkerError]:
    """What a worker answered before it failed, and how it failed."""
    found: list[Any] = []
    with pytest.raises(WorkerError) as caught:
        found.extend(run_in_worker(function, *arguments))
    return found, caught.value


def test_a_worker_that_dies_is_reported_with_its_last_line() -> None:
    found, error = answers(workers.prints_and_dies)
    assert found == [1]
    assert str(error) == "its process ended with status 3: no such instruction"
    assert not error.out_of_memory


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_worker_that_the_system_kills_ran_out_of_memory() -> None:
    found, error = answers(workers.is_killed)
    assert found == [1]
    assert "because memory ran out" in str(error)
    assert error.out_of_memory


def test_a_worker_that_never_answers_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PATIENCE", 0.5)
    begun = time.monotonic()
    assert "gave no answer in 0.5 seconds" in str(answers(workers.never_answers)[1])
    assert time.monotonic() - begun < 50


def test_an_error_in_a_worker_is_reported_in_a_line() -> None:
    found, error = answers(workers.counts, 3)
    assert found == [0, 1, 2]
    assert str(error) == "TypeError: missing"
    found, error = answers(workers.has_no_memory)
    assert (found, str(error), error.out_of_memory) == ([], "does not fit in memory", True)
