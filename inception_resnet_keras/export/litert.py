"""LiteRT's .tflite: a flat buffer with the card in a zip archive at its end; int8 by its converter's calibration."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..saving import MEMBER, card_text
from .pictures import Sample
from .quiet import quiet
from .source import Prepared


def write(prepared: Prepared, path: Path, calibration: Sample | None = None) -> None:
    import tensorflow as tf

    settings: dict[str, Any] = {}
    if prepared.card.precision == "float16":
        settings = {"optimizations": [tf.lite.Optimize.DEFAULT], "target_spec": {"supported_types": [tf.float16]}}
    elif prepared.card.precision == "int8":
        assert calibration is not None
        images = calibration.images

        def pictures() -> Iterator[list[np.ndarray]]:
            for picture in images:
                yield [picture[None].astype(np.float32)]

        settings = {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": pictures,
            "target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]},
        }
    with quiet():
        prepared.exported.export(str(path), format="litert", verbose=False, **settings)
    with zipfile.ZipFile(path, "a") as archive:  # after the buffer, where TensorFlow Lite's own metadata puts files
        archive.writestr(MEMBER, card_text(prepared.card))
