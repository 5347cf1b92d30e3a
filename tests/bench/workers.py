"""What a worker runs in a process of its own in the benchmark's tests."""

import sys
from collections.abc import Iterator
from typing import Any

from inception_resnet_keras.bench import run


def has_little_memory(*arguments: Any) -> Iterator[Any]:
    """`measure` in a process that the system gives no more memory."""
    assert sys.platform == "linux"
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (1_800_000 * 1024,) * 2)
    yield from run.measure(*arguments)


def has_wrong_outputs(*arguments: Any) -> Iterator[tuple[str, Any]]:
    """Answers at once with a comparison that failed."""
    yield "check", {"difference": 0.5, "bound": 0.001, "passed": False}
    raise AssertionError("it is timed nevertheless")


def has_memory_for_four(files: Any, contender: Any, task: str, plan: run.Plan) -> Iterator[tuple[str, Any]]:
    """Answers at once, with the time of a turn made up."""
    for batch in getattr(plan, task):
        if batch > 4:
            raise MemoryError
        yield "turn", {"batch": batch, "seconds": [0.5], "peak_memory": 1, "first_call_seconds": 1.0}
