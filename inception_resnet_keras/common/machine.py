"""The processor, the GPUs and the versions of packages, as stored with runs, reports and benchmarks."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, SubprocessError, check_output
from typing import Any

from .devices import usable_cores
from .packages import configured_engine, required

PACKAGES = ("inception-resnet-keras", "keras", "numpy", "pillow", "scikit-learn")
# A backend of Keras → the packages that contain it.
BACKEND_PACKAGES = {"tensorflow": ("tensorflow", "tensorflow-cpu"), "jax": ("jax", "jaxlib"), "torch": ("torch",)}


def environment() -> dict[str, dict[str, str]]:
    """The machine and the versions, Keras's backend included, as stored in config.json and the reports' JSON files."""
    engine = configured_engine()
    return {"machine": machine(), "versions": versions((*PACKAGES, *BACKEND_PACKAGES.get(engine, (engine,))))}


def machine() -> dict[str, str]:
    """Platform, Python, processor and GPUs."""
    gpus = gpu_names()
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "CPU": f"{processor_name()}, {usable_cores()} cores used",
        "GPU": ", ".join(gpus) if gpus else "none used",
    }


@cache
def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, such as "Intel(R) Xeon(R) Platinum 8488C".

    Linux's /proc/cpuinfo comes first, because py-cpuinfo needs about a second. py-cpuinfo is used if that file has no
    name and the extra `bench` is installed; `platform` is the last resort.
    """
    try:
        found = re.search(r"^(?:model name|Hardware)\s*:\s*(\S.*)$", cpuinfo.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return " ".join(found[1].split())
    if find_spec("cpuinfo") is not None:
        name = required("cpuinfo").get_cpu_info().get("brand_raw")
        if name:
            return str(name)
    return platform.processor() or platform.machine() or "unknown"


def gpu_names() -> list[str]:
    """The names of the GPUs of Keras's backend; none if it is not loaded, because then it computes nothing."""
    engine = configured_engine()
    loaded: Any = sys.modules.get(engine)
    if loaded is None:
        return []
    if engine == "jax":
        return [device.device_kind for device in loaded.devices() if device.platform == "gpu"]
    if engine == "torch":
        return [loaded.cuda.get_device_name(number) for number in range(loaded.cuda.device_count())]
    if engine != "tensorflow":
        return []
    details = loaded.config.experimental.get_device_details
    return [str(details(gpu).get("device_name") or gpu.name) for gpu in loaded.config.list_physical_devices("GPU")]


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


ENGINE_PACKAGES = (
    *("openvino", "nncf", "onnx", "onnxruntime", "ai-edge-litert", "torch", "timm"),
    *("nvidia-cudnn-cu12", "nvidia-cublas-cu12"),
)
KERNEL_FLAGS = ("avx", "amx", "asimd", "sve", "i8mm")  # CPU flags by which libraries choose their kernels


def benchmarked_machine() -> dict[str, Any]:
    """The date, and everything about the machine and the packages that speed depends on."""
    cpuinfo, psutil = required("cpuinfo", "bench"), required("psutil", "bench")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": f"{platform.platform()}, Python {platform.python_version()}",
        "cpu": processor_name(),
        "flags": [flag for flag in cpuinfo.get_cpu_info().get("flags", ()) if flag.startswith(KERNEL_FLAGS)],
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": psutil.getloadavg()[0],
        "gpus": nvidia_gpus(),
        "versions": versions((*PACKAGES, *BACKEND_PACKAGES["tensorflow"], *ENGINE_PACKAGES)),
    }


def nvidia_gpus() -> list[str]:
    """Name, memory, driver and power limit of each NVIDIA GPU, as `nvidia-smi` lists them."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version,power.limit", "--format=csv,noheader"]
    try:
        return check_output(query, text=True, stderr=DEVNULL, timeout=30).splitlines()
    except (OSError, SubprocessError):
        return []
