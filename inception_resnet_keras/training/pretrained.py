"""What pretrained weights say of the run that starts from them: its network, its size, and its classes."""

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
    """The settings of a run that trains the table of a model or file: network, variant, depths and scales.

    `depths` and `scale` are empty where they are the variant's own. None where no settings make this table.
    """
    own = networks.find(found.name, found.variant)
    depths = () if found.depths == networks.depths(own) else found.depths
    scale = () if found.scales in (None, networks.scales(own)) else found.scales
    if networks.edited(found.network) or apply_scale(apply_depths(own, depths or None), scale or True) != found.network:
        return None
    return {"model": found.name, "variant": found.variant, "depths": depths, "scale": scale}


def require_trainable_table(what: str, found: NetworkDescription, way_out: str) -> None:
    """Raises InputError for a network with edited padding or output stride: a run trains neither."""
    if density := networks.edited(found.network):
        raise InputError(f"{what} {found.name} with {' and '.join(density)}, which a run does not train; {way_out}")


def settings_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that follow from `given["weights"]`, to be used where a user gives none.

    A registered name stands for a network and its variant, a file for its depths and scales too, and a run or a model
    with its graph also for its size. {} without weights, and where they say nothing: a name of several networks, a
    file that is missing or holds a part of a network.

    Args:
        given: What the user gives beside the weights.

    Raises:
        InputError: `given["model"]` is another network than the file's, the file cannot be read, or its network has
            a padding or an output stride that a run does not train, and no `model` is given.
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
        raise refuse("model", given["model"], f"{found.name}, whose weights {weights} holds, or nothing")
    if given.get("model") is None:
        require_trainable_table(
            f"weights: {weights} holds",
            found,
            f'to train the network without them from these weights, give model="{found.name}" too, and depths= and '
            "scale= where they are not the variant's own",
        )
    height, width = found.size
    size = {"size": (height, width)} if height and width else {}
    if given.get("variant") not in (None, found.variant):
        return size  # the user knows better which table the file is of; depths are counted from another one
    return (table_settings(found) or {}) | size


def card_of(weights: str) -> Card | None:
    """The card of the model that a run starts from; None for a registered name and for a file without class names."""
    if weights in registry.NAMES:
        return None
    path = Path(weights)
    file = model_of_run(path) or path
    return read_card(file) if has_card(file) else None


def keeps_classifier(card: Card | None, classes: list[str], *, multi_label: bool) -> bool:
    """Whether a run takes over the classifier of its weights: it must give the same classes, or labels, in their order.

    multi_label: Whether a picture of the run may have several labels.
    """
    return card is not None and card.classes == classes and card.multi_label == multi_label


def classifier_note(weights: str, card: Card | None, classes: list[str], *, multi_label: bool) -> str:
    """What becomes of the classifier of `weights`, in a sentence; "" for weights without class names."""
    if card is None:
        return ""
    if card.multi_label != multi_label:
        gives = "several labels per picture" if card.multi_label else "one class per picture"
        return f"the classifier is new: that of {weights} gives {gives}"
    if keeps_classifier(card, classes, multi_label=multi_label):
        return f"the classifier is kept: the {len(classes)} classes are those of {weights}"
    missing, added = set(card.classes) - set(classes), set(classes) - set(card.classes)
    differences = [f"{_some(added)} added"] * bool(added) + [f"{_some(missing)} missing"] * bool(missing)
    return (
        f"the classifier is new: the classes of {weights} are others ({'; '.join(differences) or 'in another order'})"
    )


def _some(classes: set[str], shown: int = 5) -> str:
    return ", ".join(sorted(classes)[:shown]) + (f" and {len(classes) - shown} more" if len(classes) > shown else "")
