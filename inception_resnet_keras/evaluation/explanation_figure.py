"""An explanation as a figure: the image with the crop that the model read, Grad-CAM and integrated gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .figure_style import SERIES, label, styled

SHOWN_SIDE = 640  # maximum number of pixels of the longer side of a shown image
TALLEST = 4  # maximum ratio of a panel's height to its width: an image one pixel wide would need 2000 inches otherwise
CLIPPED = 99.5  # the colour scale of the gradients covers this percentage of the pixels
SIDE = 3.6  # width of a panel, in inches
NAME_LENGTH = 70


class Maps(Protocol):
    """The part of an `explain.Explanation` that a figure shows."""

    @property
    def cam(self) -> np.ndarray: ...

    @property
    def gradients(self) -> np.ndarray: ...

    @property
    def endpoint(self) -> str: ...


@dataclass(frozen=True)
class CroppedPicture:
    """An image and the part of it that a model reads.

    Attributes:
        pixels: uint8 (height, width, 3).
        window: (left, top, right, bottom) of the part, in pixels.
    """

    pixels: np.ndarray
    window: tuple[int, int, int, int]

    @property
    def crop(self) -> np.ndarray:
        left, top, right, bottom = self.window
        return self.pixels[top:bottom, left:right]

    @property
    def is_whole(self) -> bool:
        return self.crop.shape == self.pixels.shape


@styled
def explanation_figure(
    picture: np.ndarray | CroppedPicture, explanation: Maps, what: str, *, name: str = "", true: str = ""
) -> Figure:
    """An explanation as three panels side by side: the image, Grad-CAM, and integrated gradients.

    Args:
        picture: The model's input, uint8 (height, width, 3); or the whole image with its crop, which the first panel
            outlines and the other two show.
        explanation: The maps to draw.
        what: The title: the class and its probability.
        name: The name of the file; "" for none.
        true: The true class; "" if it is not known.
    """
    given = picture if isinstance(picture, CroppedPicture) else CroppedPicture(picture, _whole(picture))
    shown = _reduced(given.crop)
    height, width = shown.shape[:2]
    place = {"extent": (-0.5, width - 0.5, height - 0.5, -0.5)}  # a map over the whole crop
    tall = SIDE * min(max(height / width, given.pixels.shape[0] / given.pixels.shape[1]), TALLEST)
    headings = bool(name) + bool(true)
    # Three panels with a thin row of colour bars below them.
    figure = Figure(figsize=(3 * SIDE, tall + 0.8 + 0.25 * headings), layout="constrained")
    panels, bars = figure.subplots(2, 3, height_ratios=(1, 0.03))
    cells = "×".join(map(str, explanation.cam.shape))
    titles = (label(what, 40), f"Grad-CAM at {explanation.endpoint} ({cells})", "integrated gradients")
    for axis, title in zip(panels, titles, strict=True):
        axis.set_title(title, fontsize=11)
        axis.set_axis_off()
    if headings:
        lines = [label(name, NAME_LENGTH, middle=True)] if name else []
        figure.suptitle(
            "\n".join([*lines, *([f"true class: {label(true, NAME_LENGTH)}"] if true else [])]), fontsize=11
        )
    # Maps are drawn over the image in grey; low values are transparent, so that the image shows through.
    _draw_picture(panels[0], given)
    grey = np.repeat(shown.mean(axis=-1, keepdims=True) / 255, 3, axis=-1)
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
    # Colour bars with words instead of numbers, whose scale differs from image to image.
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
    return figure


def _draw_picture(axis: Axes, given: CroppedPicture) -> None:
    """Draw the whole image, with an outline of the part that the model reads if that is not all of it."""
    height, width = given.pixels.shape[:2]
    axis.imshow(_reduced(given.pixels), extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    if not given.is_whole:
        left, top, right, bottom = given.window
        outline = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, linewidth=1.8)
        outline.set_edgecolor(SERIES[1])
        axis.add_patch(outline)


def _whole(picture: np.ndarray) -> tuple[int, int, int, int]:
    return 0, 0, picture.shape[1], picture.shape[0]


def _reduced(picture: np.ndarray) -> np.ndarray:
    step = max(1, -(-max(picture.shape[:2]) // SHOWN_SIDE))
    return picture[::step, ::step]
