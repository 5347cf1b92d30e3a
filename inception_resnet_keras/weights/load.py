"""Weights into models: strict, by the meaning of names, every tensor of both sides accounted for."""

from __future__ import annotations

import difflib
import logging
from os import PathLike, fspath
from pathlib import Path

import keras

from .. import networks
from ..common.errors import InputError, refuse
from . import registry
from .convert import ours
from .convert.engine import NewHead, check_new_head, plan
from .readers import is_checkpoint, open_checkpoint
from .report import LoadReport
from .settings import of_layers, scales, settings

log = logging.getLogger(__name__)


def load_weights(
    model: keras.Model, source: str | PathLike[str], *, new_head: NewHead = False, ema: bool = False
) -> LoadReport:
    """Sets a model's weights from a checkpoint of this project or of another, or from a registered name.

    Args:
        model: A model of this project, built or loaded; changed only if everything fits.
        source: A path, of which the format is recognised by content (TF-Slim and davidsandberg/facenet
            checkpoints, V1, V2 or the published .tar.gz; Keras's HDF5 of `keras.applications` and of
            kentsommer's v4; timm's and facenet-pytorch's .safetensors and .pt; this project's .keras,
            .weights.h5 and .safetensors); or a name of `registry.NAMES`, which is downloaded once.
        new_head: False: every weight must come from the source. True: the classifier, and the
            auxiliary one, stay as they are in the model, for another number of classes. "aux": the
            whole auxiliary head stays, and it alone.
        ema: Whether to take the running averages that TensorFlow 1 trainers keep beside the weights.

    Returns:
        What was loaded, dropped, changed and left fresh; it is logged too.

    Raises:
        ValueError: Anything is left over on either side, has another shape, is NaN or infinite; the
            checkpoint is of another network; the file is missing, damaged or of no known format;
            or a registered name fits no such model. It says what and where.
    """
    check_new_head(new_head)
    if not isinstance(model, keras.Model):
        raise refuse("model", model, "a Keras model")
    variables = {f"{layer.name}/{weight.name}": weight for layer in model.layers for weight in layer.weights}
    shapes = {key: tuple(variable.shape) for key, variable in variables.items()}
    path = registry.fetch(fspath(source), shapes, new_head) if is_name(source) else Path(source)
    with open_checkpoint(path) as checkpoint:
        made = plan(shapes, checkpoint, new_head=new_head, ema=ema)
        for key, value in made.values():
            variables[key].assign(value)
        if made.report.network:
            network = networks.find(made.report.network, made.report.variant)
            trained = settings(checkpoint, network, include_top=True).get("scale")
            made.report.notes += _other_scales(model, made.report, trained)
    log.info("%s", made.report)
    return made.report


def require(weights: str | PathLike[str]) -> None:
    """Raises InputError where `weights=` is neither a registered name nor a checkpoint that opens."""
    if not is_name(weights):
        with open_checkpoint(weights):
            pass


def is_name(source: str | PathLike[str]) -> bool:
    """A registered name; a word that is neither one nor a file is taken for a misspelt one."""
    if not isinstance(source, str | PathLike) or isinstance(fspath(source), bytes):
        raise InputError(f"weights: got {source!r}; it takes None, a path or one of {', '.join(registry.NAMES)}")
    text = fspath(source)
    if text in registry.NAMES:
        return True
    like_a_name = text.isidentifier() or difflib.get_close_matches(text, registry.NAMES, 1, cutoff=0.8)
    return bool(like_a_name) and not is_checkpoint(Path(text))


def _other_scales(model: keras.Model, report: LoadReport, trained: tuple[float, ...] | None) -> list[str]:
    """Residual scales that are not those of the network the weights were trained in."""
    network = networks.find(report.network, report.variant)
    if not networks.is_residual(network) or (trained is None and report.source == ours.TABLE.source):
        return []
    layers = {layer.name: layer.get_config() for layer in model.layers}
    here = of_layers(layers, network, include_top=True)["scale"]
    for block, mine, theirs in zip(networks.block_names(network), here, trained or scales(network), strict=True):
        if abs(mine - theirs) > 1e-9:
            return [f"residual scales differ: block {block}01 sums with {mine}, and was trained with {theirs}"]
    return []
