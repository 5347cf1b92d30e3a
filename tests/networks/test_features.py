"""The named stages of a model."""

from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras import endpoints, feature_extractor
from inception_resnet_keras.common.errors import InputError

from .. import tiny
from ..tiny import IMAGES

STAGES = ["stem", "a01", "a02", "reduction_a", "b01", "b02", "reduction_b", "c01", "c02", "final"]
STRIDES = [f"stride_{stride}" for stride in (2, 4, 8, 16, 32)]

LAST = {
    "stem": "stem_fork_1_concat",
    "a02": "a02_relu",
    "reduction_a": "reduction_a_concat",
    "b02": "b02_concat",
    "c02": "c02_sum",
    "final": "final_conv_1_relu",
    "aux_logits": "aux_logits",
    "stride_2": "stem_conv_2_relu",
    "stride_4": "stem_pool_1",
    "stride_8": "a02_relu",
    "stride_16": "b02_concat",
    "stride_32": "final_conv_1_relu",
}


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return tiny.build(aux_head=True, include_preprocessing=True)


def test_endpoints(model: keras.Model) -> None:
    found = endpoints(model)
    heads = {"pooled", "logits", "predictions", "aux_logits", "aux_predictions"}
    assert set(found) == {*STAGES, *STRIDES, *heads}
    assert [name for name in found if name in STAGES] == STAGES
    assert list(found)[-5:] == STRIDES
    for name, layer in LAST.items():
        assert found[name] is model.get_layer(layer).output, name


def test_endpoints_without_top_or_size() -> None:
    bare = tiny.build(include_top=False, input_shape=(None, None, 3))
    assert set(endpoints(bare)) == {*STAGES, *STRIDES}
    assert "pooled" in endpoints(tiny.build(include_top=False, pooling="max"))
    outs = feature_extractor(bare)(np.zeros((1, 64, 96, 3), np.float32))
    assert {name: tuple(out.shape[1:3]) for name, out in outs.items()} == {
        "stride_4": (15, 23),
        "stride_8": (8, 12),
        "stride_16": (4, 6),
        "stride_32": (2, 3),
    }


@pytest.mark.parametrize("names", [None, "b01", ["c02", "stem"], ("logits",), [*STAGES, *STRIDES, "aux_logits"]])
@pytest.mark.filterwarnings("error")  # Keras warns where a list of inputs is fed a tensor
def test_features_are_the_models_own_tensors(model: keras.Model, names: Any) -> None:
    features = feature_extractor(model, names)
    wanted = STRIDES[1:] if names is None else [names] if isinstance(names, str) else list(names)
    outs = features(IMAGES)
    assert sorted(outs) == sorted(wanted)
    assert features.name == "tiny_features"
    for name in wanted:
        layer = model.get_layer(LAST[name]) if name in LAST else None
        if layer is not None:
            np.testing.assert_array_equal(outs[name], keras.Model(model.input, layer.output)(IMAGES), name)
    assert {id(weight) for weight in features.weights} <= {id(weight) for weight in model.weights}


def test_features_of_a_loaded_model(model: keras.Model, tmp_path: Any) -> None:
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert list(endpoints(loaded)) == list(endpoints(model))
    ours, theirs = feature_extractor(model)(IMAGES), feature_extractor(loaded)(IMAGES)
    for name in STRIDES[1:]:
        np.testing.assert_array_equal(theirs[name], ours[name])


def test_features_stand_inside_a_users_model(model: keras.Model) -> None:
    """As a neck of a detector has them; the network itself is not changed by being called."""
    image = keras.Input((64, 64, 3))
    maps = feature_extractor(model=tiny.build(include_top=False, input_shape=(None, None, 3)))(image)
    neck = keras.Model(image, [keras.layers.Conv2D(2, 1)(maps[name]) for name in STRIDES[1:]])
    assert [out.shape[1:3] for out in neck.outputs] == [(15, 15), (8, 8), (4, 4), (2, 2)]
    twin = [keras.Input((32, 32, 3)) for _ in range(2)]
    keras.Model(twin, [model(side)[0] for side in twin])
    assert endpoints(model)["stem"] is model.get_layer("stem_fork_1_concat").output


def test_features_train() -> None:
    model = tiny.build(tiny.FEW)
    features = feature_extractor(model, "b01")
    classes = keras.layers.Dense(2)(keras.layers.Flatten()(features.output["b01"]))
    tuned = keras.Model(features.input, classes)
    tuned.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    before = model.get_layer("stem_conv_1").kernel.numpy()
    tuned.fit(IMAGES, np.array([0, 1]), verbose=0)
    assert not np.array_equal(before, model.get_layer("stem_conv_1").kernel)


@pytest.mark.parametrize("names", ["a03", ["stem", "conv"], [], (), 4, ["stem", 4], [["stem"]], {"stem"}, ""], ids=str)
def test_unknown_names_are_refused_with_those_there_are(model: keras.Model, names: Any) -> None:
    with pytest.raises(InputError, match=r"^names: got .*stem, a01, a02, reduction_a, .*stride_32$"):
        feature_extractor(model, names)


def test_other_models_are_refused(model: keras.Model) -> None:
    other = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(InputError, match="has no layer with a name of this package"):
        endpoints(other)


def test_a_network_inside_another_model_is_found(model: keras.Model) -> None:
    nested = endpoints(keras.Sequential([keras.Input((32, 32, 3)), model]))
    assert {name: each.shape for name, each in nested.items()} == {
        name: each.shape for name, each in endpoints(model).items()
    }
