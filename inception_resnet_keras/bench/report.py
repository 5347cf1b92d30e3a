"""A benchmark's report as JSON holds it: raw figures, and all that is told of them."""

from __future__ import annotations

from typing import Any

from .. import networks
from ..networks.trace import trace
from . import figures, machine
from .figures import Turn
from .plan import Plan
from .rounds import Entry, Outcome

FORMAT = 1

OF_TRAINING = 3  # multiply-adds of a step to those of inference: forward, and the gradients of maps and of kernels


def report(plan: Plan, outcome: Outcome, command: str) -> dict[str, Any]:
    """What was asked, on what, each contender's figures, and what they cannot show."""
    baseline = next(entry for entry in outcome.entries if entry.contender == plan.baseline)
    rows = [_entry(plan, entry, baseline, outcome) for entry in outcome.entries]
    its = rows[outcome.entries.index(baseline)]
    for each in rows:
        each["best"] = {task: _best(each[task]["rows"], its[task]["rows"]) for task, _ in plan.tasks()}
    return {
        "format": FORMAT,
        "command": command,
        "plan": plan.as_json(),
        "rounds_done": outcome.rounds,
        "machine": outcome.machine,
        "peaks": outcome.peaks,
        "contenders": rows,
        "unseen": [*_unseen(plan, outcome, baseline), *_above_peak(rows)],
    }


def _entry(plan: Plan, entry: Entry, baseline: Entry, outcome: Outcome) -> dict[str, Any]:
    kind = entry.multiplied_in(plan.device, outcome.machine)
    peaks = {"share_of_peak": outcome.peaks.get(kind), "share_of_bfloat16_peak": outcome.peaks.get("bfloat16")}
    macs = plan.macs(entry.contender) or _macs_of_card(plan, entry)
    found: dict[str, Any] = {
        "name": str(entry.contender),
        "kind": entry.contender.kind,
        "computed_in": entry.computed_in,
        "share_of_peak_in": kind,
        "failure": entry.failure,
        "macs": macs,
        "check": entry.check,
        "startup_seconds": entry.startup,
        "runs_on": entry.facts,
    }
    for task in ("inference", "training"):
        times = OF_TRAINING if task == "training" else 1
        found[task] = {
            "left_out": entry.left_out.get(task),
            "rows": [
                _row(entry, baseline, (task, batch), None if macs is None else times * macs, peaks)
                for batch in dict(plan.tasks()).get(task, ())
                if any(entry.turns.get((task, batch), []))
            ],
            "out_of_memory": [
                {"batch": batch, "largest_that_fits": most} for (of, batch), most in entry.limits.items() if of == task
            ],
        }
    return found


def _best(rows: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The batch with the most images/s, and how many times as many they are as the baseline's most."""

    def speed(row: dict[str, Any]) -> float:
        return row["images_per_second"]["median"]

    if not rows:
        return None
    best = max(rows, key=speed)
    ratio = speed(best) / max(map(speed, baseline)) if baseline else None
    return {"batch": best["batch"], "images_per_second": speed(best), "ratio": ratio}


def _row(
    entry: Entry, baseline: Entry, measured: tuple[str, int], macs: int | None, peaks: dict[str, Any]
) -> dict[str, Any]:
    own = entry.turns[measured]
    none: list[Turn | None] = [None] * len(own)
    row = figures.row(measured[1], own, baseline.turns.get(measured, none), macs)
    return {
        **row,
        **{
            key: None if macs is None or peak is None else row["macs_per_second"] / peak["macs_per_second"]
            for key, peak in peaks.items()
        },
    }


def _macs_of_card(plan: Plan, entry: Entry) -> int | None:
    """Of a file whose card names a network of ours."""
    name, variant = entry.facts.get("network", (None, None))
    if variant not in networks.NETWORKS.get(name, {}):
        return None
    network = networks.find(name, variant)
    ends = {"embedding": True} if network.embedding else {"classes": max(1, entry.facts["classes"])}
    return sum(node.macs or 0 for node in trace(network, (plan.size, plan.size), **ends))


def _above_peak(rows: list[dict[str, Any]]) -> list[str]:
    every = [row for each in rows for task in ("inference", "training") for row in each[task]["rows"]]
    if all((row["share_of_peak"] or 0) <= 1 for row in every):
        return []
    return [
        "some do more multiply-adds/s than the matrix product that is the peak: it was disturbed, or is not the peak"
    ]


def _unseen(plan: Plan, outcome: Outcome, baseline: Entry) -> list[str]:
    turns = [turn.facts for entry in outcome.entries for each in entry.turns.values() for turn in each if turn]
    widths = [
        figures.Spread.of([turn.images_per_second for turn in each if turn]).width
        for each in baseline.turns.values()
        if sum(turn is not None for turn in each) > 1
    ]
    said = machine.unseen(outcome.machine, turns, max(widths, default=None))
    if outcome.rounds < plan.rounds:
        said.append(f"{outcome.rounds} of {plan.rounds} rounds are done: the run goes on, or was stopped")
    if baseline.failure:
        said.append(f"the baseline {baseline.contender} has no figures, so there are no ratios: {baseline.failure}")
    converted = {
        entry.computed_in: entry.multiplied_in(plan.device, outcome.machine)
        for entry in outcome.entries
        if entry.failure is None
    }
    said += [
        f"{kind} is multiplied in {other} by a processor or runtime without it: shares are of the peak in {other}"
        for kind, other in converted.items()
        if kind != other
    ]
    if any(each.artefact and each.computed_in == "int8" for each in plan.contenders):
        said.append(
            "int8 is calibrated here with pieces of two photographs (scikit-learn's sample images): its speed is what "
            "is measured, its accuracy is not; `export --calibrate --validate` tells that of your own pictures"
        )
    if any(each.kind in ("ours", "applications", "timm") for each in plan.contenders):
        said.append("networks that are named have untrained weights: differences are of numbers, not of accuracy")
    if any(entry.startup for entry in outcome.entries) and not plan.apart:
        said.append("start-up is of one start each, files already read once by the system")
    return said
