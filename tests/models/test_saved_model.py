"""A SavedModel is a program: only the operations that `export` writes are ever loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from inception_resnet_keras import evaluate, export_model, networks, predict, verify_faces
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.folders import picture_files
from inception_resnet_keras.models.runtimes import open_runtime
from inception_resnet_keras.models.saved_model import OPERATIONS, SAVERS, refuse_unknown_operations
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.build import build

from ..exporting import CARD

SHAPE = (*CARD.size, 3)


def saved(exported: Any, path: Path, effect: Callable[[tf.Tensor], tf.Tensor]) -> Path:
    """A SavedModel with a card and a signature as `export` writes them, which has an effect when it is called."""

    def body(image: tf.Tensor) -> dict[str, tf.Tensor]:
        effected = tf.reduce_sum(tf.cast(effect(image), tf.float32))
        return {"output": tf.reduce_mean(image, (1, 2)) + 0 * effected}

    module = tf.Module()
    serve = tf.function(body, input_signature=[tf.TensorSpec([None, *SHAPE], name="image")])
    tf.saved_model.save(module, path, signatures=serve)
    return with_card(exported, path)


def with_card(exported: Any, path: Path) -> Path:
    shutil.copytree(exported["saved_model"][0] / "assets.extra", path / "assets.extra")
    return path


def text(value: str) -> tf.Tensor:
    return tf.constant(value)


def write_file(target: Path) -> tf.Tensor:
    with tf.control_dependencies([tf.io.write_file(text(str(target)), text("written"))]):
        return tf.constant(1.0)


def python(target: Path) -> tf.Tensor:
    return tf.py_function(lambda: target.write_text("run") and 1.0, [], tf.float32)


def table_of_a_file(target: Path) -> tf.Tensor:
    table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=table, filename=text(str(target)), key_index=-2, value_index=-1
    )
    return tf.raw_ops.LookupTableSizeV2(table_handle=table)


def restored(target: Path) -> tf.Tensor:
    return tf.raw_ops.RestoreV2(
        prefix=text(str(target)), tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32]
    )[0]


def saved_elsewhere(target: Path) -> tf.Tensor:
    saving = tf.raw_ops.SaveV2(
        prefix=text(str(target)), tensor_names=["x"], shape_and_slices=[""], tensors=[tf.ones(3)]
    )
    with tf.control_dependencies([saving]):
        return tf.constant(1.0)


def vocabulary(target: Path) -> tf.Tensor:
    return tf.raw_ops.GenerateVocabRemapping(
        new_vocab_file=text(str(target)), old_vocab_file=text(str(target)), new_vocab_offset=0, num_new_vocab=1
    )[1]


def sampler(target: Path) -> tf.Tensor:
    classes = tf.zeros((1, 1), tf.int64)
    return tf.raw_ops.FixedUnigramCandidateSampler(
        true_classes=classes, num_true=1, num_sampled=1, unique=True, range_max=3, vocab_file=str(target)
    )[1]


def number_of_lines(target: Path) -> tf.Tensor:
    return tf.data.TextLineDataset([str(target)]).reduce(tf.constant(0.0), lambda total, _: total + 1)


def print_to(target: Path) -> tf.Tensor:
    with tf.control_dependencies([tf.raw_ops.PrintV2(input="written", output_stream=f"file://{target}")]):
        return tf.constant(1.0)


EFFECTS: dict[str, Callable[[Path], tf.Tensor]] = {
    "WriteFile": write_file,
    "ReadFile": lambda target: tf.strings.length(tf.io.read_file(str(target))),
    "MatchingFiles": lambda target: tf.size(tf.io.matching_files(str(target))),
    "EagerPyFunc": python,
    "PrintV2": print_to,
    "ImmutableConst": lambda target: tf.raw_ops.ImmutableConst(
        dtype=tf.float32, shape=[1], memory_region_name=str(target)
    ),
    "GenerateVocabRemapping": vocabulary,
    "FixedUnigramCandidateSampler": sampler,
    "HashTableV2": table_of_a_file,
    "RestoreV2": restored,
    "SaveV2": saved_elsewhere,
    "Dataset": number_of_lines,
    "DebugIdentityV2": lambda target: tf.raw_ops.DebugIdentityV2(input=tf.ones(1), debug_urls=[f"file://{target}"]),
}


@pytest.mark.parametrize("operation", list(EFFECTS))
def test_an_operation_that_export_does_not_write_is_refused(exported: Any, tmp_path: Path, operation: str) -> None:
    target = tmp_path / "target"
    path = saved(exported, tmp_path / "model", lambda image: EFFECTS[operation](target))
    with pytest.raises(InputError, match=rf"was not loaded: it contains .*{operation}.*give --trust"):
        open_runtime(path)
    assert not target.exists()


def test_the_operation_is_found_wherever_it_hides(exported: Any, tmp_path: Path) -> None:
    """In a branch, a loop's body, a function of a function, and a function that no signature calls."""
    target = str(tmp_path / "target")

    def hidden(image: tf.Tensor) -> tf.Tensor:
        inner = tf.function(lambda: tf.strings.length(tf.io.read_file(target)))
        return tf.cond(tf.reduce_sum(image) > 0, tf.function(inner), lambda: 0)

    path = saved(exported, tmp_path / "branch", hidden)
    with pytest.raises(InputError, match="the operation ReadFile"):
        open_runtime(path)
    path = saved(exported, tmp_path / "unused", lambda image: image)
    proto = read(path)
    unused = proto.meta_graphs[0].graph_def.library.function.add()
    unused.signature.name = "never_called"
    unused.node_def.add(name="read", op="ReadFile")
    (path / "saved_model.pb").write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="the operation ReadFile"):
        open_runtime(path)


def read(path: Path) -> Any:
    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((path / "saved_model.pb").read_bytes())
    return proto


def test_a_graph_of_tensorflow_1_is_not_run(exported: Any, tmp_path: Path) -> None:
    """Such a graph's main operation runs while the model is loaded: loaded without the check, it writes its file."""
    target = tmp_path / "target"
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        image = tf.compat.v1.placeholder(tf.float32, [None, *SHAPE], "image")
        signature = tf.compat.v1.saved_model.predict_signature_def(
            {"image": image}, {"output": tf.reduce_mean(image, (1, 2))}
        )
        main_operation = tf.io.write_file(str(target), "written")
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "model"))
        builder.add_meta_graph_and_variables(
            session, ["serve"], signature_def_map={"serving_default": signature}, main_op=main_operation
        )
        builder.save()
        assert graph.get_operations()
    path = with_card(exported, tmp_path / "model")
    with pytest.raises(InputError, match="written by TensorFlow 1, whose graphs run while they are loaded"):
        open_runtime(path)
    assert not target.exists()
    tf.saved_model.load(str(path))
    assert target.read_text() == "written"


def add_asset(graph: Any) -> None:
    graph.asset_file_def.add(filename="../../secret").tensor_info.name = "x:0"


def add_resource(graph: Any) -> None:
    graph.object_graph_def.nodes.add().resource.device = ""


def add_layer(graph: Any) -> None:
    graph.object_graph_def.nodes.add().user_object.identifier = "_tf_keras_layer"


def add_restorer(graph: Any) -> None:
    variable = next(node for node in graph.object_graph_def.nodes if node.HasField("variable"))
    variable.saveable_objects["x"].save_function = 1


def add_registered(graph: Any) -> None:
    graph.object_graph_def.nodes[0].registered_name = "keras.Lambda"


def add_collection(graph: Any) -> None:
    graph.collection_def["legacy_init_op"].node_list.value.append("x")


def call_the_saver(graph: Any) -> None:
    saver = next(f for f in graph.graph_def.library.function if any(node.op == "RestoreV2" for node in f.node_def))
    called = next(iter(graph.object_graph_def.concrete_functions.values()))
    graph.object_graph_def.concrete_functions[saver.signature.name].CopyFrom(called)


def fill(graph: Any) -> None:
    node = graph.graph_def.library.function[0].node_def.add(name="huge", op="Const")
    node.attr["value"].tensor.tensor_shape.dim.add(size=2**40)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (add_asset, "the asset"),
        (add_resource, "the object 'resource'"),
        (add_layer, "the object 'user_object _tf_keras_layer'"),
        (add_restorer, "the object 'variable'"),
        (add_registered, "keras.Lambda"),
        (add_collection, "the collection 'legacy_init_op'"),
        (call_the_saver, "a call of SaveV2 or RestoreV2"),
        (fill, "a constant of 8,796,093,022,208 bytes"),
    ],
)
def test_what_else_runs_or_reads_while_loading_is_refused(
    exported: Any, tmp_path: Path, change: Callable[[Any], None], says: str
) -> None:
    path = tmp_path / "model"
    shutil.copytree(exported["saved_model"][0], path)
    proto = read(path)
    change(proto.meta_graphs[0])
    (path / "saved_model.pb").write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match=says):
        open_runtime(path)


def test_trust_loads_it_and_nothing_else_does(exported: Any, digits: Path, tmp_path: Path, capsys: Any) -> None:
    """In predict, evaluate and verify_faces, as functions and as verbs; explain and export load no export at all."""
    target = tmp_path / "target"
    path = saved(exported, tmp_path / "model", lambda image: write_file(target))
    picture = picture_files(digits)[0]
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("2\t1\n" + "null\t1\t2\n" * 4)
    attempts: list[Callable[[], object]] = [
        lambda: predict(path, picture),
        lambda: evaluate(path, digits, out=tmp_path / "out"),
        lambda: verify_faces(path, pairs, digits, out=tmp_path / "out"),
        lambda: export_model(path, tmp_path / "again", "saved_model"),
    ]
    for attempt in attempts:
        with pytest.raises(InputError):
            attempt()
    for arguments in (
        ["predict", path, picture],
        ["evaluate", path, "--data", digits],
        ["evaluate", path, "--data", digits, "--pairs", pairs],
        ["explain", path, picture, "--out", tmp_path / "explained"],
        ["export", path, "--format", "onnx", "--out", tmp_path / "again.onnx"],
        ["inspect", path],
        ["bench", path, "--rounds", 1],
    ):
        assert main(list(map(str, arguments))) == 1, arguments
    assert not target.exists()
    assert "give --trust" in capsys.readouterr().err
    (prediction,) = predict(path, picture, trust=True)
    assert prediction.top
    assert target.read_text() == "written"
    target.unlink()
    assert main(["predict", str(path), str(picture), "--trust"]) == 0
    assert target.exists()


def test_every_operation_has_a_name_that_tensorflow_knows() -> None:
    assert sorted(name for name in OPERATIONS | SAVERS if not hasattr(tf.raw_ops, name)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", list(networks.NETWORKS))
def test_what_export_writes_of_every_variant_is_opened(name: str, tmp_path: Path, digits: Path) -> None:
    for variant, table in networks.NETWORKS[name].items():
        narrow = edits.with_width(edits.with_depths(table, (1, 1, 1)), 0.1)
        model = build(narrow, 3, input_shape=(96, 96, 3), include_preprocessing=True)
        for precision in ("float32", "bfloat16") if variant == "paper" else ("float32",):
            out = tmp_path / f"{variant}_{precision}"
            export_model(
                model, out, "saved_model", precision=precision, check=digits, max_difference=1, min_agreement=0
            )
            refuse_unknown_operations(out)


def test_an_export_that_needs_trust_says_so(digits: Path, tmp_path: Path) -> None:
    """A model of operations that no layer of Keras has is still exported and compared; its note says how it opens."""
    inputs = keras.Input(SHAPE)
    x = keras.ops.real(keras.ops.fft2((inputs[..., 0], keras.ops.zeros_like(inputs[..., 0])))[0])
    x = keras.layers.Flatten()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x * np.float32(1e-6)))
    found = export_model(model, tmp_path / "model", "saved_model", preprocessing="none", check=digits)
    assert any("it can be opened only with --trust" in note for note in found.notes), found.notes
