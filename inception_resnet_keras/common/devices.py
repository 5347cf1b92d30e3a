"""Running out of memory: knowing it when it comes, and the largest batch that fits."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

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


def usable_cores() -> int:
    """How many cores this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


DRIVER = "libcuda.so.1"
# What TensorFlow 2.21 opens, and the package of the `gpu` extra that brings it.
LIBRARIES = {
    "libcudart.so.12": "nvidia-cuda-runtime-cu12",
    "libcublas.so.12": "nvidia-cublas-cu12",
    "libcublasLt.so.12": "nvidia-cublas-cu12",
    "libcudnn.so.9": "nvidia-cudnn-cu12",
    "libcufft.so.11": "nvidia-cufft-cu12",
    "libcusolver.so.11": "nvidia-cusolver-cu12",
    "libcusparse.so.12": "nvidia-cusparse-cu12",
    "libnccl.so.2": "nvidia-nccl-cu12",
}

SIGNS = (Path("/dev/nvidia0"), Path("/proc/driver/nvidia/version"))
GPU_EXTRA = "pip install 'inception-resnet-keras[gpu]'"


def use_gpus() -> list[Any]:
    """TensorFlow's GPUs, set to take memory as they need it and not all at once; before anything else of TensorFlow's.

    Other programs, and other workers of this one, can then share the GPU, and what one takes is what it needs.
    """
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    for gpu in found:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # TensorFlow has begun: the caller's own setting stays
            break
    return found


def missing_gpu() -> str | None:
    """Why TensorFlow computes on the CPU of a machine with an NVIDIA GPU, and what to do; None where all is well."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU") or not has_gpu():
        return None
    return why_unseen(built_with_cuda=tf.test.is_built_with_cuda())


def has_gpu(signs: Iterable[Path] = SIGNS, listing: Callable[[], str] | None = None) -> bool:
    """Whether the machine has an NVIDIA GPU: by the driver's files, or else what `nvidia-smi -L` lists."""
    return any(sign.exists() for sign in signs) or "GPU 0" in (listing or _listed)()


def why_unseen(
    *,
    built_with_cuda: bool,
    environment: Mapping[str, str] = os.environ,
    load: Callable[[str], Any] = ctypes.CDLL,
    folders: Iterable[Path] | None = None,
) -> str | None:
    """The reason in a sentence, with what to do next; None where the GPUs were hidden on purpose.

    load: opens a shared library, and raises OSError where it cannot.
    folders: where the `gpu` extra's packages lie, each with nvidia/*/lib in it; None for `sys.path`.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return None
    said = "there is an NVIDIA GPU, but TensorFlow does not see it and computes on the CPU: "
    if not built_with_cuda:
        return f"{said}tensorflow-cpu is installed. pip uninstall tensorflow-cpu, then {GPU_EXTRA}"
    if error := _failure(DRIVER, load, ()):
        return (
            f"{said}the driver's {DRIVER} does not load ({error}). Install NVIDIA's driver; a container has to be "
            "started with it (docker run --gpus all)"
        )
    places = [Path(folder) for folder in (sys.path if folders is None else folders)]
    broken = {name: error for name in LIBRARIES if (error := _failure(name, load, places))}
    if broken:
        packages = ", ".join(dict.fromkeys(LIBRARIES[name] for name in broken))
        reasons = "; ".join(f"{name} ({error})" for name, error in broken.items())
        return f"{said}what does not load is {reasons}. {GPU_EXTRA} brings {packages}"
    return (
        f"{said}all of CUDA's libraries load. The driver may be too old for them (nvidia-smi tells its version), or "
        f"CUDA_VISIBLE_DEVICES={visible!r} names none; TF_CPP_MIN_LOG_LEVEL=0 shows what TensorFlow says itself"
    )


def _failure(name: str, load: Callable[[str], Any], folders: Iterable[Path]) -> str:
    """Why a library loads neither by its name nor from the packages' folders; empty where it does."""
    inside = [str(path) for folder in folders for path in sorted((folder / "nvidia").glob(f"*/lib/{name}"))]
    error = ""
    for candidate in (name, *inside):
        try:
            load(candidate)
        except OSError as failed:
            error = str(failed)
        else:
            return ""
    return error or "not found"


def _listed() -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
