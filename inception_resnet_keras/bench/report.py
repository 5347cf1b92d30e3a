"""From raw seconds to a report: figures for JSON, tables on a terminal, and a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import networks
from ..common.console import say
from ..common.files import replacing
from ..networks.trace import trace
from .run import Benchmark, Entry, Plan, Turn

if TYPE_CHECKING:
    from rich.console import Console

FORMAT = 1
TASKS = {"inference": "inference", "training": "training steps"}
TRAINING_MACS = 3  # multiply-adds of a step to those of inference: forward, gradients of maps, gradients of kernels
NOISY_SHARE, NOISY_SPREAD = 0.05, 0.15


def report(benchmark: Benchmark, command: str) -> dict[str, Any]:
    """What was asked, on which machine, the figures of each contender, and what they cannot show."""
    plan = benchmark.plan
    baseline = plan.contenders.index(plan.baseline)
    contenders = [_contender(benchmark, entry, benchmark.entries[baseline]) for entry in benchmark.entries]
    for each in contenders:
        each["best"] = {task: _best(each[task]["rows"], contenders[baseline][task]["rows"]) for task in plan.tasks()}
    done = {"format": FORMAT, "command": command, "plan": plan.as_json(), "rounds_done": benchmark.rounds}
    figures = {"machine": benchmark.machine, "peaks": benchmark.peaks, "contenders": contenders}
    return {**done, **figures, "unseen": _notes(benchmark, contenders)}


def _contender(benchmark: Benchmark, entry: Entry, baseline: Entry) -> dict[str, Any]:
    kind, macs = entry.multiplied_in(benchmark.plan.device, benchmark.machine), _macs(benchmark.plan, entry)
    result: dict[str, Any] = {"name": str(entry.contender), "kind": entry.contender.kind, "failure": entry.failure}
    result |= {"computed_in": entry.computed_in, "share_of_peak_in": kind, "macs": macs, "check": entry.check}
    result |= {"startup_seconds": entry.startup, "runs_on": entry.facts}
    for task in TASKS:
        rows = []
        for (of, batch), turns in sorted(entry.turns.items()):
            if of == task and any(turns):
                theirs = baseline.turns.get((task, batch), [None] * len(turns))
                rows.append(row(batch, turns, theirs, macs and macs * (TRAINING_MACS if task == "training" else 1)))
                for key, peak in (("share_of_peak", kind), ("share_of_bfloat16_peak", "bfloat16")):
                    top = benchmark.peaks.get(peak)
                    rows[-1][key] = top and macs and rows[-1]["macs_per_second"] / top["macs_per_second"]
        limits = [
            {"batch": batch, "largest_that_fits": most} for (of, batch), most in entry.limits.items() if of == task
        ]
        result[task] = {"left_out": entry.left_out.get(task), "rows": rows, "out_of_memory": limits}
    return result


def _macs(plan: Plan, entry: Entry) -> int | None:
    """Multiply-adds of one picture, from the table of the network, or of the one that the card of a file names."""
    network, (name, variant) = entry.contender.network, entry.facts.get("network", (None, None))
    if network is not None:
        ends: dict[str, Any] = networks.head(network)
    elif variant in networks.NETWORKS.get(name, {}):
        network = networks.find(name, variant)
        ends = {"embedding": True} if network.embedding else {"classes": max(1, entry.facts["classes"])}
    else:
        return None
    return sum(node.macs or 0 for node in trace(network, (plan.size, plan.size), **ends))


def row(batch: int, own: Sequence[Turn | None], baseline: Sequence[Turn | None], macs: int | None) -> dict[str, Any]:
    """The figures of one contender at one batch size; at least one round has a turn.

    macs: multiply-adds of one image. Ratios are taken pair by pair, in each round that both have: a machine that
    slows down between rounds leaves them as they are.
    """
    turns = [turn for turn in own if turn is not None]
    calls = [second for turn in turns for second in turn.seconds]
    speed = spread([turn.images_per_second for turn in turns])
    pairs = [a.images_per_second / b.images_per_second for a, b in zip(own, baseline, strict=True) if a and b]
    facts = {
        key: [turn.facts[key] for turn in turns if turn.facts.get(key) is not None]
        for key in ("first_call_seconds", "peak_rss", "peak_device_memory", "threads", "cores")
    }
    return {
        "batch": batch,
        "calls": len(calls),
        "median_seconds": float(np.percentile(calls, 50)),
        "p95_seconds": float(np.percentile(calls, 95)),
        "images_per_second": speed,
        "macs_per_second": macs and macs * speed["median"],
        "ratio": {**spread(pairs), "rounds": pairs} if pairs else None,
        "rounds": [turn and vars(turn) for turn in own],
        **{key: max(values, default=None) for key, values in facts.items()},  # of the turns, one has a first call
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "low": float(min(values)), "high": float(max(values))}


def _best(rows: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The batch with the most images/s, and their ratio to the baseline's most."""
    speeds = {each["images_per_second"]["median"]: each["batch"] for each in rows}
    theirs = max((each["images_per_second"]["median"] for each in baseline), default=None)
    best = max(speeds, default=None)
    return best and {"batch": speeds[best], "images_per_second": best, "ratio": theirs and best / theirs}


def _notes(benchmark: Benchmark, contenders: list[dict[str, Any]]) -> list[str]:
    """What the figures cannot show, each as a sentence."""
    plan, entries = benchmark.plan, benchmark.entries
    baseline = entries[plan.contenders.index(plan.baseline)]
    facts = [turn.facts for each in entries for turns in each.turns.values() for turn in turns if turn]
    rounds = [[turn.images_per_second for turn in turns if turn] for turns in baseline.turns.values()]
    spreads = [spread(speeds) for speeds in rounds if len(speeds) > 1]
    widest = max(((each["high"] - each["low"]) / each["median"] for each in spreads), default=None)
    types = {each["computed_in"]: each["share_of_peak_in"] for each in contenders if not each["failure"]}
    shares = [
        each["share_of_peak"] or 0 for contender in contenders for task in TASKS for each in contender[task]["rows"]
    ]
    left = f"{benchmark.rounds} of {plan.rounds} rounds are done"
    notes = [
        (benchmark.rounds < plan.rounds, f"{left}: the run goes on, or was stopped"),
        (baseline.failure, f"the baseline {plan.baseline} has no figures, so there are no ratios: {baseline.failure}"),
        *((kind != other, f"{kind} is multiplied in {other} {_CONVERTED} {other}") for kind, other in types.items()),
        (any(each.needs_export and each.precision == "int8" for each in plan.contenders), _CALIBRATED),
        (any(each.network is not None for each in plan.contenders), _UNTRAINED),
        (any(entry.startup for entry in entries) and not plan.apart, _STARTED_ONCE),
        (max(shares, default=0) > 1, _ABOVE_PEAK),
    ]
    return [*machine_notes(benchmark.machine, facts, widest), *(text for holds, text in notes if holds)]


_CONVERTED = "by a processor or runtime without it: shares are of the peak in"

_CALIBRATED = (
    "int8 is calibrated here with pieces of two photographs (scikit-learn's sample images): its speed is what is "
    "measured, its accuracy is not; `export --calibrate --validate` measures that on your own pictures"
)

_UNTRAINED = "networks that are named have untrained weights: differences are of numbers, not of accuracy"
_STARTED_ONCE = "start-up is of one start each, files already read once by the system"

_ABOVE_PEAK = (
    "some do more multiply-adds/s than the matrix product that is the peak: it was disturbed, or is not the peak"
)


def machine_notes(machine: Mapping[str, Any], turns: Sequence[Mapping[str, Any]], widest: float | None) -> list[str]:
    """What disturbed the figures. turns: their facts; widest: the baseline's spread over the rounds, None for one."""
    cpu, turbo = machine["cpu"], "on" if machine["cpu"]["turbo"] else "perhaps on: it could not be read"
    limit = f"{cpu['quota'] or 0:g} of {cpu['logical']} cores"
    alone = all(turn.get("others") is None for turn in turns)
    used = next((gpu["utilization.gpu"] for gpu in machine["gpus"]), "0 %")
    notes = [
        (cpu["usable"] == 1, "one core: nothing here says how well a contender uses several"),
        (cpu["quota"], f"the container may use {limit}: libraries see more than they get"),
        (cpu["hypervisor"], "a virtual machine: other guests, the clock's frequency and turbo are not seen"),
        (not cpu["hypervisor"] and cpu["turbo"] is not False, f"turbo is {turbo}; the clock depends on heat and load"),
        (alone, "this system does not tell what other programs took of the processor"),
        (widest is None, "a single round: nothing is known of the spread"),
        (
            (widest or 0) > NOISY_SPREAD,
            f"the baseline itself varied by {widest or 0:.0%} from round to round: {_RATIOS}",
        ),
        (not used.startswith("0 "), f"the GPU was {used} busy before anything was started"),
    ]
    for key, who in (("stolen", "the host"), ("others", "other programs")):
        shares = [turn[key] for turn in turns if turn.get(key) is not None] or [0.0]
        often = f"{np.median(shares):.0%} of the processor in a turn, {max(shares):.0%} in the worst"
        notes.append((max(shares) > NOISY_SHARE, f"a noisy machine: {who} took {often}: {_RATIOS}"))
    return [text for holds, text in notes if holds]


_RATIOS = "trust ratios, not seconds"
WIDTH = 200  # of tables, whatever the terminal: a line that wraps is more use than words that are cut
GAP = "–"


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the machine, a table for each task and batch size, one of the contenders, failures and notes."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console if console.width >= WIDTH else Console(file=console.file, width=WIDTH)
    plan, contenders = report["plan"], report["contenders"]

    def table(title: str, cells: list[dict[str, str]]) -> None:
        grid = Table("contender", title=escape(title), title_justify="left")
        for column in cells[0]:
            grid.add_column(column, justify="right")
        for each, line in zip(contenders, cells, strict=True):
            grid.add_row(
                escape(each["name"]), *line.values(), style="bold" if each["name"] == plan["baseline"] else None
            )
        console.print(grid)

    for line in _machine_lines(report):
        say(console, line)
    for task, batch, rows in _panels(report):
        title = f"{TASKS[task]} at batch {batch}, {plan['size']}×{plan['size']}; ratios to {plan['baseline']}"
        table(title, [_speed_cells(rows.get(each["name"], {}), plan["device"]) for each in contenders])
    title = "each contender: its outputs beside the network's own in float32 on the CPU, its start, its best batch"
    table(title, list(map(_start_cells, contenders)))
    for line in (*_failures(report), *(f"note: {each}" for each in report["unseen"])):
        say(console, line, style="yellow")


def _panels(report: Mapping[str, Any]) -> list[tuple[str, int, dict[str, Any]]]:
    """Task, batch, and by contender the row of figures."""
    batches = {"inference": report["plan"]["batches"], "training": report["plan"]["training"]}
    return [
        (
            task,
            batch,
            {c["name"]: row for c in report["contenders"] for row in c[task]["rows"] if row["batch"] == batch},
        )
        for task in TASKS
        for batch in sorted(set(batches[task]))
    ]


def _machine_lines(report: Mapping[str, Any]) -> list[str]:
    machine, cpu = report["machine"], report["machine"]["cpu"]
    among = "" if cpu["usable"] == cpu["logical"] else f" of {cpu['logical']}"
    flags, memory = " ".join(cpu["flags"]) or "flags unknown", machine["memory_bytes"] / 2**30
    what = f"{cpu['model']}, {cpu['usable']}{among} cores ({flags}), {memory:.0f} GiB"
    lines = [f"{what}; {machine['platform']}, Python {machine['python']}; {machine['date']}"]
    fields = ("name", "memory.total", "driver_version", "power.limit")
    lines += ["{}, {}, driver {}, {}".format(*map(gpu.get, fields)) for gpu in machine["gpus"]]
    cuda = [each["runs_on"] for each in report["contenders"] if each["runs_on"].get("cuda_version")]
    lines += dict.fromkeys(f"CUDA {on['cuda_version']}, cuDNN {on['cudnn_version']}, on {on['device']}" for on in cuda)
    lines.append(", ".join(f"{name} {version}" for name, version in machine["versions"].items()))
    peaks = [f"{kind} {each['macs_per_second'] / 1e9:,.0f} ({each['by']})" for kind, each in report["peaks"].items()]
    title = "the machine's peak, of a large matrix product, in G multiply-adds/s"
    return [*lines, f"{title}: {', '.join(peaks)}"] if peaks else lines


def _failures(report: Mapping[str, Any]) -> list[str]:
    """A line for each contender without figures, or without some of them, and why."""
    lines = []
    for each in report["contenders"]:
        if each["failure"]:
            lines.append(f"{each['name']}: {each['failure']}")
        for task in TASKS:
            if each[task]["left_out"]:
                lines.append(f"{each['name']}: not trained: {each[task]['left_out']}")
            for limit in each[task]["out_of_memory"]:
                most = limit["largest_that_fits"]
                fits = f"the largest batch of those tried that fits is {most}" if most else "not even a batch of 1 fits"
                lines.append(f"{each['name']}: {task} at batch {limit['batch']} does not fit in memory; {fits}")
    return lines


def _cell(template: str, *values: Any, times: float = 1) -> str:
    return GAP if None in values else template.format(*(times * value for value in values))


def _speed_cells(row: Mapping[str, Any], device: str) -> dict[str, str]:
    speed, ratio = row.get("images_per_second") or {}, row.get("ratio") or {}
    cells = {
        "median ms": _cell("{:,.1f}", row.get("median_seconds"), times=1e3),
        "p95 ms": _cell("{:,.1f}", row.get("p95_seconds"), times=1e3),
        "images/s": _cell("{:,.1f}", speed.get("median")),
        "times as fast": _cell("{:.2f} ({:.2f}–{:.2f})", *map(ratio.get, ("median", "low", "high"))),
        "G mult-adds/s": _cell("{:,.0f}", row.get("macs_per_second"), times=1e-9),
        "of peak": _cell("{:.0%}", row.get("share_of_peak")),
    }
    if device == "gpu":
        cells["of bf16 peak"] = _cell("{:.0%}", row.get("share_of_bfloat16_peak"))
        return {**cells, "GPU MB": _cell("{:,.0f}", row.get("peak_device_memory"), times=1e-6)}
    cells["peak MB"] = _cell("{:,.0f}", row.get("peak_rss"), times=1e-6)
    return {**cells, "threads": _cell("{} ({:.1f} cores)", row.get("threads"), row.get("cores"))}


def _start_cells(each: Mapping[str, Any]) -> dict[str, str]:
    check, rows = each["check"] or {}, [row for task in TASKS for row in each[task]["rows"]]
    firsts = [row["first_call_seconds"] for row in rows if row["first_call_seconds"] is not None]
    cells = {
        "difference": _cell("{:.1e}", check.get("difference")) if check else "not checked",
        "bound": _cell("{:.0e}", check.get("bound")),
        "same top-1": _cell("{:.0%}", check.get("agreement")),
        "start-up s": _cell("{:.2f}", min(each["startup_seconds"], default=None)),
        "first call s": _cell("{:.2f}", max(firsts, default=None)),
    }
    for task, best in each["best"].items():
        text = GAP if best is None else f"{best['images_per_second']:,.1f} ({best['batch']})"
        ratio = "" if best is None or best["ratio"] is None else f", {best['ratio']:.2f}"
        cells[f"{task}: images/s (batch), to the baseline's best"] = text + ratio
    return cells


COLOURS = {"ours, in Keras": "#0b62a4", "ours, exported": "#2a9d8f", "peer": "#d98324", "baseline": "#8a8a8a"}


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Draw how many times as fast as the baseline each contender is, a panel for each task and batch size.

    Bars are medians, whiskers go from the slowest to the fastest round; without a baseline they are of images/s. The
    suffix of `path` gives the format: PNG, SVG or PDF.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    plan, machine = report["plan"], report["machine"]
    panels = [panel for panel in _panels(report) if panel[2]]
    heights = [1.05 + 0.27 * len(rows) for _, _, rows in panels] or [1.0]  # inches
    figure = Figure(figsize=(9, sum(heights) + 0.9), layout="constrained")
    where = f"{machine['cpu']['model']}, {machine['cpu']['usable']} cores"
    if plan["device"] == "gpu" and machine["gpus"]:
        where = machine["gpus"][0]["name"]
    noisy = ", on a noisy machine" if any("noisy machine" in note for note in report["unseen"]) else ""
    what = f"{plan['size']}×{plan['size']} pixels on {where}, {machine['date'][:10]}"
    figure.suptitle(f"{what}; {plan['rounds']} rounds in turn{noisy}", x=0.01, ha="left", fontsize=11)
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    groups = {each["name"]: _group(each, plan["baseline"]) for each in report["contenders"]}
    for axis, (task, batch, rows) in zip(axes, panels, strict=False):
        axis.set_title(f"{TASKS[task]}, batch {batch}", loc="left", fontsize=10, fontweight="bold")
        _draw(axis, rows, groups, plan["baseline"])
    if not panels:
        axes[0].axis("off")
        axes[0].text(0.5, 0.5, "no contender has figures", ha="center", va="center")
    drawn = {groups[name] for _, _, rows in panels for name in rows}
    used = [Patch(color=colour, label=name) for name, colour in COLOURS.items() if name in drawn]
    figure.legend(handles=used, loc="outside lower left", ncols=len(used), frameon=False, fontsize=9)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=150)


def _group(each: Mapping[str, Any], baseline: str) -> str:
    if each["name"] == baseline:
        return "baseline"
    in_keras = each["name"].rpartition("@")[2].partition(",")[0] in ("graph", "xla")
    return "peer" if each["kind"] in ("applications", "timm") else "ours, in Keras" if in_keras else "ours, exported"


def _draw(axis: Any, rows: Mapping[str, Any], groups: Mapping[str, str], baseline: str) -> None:
    rows = dict(sorted(rows.items(), key=lambda item: -item[1]["images_per_second"]["median"]))
    related = all(row["ratio"] for row in rows.values())
    spreads = [row["ratio"] if related else row["images_per_second"] for row in rows.values()]
    middle, low, high = (np.array([each[key] for each in spreads]) for key in ("median", "low", "high"))
    shades = [COLOURS[groups[name]] for name in rows]
    bars = axis.barh(list(rows), middle, color=shades, height=0.72, xerr=[middle - low, high - middle], capsize=2)
    per_second = [f"{row['images_per_second']['median']:,.1f} images/s" for row in rows.values()]
    own = [f"{1e3 * row['median_seconds']:,.2f} ms" for row in rows.values()]
    speeds = [f"{speed}, {call}" for speed, call in zip(per_second, own, strict=True)]
    labels = [f"{value:.2f}×  ({text})" for value, text in zip(middle, speeds, strict=True)]
    axis.bar_label(bars, labels if related else speeds, padding=4, fontsize=8)
    axis.invert_yaxis()  # the fastest on top
    axis.set_xlim(0, 1.5 * high.max())  # room for the label of the longest bar
    axis.set_xlabel(f"times as fast as {baseline}" if related else "images/s", fontsize=8)
    if related:
        axis.axvline(1, color=COLOURS["baseline"], linewidth=1, linestyle=":", zorder=0)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right", "left"]].set_visible(False)
