"""Inception-v4 and Inception-ResNet-v1/v2 (Szegedy et al., arXiv 1602.07261) in Keras.

Nothing heavy is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.preprocessing import preprocess_input, warn_if_unscaled
    from .deploy.export import export_model
    from .deploy.folding import optimize_for_inference
    from .diagrams.api import plot_architecture
    from .evaluation.evaluate import evaluate
    from .evaluation.faces import verify_faces
    from .networks.factories import create_inception_resnet_v1, create_inception_resnet_v2, create_inception_v4
    from .networks.features import endpoints, feature_extractor
    from .training.train import finetune
    from .weights.labels import decode_predictions
    from .weights.load import load_weights

__all__ = [
    "create_inception_resnet_v1",
    "create_inception_resnet_v2",
    "create_inception_v4",
    "decode_predictions",
    "endpoints",
    "evaluate",
    "export_model",
    "feature_extractor",
    "finetune",
    "load_weights",
    "optimize_for_inference",
    "plot_architecture",
    "preprocess_input",
    "verify_faces",
    "warn_if_unscaled",
]

_HOME = {
    "create_inception_resnet_v1": ".models",
    "create_inception_resnet_v2": ".models",
    "create_inception_v4": ".models",
    "decode_predictions": ".weights.labels",
    "endpoints": ".features",
    "evaluate": ".evaluation.evaluate",
    "export_model": ".export.api",
    "feature_extractor": ".features",
    "finetune": ".training.train",
    "load_weights": ".weights.load",
    "optimize_for_inference": ".inference.folding",
    "plot_architecture": ".diagrams.api",
    "preprocess_input": ".data.preprocessing",
    "verify_faces": ".evaluation.faces",
    "warn_if_unscaled": ".data.preprocessing",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
