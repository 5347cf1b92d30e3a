"""Makes a Keras model faster: folds it, and computes it in half precision on request or if a timed probe is faster.

The command line imports this module for its options, so its top needs no Pillow.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from ..common.arguments import one_of
from ..common.devices import has_gpu, is_out_of_memory
from ..common.errors import InputError

if TYPE_CHECKING:
    import keras

    from .open import ModelSource, OpenedModel

AUTO, FLOAT32, HALF = "auto", "float32", "mixed_bfloat16"
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16", "auto"]
PRECISIONS = get_args(Precision)
PRECISION_HELP = (
    "precision of a Keras model; auto takes mixed_bfloat16 if a short timed probe finds it a fifth faster (default: "
    "the model's own)"
)
FASTER = 1.2  # speed relative to float32 from which half precision is chosen
PROBE_CALLS = 5  # timed calls, after two that compile the model
PROBE_BATCH = 8  # images, at most
CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # bfloat16 instructions of x86 and ARM
# The largest difference that folding may cause, relative to the largest output.
FOLDING_BOUND, HALF_BOUND = 1e-3, 1e-1


def has_half_precision(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the machine has a GPU, or a CPU with bfloat16 instructions according to Linux."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        text = ""
    return has_gpu() or bool(CPU_FLAGS & set(text.split()))


def choose_precision(make: Callable[[str], Callable[[], object]], *, has_half: bool | None = None) -> tuple[str, str]:
    """Time the same work in float32 and in bfloat16, one after the other.

    Args:
        make: A function that returns the work for a precision, as a function without arguments.
        has_half: Whether the machine supports half precision; None to check.

    Returns:
        The precision, mixed_bfloat16 only if it is `FASTER` times as fast, and a sentence with the reason.
    """
    if not (has_half_precision() if has_half is None else has_half):
        return FLOAT32, "float32: the machine has neither a GPU nor a CPU with bfloat16 instructions"
    full, half = (_seconds(make, precision) for precision in (FLOAT32, HALF))
    chosen = HALF if half * FASTER <= full and half < math.inf else FLOAT32
    ratio = f"{full / half:.2f} times as fast" if max(full, half) < math.inf else "one of them ran out of memory"
    return chosen, f"{chosen}: bfloat16 took {1e3 * half:.3g} ms and float32 {1e3 * full:.3g} ms here, {ratio}"


def _seconds(make: Callable[[str], Callable[[], object]], precision: str) -> float:
    """The shortest of a few calls in seconds, because other programs can only slow them; infinite if out of memory."""
    found = []
    try:
        work = make(precision)
        for _ in range(2 + PROBE_CALLS):
            started = time.perf_counter()
            work()
            found.append(time.perf_counter() - started)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return math.inf
    finally:
        work = None  # type: ignore[assignment]
        gc.collect()  # otherwise both models would be in memory at once
    return min(found[2:])


def check_precision(source: ModelSource, precision: str | None) -> None:
    """Raise InputError, before the model is opened, if it cannot be computed in this precision."""
    if precision is None:
        return
    one_of("precision", precision, PRECISIONS)
    if source.exported:
        raise InputError(f"precision: {source.name} computes as it was exported; leave it out, or export it in another")


def speed_up(opened: OpenedModel, precision: str | None, batch_size: int) -> OpenedModel:
    """Fold the Keras model that `run` uses, and let it compute in `precision`. An exported model is not changed.

    `opened.model` itself is not changed. The folded model is compared with it on one image, and is used only if their
    difference is no larger than rounding explains.

    Args:
        opened: The model.
        precision: One of `PRECISIONS`, or None for the model's own.
        batch_size: Number of images that are computed at once.

    Raises:
        InputError: A layer cannot be copied into another precision.
    """
    runner = opened.runner
    if runner is None:  # only the library of the export's format may be installed
        return opened
    from ..networks.recognise import leaves
    from .folding import optimize_for_inference
    from .open import KerasRun

    # Fold, and compare with the original on one image of noise.
    given = runner.model
    pixels = np.random.default_rng(0).uniform(0, 255, (1, *opened.view.size, 3)).astype(np.float32)
    bound = FOLDING_BOUND if all(layer.compute_dtype == FLOAT32 for layer in leaves(given)) else HALF_BOUND
    try:
        folded = optimize_for_inference(given)
        expected, found = (runner.apply(model, pixels) for model in (given, folded))
        if np.isfinite(expected).all() and not np.abs(found - expected).max() <= bound * np.abs(expected).max():
            folded = given
    except InputError:  # a layer cannot be copied, so the model is run unfolded
        folded = given
    if precision is None:
        runner.model = folded
        return opened

    def in_precision(name: str) -> Callable[[], object]:
        again = KerasRun(_in_policy(opened.name, folded, name), runner.preprocessing)
        batch = np.repeat(pixels, min(batch_size, PROBE_BATCH), axis=0)
        return lambda: again(batch)

    # Then choose the precision.
    why: tuple[str, ...] = ()
    if precision == AUTO:
        precision, reason = choose_precision(in_precision)
        why = (f"precision {reason}",)
    elif precision != FLOAT32:
        why = (f"it is computed in {precision}",)
    runner.model = _in_policy(opened.name, folded, precision)
    return replace(opened, notes=opened.notes + why)


def _in_policy(name: str, model: keras.Model, precision: str) -> keras.Model:
    from .folding import in_policy

    try:
        return in_policy(model, precision)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise InputError(
            f"precision: {name} cannot be computed in {precision}, because one of its layers cannot be copied "
            f"({type(error).__name__}: {str(error).splitlines()[0]:.200}); leave it out"
        ) from None
