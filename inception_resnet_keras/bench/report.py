"""The report of a benchmark: a row of figures per contender and batch size, tables in a terminal, and a chart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.console import cell, say
from ..common.files import replacing
from .engines import sides
from .run import PEAKS

if TYPE_CHECKING:
    from rich.console import Console

Row = dict[str, Any]
# The multiply-adds of a task relative to inference: training also computes gradients of maps and of kernels.
PASSES = {"inference": 1, "training": 3}
TITLES = {"inference": "inference", "training": "training steps"}


def make_rows(result: Mapping[str, Any]) -> list[Row]:
    """The figures of each contender by task and batch size, the fastest contender first.

    The time of a round is the median of its calls. Times are the median and the range over rounds, and images/s follow
    from them. Ratios to the baseline are computed within each round that both have, so that a machine that slows down
    between rounds does not affect them; `ratio` is their median and range.
    """
    # Collect the turns of each contender by round.
    names, peak = result["plan"]["contenders"], result["peak"]
    turns: dict[tuple[str, int, str], dict[int, Row]] = {}
    for turn in result["turns"]:
        turns.setdefault((turn["task"], turn["batch"], turn["contender"]), {})[turn["round"]] = turn
    times = {key: {n: float(np.median(turn["seconds"])) for n, turn in own.items()} for key, own in turns.items()}
    rows = []
    for (task, batch, name), own in turns.items():
        rounds, baseline = times[task, batch, name], times.get((task, batch, names[0]), {})
        every = np.concatenate([turn["seconds"] for turn in own.values()])
        starts = [turn["startup_seconds"] for turn in own.values() if "startup_seconds" in turn]
        macs = (result["contenders"][name].get("macs") or 0) * PASSES[task]
        row: Row = {"task": task, "batch": batch, "contender": name, "calls": len(every), "round_seconds": rounds}
        row |= {"seconds": _spread(rounds.values()), "p95_seconds": float(np.percentile(every, 95))}
        row["images_per_second"] = {
            key: batch / row["seconds"][of] for key, of in (("median", "median"), ("low", "high"), ("high", "low"))
        }
        row["ratio"] = _spread(baseline[n] / seconds for n, seconds in rounds.items() if n in baseline)
        row["share_of_peak"] = macs * row["images_per_second"]["median"] / peak if macs and peak else None
        row["peak_memory"] = max(turn["peak_memory"] for turn in own.values())
        row["first_call_seconds"] = float(np.median([turn["first_call_seconds"] for turn in own.values()]))
        row["startup_seconds"] = float(np.median(starts)) if starts else None
        rows.append(row)
    return sorted(rows, key=lambda row: (row["task"], row["batch"], row["seconds"]["median"]))


def _spread(values: Iterable[float]) -> dict[str, float] | None:
    found = list(map(float, values))
    return {"median": float(np.median(found)), "low": min(found), "high": max(found)} if found else None


def with_figures(result: Mapping[str, Any]) -> dict[str, Any]:
    """A benchmark's result with its `rows` and `notes`, for the other functions of this module."""
    found = {**result, "rows": make_rows(result)}
    return {**found, "notes": make_notes(found)}


NOISY = 0.1  # if a contender's times differ by more than this share between rounds, a note warns
BUSY = 0.5  # if the load before the run is more than this share of the cores, a note warns


def make_notes(report: Mapping[str, Any]) -> list[str]:
    """Notes on the reliability of the figures, one sentence each; none for a quiet run.

    report: A benchmark's result, with `rows`.
    """
    machine, baseline = report["machine"], report["plan"]["contenders"][0]
    notes, load = [], machine["load_average"]
    if load > BUSY * machine["cores"]:
        notes.append(
            f"other programs were running at the start: a load of {load:.1f} on {machine['cores']} cores in the minute "
            "before"
        )
    for title, rows in _panels(report):
        # Without the baseline, or with a single round, there is little to compare.
        reasons = report["contenders"][baseline]["failures"]
        reason = reasons.get("preparation") or reasons.get("{task} {batch}".format(**rows[0]))
        if all(row["ratio"] is None for row in rows):
            why = f"the baseline {baseline} failed: {reason}" if reason else f"{baseline} was not measured"
            notes.append(f"{title}: no ratios, because {why}")
        if all(len(row["round_seconds"]) == 1 for row in rows):
            notes.append(
                f"{title}: a single round does not show noise, so small differences may be chance: use --rounds 5"
            )
            continue
        # In a noisy run, ratios within rounds are more reliable than times, and an order that every round shows most.
        if (noise := _noise(rows)) > NOISY:
            ratios = [row["ratio"] for row in rows if row["ratio"]]
            widest = max((each["high"] / each["low"] - 1 for each in ratios), default=math.inf)
            holds = f"; ratios, which compare times within rounds, differ by up to {widest:.0%}" if ratios else ""
            notes.append(
                f"{title}: noisy: a contender's times differ by up to {noise:.0%} between rounds, and so may ms, "
                f"images/s and shares of the peak{holds}"
            )
            faster, slower = (
                [row["contender"] for row in rows if row["ratio"] and certain(row["ratio"])]
                for certain in (lambda ratio: ratio["low"] > 1, lambda ratio: ratio["high"] < 1)
            )
            for names, what in ((faster, "faster"), (slower, "slower")):
                if names:
                    notes.append(f"{title}: nevertheless {what} than {baseline} in every round: {', '.join(names)}")
        # Neighbours whose order differs between rounds.
        for one, other in pairwise(rows):
            if _are_close(one["round_seconds"], other["round_seconds"]):
                pair = f"{one['contender']} and {other['contender']}"
                notes.append(f"{title}: {pair} cannot be ranked: each was faster in some round")
    return notes


def _noise(rows: Iterable[Row]) -> float:
    return max(row["seconds"]["high"] / row["seconds"]["low"] - 1 for row in rows)


def _are_close(one: Mapping[int, float], other: Mapping[int, float]) -> bool:
    """Whether the contender with the lower median was slower in any round that both have."""
    return any(one[number] > other[number] for number in one.keys() & other.keys())


def _panels(report: Mapping[str, Any]) -> Iterator[tuple[str, list[Row]]]:
    """Yield the title and the rows of each task and batch size."""
    for (task, batch), rows in groupby(report["rows"], key=lambda row: (row["task"], row["batch"])):
        yield f"{TITLES[task]} at batch {batch}", list(rows)


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the machine, a table for each task and batch size, failures, and notes.

    report: A benchmark's result, with `rows` and `notes`.
    """
    from rich.console import Console
    from rich.table import Column, Table

    plan, contenders, peak = report["plan"], report["contenders"], PEAKS[report["plan"]["device"]][0]
    for key, value in report["machine"].items():
        parts = [f"{name} {version}" for name, version in value.items()] if isinstance(value, dict) else value
        say(console, f"{key}: {', '.join(parts) if isinstance(parts, list) else parts}")
    if report["peak"]:
        say(console, f"peak of a {peak} matrix product: {report['peak'] / 1e9:,.0f} G multiply-adds/s")
    wide = Console(file=console.file, width=max(console.width, 160))  # wrapped lines are better than truncated cells
    for title, rows in _panels(report):
        about = f"{title}, {sides(plan['size'])}; ratios to {plan['contenders'][0]}"
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
    for note in report["notes"]:
        say(console, note, style="yellow")


def _ratio(row: Row) -> str:
    """The median of the rounds' ratios as text, with their range if there are several."""
    if row["ratio"] is None:
        return "–"
    several = len(row["round_seconds"]) > 1 and row["ratio"]["low"] < row["ratio"]["high"]
    return ("{median:.2f} ({low:.2f}–{high:.2f})" if several else "{median:.2f}").format(**row["ratio"])


def _cells(row: Row, check: Mapping[str, float] | None, peak: str) -> dict[str, str]:
    def cell(template: str, value: float | None, times: float = 1) -> str:
        return "–" if value is None else template.format(times * value)

    return {
        "median ms": cell("{:,.1f}", row["seconds"]["median"], times=1e3),
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
    """Draw the images/s of each contender with its ratio to the baseline, in a panel per task and batch size.

    Bars show medians, whiskers the range from the slowest to the fastest round. The suffix of `path` gives the format:
    PNG, SVG or PDF.
    """
    from matplotlib.figure import Figure

    from ..evaluation.figure_style import label

    plan, machine, panels = report["plan"], report["machine"], list(_panels(report))
    heights = [1.05 + 0.27 * len(rows) for _, rows in panels] or [1.0]  # inches
    figure = Figure(figsize=(9, sum(heights) + 0.9), layout="constrained")
    where = machine["gpus"][0].split(",")[0] if plan["device"] == "gpu" and machine["gpus"] else machine["cpu"]
    what = f"{sides(plan['size'])} pixels on {where}, {machine['date'][:10]}; {plan['rounds']} rounds"
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
        noise = _noise(rows)
        noisy = f" (noisy: times differ by up to {noise:.0%} between rounds)" if noise > NOISY else ""
        axis.set_title(title + noisy, loc="left", fontsize=10, fontweight="bold")
        axis.spines[["top", "right", "left"]].set_visible(False)
    with replacing(path) as part:
        figure.savefig(part, dpi=150)
