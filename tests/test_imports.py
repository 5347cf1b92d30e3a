"""What may import what, and what an import costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import inception_resnet_keras

ROOT = Path(__file__).parents[1]

# Neither the package nor a verb's help may bring these: each takes seconds.
HEAVY = ("keras", "tensorflow", "jax", "torch", "numpy", "matplotlib", "sklearn", "PIL")


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
    "statement", ["import inception_resnet_keras", "from inception_resnet_keras import spec; from_walk = spec.find"]
)
def test_the_package_and_its_tables_import_nothing_heavy(statement: str) -> None:
    found = python(f"{statement}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])")
    assert found.split() == []


def test_the_package_adds_a_tenth_of_a_second_at_most() -> None:
    """Of processor time, which a machine that others load stretches little; the least of five, as it only ever adds."""
    code = "import time; t = time.process_time(); import inception_resnet_keras; print(time.process_time() - t)"
    assert min(float(python(code)) for _ in range(5)) < 0.1


@pytest.mark.slow
def test_the_factories_add_a_tenth_of_a_second_to_keras() -> None:
    code = (
        "import keras, time; t = time.process_time(); "
        "from inception_resnet_keras import create_inception_v4, feature_extractor, preprocess_input; "
        "print(time.process_time() - t)"
    )
    assert min(float(python(code)) for _ in range(2)) < 0.1


def test_public_names_are_there_and_no_others() -> None:
    for name in inception_resnet_keras.__all__:
        assert callable(getattr(inception_resnet_keras, name)), name
        assert getattr(inception_resnet_keras, name).__doc__
    assert inception_resnet_keras.__all__ == sorted(inception_resnet_keras.__all__)
    assert set(inception_resnet_keras.__all__) <= set(dir(inception_resnet_keras))
    with pytest.raises(AttributeError, match="no attribute 'create_inception_v5'"):
        _ = inception_resnet_keras.create_inception_v5
