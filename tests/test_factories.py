"""The factories: their signatures, and that everything out of range is refused by name before a layer is built."""

import inspect
import math
from typing import Any, get_args, get_type_hints

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import inception_resnet_keras as package
from inception_resnet_keras import networks
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.build import build
from inception_resnet_keras.networks.checks import apply_depths, apply_scale, check_image_shape

from . import tiny

EDITS = ("scale", "variant", "depths", "padding", "output_stride")  # which table is built, not how
FACTORIES = ["create_inception_v4", "create_inception_resnet_v1", "create_inception_resnet_v2"]
V2 = networks.find("inception_resnet_v2")
NOT_A_SHARE = [-0.1, 1, 1.5, math.nan, math.inf, "0.2", None, True, 10**400]
NOT_A_FLAG = [None, 1, 0, "yes", [True]]

REFUSED: dict[str, list[Any]] = {
    "num_classes": [0, -1, 2.0, True, "10", [10]],
    "variant": ["Paper", "", None, ["paper"], "facenets"],
    "depths": [(1, 1), (1, 1, 1, 1), (0, 1, 1), (1, 1, -1), (1, 1, 1.5), (True, 1, 1), 5, "555", {1, 2, 3}],
    "include_top": NOT_A_FLAG,
    "pooling": ["mean", "", False, 1, [], np.zeros(2)],
    "input_shape": [
        (74, 75, 3),
        (75, 74, 3),
        (75, 75),
        (75, 75, 3, 1),
        (75, 75, 0),
        (75, 75, None),
        (75.0, 75, 3),
        (True, 75, 3),
        75,
        "299",
        (-75, 75, 3),
    ],
    "input_tensor": [np.zeros((1, 75, 75, 3)), "image", (75, 75, 3)],
    "classifier_activation": ["soft", 3, [], {}, lambda x: x],
    "dropout_rate": NOT_A_SHARE,
    "aux_head": NOT_A_FLAG,
    "batch_norm_momentum": NOT_A_SHARE,
    "weight_decay": [-1e-9, math.nan, math.inf, "0", None, False, 10**400],
    "include_preprocessing": NOT_A_FLAG,
    "padding": ["Same", "", None, True, 1, ["same"]],
    "output_stride": [32, 4, 0, -8, 8.0, "16", True, [8]],
    "dtype": ["float12", 3, "int32", "string", "bool", "complex64", "float8_from_float32", "int8_from_float32", {}],
}

SCALES_REFUSED: list[Any] = [
    0,
    -0.1,
    1.01,
    math.nan,
    math.inf,
    None,
    "0.1",
    (0.1, 0.1),
    (0.1,) * 4,
    (0.1, 0, 0.1),
    {0.1},
    "abc",
]

SCALES_REFUSED += [(True, 0.1, 0.1), 10**400]


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize(("argument", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_factories_refuse(factory: str, argument: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{argument}: got .*; it takes") as error:
        getattr(package, factory)(**{argument: value})
    if argument != "variant":  # it names the network's own
        assert repr(value)[:20] in str(error.value)


@pytest.mark.parametrize("factory", FACTORIES[1:])
@pytest.mark.parametrize("scale", SCALES_REFUSED)
def test_residual_factories_refuse_a_scale(factory: str, scale: Any) -> None:
    with pytest.raises(InputError, match=r"^scale: got .*; it takes True .* number in \(0, 1\], or 3 such"):
        getattr(package, factory)(scale=scale)


def test_inception_v4_has_no_scale() -> None:
    with pytest.raises(TypeError, match=r"scale"):
        package.create_inception_v4(scale=True)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "shape", [(2, 74, 75, 3), (None, 75, 75), (None, None, None, None), (None, 3, 80, 80)], ids=str
)
def test_an_input_tensor_of_a_wrong_shape(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(InputError, match=r"^input_tensor: got .*; it takes"):
        package.create_inception_resnet_v1(input_tensor=keras.Input(batch_shape=shape))


@pytest.mark.parametrize("shape", [(106, 107, 3), (107, 106, 3), (None, 107, 3), (None, None, 3)], ids=str)
def test_an_auxiliary_head_needs_a_known_size(shape: Any) -> None:
    for factory in FACTORIES:
        with pytest.raises(InputError, match=r"^input_shape: .*at least 107 with aux_head=True"):
            getattr(package, factory)(input_shape=shape, aux_head=True)


def test_channels_first_shapes(channels_first: None) -> None:
    for shape in [(75, 75, 3), (3, 74, 75), (None, 75, 75)]:
        with pytest.raises(InputError, match=r"^input_shape: got .*; it takes \(channels, height, width\)"):
            package.create_inception_v4(input_shape=shape)
    assert tiny.build(input_shape=(3, 32, 32)).input_shape == (None, 3, 32, 32)


@given(st.floats(0, 1, exclude_min=True) | st.just(1))
def test_one_scale_is_for_every_block(scale: float) -> None:
    assert apply_scale(V2, scale) == apply_scale(V2, [scale] * 3) == edits.with_scales(V2, (scale,) * 3)


@given(st.floats() | st.integers())
def test_numbers_outside_the_range_are_refused(scale: float) -> None:
    if 0 < scale <= 1:
        apply_scale(V2, scale)
        return
    with pytest.raises(InputError, match=r"^scale: got"):
        apply_scale(V2, scale)
    with pytest.raises(InputError, match=r"^scale: got"):
        apply_scale(V2, (0.1, 0.1, scale))


@given(st.lists(st.integers(-3, 12), max_size=5))
def test_depths_are_taken_or_refused(depths: list[int]) -> None:
    if len(depths) == 3 and min(depths) >= 1:
        assert networks.depths(apply_depths(V2, depths)) == tuple(depths)
        assert apply_depths(V2, [np.int64(number) for number in depths]) == apply_depths(V2, tuple(depths))
    else:
        with pytest.raises(InputError, match=r"^depths: got"):
            apply_depths(V2, depths)


SIDES = st.none() | st.integers(-5, 400)


@given(st.tuples(SIDES, SIDES, st.integers(-1, 5)), st.sampled_from(["channels_last", "channels_first"]))
def test_shapes_are_taken_or_refused(shape: tuple[int | None, int | None, int], data_format: str) -> None:
    height, width, channels = shape
    given_shape = shape if data_format == "channels_last" else (channels, height, width)
    if channels >= 1 and all(side is None or side >= 7 for side in (height, width)):
        assert check_image_shape(tiny.TINY, given_shape, data_format, aux_head=False) == given_shape
        assert check_image_shape(tiny.TINY, list(given_shape), data_format, aux_head=False) == given_shape
    else:
        with pytest.raises(InputError, match=r"^input_shape: got .*at least 7 or None"):
            check_image_shape(tiny.TINY, given_shape, data_format, aux_head=False)


SCALED = [
    (True, [0.1, 0.1, 0.2]),
    (False, []),
    (1, []),
    (1.0, []),
    (0.3, [0.3, 0.3, 0.3]),
    (np.float32(0.5), [0.5, 0.5, 0.5]),
    ((0.2, 0.3, 0.4), [0.2, 0.2, 0.4]),
    ([0.2, 0.3, 1], [0.2, 0.2]),
]


@pytest.mark.parametrize(("scale", "expected"), SCALED, ids=[str(scale) for scale, _ in SCALED])
def test_scale_is_in_the_graph(scale: Any, expected: list[float]) -> None:
    """The tiny network has two residual blocks A, one C, and one more C that is never scaled."""
    model = tiny.build(apply_scale(tiny.TINY, scale))
    found = [layer.scale for layer in model.layers if isinstance(layer, keras.layers.Rescaling)]
    assert found == pytest.approx(expected)


def test_scale_acts_on_the_residual_alone() -> None:
    """sum = x + scale · project, whatever the scale."""
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    for scale in (False, 0.25):
        model = tiny.build(apply_scale(tiny.TINY, scale))
        names = ["stem_fork_1_concat", "a01_project", "a01_sum"]
        parts = keras.Model(model.input, [model.get_layer(name).output for name in names])
        x, project, total = map(keras.ops.convert_to_numpy, parts(images))
        np.testing.assert_allclose(total, x + (scale or 1) * project, atol=1e-6)
        assert np.abs(project).max() > 1e-3


@pytest.mark.slow
def test_factories_pass_their_arguments_on() -> None:
    model = package.create_inception_resnet_v1(
        7, (0.1, 0.2, 0.3), depths=[1, 2, 1], include_preprocessing=True, name="mine", input_shape=[None, 80, 1]
    )
    scales = [layer.scale for layer in model.layers if layer.name.endswith("_scale")]
    assert scales == pytest.approx([0.1, 0.2, 0.2, 0.3])
    assert (model.name, model.input_shape, model.output_shape) == ("mine", (None, None, 80, 1), (None, 7))
    v4 = package.create_inception_v4(include_top=False, pooling="max", depths=(1, 1, 1), dtype="mixed_bfloat16")
    assert v4.output_shape == (None, 1536)
    assert v4.output.dtype == "bfloat16"


@pytest.mark.parametrize("name", FACTORIES)
def test_the_factories_take_the_arguments_of_build(name: str) -> None:
    """In its order, with its defaults and types; besides `synchronized_batch_norm`, which needs a strategy."""
    built = dict(inspect.signature(build).parameters)
    del built["network"], built["synchronized_batch_norm"]
    factory = inspect.signature(getattr(package, name)).parameters
    shared = [argument for argument in factory if argument not in EDITS]
    assert shared == list(built)
    assert all(factory[argument] == built[argument] for argument in shared)
    assert ("scale" in factory) == (name != "create_inception_v4")


@pytest.mark.parametrize("name", FACTORIES)
def test_the_variants_of_a_signature_are_those_of_the_tables(name: str) -> None:
    variant = get_type_hints(getattr(package, name))["variant"]
    assert get_args(variant) == tuple(networks.NETWORKS[name.removeprefix("create_")])


def test_every_argument_is_documented_once() -> None:
    shared = inspect.getdoc(package.create_inception_v4) or ""
    arguments = inspect.signature(package.create_inception_v4).parameters
    assert all(f"\n    {argument}: " in shared for argument in arguments)
    for name in FACTORIES[1:]:
        own = inspect.getdoc(getattr(package, name)) or ""
        assert "`create_inception_v4` documents the arguments" in own
        assert all(f"\n    {argument}: " in own for argument in ("num_classes", "scale", "variant"))
        assert "dropout_rate: " not in own


def test_a_misspelt_argument_is_a_type_error_of_the_factory() -> None:
    with pytest.raises(TypeError, match=r"create_inception_v4\(\) got an unexpected keyword argument 'num_clases'"):
        package.create_inception_v4(num_clases=10)  # type: ignore[call-arg]


@pytest.mark.parametrize("values", [{"num_classes": None, "input_shape": None}, {"num_classes": 1000}])
def test_none_is_the_variants_own(values: dict[str, Any]) -> None:
    model = package.create_inception_resnet_v1(depths=(1, 1, 1), **values)
    assert (model.input_shape, model.output_shape) == ((None, 299, 299, 3), (None, 1000))


@pytest.mark.parametrize(("classes", "outputs"), [(None, 512), (1000, 1000), (np.int64(7), 7)])
def test_facenet_embeds_unless_classes_are_given(classes: int | None, outputs: int) -> None:
    model = package.create_inception_resnet_v1(classes, variant="facenet", depths=(1, 1, 1))
    assert (model.input_shape, model.output_shape) == ((None, 299, 299, 3), (None, outputs))
