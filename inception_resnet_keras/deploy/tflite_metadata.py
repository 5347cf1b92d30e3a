"""TensorFlow Lite's metadata, which MediaPipe Tasks, Android Studio and other tools read from a .tflite file.

It consists of a second FlatBuffer inside the file, of the schema `metadata_schema.fbs` (identifier M001), and of files
that are appended as a zip archive, here the class names. No maintained package writes it: tflite-support ended in 2023,
and MediaPipe's writer has lacked one of its libraries since version 1. Therefore this module writes the tables of the
schema; the tests read them back with MediaPipe.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.console import printable
from ..common.packages import required
from ..models.model_file import ExportCard, card_text
from ..models.runtimes import INPUT, output_name
from ..weights.runs import MEMBER
from .descriptions import described, description

FIELD = "TFLITE_METADATA"  # the entry in the model's list of metadata
LABELS = "labels.txt"
_ALIGNMENT = 16  # bytes; runtimes map the weights directly from the file
# Values of the schema's enumerations and unions.
_RGB, _IMAGE, _FEATURE, _NORMALIZATION, _AXIS_LABELS = 1, 2, 1, 1, 2
_MIN_PARSER = "1.0.0"


def add_metadata(path: Path, card: ExportCard) -> None:
    """Add metadata, class names and card to a .tflite file without metadata, and name its input and output."""
    schema = required("ai_edge_litert.schema_py_generated", "a .tflite model")
    flatbuffers = required("flatbuffers", "a .tflite model")
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    _name_ends(model, card)
    # The metadata is one more buffer of the model.
    information = schema.BufferT()
    information.data = np.frombuffer(_metadata(flatbuffers.Builder(), card), np.uint8)
    model.buffers.append(information)
    entry = schema.MetadataT()
    entry.name, entry.buffer = FIELD, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    aligned = _aligned(schema)
    for buffer in model.buffers:
        buffer.__class__ = aligned
    builder = flatbuffers.Builder(path.stat().st_size)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    with zipfile.ZipFile(path, "a") as archive:  # appended to the FlatBuffer, as the format demands
        archive.writestr(MEMBER, card_text(card))
        if card.classes:
            archive.writestr(LABELS, "".join(f"{printable(name)}\n" for name in card.classes))


def _name_ends(model: Any, card: ExportCard) -> None:
    """Give the input and the output the names that they have in every format."""
    (graph,) = model.subgraphs
    for (tensor,), name in ((graph.inputs, INPUT), (graph.outputs, output_name(card))):
        graph.tensors[tensor].name = name
    for signature in model.signatureDefs or []:
        for (end,), name in ((signature.inputs, INPUT), (signature.outputs, output_name(card))):
            end.name = name


def _aligned(schema: Any) -> type:
    """The schema's buffer class with its alignment, which the code generated for Python ignores."""

    class AlignedBuffer(schema.BufferT):
        def Pack(self, builder: Any) -> int:  # noqa: N802 - the generated code's name
            data = None
            if self.data is not None:
                payload = np.asarray(self.data, np.uint8).tobytes()
                builder.StartVector(1, len(payload), _ALIGNMENT)
                builder.head -= len(payload)
                builder.Bytes[builder.head : builder.head + len(payload)] = payload
                data = builder.EndVector()
            schema.BufferStart(builder)
            if data is not None:
                schema.BufferAddData(builder, data)
            schema.BufferAddOffset(builder, self.offset)
            schema.BufferAddSize(builder, self.size)
            return schema.BufferEnd(builder)

    return AlignedBuffer


def _metadata(builder: Any, card: ExportCard) -> bytes:
    """The metadata as a FlatBuffer. Slots are the positions of fields in the tables of the schema."""

    def text(value: str) -> int:
        return builder.CreateString(value)

    def table(offsets: dict[int, int], numbers: dict[int, tuple[str, int]] | None = None) -> int:
        numbers = numbers or {}
        builder.StartObject(max([*offsets, *numbers], default=-1) + 1)
        for slot, offset in offsets.items():
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        for slot, (kind, value) in numbers.items():
            getattr(builder, f"Prepend{kind}Slot")(slot, value, 0)
        return builder.EndObject()

    def vector(offsets: Sequence[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    def floats(*values: float) -> int:
        return builder.CreateNumpyVector(np.array(values, np.float32))

    # The input: an RGB image of a fixed size, with values from 0 to 255.
    height, width = card.size
    size = table({}, {0: ("Uint32", width), 1: ("Uint32", height)})
    image = table({1: size}, {0: ("Int8", _RGB)})
    pixels = table({1: image}, {0: ("Uint8", _IMAGE)})
    # Pixels are scaled inside the model: (x - 0) / 1.
    scaling = table({1: table({0: floats(0.0), 1: floats(1.0)})}, {0: ("Uint8", _NORMALIZATION)})
    takes = {
        0: text(INPUT),
        1: text(description(card)),
        3: pixels,
        4: vector([scaling]),
        5: table({0: floats(255.0), 1: floats(0.0)}),
    }
    takes_offset = table(takes)
    # The output: one value per class, with the file that names the classes.
    feature = table({1: table({})}, {0: ("Uint8", _FEATURE)})
    gives = {0: text(output_name(card)), 3: feature}
    if card.classes:
        labels = table({0: text(LABELS), 1: text("Class names")}, {2: ("Int8", _AXIS_LABELS)})
        gives |= {5: table({0: floats(1.0), 1: floats(0.0)}), 6: vector([labels])}
    gives_offset = table(gives)
    # The model as a whole.
    graph = table({2: vector([takes_offset]), 3: vector([gives_offset])})
    facts = "\n".join(f"{key}: {value}" for key, value in described(card).items())
    model = {
        0: text(f"{card.network} {card.variant}".strip()),
        1: text(facts),
        2: text(card.made_by),
        3: vector([graph]),
        7: text(_MIN_PARSER),
    }
    builder.Finish(table(model), b"M001")
    return bytes(builder.Output())
