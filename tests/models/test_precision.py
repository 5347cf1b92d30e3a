"""A folded model in some precision against the model itself; how half precision is chosen, by real clocks."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras import evaluate, predict
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.models.open import open_model
from inception_resnet_keras.models.precision import choose_precision, has_half_precision, speed_up
from inception_resnet_keras.networks.recognise import leaves

from .. import tiny
from ..exporting import lively, write_pictures, write_run

PIXELS = np.random.default_rng(0).uniform(0, 255, (5, tiny.SIDE, tiny.SIDE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return lively()


def norms(model: keras.Model) -> int:
    return sum(isinstance(layer, keras.layers.BatchNormalization) for layer in leaves(model))


def test_what_is_run_is_folded_and_gives_the_models_numbers(model: keras.Model) -> None:
    opened = speed_up(open_model(model), None, 4)
    assert opened.model is not None
    assert opened.runner is not None
    assert norms(opened.model) > 0
    assert norms(opened.runner.model) == 0
    np.testing.assert_allclose(opened.run(PIXELS), model.predict(PIXELS, verbose=0), atol=1e-5)
    assert opened.notes == open_model(model).notes


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_computed_and_said(model: keras.Model, precision: str) -> None:
    opened = speed_up(open_model(model), precision, 4)
    assert opened.runner is not None
    kinds = {layer.compute_dtype for layer in leaves(opened.runner.model)}
    assert precision.removeprefix("mixed_") in kinds
    assert f"it is computed in {precision}" in opened.notes
    found, expected = opened.run(PIXELS), model.predict(PIXELS, verbose=0)
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert np.abs(found - expected).max() > 1e-6
    again = speed_up(open_model(model), "float32", 4)  # the model that was given is as it was
    np.testing.assert_allclose(again.run(PIXELS), expected, atol=1e-5)


def test_a_model_that_was_built_in_half_precision_can_be_computed_in_float32() -> None:
    half = lively(dtype="mixed_bfloat16")
    opened = speed_up(open_model(half), "float32", 4)
    assert opened.runner is not None
    assert {layer.compute_dtype for layer in leaves(opened.runner.model)} == {"float32"}


def test_auto_times_both_and_says_what_it_found(model: keras.Model) -> None:
    opened = speed_up(open_model(model), "auto", 4)
    assert opened.runner is not None
    [said] = [note for note in opened.notes if note.startswith("precision ")]
    kind = "bfloat16" if "mixed_bfloat16: " in said else "float32"
    assert kind in {layer.compute_dtype for layer in leaves(opened.runner.model)}
    assert ("bfloat16 took" in said) == has_half_precision()


@keras.saving.register_keras_serializable("tests")
class Forgetful(keras.layers.Layer):
    """A layer whose copy computes something else, because its configuration lacks a number."""

    def __init__(self, factor: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.factor = factor

    def call(self, x: Any) -> Any:
        return x * self.factor

    def get_config(self) -> dict[str, Any]:
        return {key: value for key, value in super().get_config().items() if key != "factor"}


def test_a_folded_model_that_gives_other_numbers_is_not_taken(model: keras.Model) -> None:
    image = keras.Input((tiny.SIDE, tiny.SIDE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(x))
    x = keras.layers.GlobalAveragePooling2D()(Forgetful(-3.0)(x))
    other = tiny.randomised(keras.Model(image, keras.layers.Dense(3, activation="softmax")(x)))
    opened = speed_up(open_model(other), None, 4)
    assert opened.runner is not None
    assert norms(opened.runner.model) == 1
    np.testing.assert_allclose(opened.run(PIXELS), other.predict(PIXELS, verbose=0), atol=1e-6)


def sleeping(**seconds: float) -> Callable[[str], Callable[[], object]]:
    def make(precision: str) -> Callable[[], object]:
        if seconds[precision] == 0:
            raise MemoryError
        return lambda: time.sleep(seconds[precision])

    return make


@pytest.mark.parametrize(
    ("full", "half", "chosen"),
    [
        (0.03, 0.01, "mixed_bfloat16"),
        (0.03, 0.028, "float32"),
        (0.01, 0.03, "float32"),
        (0, 0.01, "mixed_bfloat16"),
        (0.01, 0, "float32"),
        (0, 0, "float32"),
    ],
)
def test_half_precision_is_chosen_where_it_is_faster_by_a_fifth(full: float, half: float, chosen: str) -> None:
    found, reason = choose_precision(sleeping(float32=full, mixed_bfloat16=half), has_half=True)
    assert found == chosen
    assert reason.startswith(f"{chosen}: ")


def test_nothing_is_timed_where_there_is_no_half_precision() -> None:
    found, reason = choose_precision(sleeping(), has_half=False)
    assert (found, "neither a GPU nor a CPU" in reason) == ("float32", True)


def test_an_error_that_is_no_lack_of_memory_is_not_a_choice() -> None:
    with pytest.raises(KeyError):
        choose_precision(sleeping(), has_half=True)


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("flags\t: fpu avx512f avx512_bf16 sse", True),
        ("flags : amx_tile amx_bf16", True),
        ("flags : avx2 avx512f", False),
    ],
)
def test_a_cpu_with_bfloat16_is_known_by_its_flags(tmp_path: Path, text: str, has: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{text}\n")
    assert has_half_precision(tmp_path / "cpuinfo") == has
    assert not has_half_precision(tmp_path / "missing")


def test_an_exported_model_computes_as_it_was_exported(tmp_path: Path) -> None:
    from inception_resnet_keras import export_model

    (tmp_path / "run").mkdir()
    run, pictures = write_run(tmp_path / "run"), write_pictures(tmp_path / "pictures")
    export_model(run, tmp_path / "model.onnx", "onnx", min_agreement=0.0)
    for verb in (predict, evaluate):
        with pytest.raises(InputError, match=r"precision: .*model\.onnx computes as it was exported"):
            verb(tmp_path / "model.onnx", pictures, precision="mixed_bfloat16")
    with pytest.raises(InputError, match="precision: got 'half'; it takes"):
        predict(run, pictures, precision="half")  # type: ignore[arg-type]


def test_predict_and_evaluate_take_a_precision(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    run, pictures = write_run(tmp_path / "run"), write_pictures(tmp_path / "pictures")
    notes: list[str] = []
    plain = predict(run, pictures)
    half = predict(run, pictures, precision="mixed_bfloat16", note=notes.append)
    assert [note.rpartition(": ")[2] for note in notes] == ["it is computed in mixed_bfloat16"]
    for one, other in zip(plain, half, strict=True):
        assert dict(one.top) == pytest.approx(dict(other.top), abs=0.08)  # of few, wide activations
    found = evaluate(run, pictures, precision="mixed_bfloat16", out=tmp_path / "evaluation")
    assert "it is computed in mixed_bfloat16" in found.models[0].notes
    written = json.loads((tmp_path / "evaluation" / "report.json").read_text())
    assert "it is computed in mixed_bfloat16" in written["models"][0]["notes"]
