"""TensorFlow's SavedModel: of pixels, and of encoded pictures, as TensorFlow Serving takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from ..files import write_text
from ..inference.runtime import ENCODED, ENCODED_INPUT, INPUT, OUTPUT, SAVED_MODEL_CARD
from ..saving import card_text
from .decoding import decode
from .source import Prepared

SIGNATURE = "serving_default"
TOP = 5  # classes that the signature of encoded pictures names, or all where there are fewer


def write(prepared: Prepared, path: Path, calibration: Any = None) -> None:
    del calibration
    module = tf.Module()
    module.weights = [variable.value for variable in prepared.exported.variables]
    card = prepared.card
    pixels = tf.TensorSpec([None, *card.size, 3], tf.float32, INPUT)

    @tf.function(input_signature=[pixels])
    def of_pixels(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {OUTPUT: prepared.exported(image, training=False)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, ENCODED_INPUT)])
    def of_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        def read(one: tf.Tensor) -> tf.Tensor:
            return decode(one, card.size, card.central_crop)

        images = tf.map_fn(read, image_bytes, fn_output_signature=pixels.dtype)
        outputs = of_pixels(tf.ensure_shape(images, pixels.shape))
        if card.classes:
            top = tf.math.top_k(outputs[OUTPUT], k=min(TOP, len(card.classes)))
            outputs |= {"classes": tf.gather(tf.constant(card.classes), top.indices), "probabilities": top.values}
        return outputs

    tf.saved_model.save(module, path, signatures={SIGNATURE: of_pixels, ENCODED: of_bytes})
    (path / SAVED_MODEL_CARD).parent.mkdir()
    write_text(path / SAVED_MODEL_CARD, card_text(card))
