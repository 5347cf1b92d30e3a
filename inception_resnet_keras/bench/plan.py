"""What a benchmark is asked to do, checked before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..common.arguments import number_between, one_of, positive_integer
from ..common.errors import InputError, refuse
from ..networks import head
from ..networks.trace import minimum_side, trace
from .contenders import EXPORTED, Contender

MOST_PIXELS = 4096


@dataclass(frozen=True)
class Plan:
    """A benchmark.

    contenders: at least one. baseline: the one of them that all are set against.
    batches: pictures of a call of inference. training: pictures of a training step; empty for none.
    size: side of the pictures in pixels. rounds: each contender has a turn in each. seconds: of a turn.
    device: "cpu" or "gpu". threads: that each contender computes with, None for its own choice.
    steps: training steps of a call, where an engine can take several.
    apart: whether a worker ends with its turns of a round, so that it holds no memory in the others'.
    """

    contenders: tuple[Contender, ...]
    baseline: Contender
    batches: tuple[int, ...] = (1, 8)
    training: tuple[int, ...] = ()
    size: int = 299
    rounds: int = 5
    seconds: float = 2.0
    device: str = "cpu"
    threads: int | None = None
    steps: int = 1
    apart: bool = False

    def __post_init__(self) -> None:
        if self.baseline not in self.contenders:
            raise refuse("baseline", str(self.baseline), " or ".join(map(str, self.contenders)))
        for name in ("rounds", "size", "steps"):
            positive_integer(name, getattr(self, name))
        if self.threads is not None:
            positive_integer("threads", self.threads)
        number_between("seconds", self.seconds, 0, 3600, "a number from 0 to below 3600")
        one_of("device", self.device, ("cpu", "gpu"))
        for name in ("batches", "training"):
            for batch in getattr(self, name):
                positive_integer(name, batch)
        if not self.batches and not self.training:
            raise InputError("batches: there is nothing to measure: give a batch size of inference, or of training")
        if self.size > MOST_PIXELS:
            raise refuse("size", self.size, f"an integer of at most {MOST_PIXELS}")
        for contender in self.contenders:
            network = contender.network
            if network is not None and self.size < (least := minimum_side(network)):
                raise refuse("size", self.size, f"an integer of at least {least}, the least for {contender}")
            if self.device == "gpu" and contender.engine in EXPORTED:
                raise InputError(f"contender {contender}: {contender.engine} runs on the CPU here: give --device cpu")

    def tasks(self) -> list[tuple[str, tuple[int, ...]]]:
        """("inference" or "training", its batches ascending), those that there are."""
        both = (("inference", self.batches), ("training", self.training))
        return [(task, tuple(sorted(set(batches)))) for task, batches in both if batches]

    def macs(self, contender: Contender) -> int | None:
        """Multiply-adds of one picture, by the network's table; None of a file."""
        network = contender.network
        if network is None:
            return None
        nodes = trace(network, (self.size, self.size), **head(network))
        return sum(node.macs or 0 for node in nodes)

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        return {**found, "contenders": [str(each) for each in self.contenders], "baseline": str(self.baseline)}


def baseline_of(contenders: Sequence[Contender], asked: Contender | None) -> Contender:
    """The one asked for; else `keras.applications` in graph mode where it takes part, else the first."""
    if asked is not None:
        return asked
    peers = [each for each in contenders if each.kind == "applications"]
    graphs = [each for each in peers if each.engine == "graph"]
    return (graphs or peers or list(contenders))[0]
