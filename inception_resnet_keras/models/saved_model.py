"""Checks the operations in a SavedModel before it is opened, because it is a program that can run while it is loaded.

TensorFlow has operations that read and write files, call Python and open connections. A list of dangerous operations
would never be complete. Instead, the file is first read as data, and opened only if all its operations are in the list
below. They only compute with tensors; `export` writes them for the networks of the tables and for Keras's own layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..common.errors import InputError
from ..common.files import require_regular

SAVED_MODEL_FILE = "saved_model.pb"

# Collected by exporting every network, variant, precision and signature, and models of Keras's own layers; then similar
# operations were added. No operation here may access files, Python, a network or a device besides the processors.
_OPERATIONS = """
    Placeholder Const Identity IdentityN NoOp StopGradient EnsureShape
    VarHandleOp ReadVariableOp AssignVariableOp DisableCopyOnRead
    StatefulPartitionedCall PartitionedCall StatelessIf StatelessCase StatelessWhile If Case While
    TensorListFromTensor TensorListGetItem TensorListReserve TensorListSetItem TensorListStack

    Conv2D Conv2DBackpropInput DepthwiseConv2dNative BiasAdd AvgPool MaxPool FusedBatchNormV3 LRN
    MatMul BatchMatMulV2 Einsum BatchToSpaceND SpaceToBatchND DepthToSpace SpaceToDepth
    ResizeBilinear ResizeNearestNeighbor ResizeBicubic ScaleAndTranslate
    Relu Relu6 LeakyRelu Elu Selu Sigmoid Tanh Softmax LogSoftmax Softplus Softsign

    Add AddV2 AddN Sub Mul RealDiv DivNoNan FloorDiv FloorMod Maximum Minimum Pow SquaredDifference
    Abs Neg Sign Square Sqrt Rsqrt Reciprocal Inv Exp Expm1 Log Log1p Erf Erfc Sin Cos Floor Ceil Round Rint
    Sum SegmentSum Mean Max Min Prod Any All ArgMax ArgMin Cumsum TopKV2 Bucketize DenseBincount ClipByValue
    Equal NotEqual Greater GreaterEqual Less LessEqual LogicalAnd LogicalOr LogicalNot Select SelectV2 Where

    Cast Shape ShapeN Size Rank Range Fill ZerosLike OnesLike Reshape Squeeze ExpandDims Transpose Pad PadV2 MirrorPad
    Pack Unpack ConcatV2 Split SplitV Slice StridedSlice GatherV2 GatherNd OneHot Tile BroadcastTo ReverseV2 Roll

    DecodeImage DecodeJpeg ExtractJpegShape DecodePng DecodeRaw ParseExampleV2
    StaticRegexFullMatch StringJoin StringSplitV2 Substr
"""
OPERATIONS = frozenset(_OPERATIONS.split())
# Every SavedModel contains functions to save itself. They must not be called by the functions used here.
SAVERS = frozenset(("SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"))
_OBJECTS = ("user_object", "function", "bare_concrete_function", "variable", "constant", "captured_tensor")
_USER_OBJECTS = ("_generic_user_object", "signature_map", "trackable_list_wrapper")
_REGISTERED = ("", "tf.TrackableConstant")
_COLLECTIONS = ("saved_model_main_op",)  # TensorFlow 2 writes an empty one and does not run it
_LARGEST_FILLED = 64 * 1024**2  # bytes of a constant that repeats one number; those of `export` have a few kB
TRUST_HELP = (
    "load a SavedModel with operations that `export` does not write: it can run any program, so only if you trust "
    "whoever made it"
)
_TRUST = "A SavedModel is a program, which could read, write and send files: if you trust whoever made it, give --trust"


def refuse_unknown_operations(path: Path) -> None:
    """Check every graph, function and initialiser of a SavedModel's folder without loading it.

    Raises:
        InputError: It is damaged, was written by TensorFlow 1, or contains something that `export` does not write; or
            one of its files is not a regular file.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf import saved_model_pb2

    for file in path.rglob("*"):
        require_regular(file)
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((path / SAVED_MODEL_FILE).read_bytes())
    except DecodeError as error:
        raise InputError(f"{path}: its {SAVED_MODEL_FILE} is damaged: {error}") from None
    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].object_graph_def.nodes:
        raise InputError(
            f"{path}: was not loaded: it has {len(model.meta_graphs)} graphs, or was written by TensorFlow 1, whose "
            f"graphs run while they are loaded; `export` writes one graph with its objects. {_TRUST}"
        )
    for unknown in _unknown(model.meta_graphs[0]):
        raise InputError(f"{path}: was not loaded: it contains {unknown}, which `export` does not write. {_TRUST}")


def _unknown(graph: Any) -> Iterator[str]:
    """Descriptions of everything in a graph that is not in the lists."""
    for name in graph.collection_def:
        if name not in _COLLECTIONS:
            yield f"the collection {name[:100]!r}"
    for asset in graph.asset_file_def:
        yield f"the asset {asset.filename[:100]!r}"
    for node in graph.object_graph_def.nodes:
        kind = node.WhichOneof("kind")
        name = f"{kind} {node.user_object.identifier}" if kind == "user_object" else str(kind)
        fits = kind in _OBJECTS and (kind != "user_object" or node.user_object.identifier in _USER_OBJECTS)
        if not fits or node.registered_name not in _REGISTERED or node.registered_saver or node.saveable_objects:
            yield f"the object {' '.join((name, node.registered_name, node.registered_saver)).strip()[:100]!r}"
    functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    for nodes in (graph.graph_def.node, *functions.values()):
        for node in nodes:
            if node.op not in OPERATIONS | SAVERS and node.op not in functions:
                yield f"the operation {node.op[:100]}"
            for value in node.attr.values():
                if value.HasField("tensor") and (size := _filled(value.tensor)) > _LARGEST_FILLED:
                    yield f"a constant of {size:,} bytes that repeats one number"
    saving = _callers_of_savers(functions)
    called = {gradient.gradient_func for gradient in graph.graph_def.library.gradient}
    if saving & (called | set(graph.object_graph_def.concrete_functions)):
        yield "a call of SaveV2 or RestoreV2"


def _filled(tensor: Any) -> int:
    """The bytes of a constant in memory, if the file does not have all its values; otherwise 0."""
    if tensor.tensor_content:
        return 0
    return 8 * math.prod(max(0, axis.size) for axis in tensor.tensor_shape.dim)


def _callers_of_savers(functions: dict[str, Any]) -> set[str]:
    """The functions that save or restore, directly or through functions that they call."""
    calls = {name: {call for node in nodes for call in _called(node)} for name, nodes in functions.items()}
    found: set[str] = set()
    while fresh := {name for name, called in calls.items() if name not in found and called & (SAVERS | found)}:
        found |= fresh
    return found


def _called(node: Any) -> Iterator[str]:
    """A node's own operation, and the functions that it may call."""
    yield node.op
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)
