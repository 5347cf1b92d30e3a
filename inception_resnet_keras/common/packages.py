"""What comes with an extra: a missing package is named with the extra that brings it, and with what to do about it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .errors import InputError

ENGINES = {"tensorflow": "cpu", "jax": "jax", "torch": "torch"}  # what Keras can run on → the extra that brings it
# What is imported → what it is called, and the smallest extra of pyproject.toml that brings it.
PACKAGES = {
    "PIL": ("Pillow", "predict"),
    "rich": ("rich", "predict"),
    "matplotlib": ("matplotlib", "evaluate"),
    "sklearn": ("scikit-learn", "evaluate"),
    "scipy": ("SciPy", "evaluate"),
    "jinja2": ("Jinja", "evaluate"),
    "pygraphviz": ("pygraphviz", "plot"),
    "safetensors": ("safetensors", "weights"),
    "huggingface_hub": ("huggingface-hub", "weights"),
    "openvino": ("OpenVINO", "openvino"),
    "onnxruntime": ("ONNX Runtime", "onnx"),
    "ai_edge_litert": ("LiteRT", "litert"),
    "starlette": ("Starlette", "serve"),
    "uvicorn": ("uvicorn", "serve"),
    "python_multipart": ("python-multipart", "serve"),
    "prometheus_client": ("prometheus-client", "serve"),
    "tensorflow_datasets": ("tensorflow-datasets", "tfds"),
    "tensorboard": ("tensorboard", "tensorboard"),
    "keras_hub": ("keras-hub", "hub"),
    "pydicom": ("pydicom", "dicom"),
    "psutil": ("psutil", "bench"),
    "cpuinfo": ("py-cpuinfo", "bench"),
}


class MissingPackageError(InputError, ImportError):
    """Raised for a package that is not installed; it names the extra that brings it."""


def install(extra: str) -> str:
    """The command that brings an extra."""
    return f"pip install 'inception-resnet-keras[{extra}]'"


def required(module: str, what: str = "") -> Any:
    """Imports a module of another package; MissingPackageError where that is not installed.

    what: What needs it, for the error.
    """
    with named_extras(what):
        return import_module(module)


@contextmanager
def named_extras(what: str = "") -> Iterator[None]:
    """Within the block, a package that an import misses is named with its extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        if isinstance(error, MissingPackageError) or not error.name:
            raise
        name = error.name.partition(".")[0]
        if name in ENGINES:
            raise MissingPackageError(f"{name} is not installed{_needed(what)}: {_engine_advice(name)}") from None
        if name not in PACKAGES:
            raise
        called, extra = PACKAGES[name]
        raise MissingPackageError(f"{called} is not installed{_needed(what)}: {install(extra)}") from None


def require_tensorflow(what: str) -> None:
    """Refuses work that only TensorFlow does, where Keras runs on another engine or TensorFlow is not installed.

    what: The subject of the sentence, such as "train".
    """
    if (engine := configured_engine()) != "tensorflow":
        raise InputError(
            f"KERAS_BACKEND: Keras runs on {engine} here, and {what} needs TensorFlow: unset KERAS_BACKEND (or the "
            f"backend in ~/.keras/keras.json), with {install('cpu')} or [gpu]"
        )
    if "tensorflow" not in sys.modules and find_spec("tensorflow") is None:
        raise MissingPackageError(f"tensorflow is not installed, which {what} needs: {install('cpu')}, or [gpu]")


def configured_engine() -> str:
    """What Keras runs on, or will: nothing is imported for it."""
    if keras := sys.modules.get("keras"):
        return str(keras.config.backend())
    if engine := os.environ.get("KERAS_BACKEND"):
        return engine
    home = os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser()
    try:
        settings = json.loads(Path(home, "keras.json").read_text(encoding="utf-8"))
        return str(settings.get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):
        return "tensorflow"


def _needed(what: str) -> str:
    return f", which {what} needs" if what else ""


def _engine_advice(missing: str) -> str:
    """What to do about an engine that is not there: another that is, or the extra."""
    there = [name for name in ENGINES if name != missing and find_spec(name)]
    brings = install(ENGINES[missing]) + (", or [gpu]" if missing == "tensorflow" else "")
    if there:
        return f"set KERAS_BACKEND={there[0]}, which is installed, or {brings}"
    if "KERAS_BACKEND" in os.environ and missing != "tensorflow":
        return f"{brings}, or unset KERAS_BACKEND"
    others = "; [jax] with KERAS_BACKEND=jax and [torch] with KERAS_BACKEND=torch run Keras without it"
    return brings + (others if missing == "tensorflow" else "")
