"""Names as they stand in people's files: prefixes, averages beside weights, other projects' heads and sizes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inception_resnet_keras import inspect_checkpoint, load_weights, networks
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.networks.trace import minimum_side, side_of_aux_kernel, trace, weight_shapes
from inception_resnet_keras.weights.identify import identify, identify_checkpoint
from inception_resnet_keras.weights.load import plan

from .. import tiny as tiny_networks
from . import synthetic
from .test_load import SOURCES, Shapes, checkpoint_of, model_of, shapes_in

COMPONENTS = st.text("abmsxyzAZ_0189-", min_size=1, max_size=12)
PREFIXES = st.lists(st.tuples(COMPONENTS, st.sampled_from("./")), min_size=1, max_size=14).map(
    lambda parts: "".join(map("".join, parts))
)


def under(prefix: str, shapes: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in shapes.items()}


def trunk_of(name: str) -> Shapes:
    return {key: shape for key, shape in model_of(name).items() if not key.startswith(("logits", "embedding"))}


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=10, deadline=None)
@given(prefix=PREFIXES)
def test_any_prefix_is_stripped_and_reported(name: str, prefix: str) -> None:
    made = plan(model_of(name), checkpoint_of(under(prefix, shapes_in(name))))
    bare = plan(model_of(name), checkpoint_of(shapes_in(name)))
    assert (made.report.prefix, bare.report.prefix) == (prefix, "")
    assert f"prefix: {prefix!r} was removed" in str(made.report)
    assert made.report.loaded == bare.report.loaded
    assert {key: source.name for key, source in made.sources.items()} == {
        key: f"{prefix}{source.name}" for key, source in bare.sources.items()
    }


def tiny(seed: int = 0) -> keras.Model:
    model = tiny_networks.build(num_classes=3)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.random(weight.shape, dtype=np.float32) for weight in model.weights])
    return model


@pytest.fixture(scope="module")
def models() -> tuple[keras.Model, keras.Model, keras.Model]:
    """Two sets of weights, and a model to be loaded."""
    return tiny(1), tiny(2), tiny(3)


def arrays_of(model: keras.Model) -> synthetic.Arrays:
    return {f"{layer.name}/{weight.name}": np.array(weight) for layer in model.layers for weight in layer.weights}


def write(path: Path, values: synthetic.Arrays, kind: str) -> Path:
    match kind:
        case "safetensors":
            return synthetic.write_safetensors(path, values)
        case "pt":
            return synthetic.write_torch(path, values)
        case "v1" | "v2":
            return synthetic.write_tensorflow(path, values, int(kind[1]))
        case "tar.gz":
            return synthetic.write_archive(path, write(path.with_suffix(".ckpt"), values, "v1"))
    raise ValueError(kind)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "v1", "v2", "tar.gz"])
@settings(max_examples=6, deadline=None)
@given(prefix=PREFIXES)
def test_prefixes_are_of_no_format(
    kind: str,
    prefix: str,
    models: tuple[keras.Model, keras.Model, keras.Model],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    saved, _, model = models
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    path = write(tmp_path_factory.mktemp("prefix") / "file", under(prefix, arrays_of(saved)), kind)
    assert load_weights(model, path).prefix == prefix
    assert all(map(np.array_equal, model.get_weights(), saved.get_weights()))


@pytest.mark.parametrize(
    "name", ["timm_inception_v4", "slim_inception_resnet_v2", "facenet_pytorch_inception_resnet_v1"]
)
def test_what_stands_beside_a_prefix_is_dropped_with_a_line(name: str) -> None:
    shapes = under("backbone.", shapes_in(name)) | {
        "fc.weight": (5, 9),
        "BoxPredictor/weights": (4, 4),
        "backbone2": (),
    }
    report = plan(trunk_of(name), checkpoint_of(shapes)).report
    assert report.dropped["outside 'backbone.', which holds the network"] == [
        *("fc.weight", "BoxPredictor/weights", "backbone2"),
    ]


def test_a_detector_has_its_network_in_two_scopes() -> None:
    name = "slim_inception_resnet_v2"
    second = ("Mixed_7a", "Repeat_2", "Block8", "Conv2d_7b_1x1")
    shapes = {
        f"{'Second' if key.split('/')[1] in second else 'First'}StageFeatureExtractor/{key}": shape
        for key, shape in shapes_in(name).items()
        if "Logits" not in key
    }
    made = plan(trunk_of(name), checkpoint_of(shapes | {"FirstStageBoxPredictor/Conv/weights": (1, 1, 9, 9)}))
    assert made.report.loaded == len(trunk_of(name))
    assert made.report.prefix == "FirstStageFeatureExtractor/, SecondStageFeatureExtractor/"
    assert list(made.report.dropped.values()) == [["FirstStageBoxPredictor/Conv/weights"]]


def test_a_network_that_is_there_twice_is_refused_with_its_prefixes() -> None:
    shapes = shapes_in("timm_inception_v4")
    with pytest.raises(InputError, match=r"several networks, with names that begin with 'encoder_k\.', 'encoder_q\.'"):
        identify_checkpoint(checkpoint_of(under("encoder_q.", shapes) | under("encoder_k.", shapes)))


def test_a_tensor_that_is_missing_is_named_with_its_prefix() -> None:
    shapes = under("module.", shapes_in("timm_inception_v4"))
    del shapes["module.features.0.conv.weight"]
    with pytest.raises(InputError, match=r"module\.features\.0\.conv\.weight: missing from the file"):
        plan(model_of("timm_inception_v4"), checkpoint_of(shapes))


AVERAGES = [
    *("state_dict_ema.", "model_ema.module.", "ema.", "averaged_model.", "swa_model/", "ExponentialMovingAverage/"),
    *("module_ema.", "emaModel.", "ema_shadow."),
]


@pytest.mark.parametrize("averages", AVERAGES)
@pytest.mark.parametrize("weights", ["state_dict.", "model.", ""])
def test_averages_under_a_prefix_are_taken_where_asked_for(weights: str, averages: str) -> None:
    shapes = shapes_in("timm_inception_v4")
    checkpoint = checkpoint_of(under(weights, shapes) | under(averages, shapes))
    for ema, prefix, left in ((False, weights, averages), (True, averages, weights)):
        made = plan(model_of("timm_inception_v4"), checkpoint, ema=ema)
        assert made.report.prefix == prefix
        assert all(source.name.startswith(prefix) for source in made.sources.values())
        what = "raw weights: ema=True" if ema else f"running averages under {averages!r}"
        (dropped,) = (names for reason, names in made.report.dropped.items() if reason.startswith(what))
        assert len(dropped) == len(shapes)
        assert all(name.startswith(left) for name in dropped)
    found = identify_checkpoint(checkpoint)
    assert found
    assert found.averages


def test_averages_of_what_is_trained_leave_the_statistics_to_the_weights() -> None:
    shapes = shapes_in("timm_inception_v4")
    trained = {name: shape for name, shape in shapes.items() if "running" not in name and "num_batches" not in name}
    made = plan(
        model_of("timm_inception_v4"), checkpoint_of(under("model.", shapes) | under("ema.", trained)), ema=True
    )
    sources = {key: source.name for key, source in made.sources.items()}
    assert sources["stem_conv_1/kernel"] == "ema.features.0.conv.weight"
    assert sources["stem_conv_1_bn/moving_mean"] == "model.features.0.bn.running_mean"


def test_averages_alone_are_the_weights() -> None:
    checkpoint = checkpoint_of(under("state_dict_ema.", shapes_in("timm_inception_v4")))
    for ema in (False, True):
        made = plan(model_of("timm_inception_v4"), checkpoint, ema=ema)
        assert made.report.loaded == len(model_of("timm_inception_v4"))


def test_averages_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match="ema: got True; it takes False for file: the file has no running averages"):
        plan(model_of("timm_inception_v4"), checkpoint_of(shapes_in("timm_inception_v4")), ema=True)


@pytest.mark.parametrize("prefix", ["", "tower/"])
def test_tensorflows_averages_stand_behind_the_names(prefix: str) -> None:
    name = "slim_inception_v4"
    shapes = shapes_in(name)
    averages = {f"{key}/ExponentialMovingAverage": shape for key, shape in shapes.items() if "moving" not in key}
    made = plan(model_of(name), checkpoint_of(under(prefix, shapes | averages)), ema=True)
    assert made.sources["stem_conv_1/kernel"].name == (
        f"{prefix}InceptionV4/Conv2d_1a_3x3/weights/ExponentialMovingAverage"
    )
    assert made.sources["stem_conv_1_bn/moving_mean"].name == (
        f"{prefix}InceptionV4/Conv2d_1a_3x3/BatchNorm/moving_mean"
    )
    assert "raw weights: ema=True loads their running averages" in made.report.dropped


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_file_of_two_sets_is_told_and_loaded(
    kind: str, models: tuple[keras.Model, keras.Model, keras.Model], tmp_path: Path
) -> None:
    raw, average, model = models
    values = under("state_dict.", arrays_of(raw)) | under("state_dict_ema.", arrays_of(average))
    path = write(tmp_path / "file", values, kind)
    for ema, saved in ((False, raw), (True, average)):
        report = load_weights(model, path, ema=ema)
        assert all(map(np.array_equal, model.get_weights(), saved.get_weights()))
        assert sum(map(len, report.dropped.values())) == len(saved.weights)


CADENE = {
    "v4": ("timm_inception_v4", {"last_linear": "last_linear"}),
    "v4_old": ("timm_inception_v4", {"last_linear": "classif"}),
    "resnet_v2": ("timm_inception_resnet_v2", {"classif": "last_linear"}),
    "resnet_v2_old": ("timm_inception_resnet_v2", {"classif": "classif"}),
}


@pytest.mark.parametrize("which", CADENE)
@pytest.mark.parametrize("classes", [1000, 1001])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_cadenes_names_load_with_and_without_the_background(which: str, classes: int, prefix: str) -> None:
    name, ((theirs, here),) = CADENE[which][0], CADENE[which][1].items()
    shapes = {
        key.replace(theirs, here): (classes, *shape[1:]) if theirs in key else shape
        for key, shape in shapes_in(name).items()
    }
    checkpoint = checkpoint_of(under(prefix, shapes))
    found = identify_checkpoint(checkpoint)
    assert found
    assert found.description.classes == classes
    assert found.table.source == ("timm" if here == theirs else "Cadene/pretrained-models")
    for wanted in (1000, 1001):
        if wanted > classes:
            continue
        made = plan(model_of(name, classes=wanted), checkpoint)
        removed = {"class 0 of 1001, the background, removed": ["logits/kernel", "logits/bias"]}
        assert made.report.changed == (removed if wanted < classes else {})
    assert plan(trunk_of(name), checkpoint).report.dropped["classifier: the model has none"]


def keras_facenet(last: str, width: int = 128) -> Shapes:
    """The names of nyoki-mtl/keras-facenet."""
    found: Shapes = {}
    roles = {"weights": "kernel", "biases": "bias"}
    for key, shape in synthetic.manifest("facenet_tf_inception_resnet_v1").items():
        scope, *parts = key.split("/")
        if scope != "InceptionResnetV1" or parts[-1] not in ("beta", "moving_mean", "moving_variance", *roles):
            continue
        if parts[0].startswith("Repeat"):
            parts = [parts[1].replace("block", "Block"), *parts[2:]]
        parts = [last if part == "Block8" else part for part in parts]
        narrow = tuple(width if side == 512 and parts[0] == "Bottleneck" else side for side in shape)
        found[f"{'_'.join(parts[:-1])}/{roles.get(parts[-1], parts[-1])}"] = narrow
    return found


@pytest.mark.parametrize("last", ["Block8", "Block8_6"])
@pytest.mark.parametrize("width", [128, 512, 64])
def test_keras_ports_of_facenet(last: str, width: int) -> None:
    shapes = keras_facenet(last, width)
    variant = "facenet_128" if width == 128 else "facenet"
    found = identify(shapes)
    assert found
    assert (found.score, found.description.variant, found.description.embedding) == (1, variant, width)
    assert found.table.source == "nyoki-mtl/keras-facenet"
    trunk = trunk_of("facenet_tf_inception_resnet_v1")
    assert plan(trunk, checkpoint_of(shapes)).report.loaded == len(trunk)
    network = networks.find("inception_resnet_v1", variant)
    model = weight_shapes(trace(network, classes=None, embedding=True))
    if width != 64:
        made = plan(model, checkpoint_of(shapes))
        assert made.report.loaded == len(shapes)
        assert made.sources["c06_project/bias"].name == f"{last}_Conv2d_1x1/bias"
    else:
        with pytest.raises(InputError, match="embedding has 64 numbers: a model with include_top=False loads"):
            plan(model, checkpoint_of(shapes))


@pytest.mark.parametrize("name", ["facenet_tf_inception_resnet_v1", "facenet_pytorch_inception_resnet_v1"])
def test_a_narrow_embedding_is_a_variant_of_its_own(name: str) -> None:
    heads = ("Bottleneck", "last", "logits")
    shapes = {
        key: tuple(128 if side == 512 and any(part in key for part in heads) else side for side in shape)
        for key, shape in shapes_in(name).items()
    }
    found = identify(shapes)
    assert found
    assert (found.description.variant, found.description.preprocessing.name) == (
        "facenet_128",
        "per_image_standardization",
    )
    assert "variant='facenet_128'" in found.description.factory_call()
    with pytest.raises(InputError, match=r"128 numbers: variant='facenet_128' builds it, and a model with"):
        plan(model_of(name), checkpoint_of(shapes))
    assert plan(trunk_of(name), checkpoint_of(shapes)).report.loaded == len(trunk_of(name))


@pytest.mark.parametrize("network", ["inception_v4", "inception_resnet_v2"])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 6, 7, 12])
def test_the_auxiliary_heads_last_kernel_tells_the_size(network: str, kernel: int) -> None:
    table = networks.find(network, "slim")
    side = side_of_aux_kernel(table, kernel)
    assert side
    kernels = {
        each: weight_shapes(trace(table, (each, each), aux_head=True))["aux_conv_2/kernel"][0]
        for each in (minimum_side(table, aux_head=True), side - 1, side, side + 1)
        if each >= minimum_side(table, aux_head=True)
    }
    assert kernels[side] == kernel
    assert kernel == 5 or kernel in (kernels.get(side - 1, 0) + 1, kernels.get(side + 1, 0) - 1)  # the nearest to 299
    assert side_of_aux_kernel(table, 5) == 299


@pytest.mark.parametrize("window", [(3, 3), (1, 4), (6, 5)])
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("slim_inception_v4", "InceptionV4/AuxLogits/Conv2d_2a/weights"),
        ("slim_inception_resnet_v2", "InceptionResnetV2/AuxLogits/Conv2d_2a_5x5/weights"),
    ],
)
def test_an_auxiliary_head_of_another_size(name: str, key: str, window: tuple[int, int]) -> None:
    shapes = shapes_in(name) | {key: (*window, 128, 768)}
    found = identify(shapes)
    assert found
    options = found.description.factory_options()
    height, width, _ = options.get("input_shape", (299, 299, 3))
    network = networks.find(found.description.name, "slim")
    model = weight_shapes(trace(network, (height, width), classes=1001, aux_head=True))
    assert plan(model, checkpoint_of(shapes)).report.loaded == len(model)
    with pytest.raises(InputError, match=rf"is for another image size: input_shape=\({height}, {width}, 3\) fits it"):
        plan(model_of(name, aux_head=True), checkpoint_of(shapes))


def test_inspect_tells_prefix_and_averages(tmp_path: Path) -> None:
    zeros = {key: np.broadcast_to(np.float32(0), shape) for key, shape in keras_facenet("Block8_6").items()}
    values = {key: np.zeros(array.shape, np.float16) for key, array in zeros.items()}
    path = synthetic.write_safetensors(tmp_path / "a", under("net.model.", values) | under("net.model_ema.", values))
    found = inspect_checkpoint(path)
    assert (found.prefix, found.averages) == ("net.model.", True)
    said = str(found)
    assert "its names begin with 'net.model.', which is removed" in said
    assert "running averages" in said
    assert "preprocess_input(x, 'per_image_standardization')" in said


def test_a_prefix_costs_little_in_a_file_of_many_names() -> None:
    """Twenty thousand tensors with a hundred separators each are looked at, and no more than that."""
    names = {f"{'a.' * 100}{number}.weight": (1,) for number in range(20_000)}
    began = time.process_time()
    assert identify(names) is None
    assert time.process_time() - began < 60  # 2 s: a pair of nested loops over them takes hours


@pytest.mark.parametrize("wrong", ["last_linear.weight", "last_linear.bias"])
def test_a_classifier_that_is_at_odds_with_itself_is_no_background(wrong: str) -> None:
    name = "timm_inception_v4"
    shapes = shapes_in(name)
    shapes[wrong] = (1001, *shapes[wrong][1:])
    with pytest.raises(InputError, match="has shape"):
        plan(model_of(name), checkpoint_of(shapes))
