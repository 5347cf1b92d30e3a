"""A picture with its explanation over it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ..files import replacing

if TYPE_CHECKING:
    from .explain import Explanation

SHOWN_SIDE = 640  # pixels that the longer side of a shown picture has at most
CLIPPED = 99.5  # per cent of the pixels that the gradients' colours tell apart


def draw(picture: np.ndarray, explanation: Explanation, what: str, path: Path) -> None:
    """Three panels side by side. picture: uint8 (height, width, 3); what: the class and its probability."""
    step = max(1, -(-max(picture.shape[:2]) // SHOWN_SIDE))
    shown = picture[::step, ::step]
    height, width = shown.shape[:2]
    place = {"extent": (-0.5, width - 0.5, height - 0.5, -0.5)}  # a map over the whole picture
    side = 3.6
    figure = Figure(figsize=(3 * side + 0.9, side * height / width + 1.0), layout="constrained")
    panels = figure.subplots(1, 3)
    cells = "×".join(map(str, explanation.cam.shape))
    titles = (what, f"Grad-CAM at {explanation.endpoint} ({cells})", "integrated gradients")
    for axis, title in zip(panels, titles, strict=True):
        axis.set_title(title, fontsize=11)
        axis.set_xticks([])
        axis.set_yticks([])
    grey = np.repeat(shown.mean(axis=-1, keepdims=True) / 255, 3, axis=-1)
    panels[0].imshow(shown)
    panels[1].imshow(0.35 + 0.65 * grey, **place)
    warm = panels[1].imshow(
        explanation.cam,
        **place,
        cmap="inferno",
        vmin=0,
        vmax=1,
        interpolation="bilinear",
        alpha=0.6,
    )
    panels[2].imshow(0.7 + 0.3 * grey, **place)
    limit = float(np.percentile(np.abs(explanation.gradients), CLIPPED)) or 1.0
    strength = np.clip(np.abs(explanation.gradients) / limit, 0, 1) ** 0.7
    signed = panels[2].imshow(
        explanation.gradients,
        **place,
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
        alpha=strength,
    )
    for axis, mapped, ticks, labels in (
        (panels[1], warm, (0, 1), ("0", "most")),
        (panels[2], signed, (-limit, 0, limit), ("against", "0", "for")),
    ):
        bar = figure.colorbar(mapped, ax=axis, shrink=0.7, aspect=30, location="bottom", pad=0.02)
        bar.set_ticks(ticks, labels=labels)
        bar.solids.set_alpha(1)
        bar.outline.set_visible(False)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=130)
