"""Inception-v4 and Inception-ResNet-v1/v2 (Szegedy et al., arXiv 1602.07261) in Keras.

`__init__.pyi` lists the public names with their modules. Type checkers read that file, and so does this one. A module
is imported when one of its names is first used, so that importing the package takes no time.
"""

from importlib import import_module
from typing import Any

import lazy_loader

__version__ = "0.1.0"
_attribute, _public_names, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    from .common.packages import named_extras

    with named_extras():
        # `hub` is not among the public names, because `from inception_resnet_keras import *` must not need keras-hub.
        return import_module(".hub", __name__) if name == "hub" else _attribute(name)


def __dir__() -> list[str]:
    return [*_public_names(), *(name for name in globals() if name.startswith("__"))]
