"""The same numbers on every engine of Keras: `KERAS_BACKEND=jax pytest tests/test_backends.py`.

TensorFlow need not be installed there. It computed what is compared with:
`KERAS_BACKEND=tensorflow python -m tests.test_backends` writes it anew.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import pytest

import inception_resnet_keras as irk
from inception_resnet_keras.cli import main
from inception_resnet_keras.common import machine
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.common.packages import ENGINES, MissingPackageError, require_tensorflow, required
from inception_resnet_keras.data.preprocessing import ScalingWarning
from inception_resnet_keras.networks.batch_norm import SHIFT, imitate_training
from inception_resnet_keras.networks.rows import PREPROCESSINGS
from inception_resnet_keras.weights.readers import open_checkpoint

from . import tiny
from .evaluation.faces import write_faces, write_pairs
from .evaluation.models import write_model
from .weights import synthetic

pytestmark = pytest.mark.backends
GOLDEN = Path(__file__).parent / "golden" / "backends"
ENGINE = keras.config.backend()
TOLERANCE = 1e-5  # of the largest number
PIXELS = np.random.default_rng(5).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
Numbers = dict[str, np.ndarray]


def array(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def network(**options: Any) -> keras.Model:
    return tiny.randomised(tiny.build(include_preprocessing=True, classifier_activation=None, **options))


def outputs(folder: Path) -> Numbers:
    """Built, folded, taken apart, saved and loaded."""
    model = network()
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    fresh = tiny.build(include_preprocessing=True, classifier_activation=None)
    irk.load_weights(fresh, folder / "model.weights.h5")
    found = {
        "called": model(PIXELS, training=False),
        "predicted": model.predict_on_batch(PIXELS),
        "folded": irk.optimize_for_inference(model)(PIXELS, training=False),
        "saved": keras.saving.load_model(folder / "model.keras")(PIXELS, training=False),
        "loaded": fresh(PIXELS, training=False),
    }
    maps = irk.feature_extractor(model, list(irk.endpoints(model)))(PIXELS, training=False)
    return {name: array(value) for name, value in (found | maps).items()}


def explanations(folder: Path) -> Numbers:
    found = irk.explain(network(), PIXELS, steps=5, batch_size=2, endpoint="a02")
    likeness = irk.explain(network(), PIXELS[:1], against=PIXELS[1:], steps=2, endpoint="reduction_a")[0]
    return {
        "cams": np.stack([one.cam for one in found]),
        "gradients": np.stack([one.gradients for one in found]),
        "scores": np.array([one.score for one in found]),
        "against": np.append(likeness.gradients, likeness.score),
    }


def fitted(folder: Path) -> Numbers:
    model = tiny.randomised(tiny.build(tiny.FEW, dropout_rate=0.0, batch_norm_momentum=0.9))
    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    history = model.fit(tiny.IMAGES, np.array([0, 2]), epochs=3, batch_size=2, shuffle=False, verbose=0)
    return {"losses": np.array(history.history["loss"]), "after": tiny.run(model)}


def pixels(folder: Path) -> Numbers:
    tensor = keras.ops.convert_to_tensor(PIXELS[:, :6, :6])
    return {name: array(irk.preprocess_input(tensor, name)) for name in PREPROCESSINGS}  # type: ignore[arg-type]


def judged(folder: Path) -> Numbers:
    """`evaluate`, `predict` and `verify_faces`, of a saved model."""
    model, faces = write_model(folder / "model.keras", network=tiny.TINY), write_faces(folder / "faces")
    for label in range(3):
        (folder / "faces" / f"Digit_{label}").rename(folder / "faces" / str(label))
    found = irk.evaluate(model, folder / "faces", out=folder / "evaluation")
    told = irk.predict(model, faces / "1", top=3)
    again = write_faces(folder / "persons")
    pairs = irk.verify_faces(model, write_pairs(folder / "pairs.txt"), again, out=folder / "verified")
    return {
        "figures": np.array([found.reported.figures.top1, found.reported.figures.calibration.nll]),
        "predictions": np.array([share for one in told for _, share in one.top]),
        "faces": np.array([pairs.verification.accuracy, *(fold.threshold for fold in pairs.verification.folds)]),
    }


PARTS: dict[str, Callable[[Path], Numbers]] = {
    part.__name__: part for part in (outputs, explanations, fitted, pixels, judged)
}


@pytest.mark.parametrize("part", PARTS)
def test_the_numbers_are_tensorflows(part: str, tmp_path: Path) -> None:
    found, expected = PARTS[part](tmp_path), np.load(GOLDEN / f"{part}.npz")
    assert set(found) == set(expected.files)
    for name, values in found.items():
        assert np.abs(expected[name]).max() > 0, name
        difference = np.abs(values - expected[name]).max() / np.abs(expected[name]).max()
        assert difference <= TOLERANCE, f"{name}: {difference:.2g}"


@pytest.mark.parametrize("name", ["v1.ckpt", "v2.ckpt"])
def test_checkpoints_of_tensorflow_are_read(name: str) -> None:
    with open_checkpoint(GOLDEN / name) as checkpoint:
        for tensor, expected in small_checkpoint().items():
            np.testing.assert_array_equal(checkpoint.read(tensor), expected)


def small_checkpoint() -> Numbers:
    shapes = {"Stem/Conv2d_1a_3x3/weights": (3, 3, 3, 8), "Stem/Conv2d_1a_3x3/BatchNorm/beta": (8,)}
    return {name: synthetic.tensor(name, shape, channels_first=False) for name, shape in shapes.items()}


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_commands_run(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, faces = write_model(tmp_path / "model.keras"), write_faces(tmp_path / "faces", persons=1, each=1)
    picture = next(faces.rglob("*.png"))
    options = ["--out", str(tmp_path / "drawn"), "--steps", "2"] if command == "explain" else ["--json"]
    assert main([command, str(model), str(picture), *options]) == 0
    assert picture.stem in capsys.readouterr().out


def test_a_tensor_that_looks_scaled_is_reported_where_it_has_values() -> None:
    with pytest.warns(ScalingWarning, match="expects raw pixels"):
        irk.preprocess_input(keras.ops.convert_to_tensor(PIXELS / 255))
    compiled = keras.Sequential([keras.Input(PIXELS.shape[1:]), keras.layers.Lambda(irk.preprocess_input)])
    np.testing.assert_allclose(compiled.predict(PIXELS, verbose=0), irk.preprocess_input(PIXELS), atol=1e-6)


def test_weights_like_trained_ones_are_made_under_any_engine() -> None:
    """For benchmarks: every batch norm's output has the mean SHIFT, on the pictures that settled it."""
    model = imitate_training(tiny.build(tiny.FEW, include_preprocessing=True), PIXELS)
    norm = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    found = array(keras.Model(model.input, norm.output)(PIXELS, training=False))
    np.testing.assert_allclose(found.mean(axis=(0, 1, 2)), SHIFT, atol=1e-4)


def test_tf_data_is_preprocessed_under_any_engine() -> None:
    tf = pytest.importorskip("tensorflow")
    for name in PREPROCESSINGS:
        batches = tf.data.Dataset.from_tensor_slices(PIXELS).map(
            lambda image, name=name: irk.preprocess_input(image, name)
        )
        found = next(iter(batches.batch(2))).numpy()
        np.testing.assert_allclose(found, irk.preprocess_input(PIXELS, name), atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.skipif(ENGINE == "tensorflow", reason="TensorFlow is what they want")
def test_what_wants_tensorflow_is_refused_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = f"Keras runs on {ENGINE} here, and .* needs TensorFlow: unset KERAS_BACKEND"
    absent = str(tmp_path / "absent")
    for call in (
        lambda: irk.train(absent, out=tmp_path / "run"),
        lambda: irk.finetune(absent, out=tmp_path / "run"),
        lambda: irk.find_learning_rate(absent, out=tmp_path / "run"),
        lambda: irk.export_model(absent, tmp_path / "out", "saved_model"),
        lambda: irk.optimize_for_training(tiny.build()),
    ):
        with pytest.raises(InputError, match=sentence):
            call()
    for arguments in (["train", "--out", absent], ["export", absent, "--out", absent, "--format", "onnx"]):
        assert main(arguments) == 1
        assert "needs TensorFlow" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("module", "extra"), [("PIL", "predict"), ("matplotlib", "evaluate"), ("sklearn", "evaluate")])
def test_a_missing_package_is_named_with_its_extra(module: str, extra: str, tmp_path: Path) -> None:
    """In a process of its own; Keras brings rich itself."""
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from inception_resnet_keras.common.packages import required\n"
        f"try: required({module!r} + '.sub', 'it')\n"
        "except ImportError as error: print(error)\n"
        "import inception_resnet_keras as irk\n"
        "try: irk.evaluate\n"
        "except ImportError as error: print(error)\n"
        "irk.create_inception_v4, irk.load_weights, irk.optimize_for_inference, irk.preprocess_input, irk.endpoints\n"
        "from inception_resnet_keras.cli import main\n"
        "assert main(['summary', 'inception_v4']) == 0\n"
        "main(['explain', 'absent', 'absent'])\n"
        "main(['plot', 'inception_v4', '--out', sys.argv[1]])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "drawn.svg")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    named = [line for line in done.stdout.splitlines() if f"pip install 'inception-resnet-keras[{extra}]'" in line]
    assert len(named) == (2 if module in ("PIL", "matplotlib") else 1), done.stdout
    assert "Figure 3" in done.stdout  # the summary
    if module != "sklearn":  # for a command's explanation, and for a drawing
        assert done.stderr.count(f"pip install 'inception-resnet-keras[{extra}]'") == 2, done.stderr


def test_a_missing_engine_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine, extra in ENGINES.items():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, engine, None)
            with pytest.raises(MissingPackageError, match=rf"{engine} is not installed.*\[{extra}\]"):
                required(engine, "it")
    if ENGINE == "tensorflow":
        require_tensorflow("it")


def test_another_engine_is_no_advice_where_tensorflow_itself_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    pack = ["pack", str(tmp_path / "absent"), str(tmp_path / "packed")]
    for arguments, what in ((pack, "pack"), (["bench", "inception_v4@xla"], "contender inception_v4:paper@xla")):
        assert main(arguments) == 1
        message = capsys.readouterr().err
        assert f"tensorflow is not installed, which {what} needs: pip install 'inception-resnet-keras[cpu]'" in message
        assert "KERAS_BACKEND" not in message


def test_an_unknown_engine_is_refused_by_commands() -> None:
    """In a process of its own, because Keras reads the variable once."""
    code = "from inception_resnet_keras.cli import main; raise SystemExit(main(['summary', 'inception_v4']))"
    environment = {**os.environ, "KERAS_BACKEND": "pytorch"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "KERAS_BACKEND" in done.stderr
    assert "got 'pytorch'; it takes tensorflow or jax or torch" in done.stderr


def test_reports_name_the_engine_and_no_other() -> None:
    found = machine.environment()["versions"]
    for engine, packages in machine.BACKEND_PACKAGES.items():
        assert any(package in found for package in packages) == (engine == ENGINE)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.skipif(ENGINE == "torch", reason="this is it")
def test_the_numbers_are_the_same_on_pytorch() -> None:
    """With PyTorch's CPU build beside: uv pip install torch --index-url https://download.pytorch.org/whl/cpu."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", __file__]
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def write_golden() -> None:
    assert ENGINE == "tensorflow"
    GOLDEN.mkdir(exist_ok=True)
    for name, part in PARTS.items():
        with TemporaryDirectory() as folder:
            arrays: Any = part(Path(folder))
            np.savez_compressed(GOLDEN / f"{name}.npz", **arrays)
    for version in (1, 2):
        synthetic.write_tensorflow(GOLDEN / f"v{version}.ckpt", small_checkpoint(), version)


if __name__ == "__main__":
    write_golden()
