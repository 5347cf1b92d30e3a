"""One load: every source's table against what it writes, each tensor accounted for, and models that a refusal leaves.

Anything lost, renamed, reshaped or corrupt is named, and the model is untouched.
"""

from __future__ import annotations

import random
import shutil
import tracemalloc
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inception_resnet_keras as irk
from inception_resnet_keras import networks
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.weights.identify import identify
from inception_resnet_keras.weights.load import LoadPlan, load_weights, plan
from inception_resnet_keras.weights.readers.checkpoint import Checkpoint, Tensor
from inception_resnet_keras.weights.slots import CLASSES, slots

from .. import tiny as tiny_networks
from . import synthetic
from .test_parity import save_legacy

Shapes = dict[str, tuple[int, ...]]

SOURCES = {  # the manifest: (network, variant), classes, names in the file
    "slim_inception_v4": ("inception_v4", "slim", 1001, "TF-Slim"),
    "slim_inception_resnet_v2": ("inception_resnet_v2", "slim", 1001, "TF-Slim"),
    "timm_inception_v4": ("inception_v4", "slim", 1000, "timm"),
    "timm_inception_resnet_v2": ("inception_resnet_v2", "slim", 1000, "timm"),
    "facenet_pytorch_inception_resnet_v1": ("inception_resnet_v1", "facenet", 8631, "facenet-pytorch"),
    "facenet_tf_inception_resnet_v1": ("inception_resnet_v1", "facenet", None, "davidsandberg/facenet"),
    "keras_applications_inception_resnet_v2": ("inception_resnet_v2", "slim", 1000, "keras.applications"),
    "keras2_h5_inception_v4": ("inception_v4", "slim", 1001, "kentsommer/keras-inceptionV4"),
}


def shapes_in(name: str) -> Shapes:
    """The names as the readers give them."""
    shapes = synthetic.manifest(name)
    if not name.startswith("keras2"):
        return shapes
    return {f"{key.partition('|')[0]}/{key.rpartition('/')[2][:-2]}": shape for key, shape in shapes.items()}


def model_of(name: str, *, aux_head: bool = False, classes: int | None = None) -> Shapes:
    """The weights of our model for a source, without Keras."""
    network, variant, own_classes, _ = SOURCES[name]
    wanted = classes or own_classes
    heads = {"", "embedding"} | ({"logits"} if wanted else set()) | ({"aux"} if aux_head else set())
    return {
        slot.key(role): tuple(wanted or 0 if side == CLASSES else side for side in shape)
        for slot in slots(networks.find(network, variant))
        if slot.head in heads
        for role, shape in slot.shapes.items()
    }


def checkpoint_of(shapes: Mapping[str, tuple[int, ...]], corrupt: str = "", value: float = np.nan) -> Checkpoint:
    """An open file of ones, which takes no memory; `corrupt` has one value that is not."""

    def tensor(name: str, shape: tuple[int, ...]) -> Tensor:
        def read() -> np.ndarray:
            ones = np.broadcast_to(np.float32(1), shape)
            if name != corrupt:
                return ones
            array = ones.copy()
            array.flat[array.size // 2] = value
            return array

        integer = name.endswith("num_batches_tracked")
        return Tensor(shape, "int64" if integer else "float32", read)

    return Checkpoint(
        Path("file"), "memory", {name: tensor(name, shape) for name, shape in shapes.items()}, ExitStack()
    )


def planned(name: str, shapes: Mapping[str, tuple[int, ...]], **corrupt) -> LoadPlan:
    return plan(model_of(name), checkpoint_of(shapes, **corrupt))


@pytest.mark.parametrize("name", SOURCES)
def test_everything_is_accounted_for(name: str) -> None:
    shapes, model = shapes_in(name), model_of(name)
    found = identify(shapes)
    assert found is not None
    assert (found.network.name, found.network.variant, found.table.source) == (*SOURCES[name][:2], SOURCES[name][3])
    assert found.score == 1
    made = planned(name, shapes)
    dropped = [tensor for names in made.report.dropped.values() for tensor in names]
    assert made.report.loaded == len(model)
    assert len(dropped) + made.report.loaded == len(shapes)  # gammas of all ones are among the dropped


def needed(name: str) -> list[str]:
    """All tensors that the model needs."""
    return [key for key in shapes_in(name) if not key.endswith("num_batches_tracked") and "Aux" not in key]


def victims(name: str, count: int, *, sized: bool = False) -> list[str]:
    """Tensors that the model needs, the first and last ones and others at random."""
    names = needed(name)
    small = [key for key in names if len(shapes_in(name)[key]) == 1] if sized else names
    return [small[0], small[-1], *random.Random(name).sample(small, count)]


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_lost_tensor_is_named(name: str, data: st.DataObject) -> None:
    victim = data.draw(st.sampled_from(needed(name)))
    shapes = {key: shape for key, shape in shapes_in(name).items() if key != victim}
    with pytest.raises(InputError, match="nothing was changed") as refused:
        planned(name, shapes)
    assert f"{victim}: missing" in str(refused.value).replace("conv2d_0", "conv2d").replace(
        "batch_normalization_0", "batch_normalization"
    ).replace("dense_0", "dense")


@pytest.mark.parametrize("name", SOURCES)
def test_a_renamed_tensor_is_named(name: str) -> None:
    for victim in victims(name, 6):
        shapes = {(f"{key}_x" if key == victim else key): shape for key, shape in shapes_in(name).items()}
        with pytest.raises(InputError) as refused:
            planned(name, shapes)
        assert f"{victim}_x: left over in the file" in str(refused.value)


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "facenet_tf_inception_resnet_v1"])
def test_an_extra_tensor_is_named(name: str) -> None:
    with pytest.raises(InputError, match=r"classifier2/kernel: left over in the file, shape \(3,\)"):
        planned(name, {**shapes_in(name), "classifier2/kernel": (3,)})


def test_an_extra_tensor_beside_an_embedding_is_dropped_with_a_line() -> None:
    name = "facenet_tf_inception_resnet_v1"
    made = planned(name, {**shapes_in(name), "classifier2/kernel": (3,)})
    assert made.report.dropped["layers outside the network"] == ["classifier2/kernel"]


@pytest.mark.parametrize("name", SOURCES)
def test_another_shape_is_named(name: str) -> None:
    for victim in victims(name, 6):
        shapes = shapes_in(name)
        shapes[victim] = (*shapes[victim][:-1], shapes[victim][-1] + 1)
        with pytest.raises(InputError) as refused:
            planned(name, shapes)
        assert f"{victim}: has shape" in str(refused.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["slim_inception_v4", "facenet_pytorch_inception_resnet_v1"])
def test_a_value_that_is_no_number_is_named(name: str, value: float) -> None:
    (victim, *_) = victims(name, 1, sized=True)
    with pytest.raises(InputError, match=r"1 of \d+ values are NaN, infinite") as refused:
        planned(name, shapes_in(name), corrupt=victim, value=value)
    assert f"{victim}: 1 of" in str(refused.value)


def with_values(checkpoint: Checkpoint, **values: np.ndarray) -> Checkpoint:
    for name, array in values.items():
        checkpoint.tensors[name] = Tensor(array.shape, array.dtype.name, array.view)
    return checkpoint


def test_what_is_infinite_in_float32_is_named() -> None:
    name, victim = "slim_inception_v4", "InceptionV4/Conv2d_1a_3x3/BatchNorm/beta"
    file = with_values(checkpoint_of(shapes_in(name)), **{victim: np.full(32, 1e300)})
    with pytest.raises(InputError, match=f"{victim}: 32 of 32 values are NaN, infinite or beyond float32's range"):
        plan(model_of(name), file)


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_infinite_once_gamma_is_folded_is_named(sign: int) -> None:
    name, kernel, gamma = "facenet_pytorch_inception_resnet_v1", "conv2d_1a.conv.weight", "conv2d_1a.bn.weight"
    values = {gamma: np.full(32, 3e38, np.float32), kernel: np.zeros((32, 3, 3, 3), np.float32)}
    values[kernel][7, 1, 2, 0] = sign * 5
    file = with_values(checkpoint_of(shapes_in(name)), **values)
    with pytest.raises(InputError, match=f"{kernel}: its product with {gamma} exceeds float32's range"):
        plan(model_of(name), file)


def test_what_is_no_float_is_never_read() -> None:
    name, victim = "slim_inception_v4", "InceptionV4/Conv2d_1a_3x3/BatchNorm/beta"
    file = checkpoint_of(shapes_in(name))
    file.tensors[victim] = Tensor((32,), "int64", lambda: pytest.fail("it was read"))
    with pytest.raises(InputError, match=f"{victim}: has type int64"):
        plan(model_of(name), file)


@pytest.mark.parametrize("slot", ["Adadelta", "Adadelta_1", "Ftrl", "Ftrl_1", "Momentum", "Adam_1", "RMSProp_1"])
def test_training_state_is_passed_over(slot: str) -> None:
    name, state = "slim_inception_v4", f"InceptionV4/Conv2d_1a_3x3/weights/{slot}"
    made = planned(name, {**shapes_in(name), state: (3, 3, 3, 32)})
    assert made.report.dropped["training state"] == [state]


@pytest.mark.parametrize("average", ["total_loss/avg", "cross_entropy/avg", "total_loss_1/avg/biased"])
def test_facenets_averages_of_losses_are_passed_over(average: str) -> None:
    name = "facenet_tf_inception_resnet_v1"
    assert planned(name, {**shapes_in(name), average: ()}).report.dropped == {"training state": [average]}


def test_an_embedding_of_another_width_says_what_loads() -> None:
    name = "facenet_tf_inception_resnet_v1"
    shapes = {
        key: tuple(64 if side == 512 and "Bottleneck" in key else side for side in shape)
        for key, shape in shapes_in(name).items()
    }
    with pytest.raises(InputError, match=r"embedding has 64 numbers: a model with include_top=False loads its trunk"):
        planned(name, shapes)
    trunk = {key: shape for key, shape in model_of(name).items() if not key.startswith("embedding")}
    assert plan(trunk, checkpoint_of(shapes)).report.loaded == len(trunk)


def test_a_negative_variance_is_named() -> None:
    victim = "InceptionV4/Conv2d_1a_3x3/BatchNorm/moving_variance"
    with pytest.raises(InputError, match=f"{victim}: a variance is negative"):
        planned("slim_inception_v4", shapes_in("slim_inception_v4"), corrupt=victim, value=-1)


def test_another_network_is_named_with_the_call_that_fits() -> None:
    with pytest.raises(InputError, match=r"TF-Slim's inception_v4.*create_inception_v4\(variant='slim'\)"):
        plan(model_of("slim_inception_resnet_v2"), checkpoint_of(shapes_in("slim_inception_v4")))
    with pytest.raises(InputError, match="holds no network that is known here; its first tensors are a/b"):
        plan(model_of("slim_inception_v4"), checkpoint_of({"a/b": (3, 3)}))


def test_our_paper_network_is_told_from_our_slim_one() -> None:
    paper = {
        slot.key(role): tuple(1000 if side == CLASSES else side for side in shape)
        for slot in slots(networks.find("inception_v4", "paper"))
        if slot.head in ("", "logits")
        for role, shape in slot.shapes.items()
    }
    with pytest.raises(InputError, match=r"looks like inception-resnet-keras's inception_v4, the paper variant"):
        plan(model_of("slim_inception_v4", classes=1000), checkpoint_of(paper))
    assert plan(paper, checkpoint_of(paper)).report.loaded == len(paper)


def test_blocks_are_matched_by_number_not_by_lexical_order() -> None:
    values = {slot.name: slot for slot in slots(networks.find("inception_resnet_v2", "slim"))}
    made = plan(model_of("slim_inception_resnet_v2"), checkpoint_of(shapes_in("slim_inception_resnet_v2")))
    sources = {key: source.name for key, source in made.sources.items()}
    assert sources["b10_project/kernel"] == "InceptionResnetV2/Repeat_1/block17_10/Conv2d_1x1/weights"
    assert sources["b09_project/kernel"] == "InceptionResnetV2/Repeat_1/block17_9/Conv2d_1x1/weights"
    assert sources["c10_project/bias"] == "InceptionResnetV2/Block8/Conv2d_1x1/biases"
    assert values["c10_project"].last


@pytest.mark.parametrize("start", [0, 1, 7, 203])
def test_counters_may_start_anywhere(start: int) -> None:
    """Keras goes on counting where an earlier model of the process stopped."""
    name = "keras2_h5_inception_v4"

    def moved(key: str) -> str:
        layer, _, weight = key.partition("/")
        kind, _, number = layer.rpartition("_") if layer[-1].isdigit() and layer != "conv2d" else (layer, "", "0")
        moved_to = int(number) + start
        return f"{kind}_{moved_to}/{weight}" if moved_to else f"{kind}/{weight}"

    made = planned(name, {moved(key): shape for key, shape in shapes_in(name).items()})
    source = made.sources["c03_branch_4_conv_1/kernel"].name
    assert source == (f"conv2d_{148 + start}/kernel")


def test_gamma_is_folded_into_the_kernel_and_the_mean() -> None:
    name = "facenet_pytorch_inception_resnet_v1"
    gamma = "conv2d_1a.bn.weight"
    model = model_of(name)
    made = plan(model, checkpoint_of(shapes_in(name), corrupt=gamma, value=2.0))
    assert made.report.changed == {"gamma folded into it": ["stem_conv_1/kernel", "stem_conv_1_bn/moving_mean"]}
    assert len(made.report.dropped["gamma, all ones"]) == 111  # of 112: 21 projections have none
    values = dict(made.values())
    channel = model["stem_conv_1/kernel"][-1] // 2
    assert np.all(values["stem_conv_1/kernel"][..., channel] == 2)
    assert values["stem_conv_1_bn/moving_mean"][channel] == 2
    assert values["stem_conv_1_bn/beta"][channel] == 1
    assert np.count_nonzero(values["stem_conv_1/kernel"] == 2) == 3 * 3 * 3


@pytest.mark.parametrize(
    ("classes", "new_head", "loaded"), [(1001, False, True), (1000, False, True), (10, True, False)]
)
def test_classes(classes: int, new_head: bool, loaded: bool) -> None:
    name = "slim_inception_v4"
    made = plan(model_of(name, classes=classes), checkpoint_of(shapes_in(name)), new_head=new_head)
    assert ("logits/kernel" in made.sources) is loaded
    assert made.report.fresh == ([] if loaded else ["logits/kernel", "logits/bias"])
    removed = {"class 0 of 1001, the background, removed": ["logits/kernel", "logits/bias"]}
    assert made.report.changed == (removed if classes == 1000 else {})


def test_a_new_head_must_be_asked_for() -> None:
    name = "timm_inception_v4"
    with pytest.raises(InputError, match=r"logits/kernel has \(1536, 10\)(.|\n)*num_classes=1000(.|\n)*new_head=True"):
        plan(model_of(name, classes=10), checkpoint_of(shapes_in(name)))
    with pytest.raises(InputError, match=r"has shape \(1536, 1000\)"):  # not a background class of timm's
        plan(model_of(name, classes=999), checkpoint_of(shapes_in(name)))
    with pytest.raises(InputError, match=r'aux_logits/kernel(.|\n)*new_head="aux"'):
        plan(model_of(name, aux_head=True), checkpoint_of(shapes_in(name)))
    made = plan(model_of(name, aux_head=True), checkpoint_of(shapes_in(name)), new_head="aux")
    assert {key.partition("_")[0] for key in made.report.fresh} == {"aux"}
    assert "logits/kernel" in made.sources
    name = "slim_inception_v4"  # has one, which then is dropped whole
    made = plan(model_of(name, aux_head=True), checkpoint_of(shapes_in(name)), new_head="aux")
    assert len(made.report.fresh) == 10 == len(made.report.dropped["auxiliary head: the model gets a new one"])
    with pytest.raises(InputError, match=r"new_head: got 'yes'"):
        plan(model_of(name), checkpoint_of(shapes_in(name)), new_head="yes")  # type: ignore[arg-type]


@pytest.fixture
def tiny() -> Any:
    """The tiny network with other weights at every call: `tiny(num_classes=3, …)`."""
    seeds = count()

    def make(num_classes: int = 3, **options: Any) -> keras.Model:
        model = tiny_networks.build(num_classes=num_classes, **options)
        rng = np.random.default_rng(next(seeds))
        if "weights" not in options:
            model.set_weights([rng.random(weight.shape, dtype=np.float32) for weight in model.weights])
        return model

    return make


def weights_of(model: Any) -> list[np.ndarray]:
    return list(model.get_weights())


def equal(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


def arrays_of(model: Any) -> synthetic.Arrays:
    return {
        f"{layer.name}/{weight.name}": np.array(keras.ops.convert_to_numpy(weight))
        for layer in model.layers
        for weight in layer.weights
    }


@pytest.mark.parametrize("ending", [".keras", ".weights.h5", ".h5", ".safetensors"])
def test_our_own_files_load_by_content_whatever_their_name(tiny: Any, tmp_path: Path, ending: str) -> None:
    saved, path = tiny(), tmp_path / f"model{ending}"
    if ending == ".weights.h5":
        saved.save_weights(path)
    elif ending == ".safetensors":
        synthetic.write_safetensors(path, arrays_of(saved))
    else:
        saved.save(path)
    path = path.rename(tmp_path / "checkpoint")
    model = tiny()
    assert not equal(model, saved)
    report = load_weights(model, path)
    assert equal(model, saved)
    assert report.loaded == len(saved.weights)
    assert (report.dropped, report.changed, report.fresh) == ({}, {}, [])
    assert equal(tiny(weights=path), saved)


def test_a_compiled_models_optimizer_is_not_in_the_way(tiny: Any, tmp_path: Path) -> None:
    saved = tiny(network=tiny_networks.FEW)
    saved.compile("adam", "sparse_categorical_crossentropy")
    saved.fit(np.zeros((2, tiny_networks.SIDE, tiny_networks.SIDE, 3)), np.zeros(2), verbose=0)
    saved.save(tmp_path / "a.keras")
    model = tiny(network=tiny_networks.FEW)
    load_weights(model, tmp_path / "a.keras")
    assert equal(model, saved)


def test_a_new_head_leaves_the_models_own(tiny: Any, tmp_path: Path) -> None:
    saved, model = tiny(), tiny(5)
    saved.save(tmp_path / "a.keras")
    head = keras.ops.convert_to_numpy(model.get_layer("logits").kernel)
    with pytest.raises(ValueError, match=r"logits/kernel: has shape \(10, 3\), the model's .* has \(10, 5\)"):
        load_weights(model, tmp_path / "a.keras")
    report = load_weights(model, tmp_path / "a.keras", new_head=True)
    assert report.fresh == ["logits/kernel", "logits/bias"]
    assert report.dropped == {"classifier: the model gets a new one": ["logits/kernel", "logits/bias"]}
    np.testing.assert_array_equal(model.get_layer("logits").kernel, head)
    np.testing.assert_array_equal(model.get_layer("stem_conv_1").kernel, saved.get_layer("stem_conv_1").kernel)
    assert "left fresh: 2 (logits/kernel, logits/bias)" in str(report)


def damages() -> dict[str, Any]:
    def lost(values: synthetic.Arrays, key: str) -> None:
        del values[key]

    def renamed(values: synthetic.Arrays, key: str) -> None:
        values[f"{key}2"] = values.pop(key)

    def reshaped(values: synthetic.Arrays, key: str) -> None:
        values[key] = np.zeros((*values[key].shape, 1), np.float32)

    def corrupt(values: synthetic.Arrays, key: str) -> None:
        values[key].flat[-1] = np.nan

    def integers(values: synthetic.Arrays, key: str) -> None:
        values[key] = values[key].astype(np.int32)

    return {step.__name__: step for step in (lost, renamed, reshaped, corrupt, integers)}


@pytest.mark.parametrize("damage", damages())
def test_any_damaged_tensor_is_named_and_the_model_untouched(tiny: Any, tmp_path: Path, damage: str) -> None:
    """Each tensor in one of the ways, each way at every fifth tensor."""
    saved, model = tiny(), tiny()
    before = weights_of(model)
    for key in list(arrays_of(saved))[list(damages()).index(damage) :: len(damages())]:
        values = arrays_of(saved)
        damages()[damage](values, key)
        path = synthetic.write_safetensors(tmp_path / "a.safetensors", values)
        with pytest.raises(ValueError, match="nothing was changed") as refused:
            load_weights(model, path)
        assert key in str(refused.value)
        assert all(np.array_equal(a, b) for a, b in zip(before, weights_of(model), strict=True))


def test_a_file_cut_short_anywhere_leaves_the_model_untouched(tiny: Any, tmp_path: Path) -> None:
    saved, model = tiny(), tiny()
    saved.save(tmp_path / "a.keras")
    before, data = weights_of(model), (tmp_path / "a.keras").read_bytes()
    for part in range(20):
        (tmp_path / "cut.keras").write_bytes(data[: len(data) * part // 20])
        with pytest.raises(InputError, match=r"cut\.keras"):
            load_weights(model, tmp_path / "cut.keras")
    assert all(np.array_equal(a, b) for a, b in zip(before, weights_of(model), strict=True))


def test_what_is_neither_a_file_nor_a_name_is_told(tiny: Any) -> None:
    with pytest.raises(InputError, match=r"weights: got 'imagnet'; it takes 'imagenet' perhaps: None, "):
        load_weights(tiny(), "imagnet")
    with pytest.raises(InputError, match=r"got 'imagenet-ens-av'; it takes 'imagenet-ens-adv' perhaps"):
        load_weights(tiny(), "imagenet-ens-av")
    with pytest.raises(InputError, match=r"got 'timm/inception_v4'; it takes 'timm/inception_v4.tf_in1k' perhaps"):
        load_weights(tiny(), "timm/inception_v4")
    with pytest.raises(InputError, match="model: got 'x'; it takes a Keras model"):
        load_weights("x", "a.keras")
    with pytest.raises(InputError, match=r"weights: got '\.'; it takes"):
        load_weights(tiny(), "")
    with pytest.raises(InputError, match="which does not exist"):
        load_weights(tiny(), "folder/none.h5")
    with pytest.raises(InputError, match="weights: got 3"):
        load_weights(tiny(), 3)  # type: ignore[arg-type]


@pytest.mark.slow
def test_loading_takes_little_more_memory_than_the_file(tmp_path: Path) -> None:
    """At most 1.2 times the file; `python -m tests.speed` measures the time."""
    theirs = keras.applications.InceptionResNetV2(weights=None)
    path = tmp_path / "a.h5"
    save_legacy(theirs, tmp_path / "a")
    shutil.move(tmp_path / "a", path)
    ours = irk.create_inception_resnet_v2(variant="slim")
    tracemalloc.start()
    load_weights(ours, path)
    peak = tracemalloc.get_traced_memory()[1] / path.stat().st_size
    tracemalloc.stop()
    assert peak <= 1.2
    np.testing.assert_array_equal(ours.get_layer("final_conv_1").kernel, theirs.get_layer("conv_7b").kernel)
