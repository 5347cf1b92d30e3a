"""A model card beside an exported model: README.md, in the format of the Hugging Face Hub.

Its results come from the run's predictions.csv, with intervals. Facts that only the user knows, such as the intended
use and the licence, are given as "Not stated".
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..common.console import printable
from ..common.errors import InputError
from ..common.files import new_files
from ..common.packages import required
from ..evaluation.html_report import run_results
from ..models.model_file import ExportCard
from ..weights.runs import RUN_CONFIG

if TYPE_CHECKING:
    from ..models.model_file import Card
    from .check import Check

MODEL_CARD = "README.md"
NOT_STATED = "Not stated."
CLASSES_LISTED = 100


def require_no_card(out: Path) -> None:
    """Raise InputError if a card cannot be written beside `out`: README.md exists, or huggingface_hub is missing."""
    required("huggingface_hub", "a model card")
    path = out.parent / MODEL_CARD
    if path.exists():
        raise InputError(f"{path}: already exists; nothing is overwritten: leave out --card, or move it")


def write_model_card(out: Path, card: Card, check: Check, run: Path | None) -> Path:
    """Write the model card of an exported model.

    Args:
        out: The exported file or folder; the card is written beside it.
        card: The description of the model.
        check: The comparison of the export with the model.
        run: The folder of the run that the model belongs to; None if it belongs to none.

    Returns:
        The path of the card.

    Raises:
        InputError: README.md exists, or huggingface_hub is not installed.
    """
    hub = required("huggingface_hub", "a model card")
    data = hub.ModelCardData(
        library_name="keras",
        pipeline_tag="image-classification" if card.gives_classes else "image-feature-extraction",
        tags=[card.network.replace("_", "-"), "inception", check.format],
    )
    path = out.parent / MODEL_CARD
    text = f"---\n{data.to_yaml()}\n---\n\n{_text(out, card, check, run)}"
    with new_files(path) as folder:
        hub.ModelCard(text).save(folder / path.name)
    return path


def _text(out: Path, card: Card, check: Check, run: Path | None) -> str:
    height, width = card.size
    dtype = card.input_type if isinstance(card, ExportCard) else "float32"
    takes = f"RGB images of {height}×{width} pixels with values of 0-255, {dtype} (batch, height, width, 3)"
    gives = f"the probabilities of {len(card.classes):,} classes" if card.gives_classes else "an embedding"
    parts = [
        f"# {escaped(out.name)}",
        f"{escaped(card.network)} ({escaped(card.variant)}) of arXiv 1602.07261 in Keras, exported as {check.format} "
        f"in {check.precision} by inception_resnet_keras {__version__}.",
        f"It takes {takes}, and returns {gives}.",
        f"## Use\n\n```sh\ninception-resnet-keras predict {re.sub(r'[^A-Za-z0-9_.-]', '?', out.name)} IMAGE\n```",
        f"## Intended use\n\n{NOT_STATED}",
        f"## Training data\n\n{_data(run)}",
        f"## Evaluation\n\n{_evaluation(run)}",
        f"## The export\n\n{escaped(str(check).strip())}",
        f"## Limits\n\n{NOT_STATED} The results hold only for images like those that the model was evaluated on.",
        f"## Licence\n\n{NOT_STATED}",
    ]
    if card.gives_classes:
        more = len(card.classes) - CLASSES_LISTED
        listed = [f"- {escaped(name)}" for name in card.classes[:CLASSES_LISTED]]
        parts.append("\n".join(["## Classes\n", *listed, *([f"- and {more:,} more"] if more > 0 else [])]))
    return "\n\n".join(parts) + "\n"


def _data(run: Path | None) -> str:
    if run is None or not (run / RUN_CONFIG).is_file():
        return NOT_STATED
    from ..models.model_file import read_run_config

    config = read_run_config(run / RUN_CONFIG)["config"]
    return f"{escaped(config.get('data') or 'The handwritten digits of scikit-learn')}."


def _evaluation(run: Path | None) -> str:
    results = [] if run is None else run_results(run)
    return "\n".join(f"- {escaped(line)}" for line in results) or NOT_STATED


def escaped(text: object) -> str:
    """Text with Markdown and HTML escaped, and line breaks kept."""
    lines = str(text).split("\n")
    return "<br>".join(re.sub(r"([\\`*_{}\[\]<>()#+!|~$&-])", r"\\\1", printable(line)) for line in lines)
