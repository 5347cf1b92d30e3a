"""From raw seconds to a report: a row of figures for each contender and batch size, tables on a terminal, a chart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.console import cell, say
from ..common.files import replacing
from .run import PEAKS

if TYPE_CHECKING:
    from rich.console import Console

Row = dict[str, Any]
# Multiply-adds of a task to those of inference: forward, gradients of maps, gradients of kernels.
PASSES = {"inference": 1, "training": 3}
TITLES = {"inference": "inference", "training": "training steps"}


def make_rows(result: Mapping[str, Any]) -> list[Row]:
    """The figures of each contender, by task, batch size and order of the plan, from the turns of its rounds.

    Ratios to the baseline are taken within each round that both have, so that a machine that slows down between
    rounds does not change them.
    """
    names, peak = result["plan"]["contenders"], result["peak"]
    turns: dict[tuple[str, int, str], dict[int, Row]] = {}
    for turn in result["turns"]:
        turns.setdefault((turn["task"], turn["batch"], turn["contender"]), {})[turn["round"]] = turn
    rows = []
    for task, batch, name in sorted(turns, key=lambda key: (*key[:2], names.index(key[2]))):
        own, baseline = turns[task, batch, name], turns.get((task, batch, names[0]), {})
        seconds = np.concatenate([turn["seconds"] for turn in own.values()])
        speeds = {number: batch / np.median(turn["seconds"]) for number, turn in own.items()}
        ratios = [speed * np.median(baseline[n]["seconds"]) / batch for n, speed in speeds.items() if n in baseline]
        starts = [turn["startup_seconds"] for turn in own.values() if "startup_seconds" in turn]
        macs = (result["contenders"][name].get("macs") or 0) * PASSES[task]
        row: Row = {"task": task, "batch": batch, "contender": name, "calls": len(seconds)}
        row |= {"median_seconds": float(np.median(seconds)), "p95_seconds": float(np.percentile(seconds, 95))}
        row |= {"images_per_second": _spread(speeds.values()), "ratio": _spread(ratios)}
        row["share_of_peak"] = macs * row["images_per_second"]["median"] / peak if macs and peak else None
        row["peak_memory"] = max(turn["peak_memory"] for turn in own.values())
        row["first_call_seconds"] = float(np.median([turn["first_call_seconds"] for turn in own.values()]))
        row["startup_seconds"] = float(np.median(starts)) if starts else None
        rows.append(row)
    return rows


def _spread(values: Iterable[float]) -> dict[str, float] | None:
    found = list(map(float, values))
    return {"median": float(np.median(found)), "low": min(found), "high": max(found)} if found else None


def _panels(report: Mapping[str, Any]) -> Iterator[tuple[str, list[Row]]]:
    """The title and the rows of each task and batch size."""
    for (task, batch), rows in groupby(report["rows"], key=lambda row: (row["task"], row["batch"])):
        yield f"{TITLES[task]} at batch {batch}", list(rows)


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the machine, a table for each task and batch size, and what failed.

    report: A benchmark's result, with `rows`.
    """
    from rich.console import Console
    from rich.table import Column, Table

    plan, contenders, peak = report["plan"], report["contenders"], PEAKS[report["plan"]["device"]][0]
    for key, value in report["machine"].items():
        parts = [f"{name} {version}" for name, version in value.items()] if isinstance(value, dict) else value
        say(console, f"{key}: {', '.join(parts) if isinstance(parts, list) else parts}")
    if report["peak"]:
        say(console, f"peak of a {peak} matrix product: {report['peak'] / 1e9:,.0f} G multiply-adds/s")
    wide = Console(file=console.file, width=max(console.width, 160))  # a line that wraps is better than words cut off
    for title, rows in _panels(report):
        about = f"{title}, {plan['size']}×{plan['size']}; ratios to {plan['contenders'][0]}"
        table = Table(Column("contender", overflow="fold"), title=cell(about, "table.title"), title_justify="left")
        for row in rows:
            cells = _cells(row, contenders[row["contender"]].get("check"), peak)
            if not table.rows:
                for column in cells:
                    table.add_column(column, justify="right")
            table.add_row(cell(row["contender"]), *cells.values())
        wide.print(table)
    for name, facts in contenders.items():
        for reason in dict.fromkeys(facts["failures"].values()):
            of = ", ".join(key for key, other in facts["failures"].items() if other == reason)
            say(console, f"{name}: {of}: {reason}", style="yellow")


def _ratio(row: Row) -> str:
    return "{median:.2f} ({low:.2f}–{high:.2f})".format(**row["ratio"]) if row["ratio"] else "–"


def _cells(row: Row, check: Mapping[str, float] | None, peak: str) -> dict[str, str]:
    def cell(template: str, value: float | None, times: float = 1) -> str:
        return "–" if value is None else template.format(times * value)

    return {
        "median ms": cell("{:,.1f}", row["median_seconds"], times=1e3),
        "p95 ms": cell("{:,.1f}", row["p95_seconds"], times=1e3),
        "images/s": cell("{:,.1f}", row["images_per_second"]["median"]),
        "times as fast": _ratio(row),
        f"of {peak} peak": cell("{:.0%}", row["share_of_peak"]),
        "peak MB": cell("{:,.0f}", row["peak_memory"], times=1e-6),
        "first call s": cell("{:.2f}", row["first_call_seconds"]),
        "start-up s": cell("{:.2f}", row["startup_seconds"]),
        "difference": cell("{:.1e}", check["difference"]) if check else "not checked",
    }


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Draw the images/s of each contender, a panel for each task and batch size, and their ratios to the baseline.

    Bars are medians, whiskers go from the slowest to the fastest round. The suffix of `path` gives the format: PNG, SVG
    or PDF.
    """
    from matplotlib.figure import Figure

    from ..evaluation.figure_style import label

    plan, machine, panels = report["plan"], report["machine"], list(_panels(report))
    heights = [1.05 + 0.27 * len(rows) for _, rows in panels] or [1.0]  # inches
    figure = Figure(figsize=(9, sum(heights) + 0.9), layout="constrained")
    where = machine["gpus"][0].split(",")[0] if plan["device"] == "gpu" and machine["gpus"] else machine["cpu"]
    what = f"{plan['size']}×{plan['size']} pixels on {where}, {machine['date'][:10]}; {plan['rounds']} rounds"
    figure.suptitle(f"{what}; ratios to {label(plan['contenders'][0])}", x=0.01, ha="left", fontsize=11)
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, rows) in zip(axes, panels, strict=False):
        speeds = [row["images_per_second"] for row in rows]
        middle, low, high = (np.array([each[key] for each in speeds]) for key in ("median", "low", "high"))
        colours = ["#8a8a8a" if row["contender"] == plan["contenders"][0] else "#0b62a4" for row in rows]
        bars = axis.barh(range(len(rows)), middle, color=colours, xerr=[middle - low, high - middle], capsize=2)
        texts = [f"{speed:,.1f}  {_ratio(row)}" for speed, row in zip(middle, rows, strict=True)]
        axis.bar_label(bars, texts, padding=4, fontsize=8)
        axis.set_yticks(range(len(rows)), [label(row["contender"]) for row in rows], fontsize=8)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.5 * high.max())  # room for the label of the longest bar
        axis.set_xlabel("images/s", fontsize=8)
        axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
        axis.spines[["top", "right", "left"]].set_visible(False)
    with replacing(path) as part:
        figure.savefig(part, dpi=150)
