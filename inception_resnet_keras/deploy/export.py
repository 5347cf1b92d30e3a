"""export_model: open a model, optimise, write and compare it, and only then move the export to its place."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..common.arguments import boolean, one_of, positive_integer
from ..common.console import counted
from ..common.errors import InputError, refuse
from ..common.files import new_files, write_json
from ..common.packages import require_tensorflow
from ..models.model_file import INPUT_TYPES
from . import formats

if TYPE_CHECKING:
    import keras

    from ..data.labelled import Source
    from ..data.preprocessing import Convention
    from ..models.model_file import Card, InputType, Precision
    from .check import Check
    from .formats import FormatName
    from .prepare import ExportableModel

_POLICIES = {"float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}


def export_model(
    model: keras.Model | str | PathLike[str],
    out: str | PathLike[str],
    format: FormatName,
    *,
    precision: Precision = "float32",
    calibrate: str | PathLike[str] | None = None,
    check: str | PathLike[str] | None = None,
    validate: str | PathLike[str] | None = None,
    class_names: str | PathLike[str] | Sequence[str] | None = None,
    preprocessing: Convention | Literal["none"] | None = None,
    size: int | tuple[int, int] | None = None,
    input_type: InputType = "float32",
    integer_only: bool = False,
    opset: int | None = None,
    optimize: bool = True,
    max_difference: float | None = None,
    min_agreement: float | None = None,
    max_accuracy_drop: float | None = None,
    min_calibration: int = 10,
    quantization: Mapping[str, Any] | None = None,
    model_card: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Check:
    """Export a model to another runtime, compare it there with the Keras model, and keep it only if both agree.

    Every export takes RGB pixels of 0-255, (batch, height, width, 3), and returns probabilities, (batch, classes), or
    the embedding of a FaceNet, (batch, width). It contains its class names and its size, and `predict` can run it.

    Args:
        model: A Keras model, a run's folder, or a .keras file. It is not changed.
        out: The file or folder to write, which must not exist: a folder for "saved_model", otherwise a file with the
            suffix .onnx, .xml (its .bin is written beside it) or .tflite. `OUT.check.json` beside it holds the figures
            of the comparison.
        format: "saved_model", "onnx", "openvino" or "litert".
        precision: "float32"; "float16" (all formats); "bfloat16" (SavedModel, OpenVINO); or "int8" (ONNX, OpenVINO,
            LiteRT), by the format's own quantiser with the images in `calibrate`.
        calibrate: For int8, a folder of images like those that the model will see, in one folder per class or directly
            in it. Up to 300 of them are used for calibration. If neither `check` nor `validate` is given, the others,
            at least a fifth, are used for the comparison. Images whose pixels equal those of a calibration image are
            left out of the comparison.
        check: A folder of images; all of them are used for the comparison.
        validate: Labelled images as `evaluate` takes them, such as a folder with one folder per class. All of them are
            used for the comparison, and for the accuracy of the model and of the export. If no images are given,
            photographs and digits that come with scikit-learn are used.
        class_names: The class names in the order of the outputs, or a file with one name per line, for a model without
            class names or to replace them; "imagenet" for those of ImageNet, preceded by "background" for 1001 outputs.
        preprocessing: The pixel range of a model that does not rescale pixels itself: "inception", "facenet" or "none".
            None takes the range that its network was made for.
        size: (height, width), or one number for both, of the images that the export takes, for a model that takes any
            size; in pixels, 1 to 65535. None takes the size of the model.
        input_type: The dtype of the export's pixels, "float32" or "uint8". They are scaled inside the export.
        integer_only: For LiteRT in int8, whether pixels, all operations and probabilities are integers, as required by
            some accelerators of phones and boards (NPUs): uint8 inputs, and uint8 outputs in steps of 1/256.
        opset: The opset of ONNX, 13 to 18. None takes 18.
        optimize: Whether to apply `optimize_for_inference` first; for ONNX, without joining sibling convolutions.
        max_difference: The maximum difference between two outputs, relative to the largest output. None takes 1e-4 for
            float32, 0.05 for float16, 0.2 for bfloat16, and no limit for int8.
        min_agreement: The minimum share of images with the same top-1 class (for an embedding, the minimum cosine
            similarity), in [0, 1]. None takes 0.99, 0.98, 0.95 and 0.9, in the same order.
        max_accuracy_drop: The maximum loss of accuracy on the images in `validate`, in [0, 1]. None takes 0.001, 0.005,
            0.01 and 0.02.
        min_calibration: The minimum number of images for calibration, at least 1; a note warns about fewer than 100.
        quantization: For int8, settings of the format's own quantiser, in its words, with enumerations by name. For
            OpenVINO, arguments of `nncf.quantize`, such as {"preset": "performance", "ignored_scope": {"patterns":
            [".*logits.*"]}}; for ONNX, arguments of `onnxruntime.quantization.quantize_static`, such as
            {"calibrate_method": "Percentile", "nodes_to_exclude": [...]}. LiteRT's converter has no settings.
        model_card: Whether to write README.md, which must not exist, beside `out`: a model card for the Hugging Face
            Hub, with the results of the run that the model belongs to.
        progress: Called with the name of each step. None ignores them.

    Returns:
        A `Check` with the figures of the comparison and the assumptions that were made; `print` shows it as text.

    Raises:
        ValueError: An argument is out of range, the format does not support the precision, `out` exists, a folder has
            no images, the model cannot be exported, Keras does not run on TensorFlow, or the export exceeds a bound.
            No file is left in these cases.

    Examples:
        >>> from inception_resnet_keras import export_model
        >>> check = export_model("runs/photos-1", "photos.tflite", "litert", check="photos")
        >>> check.pictures, check.agreement
        (24, 1.0)
        >>> check.relative < 1e-4
        True
    """
    # Check all arguments and list the images before the model is opened.
    require_tensorflow("export")
    target, chosen = formats.chosen(format, precision)
    out = formats.checked_out(target, Path(out))
    boolean("optimize", optimize)
    _require_no_card(out, boolean("model_card", model_card))
    options = formats.chosen_options(target, chosen, opset, integer_only)
    one_of("input_type", input_type, INPUT_TYPES)
    sides = formats.checked_size(size)
    settings = _int8_settings(target, chosen, calibrate, min_calibration, quantization)

    from .pictures import choose_pictures, require_calibration, require_labelled, shuffled_pictures

    named = {name: Path(folder) for name, folder in (("check", check), ("calibrate", calibrate)) if folder is not None}
    folders = {name: (str(folder), shuffled_pictures(name, folder)) for name, folder in named.items()}
    if calibrate is not None:
        require_calibration(len(folders["calibrate"][1]), min_calibration, calibrate)
    if validate is not None:
        require_labelled(Path(validate))

    from ..models.open import card_view
    from ..models.runtimes import open_runtime
    from . import check as checks
    from .prepare import prepare
    from .quantization import Calibration
    from .writers import WRITERS

    bounds = checks.bounds_for(chosen, max_difference, min_agreement, max_accuracy_drop)
    # Open the model and prepare it for the format.
    step = progress or (lambda text: None)
    step("opening the model")
    prepared = prepare(
        model,
        chosen,
        class_names=class_names,
        preprocessing=preprocessing,
        optimize=optimize,
        join_siblings=target.join_siblings,
        policy=_POLICIES.get(chosen, "float32") if target.name == "saved_model" else "float32",
        size=sides,
        default_size=False,
        input_type="float32" if integer_only else input_type,  # LiteRT's converter makes the input an integer itself
    )
    # Choose the images for calibration and for the comparison, and read them.
    labelled = None
    if validate is not None:
        labelled = str(validate), _validation(Path(validate), prepared)
    pictures = choose_pictures(folders, labelled, card_view(prepared.card), min_calibration)
    prepared.notes.extend(pictures.notes)
    calibration = None
    if pictures.calibration is not None:
        calibration = Calibration(pictures.calibration.images[:], settings, prepared.card.input_type)
        prepared.notes.extend(f"int8 was made with {key}={value}" for key, value in (quantization or {}).items())
    if integer_only:
        prepared = replace(prepared, card=replace(prepared.card, input_type="uint8"))
    # Write the export into a temporary folder, and compare it there; it gets its name only if it passes.
    with new_files(*formats.files_of(target, out)) as folder, _temporary_files(folder / "temporary"):
        step(f"writing {target.name}, {chosen}")
        written = folder / out.name
        WRITERS[target.name](prepared, written, calibration, options)
        step(f"comparing on {counted(len(pictures.judged), 'picture')}")
        found = checks.compare(
            prepared,
            written,
            shown=out,
            format=target.name,
            sample=pictures.judged,
            bounds=bounds,
        )
        digests = [checks.checksums(folder / file.name) for file in formats.files_of(target, out)[1:]]
        found = replace(found, sha256={name: value for each in digests for name, value in each.items()})
        write_json(folder / f"{out.name}.check.json", found.as_json())
    if target.name == "openvino":
        open_runtime(out)  # compile it for this machine and cache that, so that the first `predict` starts quickly
    _write_card(out, prepared.card, found, _run_of(model), wanted=model_card)
    return found


def _require_no_card(out: Path, wanted: bool) -> None:
    if wanted:
        from .model_card import require_no_card

        require_no_card(out)


def _write_card(out: Path, card: Card, check: Check, run: Path | None, *, wanted: bool) -> None:
    if wanted:
        from .model_card import write_model_card

        write_model_card(out, card, check, run)


def _run_of(model: keras.Model | str | PathLike[str]) -> Path | None:
    """The folder of the run that a model's path belongs to; None if it belongs to none."""
    if not isinstance(model, str | PathLike):
        return None
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    return folder if (folder / "config.json").is_file() else None


@contextmanager
def _temporary_files(folder: Path) -> Iterator[None]:
    """Let `tempfile` use a folder within the block, because a killed converter does not remove its temporary files."""
    before = tempfile.tempdir
    folder.mkdir()
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _int8_settings(
    target: formats.Format,
    precision: Precision,
    calibrate: object,
    least: object,
    quantization: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The settings of the quantiser; none for other precisions than int8.

    Raises:
        InputError: The arguments for int8 do not match the precision, or a setting is invalid.
    """
    from .quantization import read_settings

    if (calibrate is not None) != (precision == "int8"):
        takes = "a folder of pictures like the model's inputs" if precision == "int8" else f"None for {precision}"
        raise refuse(
            "calibrate",
            calibrate and str(calibrate),
            f"{takes}; only int8 needs them, to find the ranges of the layers",
        )
    if quantization is not None and precision != "int8":
        raise refuse("quantization", quantization, f"None for {precision}; only int8 has such settings")
    positive_integer("min_calibration", least)
    return read_settings(target.name, quantization)


def _validation(place: Path, prepared: ExportableModel) -> Source:
    """Open the images of `validate`, and add notes about them; InputError if the model cannot be scored on them."""
    from ..data.sources import open_source
    from ..data.value_range import range_notes, with_models_range
    from ..weights.labels import quoted, repeated

    card = prepared.card
    if not card.gives_classes:
        raise InputError("validate: the model returns an embedding, which has no accuracy; leave it out")
    if len(card.classes) == 1:
        raise InputError(
            "validate: the model returns one probability, which does not name the class of a folder; leave it out"
        )
    if twice := repeated(card.classes):
        raise InputError(
            f"validate: several classes of the model have the same name ({quoted(twice)}), so pictures cannot be "
            "matched; leave it out"
        )
    source = open_source(place, class_names=card.classes)
    if source.multi_label != card.multi_label:
        has, gives = ("several labels", "one class") if source.multi_label else ("one class", "several labels")
        raise InputError(f"validate: pictures of {place} have {has}, but the model predicts {gives}; leave it out")
    source = with_models_range(source, card.value_range, str(place))
    tested, note = source.test_part(str(place))
    prepared.notes.extend([*tested.notes, *range_notes(tested), *([note] if note else [])])
    prepared.notes.extend(f"{name}: {reason}" for name, reason in tested.beside)
    return tested
