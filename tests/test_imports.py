"""What may import what, and what an import costs."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import inception_resnet_keras as package
from inception_resnet_keras.common.packages import ENGINES, PACKAGES

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


def installed_by(extra: str) -> set[str]:
    """The distributions that an extra installs, with those that they need."""
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    found: set[str] = set()
    left = list(map(Requirement, optional[extra]))
    while left:
        wanted = left.pop()
        name = canonicalize_name(wanted.name)
        if name == "inception-resnet-keras":
            left += [Requirement(text) for each in wanted.extras for text in optional[each]]
        elif name not in found:
            found.add(name)
            with suppress(PackageNotFoundError):
                of_it = map(Requirement, requires(name) or ())
                left += [each for each in of_it if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def test_an_optional_package_is_named_with_an_extra_that_installs_it() -> None:
    asked = {
        call.args[0].value.partition(".")[0]
        for path in ROOT.glob("inception_resnet_keras/**/*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "required"
        if isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
    }
    assert "imagehash" in asked
    assert asked <= PACKAGES.keys() | ENGINES.keys()
    provided = packages_distributions()
    for module, (_, extra) in PACKAGES.items():
        if module in provided:
            assert installed_by(extra) & set(map(canonicalize_name, provided[module])), f"{module}: {extra}"


def test_the_types_are_shipped() -> None:
    assert Path(package.__file__ or "").with_name("py.typed").is_file()
