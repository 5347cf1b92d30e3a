"""Whole networks, loaded from every source's own format, against what that source's own code computed.

On any engine of Keras: `KERAS_BACKEND=torch pytest -m backends tests/weights/test_parity.py`.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import inception_resnet_keras as irk

from . import synthetic

pytestmark = [pytest.mark.slow, pytest.mark.backends]
TOLERANCE = 2e-5  # of the largest output
CLASSIFIER: dict[str, Any] = {"classifier_activation": None, "variant": "slim"}


def same(found: np.ndarray, wanted: np.ndarray) -> None:
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def predict(model: keras.Model, size: int = 299) -> Any:
    """By a call: to trace a whole network's graph takes longer than two pictures do."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(synthetic.images(size), training=False))


def test_inception_v4_of_slim_and_kentsommer(tmp_path: Path) -> None:
    model = irk.create_inception_v4(1001, aux_head=True, **CLASSIFIER)
    golden, values = synthetic.outputs("slim_inception_v4"), synthetic.arrays("slim_inception_v4")
    version = 2 if find_spec("tensorflow") is None else 1  # TensorFlow alone writes the first
    single = synthetic.write_tensorflow(tmp_path / "inception_v4.ckpt", values, version)
    written = sorted(tmp_path.glob(f"{single.name}*"))
    report = irk.load_weights(model, synthetic.write_archive(tmp_path / "inception_v4_2016_09_09.tar.gz", *written))
    assert (report.loaded, report.dropped, report.changed, report.fresh) == (608, {}, {}, [])
    logits, aux = predict(model)
    same(logits, golden["logits"])
    same(aux, golden["aux_logits"])

    # kentsommer's counters run in the order of Slim's layers, so Slim's values give Slim's logits
    report = irk.load_weights(model, kentsommer_file(tmp_path / "v4.bin", values), new_head="aux")
    assert report.source == "kentsommer/keras-inceptionV4"
    assert all(key.startswith("aux_") for key in report.fresh)
    assert len(report.fresh) == 10
    same(predict(model)[0], golden["logits"])


def kentsommer_file(path: Path, values: synthetic.Arrays) -> Path:
    shapes = synthetic.manifest("keras2_h5_inception_v4")

    def place(name: str) -> tuple[bool, int, int]:
        layer, _, weight = name.partition("|")
        number = int(layer.rpartition("_")[2]) if layer[-1].isdigit() and layer != "conv2d" else 0
        roles = ("kernel:0", "beta:0", "moving_mean:0", "moving_variance:0", "bias:0")
        return layer.startswith("dense"), number, roles.index(weight.rpartition("/")[2])

    ordered = sorted(shapes, key=place)
    slim = [value for name, value in values.items() if "AuxLogits" not in name]
    assert [shapes[name] for name in ordered] == [value.shape for value in slim]
    theirs = dict(zip(ordered, slim, strict=True))
    return synthetic.write_legacy_hdf5(path, {name: theirs[name] for name in shapes})


def test_inception_v4_of_timm_and_a_background_class_dropped(tmp_path: Path) -> None:
    model = irk.create_inception_v4(**CLASSIFIER)
    golden = synthetic.outputs("timm_inception_v4")
    report = irk.load_weights(
        model, synthetic.write_safetensors(tmp_path / "model.safetensors", synthetic.arrays("timm_inception_v4"))
    )
    assert len(report.changed["gamma folded into it"]) == 2 * 149
    features = predict(irk.feature_extractor(model, ["pooled", "logits"]))
    same(features["pooled"], golden["pooled"])
    same(features["logits"], golden["logits"])

    values = synthetic.arrays("slim_inception_v4")
    report = irk.load_weights(model, synthetic.write_tensorflow(tmp_path / "model.ckpt", values, 2))
    assert report.changed == {"class 0 of 1001, the background, removed": ["logits/kernel", "logits/bias"]}
    assert len(report.dropped["auxiliary head: the model has none"]) == 10
    same(predict(model), synthetic.outputs("slim_inception_v4")["logits"][:, 1:])


def test_inception_resnet_v2_of_slim(tmp_path: Path) -> None:
    model = irk.create_inception_resnet_v2(1001, aux_head=True, **CLASSIFIER)
    golden, values = synthetic.outputs("slim_inception_resnet_v2"), synthetic.arrays("slim_inception_resnet_v2")
    values["global_step"] = np.asarray(7, np.int64)
    values["InceptionResnetV2/Conv2d_1a_3x3/weights/RMSProp"] = values["InceptionResnetV2/Conv2d_1a_3x3/weights"]
    report = irk.load_weights(model, synthetic.write_tensorflow(tmp_path / "model.ckpt", values, 2))
    assert report.loaded == 908
    assert len(report.dropped["training state"]) == 2
    logits, aux = predict(model)
    same(logits, golden["logits"])
    same(aux, golden["aux_logits"])


ENDPOINTS = {  # TF-Slim's, and the layers that end here where they end there
    "Conv2d_2b_3x3": "stem_conv_3_relu",
    "Conv2d_4a_3x3": "stem_conv_5_relu",
    "Mixed_5b": "stem_fork_1_concat",
    "Mixed_6a": "reduction_a_concat",
    "PreAuxLogits": "b20_relu",
    "Conv2d_7b_1x1": "final_conv_1_relu",
}


@pytest.fixture(scope="module")
def slim_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = synthetic.arrays("slim_inception_resnet_v2")
    return synthetic.write_tensorflow(tmp_path_factory.mktemp("slim") / "model.ckpt", values, 2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("align", {"padding": "same"}),
        ("stride8", {"output_stride": 8}),
        ("align_stride8", {"padding": "same", "output_stride": 8}),
    ],
)
def test_aligned_maps_and_output_stride_of_slim(slim_file: Path, name: str, options: dict[str, Any]) -> None:
    """`align_feature_maps` and `output_stride` of its `inception_resnet_v2_base`, images of 256 pixels."""
    model = irk.create_inception_resnet_v2(include_top=False, variant="slim", input_shape=(256, 256, 3), **options)
    report = irk.load_weights(model, slim_file)
    behind = report.dropped.get("layers after the blocks that the model ends with", [])
    assert (report.loaded, len(behind)) == ((684, 212) if "output_stride" in options else (896, 0))
    golden = synthetic.outputs(f"slim_inception_resnet_v2_{name}_256")
    built = {end: layer for end, layer in ENDPOINTS.items() if f"{end}/shape" in golden}
    assert len(built) == (5 if "output_stride" in options else 6)
    maps = predict(keras.Model(model.input, {end: model.get_layer(layer).output for end, layer in built.items()}), 256)
    for end, found in maps.items():
        assert found.shape == tuple(golden[f"{end}/shape"])
        same(found.mean(axis=(1, 2)), golden[f"{end}/mean"])
        same(found[:, :3, :3, :8], golden[f"{end}/corner"])
        same(found[:, -2:, -2:, :8], golden[f"{end}/last"])


def test_inception_resnet_v2_of_timm_and_keras_applications(tmp_path: Path) -> None:
    model = irk.create_inception_resnet_v2(**CLASSIFIER)
    assert model.count_params() == 55_873_736
    golden = synthetic.outputs("timm_inception_resnet_v2")
    values = synthetic.arrays("timm_inception_resnet_v2")
    report = irk.load_weights(model, synthetic.write_torch(tmp_path / "model.pt", values))
    assert (report.source, report.loaded) == ("timm", 898)
    features = predict(irk.feature_extractor(model, ["pooled", "logits"]))
    same(features["pooled"], golden["pooled"])
    same(features["logits"], golden["logits"])

    theirs = keras.applications.InceptionResNetV2(weights=None, classifier_activation=None)
    assert theirs.count_params() == model.count_params()
    rng = np.random.default_rng(1)
    for layer in theirs.layers:
        layer.set_weights([randomised(weight, rng) for weight in layer.weights])
    path = tmp_path / "their.weights"
    save_legacy(theirs, path)
    report = irk.load_weights(model, path)
    assert (report.source, report.loaded, report.dropped) == ("keras.applications", 898, {})
    assert predict(theirs).std() > 1
    same(predict(model), predict(theirs))

    headless = irk.create_inception_resnet_v2(include_top=False, variant="slim", weights=path)
    pairs = zip(
        headless.get_layer("final_conv_1").get_weights(), theirs.get_layer("conv_7b").get_weights(), strict=True
    )
    assert all(np.array_equal(ours, written) for ours, written in pairs)


def randomised(weight: Any, rng: np.random.Generator) -> np.ndarray:
    shape = tuple(weight.shape)
    if weight.name == "moving_variance":
        return 0.5 + rng.random(shape, dtype=np.float32)
    scale = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)


def save_legacy(model: keras.Model, path: Path) -> None:
    """The legacy HDF5 that `model.save` still writes for a name ending in .h5."""
    file = path.with_suffix(".h5")
    model.save(file)
    file.rename(path)


def test_facenet_of_facenet_pytorch_and_davidsandberg(tmp_path: Path) -> None:
    golden = synthetic.outputs("facenet_pytorch_inception_resnet_v1")
    values = synthetic.arrays("facenet_pytorch_inception_resnet_v1")
    path = synthetic.write_torch(tmp_path / "20180402-114759-vggface2.pt", values)
    options: dict[str, Any] = {"variant": "facenet", "input_shape": (160, 160, 3)}
    classifier = irk.create_inception_resnet_v1(num_classes=8631, classifier_activation=None, weights=path, **options)
    same(predict(classifier, 160), golden["logits"])
    model = irk.create_inception_resnet_v1(**options)
    report = irk.load_weights(model, path)
    assert report.dropped["classifier: the model has none"] == ["logits.weight", "logits.bias"]
    embedding = predict(model, 160)
    assert embedding.shape == (2, 512)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)
    same(embedding, golden["embedding"])

    theirs = davidsandberg(values)
    for array in [model.get_layer("stem_conv_1").kernel]:
        array.assign(np.zeros(array.shape))
    irk.load_weights(model, synthetic.write_tensorflow(tmp_path / "model-20180402.ckpt-275", theirs, 2))
    same(predict(model, 160), golden["embedding"])
    with pytest.raises(ValueError, match=r"ema: got True.* no running averages"):
        irk.load_weights(model, tmp_path / "model-20180402.ckpt-275", ema=True)

    trained = [name for name in theirs if not name.endswith(("moving_mean", "moving_variance"))]
    raw = {name: np.zeros_like(theirs[name]) for name in trained}
    shadows = {f"{name}/ExponentialMovingAverage": theirs[name] for name in trained}
    both = synthetic.write_tensorflow(tmp_path / "both.ckpt", theirs | raw | shadows, 2)
    report = irk.load_weights(model, both, ema=True)
    assert len(report.dropped["raw weights: ema=True loads their running averages"]) == len(trained)
    same(predict(model, 160), golden["embedding"])


def davidsandberg(values: synthetic.Arrays) -> synthetic.Arrays:
    """facenet-pytorch's values under davidsandberg's names: both list their layers in one order.

    gamma, which TensorFlow's have not, is folded here too.
    """
    state = {name: value for name, value in values.items() if not name.startswith("logits.")}
    plain: list[np.ndarray] = []
    for name, value in state.items():
        gamma_name = re.sub(r"conv\.weight$", "bn.weight", name).replace("last_linear.weight", "last_bn.weight")
        gamma = state.get(gamma_name, np.ones(1, np.float32)) if gamma_name != name else np.ones(1, np.float32)
        if name.endswith(("bn.weight", "num_batches_tracked")):
            continue
        if name.endswith("running_mean"):
            plain.append(value * state[name.replace("running_mean", "weight")])
        elif value.ndim == 4:
            plain.append(value.transpose(2, 3, 1, 0) * gamma)
        elif value.ndim == 2:
            plain.append(value.T * gamma)
        else:
            plain.append(value)
    shapes = synthetic.manifest("facenet_tf_inception_resnet_v1")
    assert list(shapes.values()) == [value.shape for value in plain]
    return dict(zip(shapes, (np.ascontiguousarray(value) for value in plain), strict=True))


def test_other_residual_scales_are_told(tmp_path: Path) -> None:
    path = synthetic.write_torch(tmp_path / "a.pt", synthetic.arrays("facenet_pytorch_inception_resnet_v1"))
    model = irk.create_inception_resnet_v1(scale=0.1, variant="facenet", input_shape=(160, 160, 3))
    (note,) = irk.load_weights(model, path).notes
    assert note == "residual scales differ in block a01: the model has 0.1, facenet-pytorch's own network 0.17"
