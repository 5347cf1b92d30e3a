"""export_model: opened, optimised, written, compared, and only then put in its place."""

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
    progress: Callable[[str], None] = lambda text: None,
) -> Check:
    """Writes a model for another runtime, compares it there with the Keras model, and keeps it only if it agrees.

    Every export takes (batch, height, width, 3), RGB pixels of 0-255, and gives (batch, classes) probabilities, or a
    facenet's embedding; it carries its class names and size, and `predict` and `models.runtimes.open_runtime` run it.

    Args:
        model: A Keras model, a run's folder, or a .keras file. It is not changed.
        out: The file or folder to write, which must not exist: a folder for "saved_model", else a file
            ending in .onnx, .xml (its .bin is written beside it) or .tflite. `OUT.check.json` beside
            it holds the comparison's figures.
        format: "saved_model", "onnx", "openvino" or "litert".
        precision: "float32"; "float16"; "bfloat16" (SavedModel, OpenVINO); "int8" (ONNX, OpenVINO,
            LiteRT), by the target's own quantiser on `calibrate`'s pictures.
        calibrate: For int8: a folder of pictures such as the model will see, in folders a class or
            loose; up to 300 are calibrated on, and the others, at least a fifth, are compared on if neither `check` nor
            `validate` is given. Pictures with the pixels of one of them are left out of the comparison.
        check: A folder of pictures to compare on, all of them.
        validate: Labelled pictures as `open_source` takes them, such as a folder with one folder per class: all are
            compared on, and the accuracy of both is taken on them. Without pictures of yours it is photographs and
            digits that scikit-learn ships.
        class_names: In the order of the outputs, for a model that carries none, or others;
            "imagenet" for ImageNet's 1000, and "background" before them where there are 1001.
        preprocessing: How a model that does not scale pixels itself takes them: "inception",
            "facenet", or "none"; None for what its network was made for.
        size: (height, width), or both at once, of the pictures that the export takes, for a model that takes any;
            None where the model says it itself.
        input_type: "float32" or "uint8": of the export's pixels. They are scaled inside it in either.
        integer_only: Of LiteRT in int8, whether pixels, every operation and the probabilities are integers, as some
            accelerators of phones and boards (NPUs) need it: uint8 in, and uint8 steps of 1/256 out.
        opset: Of ONNX, 13 to 18; None for 18.
        optimize: Whether `optimize_for_inference` is applied first; for ONNX it leaves siblings apart.
        max_difference: The largest between two outputs, as a share of the largest output: by default
            1e-4 in float32, 0.05 in float16, 0.2 in bfloat16, any in int8.
        min_agreement: The least share of pictures with the same top-1 (for an embedding, the least
            cosine similarity): 0.99, 0.98, 0.95 and 0.9.
        max_accuracy_drop: On `validate`'s pictures: 0.001, 0.005, 0.01 and 0.02.
        min_calibration: The fewest pictures that int8 is calibrated on, at least 1; fewer than 100 are warned of.
        quantization: For int8: settings of the target's own quantiser, in its words; enumerations by name. For OpenVINO
            those of `nncf.quantize`, such as {"preset": "performance", "ignored_scope": {"patterns": [".*logits.*"]}};
            for ONNX those of `onnxruntime.quantization.quantize_static`, such as {"calibrate_method": "Percentile",
            "nodes_to_exclude": [...]}. LiteRT's converter has none.
        model_card: Whether to write README.md, which must not exist, beside `out`: a model card for Hugging Face's hub,
            with the figures of the run that the model is of.
        progress: Called with what is being done.

    Returns:
        The comparison: its figures, and what was assumed.

    Raises:
        ValueError: An argument is out of range, the target has not the precision, `out` exists, a
            folder has no pictures, the model cannot be exported, Keras runs on another engine than
            TensorFlow, or a bound was passed. Nothing is then left of it.
    """
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

    from ..models.runtimes import open_runtime
    from . import check as checks
    from .prepare import prepare
    from .quantization import Calibration
    from .writers import WRITERS

    bounds = checks.bounds_for(chosen, max_difference, min_agreement, max_accuracy_drop)
    progress("opening the model")
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
        input_type="float32" if integer_only else input_type,  # its converter makes the input an integer
    )
    labelled = None
    if validate is not None:
        labelled = str(validate), _validation(Path(validate), prepared)
    size, crop = prepared.card.size, prepared.card.central_crop
    pictures = choose_pictures(folders, labelled, size, crop, min_calibration)
    prepared.notes.extend(pictures.notes)
    calibration = None
    if pictures.calibration is not None:
        calibration = Calibration(pictures.calibration.images[:], settings, prepared.card.input_type)
        prepared.notes.extend(f"int8 was made with {key}={value}" for key, value in (quantization or {}).items())
    if integer_only:
        prepared = replace(prepared, card=replace(prepared.card, input_type="uint8"))
    with new_files(*formats.files_of(target, out)) as folder, _temporary_files(folder / "temporary"):
        progress(f"writing {target.name}, {chosen}")
        written = folder / out.name
        WRITERS[target.name](prepared, written, calibration, options)
        progress(f"comparing on {counted(len(pictures.judged), 'picture')}")
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
        open_runtime(out)  # compiles it for this machine, which keeps it: the first `predict` starts as the next do
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
    """The folder of the run that a model's path is of, if it is of one."""
    if not isinstance(model, str | PathLike):
        return None
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    return folder if (folder / "config.json").is_file() else None


@contextmanager
def _temporary_files(folder: Path) -> Iterator[None]:
    """Make `tempfile` use a folder meanwhile: a converter that is killed removes none of its temporary files."""
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
    """The quantiser's settings, none but for int8. Raises InputError where int8's arguments do not fit it."""
    from .quantization import read_settings

    if (calibrate is not None) != (precision == "int8"):
        takes = "a folder of pictures such as the model will see" if precision == "int8" else f"None for {precision}"
        raise refuse("calibrate", calibrate, f"{takes}; int8 is quantised on them, nothing else is")
    if quantization is not None and precision != "int8":
        raise refuse("quantization", quantization, f"None for {precision}; int8 alone has such settings")
    positive_integer("min_calibration", least)
    return read_settings(target.name, quantization)


def _validation(place: Path, prepared: ExportableModel) -> Source:
    """`validate`'s pictures, opened, and noted as they are; InputError where the model has no accuracy on any."""
    from ..data.sources import open_source
    from ..weights.labels import quoted, repeated

    card = prepared.card
    if not card.gives_classes:
        raise InputError("validate: the model gives an embedding, which has no accuracy; leave it out")
    if len(card.classes) == 1:
        raise InputError("validate: the model gives one probability, which names no folder's class; leave it out")
    if twice := repeated(card.classes):
        raise InputError(
            f"validate: the model has several classes of one name ({quoted(twice)}), which pictures cannot be matched "
            "with; leave it out"
        )
    source = open_source(place, class_names=card.classes)
    if source.multi_label != card.multi_label:
        has, gives = ("several labels", "one class") if source.multi_label else ("one class", "several labels")
        raise InputError(f"validate: a picture of {place} has {has}, and the model gives {gives}; leave it out")
    tested, note = source.test_part(str(place))
    prepared.notes.extend([*tested.notes, *([note] if note else [])])
    prepared.notes.extend(f"{name}: {reason}" for name, reason in tested.beside)
    return tested
