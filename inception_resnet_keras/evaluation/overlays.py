"""A picture with its explanation over it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.cm import ScalarMappable
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
    figure = Figure(figsize=(3 * side, side * height / width + 0.8), layout="constrained")
    panels, bars = figure.subplots(2, 3, height_ratios=(1, 0.03))
    cells = "×".join(map(str, explanation.cam.shape))
    titles = (what, f"Grad-CAM at {explanation.endpoint} ({cells})", "integrated gradients")
    for axis, title in zip(panels, titles, strict=True):
        axis.set_title(title, fontsize=11)
        axis.set_axis_off()
    grey = np.repeat(shown.mean(axis=-1, keepdims=True) / 255, 3, axis=-1)
    panels[0].imshow(shown)
    panels[1].imshow(0.2 + 0.8 * grey, **place)
    warm = panels[1].imshow(
        explanation.cam,
        **place,
        cmap="inferno",
        vmin=0,
        vmax=1,
        interpolation="bilinear",
        alpha=0.4 + 0.3 * explanation.cam,
    )
    panels[2].imshow(0.75 + 0.25 * grey, **place)
    limit = float(np.percentile(np.abs(explanation.gradients), CLIPPED)) or 1.0
    signed = panels[2].imshow(
        explanation.gradients,
        **place,
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        alpha=np.clip(np.abs(explanation.gradients) / limit, 0, 1) ** 0.7,
    )
    bars[0].set_axis_off()
    for axis, mapped, ticks, labels in (
        (bars[1], warm, (0, 1), ("0", "most")),
        (bars[2], signed, (-limit, 0, limit), ("against", "0", "for")),
    ):
        bar = figure.colorbar(ScalarMappable(mapped.norm, mapped.cmap), cax=axis, orientation="horizontal")
        bar.set_ticks(ticks, labels=labels)
        bar.outline.set_visible(False)
        axis.get_xticklabels()[0].set_horizontalalignment("left")
        axis.get_xticklabels()[-1].set_horizontalalignment("right")
    with replacing(path) as beside:
        figure.savefig(beside, dpi=130)
