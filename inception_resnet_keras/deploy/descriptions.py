"""The description inside an export, by the conventions of each format."""

from __future__ import annotations

from typing import Any

from ..common.console import printable
from ..models.model_file import ExportCard
from ..models.runtimes import INPUT, output_name

TOP = 5  # number of classes that a reader shows, or all if there are fewer


def description(card: ExportCard) -> str:
    """The expected input, in a sentence."""
    height, width = card.size
    part = "the whole image" if card.central_crop == 1 else f"the central {card.central_crop:g} of each side"
    return (
        f"RGB pixels of 0-255, {height}×{width}: {part}, resized bilinear with antialiasing. The model scales them "
        "itself."
    )


def described(card: ExportCard) -> dict[str, str]:
    """The facts that are needed to use an export, as text."""
    height, width = card.size
    facts = {
        "network": f"{card.network} {card.variant}".strip(),
        "precision": card.precision,
        "input": INPUT,
        "input_type": card.input_type,
        "layout": "NHWC",
        "color_order": "RGB",
        "range": "0-255, scaled inside the model",
        "size": f"{height}x{width}",
        "resize": "bilinear, antialiased",
        "central_crop": f"{card.central_crop:g}",
        "output": output_name(card),
        "made_by": card.made_by,
        "weights_sha256": card.weights_sha256,
    }
    if card.multi_label:
        facts["thresholds"] = " ".join(f"{threshold:g}" for threshold in card.thresholds)
    return facts


def model_api_info(card: ExportCard) -> dict[str, str]:
    """The entries below `model_info` for OpenVINO's Model API, in its own words.

    Lists are separated by spaces, so spaces in class names become underscores. Model API reads images with OpenCV, in
    BGR: `reverse_input_channels` turns them into RGB. A model with several labels per image or with embeddings has no
    `model_type`: for the former, Model API expects logits; for the latter, it has no type.
    """
    info = {
        "layout": "NHWC",
        "input_dtype": "u8",
        "mean_values": "0 0 0",
        "scale_values": "1 1 1",
        "reverse_input_channels": "True",
        "resize_type": "standard",
        "interpolation_mode": "LINEAR",
    }
    if card.classes:
        info["labels"] = " ".join("_".join(printable(name).split()) or "_" for name in card.classes)
    if card.classes and not card.multi_label:
        info |= {"model_type": "Classification", "topk": str(min(TOP, len(card.classes)))}
    return info


def write_onnx_properties(model: Any, card: ExportCard) -> None:
    """Set an ONNX model's metadata: ONNX's own keys for images, those of Model API, and the facts of `described`."""
    properties = {
        "Image.BitmapPixelFormat": "Rgb8",
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
        **{f"model_info {key}": value for key, value in model_api_info(card).items()},
        **described(card),
    }
    if card.classes:
        properties["classes"] = "\n".join(map(printable, card.classes))
    for key, value in properties.items():
        model.metadata_props.add(key=key, value=value)
    model.doc_string = description(card)
    takes = model.graph.input[0].type
    takes.denotation = "IMAGE"
    for side, meaning in zip(
        takes.tensor_type.shape.dim, ("DATA_BATCH", "DATA_FEATURE", "DATA_FEATURE", "DATA_CHANNEL"), strict=True
    ):
        side.denotation = meaning
