"""Settings of a run that follow from its pretrained weights: the network, the size, and the classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import networks
from ..common.errors import InputError, refuse
from ..models.model_file import Card, has_card, read_card
from ..networks.checks import apply_depths, apply_scale
from ..networks.recognise import NetworkDescription
from ..weights import registry
from ..weights.inspect import inspect_checkpoint
from ..weights.readers import is_checkpoint
from ..weights.runs import model_of_run


def table_settings(found: NetworkDescription) -> dict[str, Any] | None:
    """The settings for a model's or file's network: network, variant, depths and scales.

    `depths` and `scale` are empty if they are the variant's own. None if settings cannot express this network.
    """
    own = networks.find(found.name, found.variant)
    depths = () if found.depths == networks.depths(own) else found.depths
    scale = () if found.scales in (None, networks.scales(own)) else found.scales
    if networks.edited(found.network) or apply_scale(apply_depths(own, depths or None), scale or True) != found.network:
        return None
    return {"model": found.name, "variant": found.variant, "depths": depths, "scale": scale}


def require_trainable_table(what: str, found: NetworkDescription, way_out: str) -> None:
    """Raise InputError for a network with changed padding or output stride, which a run cannot train."""
    if density := networks.edited(found.network):
        raise InputError(f"{what} {found.name} with {' and '.join(density)}, which a run cannot train; {way_out}")


def settings_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that follow from `given["weights"]`, as defaults for settings that the user does not give.

    A registered name determines the network and its variant; a file also the depths and scales; a run, or a model with
    its graph, also the size. The result is {} without weights, for a name with weights of several networks, and for a
    file that does not exist or holds only a part of a network.

    Args:
        given: The settings that the user gives, including the weights.

    Raises:
        InputError: `given["model"]` is not the network of the file, the file cannot be read, or its network has a
            padding or an output stride that a run cannot train, and no `model` is given.
    """
    weights = given.get("weights")
    if not isinstance(weights, str) or not weights:
        return {}
    if weights in registry.NAMES:
        files = [registry.WEIGHTS[name] for name in registry.files_of(weights)]
        kinds = {(file.network, file.variant) for file in files if given.get("model") in (None, file.network)}
        return dict(zip(("model", "variant"), *kinds, strict=True)) if len(kinds) == 1 else {}
    if not is_checkpoint(Path(weights)):
        return {}
    found = inspect_checkpoint(weights).description
    if found.score < 1:
        return {}
    if given.get("model") not in (None, found.name):
        raise refuse("model", given["model"], f"{found.name}, the network of {weights}, or nothing")
    if given.get("model") is None:
        require_trainable_table(
            f"weights: {weights} holds",
            found,
            f'to train the unmodified network from these weights, also give model="{found.name}", and depths= and '
            "scale= if they are not the variant's own",
        )
    height, width = found.size
    size = {"size": (height, width)} if height and width else {}
    if given.get("variant") not in (None, found.variant):
        return size  # the user gives another variant than the recognised one, so its depths do not apply
    return (table_settings(found) or {}) | size


def card_of(weights: str) -> Card | None:
    """The card of the model from which a run starts; None for a registered name and for a file without class names."""
    if weights in registry.NAMES:
        return None
    path = Path(weights)
    file = model_of_run(path) or path
    return read_card(file) if has_card(file) else None


def keeps_classifier(card: Card | None, classes: list[str], *, multi_label: bool) -> bool:
    """Whether a run keeps the classifier of its weights: it must have the same classes or labels in the same order.

    Args:
        multi_label: Whether a picture of the run may have several labels.
    """
    return card is not None and card.classes == classes and card.multi_label == multi_label


def classifier_note(weights: str, card: Card | None, classes: list[str], *, multi_label: bool) -> str:
    """A sentence about whether the classifier of `weights` is kept; "" for weights without class names."""
    if card is None:
        return ""
    if card.multi_label != multi_label:
        gives = "several labels per picture" if card.multi_label else "one class per picture"
        return f"the classifier is new, because that of {weights} gives {gives}"
    if keeps_classifier(card, classes, multi_label=multi_label):
        return f"the classifier is kept, because the {len(classes)} classes are the same as in {weights}"
    missing, added = set(card.classes) - set(classes), set(classes) - set(card.classes)
    differences = [f"{_some(added)} added"] * bool(added) + [f"{_some(missing)} missing"] * bool(missing)
    return (
        f"the classifier is new, because the classes of {weights} differ ({'; '.join(differences) or 'another order'})"
    )


def _some(classes: set[str], shown: int = 5) -> str:
    return ", ".join(sorted(classes)[:shown]) + (f" and {len(classes) - shown} more" if len(classes) > shown else "")
