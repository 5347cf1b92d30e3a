"""The export formats, one row each, with their precisions and options."""

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
    """A format.

    Attributes:
        name: Its name.
        suffix: The suffix of the file; "" for a folder.
        precisions: The precisions that it supports.
        needs: The modules that write and check it, besides TensorFlow.
        quantizer: The modules that int8 needs in addition.
        join_siblings: Whether its runtime is faster with sibling convolutions joined, for `optimize_for_inference`.
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
        # With siblings joined, ONNX Runtime takes 6 % more CPU time at batch 1 and 13 % at batch 8; OpenVINO does not.
        Format(
            "onnx", ".onnx", ("float32", "float16", "int8"), ("onnx", "tf2onnx", "onnxruntime"), join_siblings=False
        ),
        Format("openvino", ".xml", ("float32", "float16", "bfloat16", "int8"), ("openvino", "scipy"), ("nncf",)),
        Format("litert", ".tflite", ("float32", "float16", "int8"), ("ai_edge_litert",)),
    )
}


def chosen(format: str, precision: str) -> tuple[Format, Precision]:
    """Check a format and a precision; InputError if they do not match, or a library is not installed."""
    target = FORMATS[one_of("format", format, tuple(FORMATS))]
    found: Precision = one_of("precision", precision, PRECISIONS)
    if found not in target.precisions:
        elsewhere = [other.name for other in FORMATS.values() if found in other.precisions]
        takes = f"{' or '.join(target.precisions)} for {target.name}; {found} is available for {', '.join(elsewhere)}"
        raise refuse("precision", precision, takes)
    needed = target.needs + (target.quantizer if found == "int8" else ())
    if missing := [module for module in needed if find_spec(module) is None]:
        raise InputError(
            f"format: {target.name} in {found} needs {', '.join(missing)}, not installed here: {install('export')}"
        )
    return target, found


OPSETS = range(13, 19)  # from the first with int8 per channel to the newest that tf2onnx writes


@dataclass(frozen=True)
class Options:
    """Options of single formats.

    Attributes:
        opset: The opset of ONNX.
        integer_only: Whether a LiteRT file in int8 takes, computes and returns only integers.
    """

    opset: int = OPSETS[-1]
    integer_only: bool = False


DEFAULT = Options()


def chosen_options(target: Format, precision: Precision, opset: Any, integer_only: Any) -> Options:
    """Check the options of single formats; InputError if the format or the precision has no such option."""
    if opset is not None:
        takes = f"an integer of {OPSETS[0]} to {OPSETS[-1]}"
        if target.name != "onnx":
            raise refuse("opset", opset, f"None for {target.name}: only ONNX has opsets")
        if not is_integer(opset) or opset not in OPSETS:
            raise refuse("opset", opset, takes)
    if boolean("integer_only", integer_only) and (target.name, precision) != ("litert", "int8"):
        raise refuse("integer_only", True, f"False for {target.name} in {precision}: only litert in int8 has it")
    return Options(opset or DEFAULT.opset, integer_only)


def checked_size(size: Any) -> tuple[int, int] | None:
    """(height, width) from one number or two; None for None; InputError for other values."""
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
    """All files that an export writes; the exported file or folder is the last."""
    beside = [out.with_name(f"{out.name}.check.json")]
    return [*beside, out.with_suffix(".bin"), out] if target.suffix == ".xml" else [*beside, out]


def default_name(target: Format, precision: Precision) -> str:
    """The default name of an export, such as `model.onnx`, `model_int8.onnx` or `saved_model`."""
    stem = "model" if target.suffix else target.name
    return f"{stem}{'' if precision == 'float32' else f'_{precision}'}{target.suffix}"


def checked_out(target: Format, out: Path) -> Path:
    """Check `out`: it must have the suffix of the format, be in an existing folder, and not exist."""
    if out.suffix != target.suffix and (target.suffix or out.suffix in {row.suffix for row in FORMATS.values()}):
        raise refuse("out", str(out), f"a file ending in {target.suffix}" if target.suffix else "a folder's name")
    if not is_unicode(str(out.absolute())):
        raise InputError(f"out: {out.absolute()}: is not a name in UTF-8, which the converters need; give another")
    if not out.parent.is_dir():
        raise InputError(f"out: {out.parent} is not a folder; create it first")
    for path in reversed(files_of(target, out)):  # `out` itself first, which the user knows
        if path.exists() or path.is_symlink():
            raise InputError(f"out: {path} exists; it is not overwritten, give another name")
    return out
