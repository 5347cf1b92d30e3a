"""Running out of memory: knowing it when it comes, and the largest batch that fits."""

from __future__ import annotations

from collections.abc import Callable

_NAMES = ("ResourceExhaustedError", "OutOfMemoryError", "MemoryError")  # TensorFlow's, PyTorch's, Python's
# XLA's, cuDNN's and cuBLAS's, ONNX Runtime's, OpenVINO's, the linker's and C++'s, which come as errors of other kinds.
_SAID = (
    *("resource_exhausted", "out of memory", "status_alloc_failed", "failed to allocate memory"),
    *("cannot allocate memory", "failed to map segment", "bad_alloc"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is of an engine, or Python, having no memory left; none is imported for it."""
    if any(kind.__name__ in _NAMES for kind in type(error).__mro__):
        return True
    return not isinstance(error, ValueError | TypeError) and any(said in str(error).lower() for said in _SAID)


def largest_that_fits(failed: int, fits: Callable[[int], bool], *, step: int = 1) -> int:
    """The largest batch, of the multiples of `step` that were tried, that fits; 0 where none does.

    failed: a batch that does not. fits: tries one. Halves until one fits, then looks twice between
    the largest that did and the smallest that did not: within an eighth of `failed` of the edge.
    """
    low, high = 0, failed
    while high > step:
        middle = max(step, high // 2 // step * step)
        if fits(middle):
            low = middle
            break
        high = middle
    if not low:
        return 0
    for _ in range(2):
        middle = (low + high) // 2 // step * step
        if not low < middle < high:
            break
        if fits(middle):
            low = middle
        else:
            high = middle
    return low
