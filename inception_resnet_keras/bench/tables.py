"""A report as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 200  # of tables, whatever the terminal: a line that wraps says more than words that are cut

GAP = "–"


def show(report: Mapping[str, Any], console: Console) -> None:
    """Prints the machine, a table for each task and batch size, one of the contenders, and what is not seen."""
    from rich.console import Console

    from ..common.console import say

    console = console if console.width >= WIDTH else Console(file=console.file, width=WIDTH)
    for line in machine_lines(report):
        say(console, line)
    plan = report["plan"]
    for task, key in (("inference", "batches"), ("training", "training")):
        for batch in sorted(set(plan[key])):
            console.print(_speeds(report, task, batch))
    console.print(_contenders(report))
    for line in (*failures(report), *(f"note: {each}" for each in report["unseen"])):
        say(console, line, style="yellow")


def machine_lines(report: Mapping[str, Any]) -> list[str]:
    """The machine, versions and the peaks, in a few lines."""
    there = report["machine"]
    cpu = there["cpu"]
    of = "" if cpu["usable"] == cpu["logical"] else f" of {cpu['logical']}"
    memory = "" if there["memory_bytes"] is None else f", {there['memory_bytes'] / 2**30:.0f} GiB"
    lines = [
        f"{cpu['model']}, {cpu['usable']}{of} cores ({' '.join(cpu['flags']) or 'flags unknown'}){memory}; "
        f"{there['platform']}, Python {there['python']}; {there['date']}"
    ]
    lines += [
        f"{gpu['name']}, {gpu['memory.total']}, driver {gpu['driver_version']}, {gpu['power.limit']}"
        for gpu in there["gpus"]
    ]
    on_gpu = [each["runs_on"] for each in report["contenders"] if each["runs_on"].get("cuda_version")]
    lines += dict.fromkeys(
        f"CUDA {on['cuda_version']}, cuDNN {on['cudnn_version']}, on {on['device']}" for on in on_gpu
    )
    lines.append(", ".join(f"{name} {version}" for name, version in there["versions"].items()))
    if report["peaks"]:
        peaks = (
            f"{kind} {peak['macs_per_second'] / 1e9:,.0f} ({peak['by']})" for kind, peak in report["peaks"].items()
        )
        lines.append(f"the machine's peak, of a large matrix product, in G multiply-adds/s: {', '.join(peaks)}")
    return lines


def failures(report: Mapping[str, Any]) -> list[str]:
    """A line for each contender without figures, or without some of them, and why."""
    lines = []
    for each in report["contenders"]:
        if each["failure"]:
            lines.append(f"{each['name']}: {each['failure']}")
        for task in ("inference", "training"):
            found = each[task]
            if found["left_out"]:
                lines.append(f"{each['name']}: not trained: {found['left_out']}")
            for limit in found["out_of_memory"]:
                most = limit["largest_that_fits"]
                fits = f"the largest batch of those tried that fits is {most}" if most else "not even a batch of 1 fits"
                lines.append(f"{each['name']}: {task} at batch {limit['batch']} does not fit in memory; {fits}")
    return lines


def _speeds(report: Mapping[str, Any], task: str, batch: int) -> Table:
    from rich.markup import escape

    plan = report["plan"]
    on_gpu = plan["device"] == "gpu"
    what = "training steps" if task == "training" else "inference"
    table = _table(f"{what} at batch {batch}, {plan['size']}×{plan['size']}; ratios to {escape(plan['baseline'])}")
    table.add_column("contender")
    columns = ["median ms", "p95 ms", "images/s", "times as fast", "G mult-adds/s", "of peak"]
    columns += ["of bf16 peak", "GPU MB"] if on_gpu else ["peak MB", "threads"]
    for column in columns:
        table.add_column(column, justify="right")
    for each in report["contenders"]:
        row = next((row for row in each[task]["rows"] if row["batch"] == batch), None)
        style = "bold" if each["name"] == plan["baseline"] else None
        cells = [GAP] * len(columns) if row is None else _cells(row, on_gpu)
        table.add_row(escape(each["name"]), *cells, style=style)
    return table


def _cells(row: Mapping[str, Any], on_gpu: bool) -> list[str]:
    ratio, macs = row["ratio"], row["macs_per_second"]
    cells = [
        f"{1e3 * row['median_seconds']:,.1f}",
        f"{1e3 * row['p95_seconds']:,.1f}",
        f"{row['images_per_second']['median']:,.1f}",
        GAP if ratio is None else f"{ratio['median']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})",
        GAP if macs is None else f"{macs / 1e9:,.0f}",
        _share(row["share_of_peak"]),
    ]
    if on_gpu:
        return [*cells, _share(row["share_of_bfloat16_peak"]), _megabytes(row["peak_device_memory"])]
    threads = GAP if row["threads"] is None else f"{row['threads']} ({row['cores']:.1f} cores)"
    return [*cells, _megabytes(row["peak_rss"]), threads]


def _contenders(report: Mapping[str, Any]) -> Table:
    from rich.markup import escape

    table = _table(
        "each contender: its outputs beside the network's own in float32 on the CPU, its start, its best batch"
    )
    table.add_column("contender")
    for column in ("difference", "bound", "same top-1", "start-up s", "first call s"):
        table.add_column(column, justify="right")
    tasks = list(report["contenders"][0]["best"])
    for task in tasks:
        table.add_column(f"{task}: images/s (batch), to the baseline's best", justify="right")
    for each in report["contenders"]:
        check, startup = each["check"], each["startup_seconds"]
        rows = [row for task in ("inference", "training") for row in each[task]["rows"]]
        first = [row["first_call_seconds"] for row in rows if row["first_call_seconds"] is not None]
        table.add_row(
            escape(each["name"]),
            *(("not checked", GAP, GAP) if check is None else _checked(check)),
            f"{min(startup):.2f}" if startup else GAP,
            f"{max(first):.2f}" if first else GAP,
            *(_best(each["best"][task]) for task in tasks),
        )
    return table


def _best(best: Mapping[str, Any] | None) -> str:
    if best is None:
        return GAP
    ratio = "" if best["ratio"] is None else f", {best['ratio']:.2f}"
    return f"{best['images_per_second']:,.1f} ({best['batch']}){ratio}"


def _checked(check: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"{check['difference']:.1e}", f"{check['bound']:.0e}", f"{check['agreement']:.0%}"


def _table(title: str) -> Table:
    from rich.table import Table

    return Table(title=title, title_justify="left")


def _share(share: float | None) -> str:
    return GAP if share is None else f"{share:.0%}"


def _megabytes(size: int | None) -> str:
    return GAP if size is None else f"{size / 1e6:,.0f}"
