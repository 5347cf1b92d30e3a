"""The report of a benchmark: a row of figures per contender and batch size, tables in a terminal, and a chart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.console import cell, say
from .engines import sides
from .run import PEAKS

if TYPE_CHECKING:
    from rich.console import Console

Row = dict[str, Any]
# The multiply-adds of a task relative to inference: training also computes gradients of maps and of kernels.
PASSES = {"inference": 1, "training": 3}


def make_rows(result: Mapping[str, Any]) -> list[Row]:
    """The figures of each contender by task and batch size, the fastest contender first.

    The time of a round is the median of its calls. Times are the median and the range over rounds, and images/s follow
    from them. Ratios to the baseline are computed within each round that both have, so that a machine that slows down
    between rounds does not affect them; `ratio` is their median and range.
    """
    # Collect the turns of each contender by round.
    names, peak = result["plan"]["contenders"], result["peak"]
    turns: dict[tuple[str, int, str], list[Row]] = {}
    for turn in result["turns"]:
        turns.setdefault((turn["task"], turn["batch"], turn["contender"]), []).append(turn)
    times = {key: {turn["round"]: float(np.median(turn["seconds"])) for turn in own} for key, own in turns.items()}
    rows = []
    for (task, batch, name), own in turns.items():
        rounds, baseline = times[task, batch, name], times.get((task, batch, names[0]), {})
        every = np.concatenate([turn["seconds"] for turn in own])
        starts = [turn["startup_seconds"] for turn in own if "startup_seconds" in turn]
        macs = (result["contenders"][name].get("macs") or 0) * PASSES[task]
        row: Row = {"task": task, "batch": batch, "contender": name, "calls": len(every), "round_seconds": rounds}
        row |= {"seconds": _spread(rounds.values()), "p95_seconds": float(np.percentile(every, 95))}
        row["images_per_second"] = {
            key: batch / row["seconds"][of] for key, of in (("median", "median"), ("low", "high"), ("high", "low"))
        }
        row["ratio"] = _spread(baseline[n] / seconds for n, seconds in rounds.items() if n in baseline)
        row["share_of_peak"] = macs * row["images_per_second"]["median"] / peak if macs and peak else None
        row["peak_memory"] = max(turn["peak_memory"] for turn in own)
        row["first_call_seconds"] = float(np.median([turn["first_call_seconds"] for turn in own]))
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
    """Notes on the reliability of a result's `rows`, one sentence each; none for a quiet run."""
    load, cores = report["machine"]["load_average"], report["machine"]["cores"]
    busy = f"other programs ran at the start: a load of {load:.1f} on {cores} cores in the minute before"
    notes = [f"{title}: {note}" for title, rows in _panels(report) for note in _panel_notes(report, rows)]
    return [busy] * (load > BUSY * cores) + notes


def _panel_notes(report: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    """What can be trusted in the figures of one task and batch size."""
    baseline, most = report["plan"]["contenders"][0], max(len(row["round_seconds"]) for row in rows)
    if all(row["ratio"] is None for row in rows):
        reasons = report["contenders"][baseline]["failures"]
        reason = reasons.get("preparation") or reasons.get("{task} {batch}".format(**rows[0]))
        why = f"the baseline {baseline} failed: {reason}" if reason else f"{baseline} was not measured"
        yield f"no ratios, because {why}"
    if most == 1:
        yield "a single round does not show noise, so small differences may be chance: use --rounds 5"
        return
    # A contender that fails later keeps its first rounds.
    for row in rows:
        if (count := len(row["round_seconds"])) < most:
            also = ", and so were all ratios" if row["contender"] == baseline else ""
            yield f"{row['contender']} was measured in only {count} of {most} rounds{also}"
    # In a noisy run, ratios within rounds are more reliable than times, and an order that every round shows most.
    ratios = {row["contender"]: row["ratio"] for row in rows if row["ratio"] and row["contender"] != baseline}
    if (noise := _noise(rows)) > NOISY:
        widest = max((ratio["high"] / ratio["low"] - 1 for ratio in ratios.values()), default=0)
        holds = f"; ratios, which compare times within rounds, differ by up to {widest:.0%}" if ratios else ""
        yield (
            f"noisy: a contender's times differ by up to {noise:.0%} between rounds, and so may ms, images/s and "
            f"shares of the peak{holds}"
        )
        for what, certain in (("faster", lambda of: of["low"] > 1), ("slower", lambda of: of["high"] < 1)):
            if names := [name for name, ratio in ratios.items() if certain(ratio)]:
                yield f"nevertheless {what} than {baseline} in every round: {', '.join(names)}"
    # Neighbours whose order differs between rounds.
    for one, other in pairwise(rows):
        if why := _why_unranked(one["round_seconds"], other["round_seconds"]):
            yield f"{one['contender']} and {other['contender']} cannot be ranked: {why}"


def _noise(rows: Iterable[Row]) -> float:
    return max(row["seconds"]["high"] / row["seconds"]["low"] - 1 for row in rows)


def _why_unranked(one: Mapping[int, float], other: Mapping[int, float]) -> str:
    """Why the order of two contenders is uncertain; "" if the one with the lower median was never slower."""
    common = one.keys() & other.keys()
    lost = sum(one[number] > other[number] for number in common)
    if common and not lost:
        return ""
    return "each was faster in some round" if lost < len(common) else "they were measured in different rounds"


def _panels(report: Mapping[str, Any]) -> Iterator[tuple[str, list[Row]]]:
    """Yield the title and the rows of each task and batch size."""
    for (task, batch), rows in groupby(report["rows"], key=lambda row: (row["task"], row["batch"])):
        yield f"{'training steps' if task == 'training' else task} at batch {batch}", list(rows)


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
    share, start = row["share_of_peak"], row["startup_seconds"]
    return {
        "median ms": f"{1e3 * row['seconds']['median']:,.1f}",
        "p95 ms": f"{1e3 * row['p95_seconds']:,.1f}",
        "images/s": f"{row['images_per_second']['median']:,.1f}",
        "times as fast": _ratio(row),
        f"of {peak} peak": "–" if share is None else f"{share:.0%}",
        "peak MB": f"{1e-6 * row['peak_memory']:,.0f}",
        "first call s": f"{row['first_call_seconds']:.2f}",
        "start-up s": "–" if start is None else f"{start:.2f}",
        "difference": f"{check['difference']:.1e}" if check else "not checked",
    }


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Draw the images/s of each contender with its ratio to the baseline, in a panel per task and batch size.

    Bars show medians, whiskers the range from the slowest to the fastest round. The suffix of `path` gives the format:
    PNG, SVG or PDF.
    """
    from matplotlib.figure import Figure

    from ..evaluation.figure_style import label, save

    plan, machine, panels = report["plan"], report["machine"], list(_panels(report))
    heights = [1.05 + 0.27 * len(rows) for _, rows in panels] or [1.0]  # inches
    figure = Figure(figsize=(9, sum(heights) + 0.9), layout="constrained")
    where = machine["gpus"][0].split(",")[0] if plan["device"] == "gpu" and machine["gpus"] else machine["cpu"]
    what = f"{sides(plan['size'])} pixels on {where}, {machine['date'][:10]}; {plan['rounds']} rounds"
    figure.suptitle(f"{what}; ratios to {label(plan['contenders'][0])}", x=0.01, ha="left", fontsize=11)
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, rows) in zip(axes, panels, strict=False):
        middle, low, high = np.array([list(row["images_per_second"].values()) for row in rows]).T
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
    save(figure, path, kind=path.suffix[1:])
