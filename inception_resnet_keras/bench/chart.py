"""A report as a bar chart: how many times as fast as the baseline, a panel for each task and batch size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..common.files import replacing

OURS, EXPORTED, PEER, BASELINE = "#0b62a4", "#2a9d8f", "#d98324", "#8a8a8a"

NAMES = {OURS: "ours, in Keras", EXPORTED: "ours, exported", PEER: "peer", BASELINE: "baseline"}

ROW, MARGIN, WIDTH = 0.27, 1.05, 9.0  # inches


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Writes the chart; the suffix of `path` says the format, PNG, SVG or PDF. Nothing else of it is touched.

    Bars are of the median ratio, whiskers from the lowest to the highest round; without a baseline of images/s.
    """
    panels = [panel for panel in _panels(report) if panel[1]]
    heights = [MARGIN + ROW * max(1, len(rows)) for _, rows in panels] or [MARGIN]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.9), layout="constrained")
    figure.suptitle(_heading(report), x=0.01, ha="left", fontsize=11)
    axes = figure.subplots(max(1, len(panels)), 1, squeeze=False, height_ratios=heights)[:, 0]
    used = set()
    for axis, (title, rows) in zip(axes, panels, strict=False):
        used |= _draw(axis, title, rows, report["plan"]["baseline"])
    if not panels:
        axes[0].axis("off")
        axes[0].text(0.5, 0.5, "no contender has figures", ha="center", va="center")
    shown = [Patch(color=colour, label=NAMES[colour]) for colour in NAMES if colour in used]
    figure.legend(handles=shown, loc="outside lower left", ncols=len(shown), frameon=False, fontsize=9)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=150)


def _panels(report: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str, Mapping[str, Any]]]]]:
    """(title, rows of (name, colour, figures)), the fastest first."""
    plan = report["plan"]
    found = []
    for task, key, title in (("inference", "batches", "inference"), ("training", "training", "training steps")):
        for batch in sorted(set(plan[key])):
            rows = [
                (each["name"], _colour(each, plan["baseline"]), row)
                for each in report["contenders"]
                for row in each[task]["rows"]
                if row["batch"] == batch
            ]
            rows.sort(key=lambda row: -row[2]["images_per_second"]["median"])
            found.append((f"{title}, batch {batch}", rows))
    return found


def _draw(axis: Any, title: str, rows: list[tuple[str, str, Mapping[str, Any]]], baseline: str) -> set[str]:
    related = all(row["ratio"] for _, _, row in rows)
    spreads = [row["ratio"] if related else row["images_per_second"] for _, _, row in rows]
    middles = [spread["median"] for spread in spreads]
    places = range(len(rows))
    colours = [colour for _, colour, _ in rows]
    axis.barh(places, middles, color=colours, height=0.72)
    whiskers = [[each["median"] - each["low"] for each in spreads], [each["high"] - each["median"] for each in spreads]]
    axis.errorbar(middles, places, xerr=whiskers, fmt="none", ecolor="#222222", elinewidth=1, capsize=2)
    longest = max(each["high"] for each in spreads)
    for place, spread, (_, _, row) in zip(places, spreads, rows, strict=True):
        said = f"{_short(row['images_per_second']['median'])} images/s, {_short(1e3 * row['median_seconds'])} ms"
        shown = f"{spread['median']:.2f}×  ({said})" if related else said
        axis.text(spread["high"] + 0.012 * longest, place, shown, va="center", fontsize=8, color="#222222")
    axis.set_yticks(places, [name for name, _, _ in rows], fontsize=8)
    axis.set_ylim(len(rows) - 0.4, -0.6)  # the fastest on top
    axis.set_xlim(0, 1.5 * longest)  # room for what stands beside the longest bar
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axis.set_xlabel(f"times as fast as {baseline}" if related else "images/s", fontsize=8)
    if related:
        axis.axvline(1, color=BASELINE, linewidth=1, linestyle=":", zorder=0)
    axis.tick_params(axis="x", labelsize=8)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    return set(colours)


def _colour(each: Mapping[str, Any], baseline: str) -> str:
    if each["name"] == baseline:
        return BASELINE
    if each["kind"] in ("applications", "timm"):
        return PEER
    return OURS if each["name"].rpartition("@")[2].partition(",")[0] in ("graph", "xla") else EXPORTED


def _short(number: float) -> str:
    """Three figures, or all of them before the point."""
    return f"{number:,.{0 if number >= 100 else 1 if number >= 10 else 2}f}"


def _heading(report: Mapping[str, Any]) -> str:
    there, plan = report["machine"], report["plan"]
    noisy = ", on a noisy machine" if any("noisy machine" in said for said in report["unseen"]) else ""
    gpu = there["gpus"][0]["name"] if plan["device"] == "gpu" and there["gpus"] else None
    on = gpu or f"{there['cpu']['model']}, {there['cpu']['usable']} cores"
    return f"{plan['size']}×{plan['size']} pixels on {on}, {there['date'][:10]}; {plan['rounds']} rounds in turn{noisy}"
