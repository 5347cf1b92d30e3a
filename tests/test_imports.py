"""What may import what, and what an import costs."""

import inspect
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import inception_resnet_keras as package

ROOT = Path(__file__).parents[1]

# Neither the package nor a verb's help may bring these: each takes seconds.
HEAVY = ("keras", "tensorflow", "jax", "torch", "numpy", "matplotlib", "sklearn", "PIL")
# The arguments that these share with `create_inception_v4` are documented there: `test_factories` checks it.
FACTORIES = ("create_inception_resnet_v1", "create_inception_resnet_v2")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_arrows_of_the_house_hold() -> None:
    """The contracts are in pyproject.toml."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "statement", ["import inception_resnet_keras", "from inception_resnet_keras import networks; networks.find"]
)
def test_the_package_and_its_tables_import_nothing_heavy(statement: str) -> None:
    found = python(f"{statement}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])")
    assert found.split() == []


def times(first: str, then: str) -> tuple[float, float]:
    """Seconds of processor time of two statements in one process, each the least of three, as others only ever add."""
    code = (
        f"import time; start = time.process_time(); {first}; middle = time.process_time(); {then}; "
        "print(middle - start, time.process_time() - middle)"
    )
    one, two = zip(*(map(float, python(code).split()[-2:]) for _ in range(3)), strict=True)
    return min(one), min(two)


def test_the_package_is_imported_faster_than_numpy() -> None:
    ours, numpys = times("import inception_resnet_keras", "import numpy")
    assert ours < numpys


@pytest.mark.slow
def test_the_factories_add_little_to_keras() -> None:
    imports = "from inception_resnet_keras import create_inception_v4, feature_extractor, preprocess_input"
    keras, ours = times("import keras", imports)
    assert ours < keras / 20


def test_public_names_are_there_and_no_others() -> None:
    public: list[str] = vars(package)["__all__"]
    assert public == sorted(public)
    assert [name for name in dir(package) if not name.startswith("__")] == public
    assert {"train", "predict", "explain", "inspect_checkpoint", "convert_checkpoint"} <= set(public)
    for name in public:
        assert callable(getattr(package, name)), name
    with pytest.raises(AttributeError, match="attribute create_inception_v5"):
        _ = package.create_inception_v5  # type: ignore[attr-defined]


def test_every_public_function_documents_and_types_its_arguments() -> None:
    for name in vars(package)["__all__"]:
        function = getattr(package, name)
        documented = inspect.getdoc(function) or ""
        assert "Args:\n" in documented, name
        assert "return" in function.__annotations__, name
        assert function.__annotations__["return"] == "None" or "Returns:\n" in documented, name
        for argument in inspect.signature(function).parameters:
            assert argument in function.__annotations__, f"{name}: {argument}"
            described = rf"(?m)^    (\w+, )*{argument}(, \w+)*: "
            assert name in FACTORIES or re.search(described, documented), f"{name}: {argument}"


def test_the_version_is_that_of_the_distribution() -> None:
    assert package.__version__ == version("inception-resnet-keras")
    assert "__version__" in dir(package)


def test_type_checkers_read_the_same_names() -> None:
    stub = Path(package.__file__ or "").with_suffix(".pyi").read_text(encoding="utf-8")
    listed = re.findall(r"^from \.[\w.]+ import (\w+) as \1$", stub, re.M)
    assert sorted(listed) == vars(package)["__all__"]
    assert len(re.findall(r"^(?:from|import) ", stub, re.M)) == len(listed)


def test_the_types_are_shipped() -> None:
    assert Path(package.__file__ or "").with_name("py.typed").is_file()
