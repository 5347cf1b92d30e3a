"""Layers of a user's own around a network: in front of it, behind it, and the network nested in other models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import inception_resnet_keras as irk
from inception_resnet_keras.weights.inspect import inspect_checkpoint
from inception_resnet_keras.weights.load import load_weights, weights_by_name

SMALL: dict[str, Any] = {"depths": (1, 1, 1), "input_shape": (75, 75, 3)}
TRUNK: dict[str, Any] = {"include_top": False, "pooling": "avg", **SMALL}
FORMATS = (".keras", ".h5", ".weights.h5")


def trunk(seed: int = 1, **options: Any) -> keras.Model:
    """The first part of Inception-ResNet-v1, with weights away from their start."""
    model = irk.create_inception_resnet_v1(**(TRUNK | options))
    random = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(weight + 0.02 * random.random(weight.shape))
    return model


def flat(inner: keras.Model) -> keras.Model:
    return keras.Model(inner.input, keras.layers.Dense(5, name="mine")(inner.output))


def nested(inner: keras.Model) -> keras.Model:
    return keras.Sequential([keras.Input((75, 75, 3)), inner, keras.layers.Dense(5, name="mine")])


def nested_twice(inner: keras.Model) -> keras.Model:
    image = keras.Input((75, 75, 3))
    augmented = keras.Sequential([keras.Input((75, 75, 3)), keras.layers.RandomFlip(), inner], name="augmented")
    return keras.Model(image, keras.layers.Dense(5, name="mine")(augmented(image)))


def behind_an_adapter(inner: keras.Model) -> keras.Model:
    image = keras.Input((75, 75, 4))
    adapter = keras.layers.Conv2D(3, 1, name="adapter")
    return keras.Model(image, keras.layers.Dense(5, name="mine")(inner(adapter(image))))


def saved(model: keras.Model, path: Path) -> Path:
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


def assert_same_trunk(model: keras.Model, expected: keras.Model) -> None:
    """Every weight of the network is the expected one."""
    found = weights_by_name(model)
    for key, weight in weights_by_name(expected).items():
        np.testing.assert_array_equal(found[key].numpy(), weight.numpy(), err_msg=key)


@pytest.mark.parametrize(
    ("around", "ending"),
    [
        *((flat, ending) for ending in FORMATS),
        (nested, ".keras"), (nested, ".h5"), (nested_twice, ".weights.h5"), (behind_an_adapter, ".keras"),
    ],
)  # fmt: skip
def test_the_network_is_loaded_from_a_file_of_a_larger_model(
    around: Callable[[keras.Model], keras.Model], ending: str, tmp_path: Path
) -> None:
    """Compiled and with an optimizer's state, so that a .keras and a .h5 hold copies of the weights, too."""
    inner = trunk()
    model = around(inner)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9) if ending == ".h5" else "adam"
    model.compile(optimizer, "mse")
    model.optimizer.build(model.trainable_variables)
    path = saved(model, tmp_path / f"model{ending}")

    loaded = irk.create_inception_resnet_v1(weights=path, **TRUNK)
    assert_same_trunk(loaded, inner)

    classifier = irk.create_inception_resnet_v1(7, **SMALL)
    before = classifier.get_layer("logits").get_weights()
    report = load_weights(classifier, path, new_head=True)
    assert_same_trunk(classifier, inner)
    for one, other in zip(classifier.get_layer("logits").get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert report.fresh == ["logits/kernel", "logits/bias"]
    left = {name.rpartition("/")[0] for names in report.dropped.values() for name in names}
    assert "mine" in left
    assert ("adapter" in left) is (around is behind_an_adapter)

    call = inspect_checkpoint(path).call
    assert_same_trunk(eval(f"irk.{call}", {"irk": irk}), inner)


@pytest.mark.parametrize("around", [flat, nested, nested_twice, behind_an_adapter])
def test_a_network_inside_a_larger_model_is_loaded_from_its_own_file(
    around: Callable[[keras.Model], keras.Model], tmp_path: Path
) -> None:
    source = trunk(seed=2)
    source.save(tmp_path / "a.keras")
    model = around(trunk())
    head = [weight.numpy() for weight in model.layers[-1].weights]
    report = load_weights(model, tmp_path / "a.keras")
    assert_same_trunk(model, source)
    own = {"mine/kernel", "mine/bias"} | ({"adapter/kernel", "adapter/bias"} if around is behind_an_adapter else set())
    assert set(report.fresh) == own
    assert all(np.array_equal(one, other) for one, other in zip(model.layers[-1].weights, head, strict=True))


def test_layers_of_ones_own_are_loaded_where_the_file_has_them(tmp_path: Path) -> None:
    source = saved(behind_an_adapter(trunk(seed=2)), tmp_path / "a.h5")
    expected = keras.saving.load_model(source)
    model = behind_an_adapter(trunk())
    assert load_weights(model, source).fresh == []
    assert_same_trunk(model, expected)
    other = behind_an_adapter(trunk())
    report = load_weights(other, source, new_head=True)  # what stands in front of the network is no head
    assert report.fresh == ["mine/kernel", "mine/bias"]
    np.testing.assert_array_equal(other.get_layer("adapter").get_weights()[0], expected.layers[1].get_weights()[0])


def test_a_classifier_is_not_left_out_unasked(tmp_path: Path) -> None:
    path = saved(flat(trunk()), tmp_path / "a.keras")
    model = irk.create_inception_resnet_v1(5, **SMALL)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"logits/kernel: missing(.|\n)*mine/kernel: left over(.|\n)*new_head=True"):
        load_weights(model, path)
    assert all(np.array_equal(one, other) for one, other in zip(model.get_weights(), before, strict=True))


def test_layers_in_front_go_with_weights(tmp_path: Path) -> None:
    source = irk.create_inception_resnet_v2(3, **SMALL)
    source.save(tmp_path / "a.keras")
    image = keras.Input((75, 75, 4))
    adapted = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(3, 1, name="adapter")(image))
    model = irk.create_inception_resnet_v2(3, depths=(1, 1, 1), input_tensor=adapted, weights=tmp_path / "a.keras")
    assert_same_trunk(model, source)


def test_two_networks_side_by_side_are_refused(tmp_path: Path) -> None:
    one, two = trunk(), trunk(seed=2)
    two.name = "other"
    image = keras.Input((75, 75, 3))
    both = keras.Model(image, keras.layers.Concatenate()([one(image), two(image)]))
    path = saved(both, tmp_path / "a.keras")
    with pytest.raises(ValueError, match="it holds several networks; load the weights of each one before"):
        load_weights(both, path)
    with pytest.raises(ValueError, match="holds several networks, with names that begin with"):
        load_weights(trunk(), path)


@pytest.mark.parametrize("name", ["logits", "predictions", "embedding_dense", "aux_logits"])
def test_a_head_of_ones_own_under_a_name_of_ours_is_no_classifier_of_ours(name: str, tmp_path: Path) -> None:
    """The layer reads other features than the network's: no factory builds it."""
    inner = trunk()
    hidden = keras.layers.Dense(16, name="hidden")(inner.output)
    path = saved(keras.Model(inner.input, keras.layers.Dense(4, name=name)(hidden)), tmp_path / "a.keras")
    found = inspect_checkpoint(path)
    assert found.classes is None
    assert_same_trunk(eval(f"irk.{found.call}", {"irk": irk}), inner)
