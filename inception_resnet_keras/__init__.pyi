"""The public names with their modules. `__init__.py` imports each name when it is first used."""

from .data.preprocessing import preprocess_input as preprocess_input
from .data.preprocessing import warn_if_unscaled as warn_if_unscaled
from .deploy.convert import convert_checkpoint as convert_checkpoint
from .deploy.export import export_model as export_model
from .deploy.serve import serve as serve
from .diagrams.api import plot_architecture as plot_architecture
from .evaluation.compare import compare as compare
from .evaluation.evaluate import evaluate as evaluate
from .evaluation.explain import explain as explain
from .evaluation.faces import verify_faces as verify_faces
from .evaluation.html_report import write_report as write_report
from .models.folding import optimize_for_inference as optimize_for_inference
from .models.predict import predict as predict
from .networks.batch_norm import settle_batch_norm as settle_batch_norm
from .networks.factories import create_inception_resnet_v1 as create_inception_resnet_v1
from .networks.factories import create_inception_resnet_v2 as create_inception_resnet_v2
from .networks.factories import create_inception_v4 as create_inception_v4
from .networks.features import endpoints as endpoints
from .networks.features import feature_extractor as feature_extractor
from .networks.geometry import feature_geometry as feature_geometry
from .training.forward import optimize_for_training as optimize_for_training
from .training.rate_finder import find_learning_rate as find_learning_rate
from .training.train import finetune as finetune
from .training.train import train as train
from .weights.inspect import inspect_checkpoint as inspect_checkpoint
from .weights.labels import decode_predictions as decode_predictions
from .weights.load import load_weights as load_weights

__version__: str
