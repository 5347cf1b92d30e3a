"""Processors, GPUs and memory: missing GPUs explained, out-of-memory errors recognised, the largest batch that fits."""

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
# Messages of XLA, cuDNN, cuBLAS, ONNX Runtime, OpenVINO, the linker and C++, which come with other error classes.
_MESSAGES = (
    *("resource_exhausted", "out of memory", "status_alloc_failed", "failed to allocate memory"),
    *("cannot allocate memory", "failed to map segment", "bad_alloc"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that Python or a framework ran out of memory. Imports no framework."""
    if any(kind.__name__ in _NAMES for kind in type(error).__mro__):
        return True
    return not isinstance(error, ValueError | TypeError) and any(message in str(error).lower() for message in _MESSAGES)


def usable_cores() -> int:
    """The number of cores this process may use, which may be fewer than the machine has, as in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def largest_that_fits(failed: int, fits: Callable[[int], bool], *, step: int = 1) -> int:
    """The largest batch size that fits, among the multiples of `step` that were tried; 0 if none fits.

    Args:
        failed: A batch size that does not fit.
        fits: Tries a batch size.
        step: The batch sizes' common divisor.

    Returns:
        A batch size at most an eighth of `failed` below the true limit.
    """
    # Halve until a size fits.
    low, high = 0, failed
    while high > step:
        middle = max(step, high // 2 // step * step)
        if fits(middle):
            low = middle
            break
        high = middle
    if not low:
        return 0
    # Then bisect twice between the largest that fits and the smallest that does not.
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
# The libraries that TensorFlow 2.21 opens, and the packages of the `gpu` extra that contain them.
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
    """TensorFlow's GPUs, set to allocate memory as needed instead of all at once. Call it before TensorFlow is used.

    Other programs and other workers of this one can then share a GPU, and the memory in use is the memory needed.
    """
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    for gpu in found:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # TensorFlow is already in use: the caller's setting stays
            break
    return found


def missing_gpu() -> str | None:
    """Why TensorFlow uses the CPU although the machine has an NVIDIA GPU, and what to do; None if all is well."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU") or not has_gpu():
        return None
    return why_unseen(built_with_cuda=tf.test.is_built_with_cuda())


def has_gpu(signs: Iterable[Path] = SIGNS, listing: Callable[[], str] | None = None) -> bool:
    """Whether the machine has an NVIDIA GPU, by the driver's files or the list of `nvidia-smi -L`."""
    return any(sign.exists() for sign in signs) or "GPU 0" in (listing or _listed)()


def why_unseen(
    *,
    built_with_cuda: bool,
    environment: Mapping[str, str] = os.environ,
    load: Callable[[str], Any] = ctypes.CDLL,
    folders: Iterable[Path] | None = None,
) -> str | None:
    """The reason why TensorFlow does not see a GPU, and what to do; None if the GPUs were hidden on purpose.

    Args:
        built_with_cuda: Whether the installed TensorFlow supports CUDA.
        environment: The environment variables.
        load: Opens a shared library, or raises OSError.
        folders: The folders with the `gpu` extra's packages, in nvidia/*/lib; None for `sys.path`.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return None
    start = "there is an NVIDIA GPU, but TensorFlow does not see it and computes on the CPU: "
    if not built_with_cuda:
        return f"{start}tensorflow-cpu is installed. pip uninstall tensorflow-cpu, then {GPU_EXTRA}"
    if error := _failure(DRIVER, load, ()):
        return (
            f"{start}the driver's {DRIVER} does not load ({error}). Install NVIDIA's driver; start a container with "
            "access to it (docker run --gpus all)"
        )
    places = [Path(folder) for folder in (sys.path if folders is None else folders)]
    broken = {name: error for name in LIBRARIES if (error := _failure(name, load, places))}
    if broken:
        packages = ", ".join(dict.fromkeys(LIBRARIES[name] for name in broken))
        reasons = "; ".join(f"{name} ({error})" for name, error in broken.items())
        return f"{start}these libraries do not load: {reasons}. {GPU_EXTRA} installs {packages}"
    return (
        f"{start}all of CUDA's libraries load. The driver may be too old for them (nvidia-smi shows its version), or "
        f"CUDA_VISIBLE_DEVICES={visible!r} selects none; TF_CPP_MIN_LOG_LEVEL=0 shows TensorFlow's own messages"
    )


def _failure(name: str, load: Callable[[str], Any], folders: Iterable[Path]) -> str:
    """Why a library loads neither by its name nor from the packages' folders; "" if it loads."""
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
    """The output of `nvidia-smi -L`; "" if there is none."""
    if shutil.which("nvidia-smi") is None:
        return ""
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
