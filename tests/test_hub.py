"""keras-hub's tasks on our backbone: built, trained for a step, saved and loaded, by Keras and as presets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras import create_inception_resnet_v1, create_inception_v4, endpoints
from inception_resnet_keras.common.errors import InputError

keras_hub = pytest.importorskip("keras_hub", reason="needs keras-hub: pip install 'inception-resnet-keras[hub]'")
from inception_resnet_keras import hub  # noqa: E402 - which needs keras-hub

SIDE = 96
IMAGES = np.random.default_rng(0).uniform(0, 255, (2, SIDE, SIDE, 3)).astype(np.float32)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of keras-hub's own loading


@pytest.fixture(scope="module")
def trunk() -> keras.Model:
    """One block of each kind, with statistics of its own."""
    model = create_inception_resnet_v1(
        include_top=False,
        depths=(1, 1, 1),
        padding="same",
        input_shape=(SIDE, SIDE, 3),
        include_preprocessing=True,
        batch_norm_momentum=0.5,
        scale=(0.3, 0.2, 0.1),
    )
    model(IMAGES, training=True)
    return model


def outputs(model: Any) -> list[np.ndarray]:
    return [np.asarray(each) for each in keras.tree.flatten(model(IMAGES, training=False))]


def moved(model: keras.Model, step: Callable[[], Any]) -> int:
    """How many of a model's weights a step moves."""
    before = model.get_weights()
    step()
    return sum(not np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


def test_a_backbone_computes_what_the_model_does_with_weights_of_its_own(trunk: keras.Model) -> None:
    backbone = hub.backbone(trunk)
    np.testing.assert_array_equal(outputs(backbone), outputs(trunk))
    assert backbone.name == trunk.name
    assert backbone.get_layer("stem_conv_1_bn").momentum == 0.5
    maps = keras.Model(trunk.input, [endpoints(trunk)[f"stride_{stride}"] for stride in (4, 8, 16, 32)])
    pyramid = keras.Model(backbone.input, list(backbone.pyramid_outputs.values()))
    assert list(backbone.pyramid_outputs) == ["P2", "P3", "P4", "P5"]
    for level, theirs, ours in zip(range(2, 6), outputs(maps), outputs(pyramid), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.shape[1:3] == (SIDE // 2**level, SIDE // 2**level)
    kernel = trunk.get_layer("stem_conv_1").kernel
    before = np.array(kernel)
    backbone.get_layer("stem_conv_1").kernel.assign(before + 1)
    np.testing.assert_array_equal(kernel, before)


def test_tops_prefixes_and_models_around_are_left_out(trunk: keras.Model) -> None:
    whole = create_inception_resnet_v1(
        3, depths=(1, 1, 1), padding="same", input_shape=(SIDE, SIDE, 3), layer_prefix="left_"
    )
    around = keras.Sequential([keras.Input((SIDE, SIDE, 3)), whole])
    expected = outputs(keras.Model(whole.input, endpoints(whole)["c01"]))
    for model in (whole, around):
        np.testing.assert_allclose(outputs(hub.backbone(model)), expected, atol=1e-6)


def test_dense_and_valid_networks(trunk: keras.Model) -> None:
    options: dict[str, Any] = {"include_top": False, "depths": (1, 1, 1), "input_shape": (SIDE, SIDE, 3)}
    dense = hub.backbone(create_inception_v4(**options, padding="same", output_stride=16))
    assert list(dense.pyramid_outputs) == ["P2", "P3", "P4"]
    assert dense.pyramid_outputs["P4"].shape == dense.output.shape
    short = create_inception_resnet_v1(**options, padding="same", output_stride=8, scale=(0.3, 0.2, 0.1))
    ended = hub.backbone(short)  # after its blocks B
    assert list(ended.pyramid_outputs) == ["P2", "P3"]
    np.testing.assert_array_equal(outputs(ended), outputs(short))
    model = create_inception_v4(**options)
    valid = hub.backbone(model)
    np.testing.assert_array_equal(outputs(valid), outputs(model))
    with pytest.raises(InputError, match="padding='same', which takes the same weights"):
        _ = valid.pyramid_outputs


def test_what_is_no_network_of_ours_is_refused(trunk: keras.Model) -> None:
    part = keras.Model(trunk.input, endpoints(trunk)["reduction_a"])
    other = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 1)])
    for model in (part, other, "inception_v4"):
        with pytest.raises(InputError, match=r"model: got .*; it takes a"):
            hub.backbone(model)
    with pytest.raises(InputError, match=r"scale: got 0\.1; it takes True: inception_v4 has no residual sums"):
        hub.InceptionBackbone("inception_v4", scale=0.1)


def test_a_backbone_is_saved_by_keras_and_as_a_preset(trunk: keras.Model, tmp_path: Path) -> None:
    backbone = hub.backbone(trunk)
    backbone.save(tmp_path / "backbone.keras")
    backbone.save_to_preset(str(tmp_path / "preset"))
    for loaded in (
        keras.models.load_model(tmp_path / "backbone.keras"),
        keras_hub.models.Backbone.from_preset(str(tmp_path / "preset")),
    ):
        assert type(loaded) is hub.InceptionBackbone
        assert loaded.get_config() == backbone.get_config()
        np.testing.assert_array_equal(outputs(loaded), outputs(backbone))
    fresh = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"), load_weights=False)
    assert not np.array_equal(outputs(fresh), outputs(backbone))


def check_saved(task: Any, kind: Any, folder: Path, preset_kind: Any = None) -> None:
    """A task is loaded as it was, by Keras and from a preset, on a backbone of ours."""
    task.save(folder / "task.keras")
    task.save_to_preset(str(folder / "preset"))
    for loaded, its_kind in (
        (keras.models.load_model(folder / "task.keras"), type(task)),
        (kind.from_preset(str(folder / "preset")), preset_kind or type(task)),
    ):
        assert type(loaded) is its_kind
        for found, expected in zip(outputs(loaded), outputs(task), strict=True):
            np.testing.assert_array_equal(found, expected)
        assert isinstance(getattr(loaded.backbone, "image_encoder", loaded.backbone), hub.InceptionBackbone)


def test_an_image_classifier(trunk: keras.Model, tmp_path: Path) -> None:
    backbone = hub.backbone(trunk)
    classifier = hub.InceptionImageClassifier(backbone, num_classes=3)
    assert moved(backbone, lambda: classifier.fit(IMAGES, np.array([0, 2]), batch_size=2, verbose=0)) > 100
    check_saved(classifier, keras_hub.models.ImageClassifier, tmp_path)


def test_a_plain_image_classifier_is_loaded_from_a_preset_too(trunk: keras.Model, tmp_path: Path) -> None:
    """keras-hub itself loads no task of a class that is not registered for its backbone."""
    plain = keras_hub.models.ImageClassifier(
        hub.backbone(trunk), num_classes=3, pooling="max", activation="sigmoid", dropout=0.25
    )
    check_saved(plain, keras_hub.models.ImageClassifier, tmp_path, hub.InceptionImageClassifier)
    folder = tmp_path / "preset"
    loaded = keras_hub.models.ImageClassifier.from_preset(str(folder))
    for setting in ("num_classes", "pooling", "activation", "dropout"):
        assert getattr(loaded, setting) == getattr(plain, setting)
    other = keras_hub.models.ImageClassifier.from_preset(str(folder), num_classes=5)
    assert other.output_shape == (None, 5)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "metadata.json",
        "model.weights.h5",
        "task.json",
        "task.weights.h5",
    ]


@pytest.mark.slow
def test_a_retinanet(trunk: keras.Model, tmp_path: Path) -> None:
    backbone = hub.backbone(trunk)
    pyramid = keras_hub.models.RetinaNetBackbone(backbone, min_level=3, max_level=6, use_p5=False)
    detector = keras_hub.models.RetinaNetObjectDetector(
        pyramid, num_classes=2, bounding_box_format="xyxy", pre_logits_num_conv_layers=1
    )
    detector.compile(optimizer=keras.optimizers.Adam(1e-3))
    boxes = np.array([[[10, 10, 50, 50]], [[20, 30, 80, 90]]], np.float32)
    labels = {"boxes": boxes, "labels": np.array([[0], [1]])}
    assert moved(backbone, lambda: detector.fit(IMAGES, labels, batch_size=2, verbose=0)) > 100
    assert detector.predict(IMAGES, verbose=0)["boxes"].shape == (2, 100, 4)
    check_saved(detector, keras_hub.models.ObjectDetector, tmp_path)


@pytest.mark.slow
def test_a_deeplab(trunk: keras.Model, tmp_path: Path) -> None:
    backbone = hub.backbone(trunk)
    decoder = keras_hub.models.DeepLabV3Backbone(
        backbone,
        spatial_pyramid_pooling_key="P4",
        upsampling_size=4,
        dilation_rates=[2, 4],
        low_level_feature_key="P2",
    )
    segmenter = keras_hub.models.DeepLabV3ImageSegmenter(decoder, num_classes=3, activation="softmax")
    segmenter.compile(optimizer="adam", loss=keras.losses.CategoricalCrossentropy())
    masks = np.eye(3, dtype=np.float32)[np.random.default_rng(1).integers(0, 3, (2, SIDE, SIDE))]
    assert moved(backbone, lambda: segmenter.fit(IMAGES, masks, batch_size=2, verbose=0)) > 80
    assert segmenter.predict(IMAGES, verbose=0).shape == (2, SIDE, SIDE, 3)
    check_saved(segmenter, keras_hub.models.ImageSegmenter, tmp_path)
