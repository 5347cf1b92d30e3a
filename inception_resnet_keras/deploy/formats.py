"""What can be exported to, and in which precisions: a row a target."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from ..common.arguments import boolean, is_integer, is_unicode, one_of
from ..common.errors import InputError, refuse
from ..common.packages import install
from ..models.model_file import PRECISIONS, Precision

FormatName = Literal["saved_model", "onnx", "openvino", "litert"]


@dataclass(frozen=True)
class Format:
    """suffix: of the file; empty for a folder. needs: the modules that make and check it, beside Keras's engine.

    quantizer: what int8 needs besides. join_siblings: of `optimize_for_inference`, what its runtime is quicker with.
    """

    name: FormatName
    suffix: str
    precisions: tuple[Precision, ...]
    needs: tuple[str, ...]
    quantizer: tuple[str, ...] = ()
    join_siblings: bool = True


FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format("saved_model", "", ("float32", "float16", "bfloat16"), ()),
        # Joined, ONNX Runtime takes 6 % more processor time at batch 1 and 13 % at batch 8; OpenVINO the same.
        Format(
            "onnx", ".onnx", ("float32", "float16", "int8"), ("onnx", "tf2onnx", "onnxruntime"), join_siblings=False
        ),
        Format("openvino", ".xml", ("float32", "float16", "bfloat16", "int8"), ("openvino", "scipy"), ("nncf",)),
        Format("litert", ".tflite", ("float32", "float16", "int8"), ("ai_edge_litert",)),
    )
}


def chosen(format: str, precision: str) -> tuple[Format, Precision]:
    """The checked two; InputError where the target has not the precision, or its libraries are not installed."""
    target = FORMATS[one_of("format", format, tuple(FORMATS))]
    found: Precision = one_of("precision", precision, PRECISIONS)
    if found not in target.precisions:
        elsewhere = [other.name for other in FORMATS.values() if found in other.precisions]
        takes = f"{' or '.join(target.precisions)} for {target.name}; {found} is there for {', '.join(elsewhere)}"
        raise refuse("precision", precision, takes)
    needed = target.needs + (target.quantizer if found == "int8" else ())
    if missing := [module for module in needed if find_spec(module) is None]:
        raise InputError(
            f"format: {target.name} in {found} is written with {', '.join(missing)}, not installed here: "
            f"{install('export')}"
        )
    return target, found


OPSETS = range(13, 19)  # what int8's channels need at least, and the newest that tf2onnx writes


@dataclass(frozen=True)
class Options:
    """opset: of ONNX. integer_only: whether a LiteRT file in int8 takes, computes and gives integers alone."""

    opset: int = OPSETS[-1]
    integer_only: bool = False


DEFAULT = Options()


def chosen_options(target: Format, precision: Precision, opset: Any, integer_only: Any) -> Options:
    """The checked two; InputError where the target, or the precision, has no such option."""
    if opset is not None:
        takes = f"an integer of {OPSETS[0]} to {OPSETS[-1]}"
        if target.name != "onnx":
            raise refuse("opset", opset, f"None for {target.name}: only ONNX has opsets")
        if not is_integer(opset) or opset not in OPSETS:
            raise refuse("opset", opset, takes)
    if boolean("integer_only", integer_only) and (target.name, precision) != ("litert", "int8"):
        raise refuse("integer_only", True, f"False for {target.name} in {precision}: it is of litert in int8")
    return Options(opset or DEFAULT.opset, integer_only)


def checked_size(size: Any) -> tuple[int, int] | None:
    """(height, width) of one side or both; None for None. InputError for anything else."""
    if size is None:
        return None
    sides = (size, size) if is_integer(size) else size
    if (
        not isinstance(sides, tuple | list)
        or len(sides) != 2
        or not all(is_integer(s) and 0 < s < 2**16 for s in sides)
    ):
        raise refuse("size", size, "a side in pixels or (height, width), of 1 to 65535")
    return int(sides[0]), int(sides[1])


def files_of(target: Format, out: Path) -> list[Path]:
    """Everything that an export writes, the artefact last."""
    beside = [out.with_name(f"{out.name}.check.json")]
    return [*beside, out.with_suffix(".bin"), out] if target.suffix == ".xml" else [*beside, out]


def default_name(target: Format, precision: Precision) -> str:
    """`model.onnx`, `model_int8.onnx`, `saved_model`."""
    stem = "model" if target.suffix else target.name
    return f"{stem}{'' if precision == 'float32' else f'_{precision}'}{target.suffix}"


def checked_out(target: Format, out: Path) -> Path:
    """`out`, of the format's ending, in a folder that is there, over nothing."""
    if out.suffix != target.suffix and (target.suffix or out.suffix in {row.suffix for row in FORMATS.values()}):
        raise refuse("out", str(out), f"a file ending in {target.suffix}" if target.suffix else "a folder's name")
    if not is_unicode(str(out.absolute())):
        raise InputError(f"out: {out.absolute()}: is no name in UTF-8, which the converters need; give another")
    if not out.parent.is_dir():
        raise InputError(f"out: {out.parent} is no folder; make it first")
    for path in files_of(target, out):
        if path.exists() or path.is_symlink():
            raise InputError(f"out: {path} exists; it is not overwritten, give another name")
    return out
