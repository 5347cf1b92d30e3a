"""What a load did: what is in none of its lists was loaded as it stands in the file."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class LoadReport:
    """What was loaded, dropped on purpose, changed on the way, and left fresh.

    path, format, source: The file, its format, and the project whose names it has.
    network, variant: The network in the file; "" for a network of one's own.
    loaded: How many of the model's weights were set. shape and dtype of the file's tensors: see
    `inception-resnet-keras inspect`.
    dropped: The file's tensors that were left out on purpose, by reason.
    changed: The model's weights that were not taken as they stand in the file, by what was done.
    fresh: The model's weights that keep their initial values, because a new head was asked for.
    notes: What else a user should know.
    """

    path: str
    format: str
    source: str
    network: str
    variant: str
    loaded: int = 0
    dropped: dict[str, list[str]] = field(default_factory=dict)
    changed: dict[str, list[str]] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        which = f" of {self.network} ({self.variant})" if self.network else ""
        lines = [f"{self.path}: {self.format}, {self.source}{which}", f"  loaded: {self.loaded} weights"]
        lines += [f"  dropped: {listed(names)}: {reason}" for reason, names in self.dropped.items()]
        lines += [f"  changed: {listed(names)}: {what}" for what, names in self.changed.items()]
        if self.fresh:
            lines.append(f"  left fresh: {listed(self.fresh)}")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def listed(names: list[str], most: int = 4) -> str:
    """`3 (a, b, c)`, or `900 (a, b, c, d, …)`."""
    return f"{len(names)} ({', '.join(names[:most])}{', …' if len(names) > most else ''})"
