"""Optional packages: the error for a missing one names the extra that installs it, and the command to use."""

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

from .errors import InputError, refuse

ENGINES = {"tensorflow": "cpu", "jax": "jax", "torch": "torch"}  # a backend of Keras → the extra that installs it
WITHOUT_GRADIENTS = ("numpy", "openvino")  # other backends of Keras: no test runs on them
# A module → the package's name, and the smallest extra of pyproject.toml that installs it.
PACKAGES = {
    "PIL": ("Pillow", "predict"),
    "rich": ("rich", "predict"),
    "matplotlib": ("matplotlib", "evaluate"),
    "sklearn": ("scikit-learn", "evaluate"),
    "scipy": ("SciPy", "evaluate"),
    "imagehash": ("ImageHash", "evaluate"),
    "jinja2": ("Jinja", "evaluate"),
    "markupsafe": ("MarkupSafe", "evaluate"),
    "pygraphviz": ("pygraphviz", "plot"),
    "safetensors": ("safetensors", "weights"),
    "huggingface_hub": ("huggingface-hub", "weights"),
    "openvino": ("OpenVINO", "openvino"),
    "onnxruntime": ("ONNX Runtime", "onnx"),
    "ai_edge_litert": ("LiteRT", "litert"),
    "flatbuffers": ("FlatBuffers", "litert"),
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
    """Raised for a package that is not installed. The message names the extra that installs it."""


def install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'inception-resnet-keras[{extra}]'"


def required(module: str, what: str = "") -> Any:
    """Import a module of an optional package. Raises MissingPackageError if it is not installed.

    `what` names the thing that needs it, for the error message.
    """
    with named_extras(what):
        return import_module(module)


@contextmanager
def named_extras(what: str = "") -> Iterator[None]:
    """Within the block, the error for a missing package names its extra. `what` names the thing that needs it.

    Without `what`, a missing engine is the one that Keras runs on, and another engine may take its place.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if isinstance(error, MissingPackageError) or not error.name:
            raise
        name = error.name.partition(".")[0]
        if name in ENGINES:
            advice = _extra_of(name) if what else _engine_advice(name)
            raise MissingPackageError(f"{name} is not installed{_needed(what)}: {advice}") from None
        if name not in PACKAGES:
            raise
        called, extra = PACKAGES[name]
        raise MissingPackageError(f"{called} is not installed{_needed(what)}: {install(extra)}") from None


def require_tensorflow(what: str) -> None:
    """Raise InputError unless Keras runs on TensorFlow and TensorFlow is installed.

    `what` is the subject of the message's sentence, such as "train".
    """
    if (engine := configured_engine()) != "tensorflow":
        raise InputError(
            f"KERAS_BACKEND: Keras runs on {engine} here, and {what} needs TensorFlow: unset KERAS_BACKEND (or the "
            f"backend in ~/.keras/keras.json), with {install('cpu')} or [gpu]"
        )
    require_tensorflow_installed(what)


def require_tensorflow_installed(what: str) -> None:
    """Raise MissingPackageError unless TensorFlow is installed, whatever backend Keras runs on. Imports nothing."""
    if find_spec("tensorflow") is None:
        raise MissingPackageError(f"tensorflow is not installed{_needed(what)}: {_extra_of('tensorflow')}")


def check_engine() -> None:
    """Raise InputError if Keras is set to a backend that it does not have."""
    engine = configured_engine()
    if engine not in (*ENGINES, *WITHOUT_GRADIENTS):
        raise refuse("KERAS_BACKEND (or the backend in ~/.keras/keras.json)", engine, " or ".join(ENGINES))


def configured_engine() -> str:
    """The backend that Keras runs on, or will run on. Imports nothing."""
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


def _extra_of(engine: str) -> str:
    return install(ENGINES[engine]) + (", or [gpu]" if engine == "tensorflow" else "")


def _engine_advice(missing: str) -> str:
    """What to do about a missing backend: use another that is installed, or install the extra."""
    installed = [name for name in ENGINES if name != missing and find_spec(name)]
    command = _extra_of(missing)
    if installed:
        return f"set KERAS_BACKEND={installed[0]}, which is installed, or {command}"
    if "KERAS_BACKEND" in os.environ and missing != "tensorflow":
        return f"{command}, or unset KERAS_BACKEND"
    others = "; [jax] with KERAS_BACKEND=jax and [torch] with KERAS_BACKEND=torch run Keras without it"
    return command + (others if missing == "tensorflow" else "")
