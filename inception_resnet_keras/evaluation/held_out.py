"""Pictures that a run of `train` was not trained on: those that it held out, which its config.json tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..common.errors import InputError
from ..data.sources import Source, held_out_split
from ..training.config import TrainConfig, read_config
from .overlap import DIGITS, as_many, overlap


@dataclass(frozen=True)
class Chosen:
    """What is evaluated on.

    data: what `open_source` opens. runs: those that held out a fifth of it, which alone is evaluated.
    seed: draws that fifth. note: how the pictures relate to those of the training, "" where nothing is known.
    others: runs that were trained on what is called otherwise, whose files may be the same nevertheless.
    """

    data: str
    runs: Sequence[str] = ()
    seed: int = 0
    note: str = ""
    others: Mapping[str, TrainConfig] = field(default_factory=dict)

    def of(self, source: Source) -> tuple[Source, str]:
        """The part of an opened source that is evaluated, and what is to be said of it."""
        note = self.note
        if self.runs:
            source = held_out_split(source, self.seed)[1]
            if changed := [run for run in self.runs if not as_many(Path(run), len(source))]:
                note = (
                    f"{self.data} has other pictures now than when {' and '.join(changed)} was trained: which fifth "
                    "was held out cannot be told any more, and the figures are of pictures it was trained on too"
                )
        others = (_related(source, run, config) for run, config in self.others.items())
        return source, "; ".join(filter(None, (note, *others)))


def choose(models: Sequence[str], data: str | None) -> Chosen:
    """What models are evaluated on: `data`, or what a run held out, where it is None or what the run was trained on.

    Raises InputError where `data` is None and the models are anything but one run.
    """
    if data is None:
        config = trained_by(models[0]) if len(models) == 1 else None
        if config is None:
            raise InputError(
                "data: none is given; give labelled pictures as --data: only a single run of `train` is evaluated "
                "without, on the pictures that it held out"
            )
        if config.val:
            return Chosen(config.val, note=f"these are the held-out pictures that {models[0]} was given")
        return _fifth(config.data or DIGITS, models, config.split_seed)
    configs = {model: config for model in models if (config := trained_by(model))}
    here = {model: config for model, config in configs.items() if _same(config.data, data)}
    others = {model: config for model, config in configs.items() if model not in here}
    seeds = {config.split_seed for config in here.values()}
    if not here:
        return Chosen(data, others=others)
    if len(seeds) == 1 and not any(config.val for config in here.values()):
        return _fifth(data, list(here), seeds.pop(), others)
    beside = sorted({config.val for config in here.values() if config.val})
    return Chosen(
        data,
        note=f"{' and '.join(here)} was trained on these very pictures: the figures say nothing of new ones"
        + (f"; {', '.join(beside)} was held out" if beside else "; each run held out another fifth of them"),
        others=others,
    )


def trained_by(model: str) -> TrainConfig | None:
    """How a run, or a file in its folder, was trained; None of anything else."""
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    if not path.exists() or not (folder / "model.keras").is_file() or not (folder / "config.json").is_file():
        return None
    try:
        return read_config(folder / "config.json", newer=True)
    except InputError:
        return None  # a file of another program, beside a model


def _related(source: Source, run: str, config: TrainConfig) -> str:
    """What is to be said of pictures that are the same files as a run's, or have their content; "" of others."""
    found = overlap(source, Path(run), config)
    if found is None:
        return ""
    pictures = f"the {found.looked_for:,} pictures" + (
        " that were looked for by their content" if found.sampled else ""
    )
    if not found.trained_on:
        return f"{found.held_out:,} of {pictures} are among those that {run} held out, and none was it trained on"
    return (
        f"{found.trained_on:,} of {pictures} are among those that {run} was trained on: the figures say little of new "
        "ones; without --data, those that it held out are evaluated"
    )


def _fifth(data: str, runs: Sequence[str], seed: int, others: Mapping[str, TrainConfig] | None = None) -> Chosen:
    note = f"these are the pictures of {data} that {' and '.join(runs)} held out: a fifth of each class"
    return Chosen(data, runs, seed, note, others or {})


def _same(trained: str | None, data: str) -> bool:
    if trained is None or not Path(data).exists():
        return _split(trained or DIGITS) == _split(data) and not Path(data).exists()
    return Path(trained).exists() and Path(trained).samefile(data)


def _split(name: str) -> str:
    return f"{name}:train" if name.startswith("tfds:") and name.count(":") == 1 else name
