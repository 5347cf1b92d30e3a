"""The machine that figures were taken on, and what disturbed them: of Linux most of it, else what Python knows."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# What decides which kernels a library picks.
FLAGS = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "asimd", "asimddp", "asimdhp", "bf16", "i8mm", "sve"),
)
# Of FLAGS those that multiply in a type; a processor with none of them converts to float32 and multiplies that.
MULTIPLIES = {
    "float16": {"avx512_fp16", "amx_fp16", "asimdhp"},
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
}

PACKAGES = (
    *("inception-resnet-keras", "keras", "tensorflow", "tensorflow-cpu", "numpy", "openvino", "nncf", "onnx"),
    *("onnxruntime", "ai-edge-litert", "torch", "timm"),
    *("nvidia-cuda-runtime-cu12", "nvidia-cudnn-cu12", "nvidia-cublas-cu12"),
)

_GPU_FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "power.limit",
    "clocks.max.sm",
    "utilization.gpu",
    "memory.used",
)

NOISY_SHARE, NOISY_SPREAD = 0.05, 0.15


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """The processor, memory, GPUs, versions and date, as JSON holds them."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu(),
        "memory_bytes": _meminfo().get("MemTotal"),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "gpus": gpus(),
        "versions": _versions(),
    }


def gpus() -> list[dict[str, str]]:
    """Of each NVIDIA GPU what `nvidia-smi` says; empty where there is none."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_gpus(done.stdout) if done.returncode == 0 else []


def parse_gpus(text: str) -> list[dict[str, str]]:
    rows = (line.split(", ") for line in text.splitlines() if line.strip())
    return [dict(zip(_GPU_FIELDS, row, strict=True)) for row in rows if len(row) == len(_GPU_FIELDS)]


def available_memory(groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that programs may still take, of the machine's and of a container's; None where the system does not tell.

    groups: where Linux tells of a container's limit, in the files of either of its versions.
    """
    left = [_meminfo().get("MemAvailable")]
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, now = (int((groups / file).read_text()) for file in (limit, used))
            kept = re.search(rf"^{cached} (\d+)$", (groups / limit).with_name("memory.stat").read_text(), re.MULTILINE)
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
        left.append(max(0, most - now + int(kept[1] if kept else 0)))  # files that were read give way
    return min((each for each in left if each is not None), default=None)


def multiplied_in(kind: str, flags: Iterable[str]) -> str:
    """The type in which a processor of these FLAGS multiplies what is computed in `kind`."""
    return kind if kind not in MULTIPLIES or MULTIPLIES[kind] & set(flags) else "float32"


def unseen(described: Mapping[str, Any], turns: Sequence[Mapping[str, Any]], widest: float | None) -> list[str]:
    """What these figures cannot show, and what disturbed them, each as a sentence.

    turns: the facts of every turn. widest: the baseline's spread over the rounds, None of a single one.
    """
    cpu = described["cpu"]
    said = []
    if cpu["usable"] == 1:
        said.append("one core: nothing here says how well a contender uses several")
    if cpu["quota"] is not None:
        said.append(
            f"the container may use {cpu['quota']:g} of {cpu['logical']} cores: libraries see more than they get"
        )
    if cpu["hypervisor"]:
        said.append("a virtual machine: other guests, the clock's frequency and turbo are not seen")
    elif cpu["turbo"] is None:
        said.append("whether turbo is on could not be read: the clock may depend on how many cores are busy")
    elif cpu["turbo"]:
        said.append("turbo is on: the clock depends on heat and on how many cores are busy")
    for key, who in (("stolen", "the host took"), ("others", "other programs took")):
        shares = [turn[key] for turn in turns if turn.get(key) is not None]
        if shares and max(shares) > NOISY_SHARE:
            said.append(
                f"a noisy machine: {who} {np_median(shares):.0%} of the processor in a turn, "
                f"{max(shares):.0%} in the worst: trust ratios, not seconds"
            )
    if not any(turn.get("others") is not None for turn in turns):
        said.append("this system does not tell what other programs took of the processor")
    if widest is None:
        said.append("a single round: nothing is known of the spread")
    elif widest > NOISY_SPREAD:
        said.append(f"the baseline itself varied by {widest:.0%} from round to round: trust ratios, not seconds")
    busy = [gpu for gpu in described["gpus"] if not gpu["utilization.gpu"].startswith("0 ")]
    if busy:
        said.append(f"the GPU was {busy[0]['utilization.gpu']} busy before anything was started")
    return said


def np_median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return (ordered[len(ordered) // 2] + ordered[(len(ordered) - 1) // 2]) / 2


@dataclass(frozen=True)
class Meter:
    """Processor time at one moment: the machine's by kind, and this process's own; in seconds.

    Between two of them: the share of the machine that others took, and that the host stole.
    """

    busy: float
    stolen: float
    total: float
    own: float
    threads: Mapping[str, float]

    @classmethod
    def read(cls) -> Meter:
        times = os.times()
        own = times.user + times.system
        try:
            ticks = [int(text) / os.sysconf("SC_CLK_TCK") for text in Path("/proc/stat").read_text().split()[1:9]]
        except (OSError, ValueError, AttributeError):
            return cls(0, 0, 0, own, {})
        user, nice, system, idle, waiting, interrupts, soft, stolen = ticks
        busy = user + nice + system + interrupts + soft
        return cls(busy, stolen, busy + idle + waiting + stolen, own, _threads())

    def since(self, before: Meter, seconds: float) -> dict[str, Any]:
        """others, stolen: shares of the machine's processor time. cores: that this process kept busy.
        threads: those of it that did a twentieth or more of the busiest one's work."""
        spent = {key: now - before.threads.get(key, 0.0) for key, now in self.threads.items()}
        most = max(spent.values(), default=0.0)
        total, own = self.total - before.total, self.own - before.own
        return {
            "others": max(0.0, self.busy - before.busy - own) / total if total > 0 else None,
            "stolen": (self.stolen - before.stolen) / total if total > 0 else None,
            "cores": own / seconds if seconds > 0 else None,
            "threads": sum(each >= most / 20 for each in spent.values()) if most > 0 else None,
        }


def peak_rss() -> int | None:
    """The most memory that this process has held, in bytes; None where the system does not tell.

    Linux's own figure: `ru_maxrss` starts from the parent's.
    """
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) * 1024 if found else None
    except OSError:
        pass
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if platform.system() == "Darwin" else most * 1024


def _threads() -> dict[str, float]:
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            fields = (task / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        found[task.name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def _cpu() -> dict[str, Any]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    named = re.search(r"model name\s*: (.*)", text)
    has = set(re.findall(r"\S+", " ".join(re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)[:1])))
    places = set(re.findall(r"physical id\s*: (\d+)[\s\S]*?core id\s*: (\d+)", text))
    return {
        "model": named[1].strip() if named else platform.processor() or platform.machine(),
        "logical": os.cpu_count(),
        "physical": len(places) or None,
        "usable": cores(),
        "quota": _quota(),
        "flags": [flag for flag in FLAGS if flag in has],
        "hypervisor": "hypervisor" in has,
        "turbo": _turbo(),
    }


def _turbo() -> bool | None:
    for file, on in (("intel_pstate/no_turbo", "0"), ("cpufreq/boost", "1")):
        try:
            return Path("/sys/devices/system/cpu", file).read_text().strip() == on
        except OSError:
            continue
    return None


def _quota() -> float | None:
    """Cores that a container's limit leaves; None for all of them."""
    try:
        allowed, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if allowed == "max" else int(allowed) / int(period)
    except (OSError, ValueError):
        return None


def _meminfo() -> dict[str, int]:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return {}
    return {key: int(number) * 1024 for key, number in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
