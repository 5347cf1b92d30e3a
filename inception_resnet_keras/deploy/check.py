"""Compare an export with the model that it was made from, on real images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import file_digest
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..common.arguments import is_number
from ..common.console import counted, printable
from ..common.errors import InputError, refuse
from ..data.images import read_image
from ..models.model_file import Card, ExportCard, Precision
from ..models.open import require_finite
from ..models.runtimes import OpenVinoRuntime, SavedModelRuntime, open_runtime, run_in_batches
from ..models.saved_model import refuse_unknown_operations
from .pictures import Images, Sample
from .plain import CALLS, run_plain
from .prepare import ExportableModel

BATCH = 8
_SAME = 1e-6  # relative to the largest output: outputs that vary less count as equal
_ROUNDING = 1e-5  # relative to the largest output: float32 sums in another order differ by this, bfloat16 by 1e-3


@dataclass(frozen=True)
class Bounds:
    """The bounds that an export must keep.

    Attributes:
        difference: The maximum difference between two outputs, relative to the model's largest output; inf for any.
        agreement: The minimum share of images with the same top-1 class; with several labels per image, of equal
            decisions; for an embedding, the minimum cosine similarity.
        accuracy_drop: The maximum loss of accuracy on labelled images, in [0, 1].
    """

    difference: float
    agreement: float
    accuracy_drop: float


# float32 differs by the order of sums, half precision by rounding through hundreds of layers. int8 is judged by its
# decisions, because single probabilities change.
BOUNDS: dict[Precision, Bounds] = {
    "float32": Bounds(1e-4, 0.99, 0.001),
    "float16": Bounds(0.05, 0.98, 0.005),
    "bfloat16": Bounds(0.2, 0.95, 0.01),
    "int8": Bounds(math.inf, 0.9, 0.02),
}


@dataclass(frozen=True)
class Check:
    """The comparison of an export with the Keras model that it was made from.

    Attributes:
        path: The export.
        format: Its format.
        precision: Its precision.
        pictures: The number of images that it was compared on.
        source: The origin of these images, in words.
        difference: The largest absolute difference between two outputs.
        largest: The model's largest output.
        agreement: The share of images with the same top-1 class; with several labels per image, the share of equal
            decisions at the thresholds; for an embedding, the lowest cosine similarity.
        embedding: Whether the model returns an embedding.
        bounds: The bounds that the export had to keep.
        accuracy: (of the model, of the export) on labelled images, in [0, 1], or None. With several labels, the share
            of images whose labels are all correct.
        labelled: The number of labelled images.
        notes: Assumptions, additions, and limits of the comparison.
        labels: Whether an image may have several labels.
        plain_difference, plain_agreement: The same figures for the file in the format's own library without any
            setting, as other programs run it; None if it was not run.
        setting: The setting that other programs need to get the figures above; "" for none.
        sha256: The SHA-256 of each written file by its path, relative to the export.
    """

    path: str
    format: str
    precision: Precision
    pictures: int
    source: str
    difference: float
    largest: float
    agreement: float
    embedding: bool
    bounds: Bounds
    accuracy: tuple[float, float] | None = None
    labelled: int = 0
    notes: tuple[str, ...] = ()
    labels: bool = False
    plain_difference: float | None = None
    plain_agreement: float | None = None
    setting: str = ""
    sha256: dict[str, str] = field(default_factory=dict)

    @property
    def relative(self) -> float:
        return self.difference / max(self.largest, 1e-30)

    @property
    def failures(self) -> list[str]:
        """The bounds that are exceeded, in words; NaN exceeds every bound."""
        found = []
        if not self.relative <= self.bounds.difference:
            found.append(
                f"the largest difference is {self.relative:.3g} of the largest output, above {self.bounds.difference:g}"
            )
        if not self.agreement >= self.bounds.agreement:
            found.append(f"{self._agreement} is {self.agreement:.2%}, below {self.bounds.agreement:.2%}")
        if self.accuracy and not self.accuracy[0] - self.accuracy[1] <= self.bounds.accuracy_drop:
            found.append(
                f"accuracy drops from {self.accuracy[0]:.2%} to {self.accuracy[1]:.2%}, by more than "
                f"{self.bounds.accuracy_drop:.2%}"
            )
        return found

    @property
    def _agreement(self) -> str:
        if self.labels:
            return "agreement of the labels at their thresholds"
        return "the least cosine similarity" if self.embedding else "top-1 agreement"

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.format}, {self.precision}, compared with the Keras model on "
            f"{counted(self.pictures, 'picture')} ({self.source}):",
            f"  largest difference {self.difference:.3g}, largest output {self.largest:.4g}",
            f"  {self._agreement} {self.agreement:.2%}",
        ]
        if self.plain_difference is not None:
            lines.append(
                f"  with {CALLS[self.format]} without settings: largest difference {self.plain_difference:.3g}, "
                f"{self._agreement} {self.plain_agreement:.2%}"
            )
        if self.accuracy:
            lines.append(
                f"  accuracy on {self.labelled} labelled pictures {self.accuracy[0]:.2%} → {self.accuracy[1]:.2%}"
            )
        last = [f"  to get the same outputs outside this package: {self.setting}"] if self.setting else []
        return "\n".join(map(printable, [*lines, *(f"  {note}" for note in self.notes), *last]))

    def as_json(self) -> dict[str, Any]:
        bounds = {key: value for key, value in vars(self.bounds).items() if math.isfinite(value)}
        return {**vars(self), "relative_difference": self.relative, "bounds": bounds}


def checksums(place: Path) -> dict[str, str]:
    """The SHA-256 of a file by its name, or of each file below a folder by its relative path."""
    files = {file.relative_to(place).as_posix(): file for file in sorted(place.rglob("*")) if file.is_file()}
    found = {}
    for name, file in (files or {place.name: place}).items():
        with file.open("rb") as stream:
            found[name] = file_digest(stream, "sha256").hexdigest()
    return found


def bounds_for(
    precision: Precision, difference: float | None, agreement: float | None, accuracy_drop: float | None
) -> Bounds:
    """The default bounds of a precision, overridden by the arguments that are not None."""
    bounds = BOUNDS[precision]
    for name, given, high in (
        ("difference", difference, math.inf),
        ("agreement", agreement, 1.0),
        ("accuracy_drop", accuracy_drop, 1.0),
    ):
        if given is None:
            continue
        argument = f"{'min' if name == 'agreement' else 'max'}_{name}"
        if not is_number(given) or not 0 <= given <= high:
            raise refuse(argument, given, "a number of at least 0" if high == math.inf else "a number in [0, 1]")
        bounds = replace(bounds, **{name: float(given)})
    return bounds


def compare(
    prepared: ExportableModel,
    written: Path,
    *,
    shown: Path,
    format: str,
    sample: Sample,
    bounds: Bounds,
) -> Check:
    """Open an export as a user would, and run it and its model on the same images.

    Args:
        prepared: The model.
        written: The export as it was written.
        shown: Its name in messages.
        format: Its format.
        sample: The images.
        bounds: The bounds that it must keep.

    Raises:
        InputError: The export exceeds a bound, or has other outputs than the model.
    """
    # Run both, here with this package's runtime.
    runtime = open_runtime(written, trust=True)  # this process wrote it
    wanted = run_in_batches(prepared.reference.predict_on_batch, sample.images, BATCH)
    found = run_in_batches(runtime.run, sample.images, BATCH)
    if wanted.shape != found.shape:
        raise InputError(f"{shown}: has outputs of shape {found.shape}, the model of {wanted.shape}: it is not kept")
    numbers = [f"{sample.source}, picture {number}" for number in range(1, len(sample) + 1)]
    require_finite("model", wanted, numbers)
    require_finite(str(shown), found, numbers)
    if isinstance(runtime, SavedModelRuntime):
        _check_encoded(runtime, sample.images, shown)
    embedding = not prepared.card.gives_classes
    if not embedding:
        _refuse_no_probabilities(wanted)
    agreement = _agreement(prepared.card, wanted, found)
    # Run the export in the format's own library too, as other programs do.
    plain = run_in_batches(run_plain(written, format), sample.images, BATCH)
    require_finite(f"{shown}, with {CALLS[format]}", plain, numbers)
    # Note what limits the comparison.
    notes = list(prepared.notes)
    if isinstance(runtime, SavedModelRuntime):
        try:
            refuse_unknown_operations(written)
        except InputError as error:
            notes.append(f"it can be opened only with --trust: {str(error).partition(': ')[2]}")
    if isinstance(runtime, OpenVinoRuntime) and runtime.computes_in_float32_instead:
        notes.append(
            f"this CPU does not support {prepared.card.precision}, so OpenVINO computed in float32: compare again on a "
            "CPU that does, where the outputs differ more"
        )
    largest = float(np.abs(wanted).max())
    notes += sample.notes()
    if len(wanted) > 1 and float(np.ptp(wanted, axis=0).max()) <= _SAME * largest:
        notes.append("the model's outputs are the same for all these pictures: the comparison shows little")
    check = Check(
        str(shown),
        format,
        prepared.card.precision,
        len(sample),
        sample.source,
        float(np.abs(found - wanted).max()),
        largest,
        agreement,
        embedding,
        bounds,
        notes=tuple(notes),
        labels=prepared.card.multi_label,
        plain_difference=float(np.abs(plain - wanted).max()),
        plain_agreement=_agreement(prepared.card, wanted, plain),
        setting=required_setting(prepared.card, format, float(np.abs(plain - found).max()), largest),
    )
    if sample.labels is not None:
        accuracy = (_accuracy(prepared.card, wanted, sample.labels), _accuracy(prepared.card, found, sample.labels))
        check = replace(check, accuracy=accuracy, labelled=len(sample.labels))
    if check.failures:
        raise InputError(*str(check).split("\n"), f"  it is not kept: {'; '.join(check.failures)}")
    return check


def _refuse_no_probabilities(outputs: np.ndarray) -> None:
    least, largest = float(outputs.min()), float(outputs.max())
    if not (least >= -_SAME and largest <= 1 + _SAME):
        raise InputError(
            f"model: its outputs range from {least:.4g} to {largest:.4g}, so they are not probabilities: end it in a "
            "softmax, a sigmoid, or a dense layer without activation, to which a softmax is added"
        )


def required_setting(card: ExportCard, format: str, difference: float, largest: float) -> str:
    """The setting that other programs need to compute the same as the runtime of this package; "" for none.

    difference: The largest difference between the outputs without settings and those of the runtime.
    largest: The largest output.
    """
    if format != "openvino":
        return ""
    # A float32 file contains what it needs, which the comparison confirms; others depend on the CPU.
    if card.precision == "float32" and difference <= _ROUNDING * largest:
        return ""
    hint, _ = OpenVinoRuntime.HALVES.get(card.precision, ("f32", ""))
    return f'openvino.Core().compile_model(PATH, "CPU", {{"INFERENCE_PRECISION_HINT": "{hint}"}})'


def _agreement(card: Card, wanted: np.ndarray, found: np.ndarray) -> float:
    """The share of equal decisions, one per image, or one per image and label; for embeddings the lowest similarity."""
    if not card.gives_classes:
        return _least_cosine(wanted, found)
    return float(np.mean(decided(wanted, card.thresholds) == decided(found, card.thresholds)))


def decided(outputs: np.ndarray, thresholds: Sequence[float] = ()) -> np.ndarray:
    """The decision for each image: the most probable class; for a single probability, whether it is at least 0.5.

    With several labels per image, bool (n, classes): the labels that reach their thresholds.
    """
    if len(thresholds):
        return outputs >= np.array(thresholds)
    return outputs.argmax(1) if outputs.shape[1] > 1 else outputs[:, 0] >= 0.5


# The encoded images of the check, with their height and width relative to the model's: smaller, equal, of another
# shape, and so large that a JPEG is decoded at 1/2 and 1/4, and that blocks of a PNG's pixels are averaged.
_ENCODED = (
    ("JPEG", "RGB", (0.6, 0.7)),
    ("JPEG", "RGB", (1.0, 1.0)),
    ("JPEG", "RGB", (1.3, 2.6)),
    ("JPEG", "L", (4.3, 4.1)),
    ("JPEG", "CMYK", (2.2, 3.1)),
    ("JPEG", "RGB", (9.5, 8.2)),
    ("PNG", "RGB", (1.0, 1.0)),
    ("PNG", "RGB", (5.1, 4.4)),
)
_LARGEST_ENCODED = 4096  # maximum side, in pixels


def _check_encoded(runtime: SavedModelRuntime, images: Images, shown: Path) -> None:
    """Raise InputError unless the signature for encoded images matches `predict` on the same bytes.

    The images are JPEGs and PNGs of several sizes.
    """
    contents, card = [], runtime.card
    for place, (kind, mode, times) in enumerate(_ENCODED):
        height, width = (
            min(round(share * side), _LARGEST_ENCODED) for share, side in zip(times, card.size, strict=True)
        )
        picture = Image.fromarray(images[place % len(images)]).resize((width, height), Image.Resampling.BICUBIC)
        file = BytesIO()
        picture.convert(mode).save(file, kind)
        contents.append(file.getvalue())
    read = [read_image(shown, card.size, crop=card.central_crop, content=content) for content in contents]
    wanted = runtime.run(np.stack(read))
    difference = float(np.abs(runtime.run_encoded(contents) - wanted).max())
    if not difference <= 0.01 * float(np.abs(wanted).max()):
        raise InputError(
            f"{shown}: its outputs for encoded pictures differ by {difference:.3g} from those for their pixels: it is "
            "not kept"
        )


def _accuracy(card: Card, outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of the labelled images, which are the last ones, that are decided correctly.

    With several labels per image, all of them must be correct.
    """
    decisions = decided(outputs[-len(labels) :], card.thresholds).reshape(len(labels), -1)
    return float((decisions == labels.reshape(len(labels), -1)).all(axis=1).mean())


def _least_cosine(wanted: np.ndarray, found: np.ndarray) -> float:
    lengths = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
    return float(((wanted * found).sum(1) / np.maximum(lengths, 1e-30)).min())
