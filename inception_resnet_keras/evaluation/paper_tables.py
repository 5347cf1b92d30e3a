"""The accuracy that the paper reports: its Tables 2 to 5, on the 50,000 validation images of ILSVRC 2012."""

from __future__ import annotations

from collections.abc import Collection, Sequence

# Tables 2, 3 and 4: error in per cent, (top-1, top-5), by crops and network.
TABLES: dict[int, tuple[str, dict[str, tuple[float, float]]]] = {
    1: (
        "Table 2",
        {
            "inception_resnet_v1": (21.3, 5.5),
            "inception_v4": (20.0, 5.0),
            "inception_resnet_v2": (19.9, 4.9),
        },
    ),
    12: (
        "Table 3",
        {
            "inception_resnet_v1": (19.8, 4.6),
            "inception_v4": (18.7, 4.2),
            "inception_resnet_v2": (18.7, 4.1),
        },
    ),
    144: (
        "Table 4",
        {
            "inception_resnet_v1": (18.8, 4.3),
            "inception_v4": (17.7, 3.8),
            "inception_resnet_v2": (17.8, 3.7),
        },
    ),
}

ENSEMBLE = ("Table 5", ["inception_resnet_v2"] * 3 + ["inception_v4"], (16.5, 3.1))


def paper_accuracy(networks: Collection[str], crops: int) -> tuple[str, float, float] | None:
    """(table, top-1, top-5) of a network or of an ensemble, accuracies in [0, 1]; None if the paper reports none."""
    table, errors = TABLES[crops]
    alike: Sequence[str] = sorted(networks)
    if crops == 144 and list(alike) == ENSEMBLE[1]:
        table, found = ENSEMBLE[0], ENSEMBLE[2]
    elif len(alike) == 1 and alike[0] in errors:
        found = errors[alike[0]]
    else:
        return None
    return table, round(1 - found[0] / 100, 4), round(1 - found[1] / 100, 4)
