"""The whole networks that the golden table counts."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inception_resnet_keras import networks
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.rows import Network

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class WholeNetwork:
    network: str
    variant: str
    depths: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return "-".join([self.network, self.variant, *map(str, self.depths or ())])

    @property
    def spec(self) -> Network:
        found = networks.find(self.network, self.variant)
        return edits.with_depths(found, self.depths) if self.depths else found

    @property
    def golden(self) -> dict[str, Any]:
        return _TABLE[str(self)]


_TABLE: dict[str, dict[str, Any]] = json.loads((GOLDEN / "networks.json").read_text())

WHOLE = [
    WholeNetwork("inception_v4", "paper"),
    WholeNetwork("inception_resnet_v1", "paper"),
    WholeNetwork("inception_resnet_v2", "paper"),
    WholeNetwork("inception_resnet_v2", "paper", (10, 20, 10)),
    WholeNetwork("inception_v4", "slim"),
    WholeNetwork("inception_resnet_v2", "slim"),
]
