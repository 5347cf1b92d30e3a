"""One small model with a card, and every format of it, made once for all rooms that run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from inception_resnet_keras import export_model
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.deploy.check import Check
from inception_resnet_keras.deploy.formats import FORMATS, default_name
from inception_resnet_keras.models.model_file import Card, save_model
from inception_resnet_keras.networks.rows import Network

from . import tiny
from .pictures import write_digits

CARD = Card("tiny", "paper", ["null", "eins", "zwei ☃"], (tiny.SIDE, tiny.SIDE))


def lively(network: Network = tiny.TINY, **options: Any) -> keras.Model:
    """A small network of pixels, its statistics those of digits, its logits spread by a half over them."""
    model = tiny.build(network, **({"include_preprocessing": True, "batch_norm_momentum": 0.0} | options))
    size = (tiny.SIDE, tiny.SIDE)
    digits = open_source("digits")
    images = np.stack([np.asarray(digits.decode(index).resize(size)) for index in range(50)]).astype(np.float32)
    if options.get("include_preprocessing") is False:
        images = images / 127.5 - 1
    if model.input_shape[1] == 3:
        images = np.moveaxis(images, -1, 1)
    model(images, training=True)
    if options.get("include_top", True):
        logits = model.get_layer("logits")
        found = tiny.run(keras.Model(model.input, logits.output), images)
        kernel, bias = (np.array(weight) for weight in logits.weights)
        scale = 0.5 / found.std(0)
        logits.set_weights([kernel * scale, (bias - found.mean(0)) * scale])
    return model


def write_run(folder: Path) -> Path:
    """A run's folder, as far as export and predict look into it."""
    save_model(lively(), folder / "model.keras", CARD)
    return folder


def write_pictures(folder: Path, per_class: int = 8, card: Card = CARD) -> Path:
    """Digits, a folder for each of the card's classes."""
    write_digits(folder, classes=len(card.classes), per_class=per_class)
    for number, name in enumerate(card.classes):
        (folder / str(number)).rename(folder / name)
    return folder


def export_all(run: Path, pictures: Path, folder: Path) -> dict[str, tuple[Path, Check]]:
    """Every format in float32: where it is, and how it compared."""
    made = {}
    for name, target in FORMATS.items():
        out = folder / default_name(target, "float32")
        made[name] = (out, export_model(run, out, target.name, check=pictures))
    return made
