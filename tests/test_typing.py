"""What mypy and pyright say of a user's script: every wrong call is an error, and nothing else is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WRONG = "  # wrong"

SCRIPT = f"""\
from pathlib import Path

import inception_resnet_keras as irk
from inception_resnet_keras import create_inception_resnet_v1, create_inception_resnet_v2, create_inception_v4
from inception_resnet_keras import preprocess_input

model = create_inception_v4(10, variant="slim", depths=(1, 1, 1), input_shape=(None, None, 3), pooling="avg")
create_inception_v4(num_classes=None, weights=Path("a.ckpt"), dtype="mixed_bfloat16", classifier_activation=None)
create_inception_resnet_v1(variant="facenet", input_shape=[160, 160, 3])
create_inception_resnet_v2(1000, False)
create_inception_resnet_v2(scale=(0.1, 0.2, 0.3), input_shape=None)
create_inception_v4(num_clases=10){WRONG}
create_inception_v4(variant="slimm"){WRONG}
create_inception_v4(variant="facenet"){WRONG}
create_inception_v4(scale=True){WRONG}
create_inception_v4(pooling="average"){WRONG}
create_inception_v4("10"){WRONG}
create_inception_resnet_v1(variant="slim"){WRONG}
create_inception_resnet_v1(scale="0.1"){WRONG}
create_inception_resnet_v2(variant="facenet"){WRONG}
create_inception_resnet_v2(10, 0.1, "paper"){WRONG}

model.summary()
irk.load_weights(model, "imagenet").loaded + 1
irk.load_weights(model, Path("a.pt"), new_head="aux")
irk.load_weights(model, "a.pt", new_head="all"){WRONG}
irk.endpoints(model)["stem"].shape
irk.feature_extractor(model, "stride_8")
irk.feature_extractor(model, 8){WRONG}
irk.optimize_for_inference(model, join_siblings=False)
irk.optimize_for_inference(model, join=False){WRONG}
irk.decode_predictions([[0.0] * 1000])[0][0].name.title()
irk.explain(model, [[[[0.0]]]], classes=[0])[0].cam.shape
irk.explain(model, [[[[0.0]]]], classes="cat"){WRONG}
preprocess_input([0, 255], "facenet")
preprocess_input([0, 255], "pytorch"){WRONG}
irk.warn_if_unscaled([0.5], what="it")

irk.train("photos", out=Path("run"), recipe="modern", epochs=3).report.accuracy + 1
irk.train(epochs=3).folder.model
irk.train(("photos",)){WRONG}
irk.finetune(Path("photos"), weights=Path("a.h5"), out="run")
irk.finetune(){WRONG}
irk.predict("RUN", ["a.png", Path("b.png")])[0].top
irk.predict(Path("RUN"), "a.png", top=1)
irk.predict([model, "RUN", Path("a.keras")], "photos", crops=12).probabilities.shape
irk.predict("RUN", "photos").to_csv("out.csv").name
irk.predict("RUN", "photos", crops=2){WRONG}
irk.predict("RUN", [1]){WRONG}
irk.evaluate([model, "RUN", Path("a.keras")], Path("photos"), crops=12, out="out").folder.name
irk.evaluate("RUN", crops=10){WRONG}
irk.evaluate("RUN", crop_mode="centre"){WRONG}
irk.evaluate("RUN", interpolation="area"){WRONG}
irk.verify_faces("RUN", "pairs.txt", Path("faces"), crop_mode="center")
irk.verify_faces("RUN", "pairs.txt"){WRONG}
irk.export_model(Path("RUN"), "model.onnx", "onnx", precision="int8", calibrate="photos")
irk.export_model("RUN", "model.onnx", "onnx2"){WRONG}
irk.export_model("RUN", "model.onnx", "onnx", precision="float8"){WRONG}
irk.export_model("RUN", "model.onnx", "onnx", preprocessing="pytorch"){WRONG}
(irk.inspect_checkpoint(Path("a.ckpt")).call or "").upper()
irk.inspect_checkpoint(1){WRONG}
irk.convert_checkpoint("a.ckpt", Path("b.keras"), to="keras")[1].difference + 1
irk.convert_checkpoint("a.ckpt", "b.h5", to="h5"){WRONG}
irk.plot_architecture("inception_v4", Path("a.svg"), level="modules", format="svg").svg().upper()
irk.plot_architecture(model).save("a.png")
irk.plot_architecture("inception_v5"){WRONG}
irk.plot_architecture("inception_v4", level="blocks"){WRONG}
irk.plot_architecture("inception_v4", format="gif"){WRONG}
irk.__version__.split(".")
irk.create_inception_v5(){WRONG}
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In a folder of its own, from where the package is imported as an installed one is."""
    path = tmp_path_factory.mktemp("user") / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def wrong_lines() -> list[int]:
    return [number for number, line in enumerate(SCRIPT.splitlines(), 1) if line.endswith(WRONG)]


def run(*command: str | Path, cwd: Path) -> str:
    """What a checker prints; its exit status is 1, as there are errors."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def test_mypy_finds_every_wrong_call(script: Path) -> None:
    settings = script.with_name("mypy.ini")
    # Keras ships no types for mypy. Errors inside the package are silenced, as those of an installed one are.
    settings.write_text(f"[mypy]\nmypy_path = {ROOT}\nfollow_imports = silent\nignore_missing_imports = true\n")
    shown = run("mypy", "--output", "json", "--cache-dir", script.with_name("cache"), script.name, cwd=script.parent)
    messages = [json.loads(line) for line in shown.splitlines()]
    errors = [message for message in messages if message["severity"] == "error"]
    assert sorted({error["line"] for error in errors}) == wrong_lines(), shown
    assert {error["file"] for error in errors} == {script.name}


def test_pyright_finds_every_wrong_call(script: Path) -> None:
    settings = {"include": [script.name], "extraPaths": [str(ROOT)], "typeCheckingMode": "standard"}
    settings["reportUnusedExpression"] = settings["reportUnusedCallResult"] = "none"
    script.with_name("pyrightconfig.json").write_text(json.dumps(settings))
    options = ("--outputjson", "--pythonpath", sys.executable)
    shown = run("basedpyright", *options, cwd=script.parent)
    errors = [message for message in json.loads(shown)["generalDiagnostics"] if message["severity"] == "error"]
    assert sorted({error["range"]["start"]["line"] + 1 for error in errors}) == wrong_lines(), shown
