"""What can be timed: how a contender is written, the weights and exports it needs, and the engine that runs it.

A contender is one line of text, `WHAT[+FORM][@ENGINE[,PRECISION]]`. The top of the module imports nothing heavy:
`bench --help` prints the grammar, and a wrong line is refused before any process starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import networks
from ..common.errors import InputError
from ..deploy.formats import FORMATS
from ..networks.rows import Network

if TYPE_CHECKING:
    import keras
    import numpy as np

    from ..models.model_file import Card

APPLICATIONS, TIMM = "keras-applications", "timm:"
TIMM_NETWORKS = ("inception_resnet_v2", "inception_v4")
OPTIMIZED, APART = "optimized", "apart"  # forms of a network
AS_SAVED = "saved"  # the precision of a file that was exported before
IN_TENSORFLOW, IN_TORCH = ("graph", "xla"), ("eager", "compile")
# The format that `export_model` writes for each engine.
EXPORTED = {"openvino": "openvino", "onnxruntime": "onnx", "litert": "litert", "savedmodel": "saved_model"}
WEIGHTS_ALONE = ("onnxruntime", "litert")  # their float16 is a storage type: on a CPU they multiply in float32
# The precisions of each engine, the default first. float32 is exact; tf32 is the faster one of a GPU.
PRECISIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(IN_TENSORFLOW, ("float32", "tf32", "mixed_bfloat16", "mixed_float16")),
    **{engine: FORMATS[target].precisions for engine, target in EXPORTED.items()},
    **dict.fromkeys(IN_TORCH, ("float32", "tf32", "bfloat16", "float16")),
}

FILES = {FORMATS[target].suffix: engine for engine, target in EXPORTED.items() if FORMATS[target].suffix}
_ALIKE = ", ".join(IN_TENSORFLOW), *EXPORTED, ", ".join(IN_TORCH)

GRAMMAR = f"""\
A contender is WHAT[+FORM][@ENGINE[,PRECISION]]

  WHAT       one of this package's networks, NETWORK[:VARIANT], such as inception_resnet_v2:slim
             {APPLICATIONS}   (Keras's own InceptionResNetV2)
             {TIMM}{TIMM_NETWORKS[0]}, {TIMM}{TIMM_NETWORKS[1]}   (if torch and timm are installed)
             a run's folder or a .keras file; an exported model: {", ".join(FILES)}, a SavedModel's folder
  FORM       {OPTIMIZED}: by optimize_for_inference; {APART}: the same with sibling 1×1 convolutions left
             apart. An export is always {OPTIMIZED}, and may be {APART}
  ENGINE     of our networks, a .keras file and {APPLICATIONS}: graph (default), xla
             of our networks and a .keras file, exported first as `export` does: {", ".join(EXPORTED)}
             of {TIMM.rstrip(":")}: eager (default), compile; of an exported model: given by its suffix
  PRECISION  the default is the first; float32 is exact, tf32 is the faster one of a GPU
{"".join(f"             of {names}: {', '.join(PRECISIONS[names.split(',')[0]])}{chr(10)}" for names in _ALIKE)}
Such as: inception_resnet_v2:slim+{OPTIMIZED}@xla,mixed_bfloat16   inception_v4:slim@openvino,int8   run/model.xml"""


@dataclass(frozen=True)
class Contender:
    """One participant, whose `str()` is the line that `parse` reads.

    what: a network as "name:variant", a peer's name, or a path. form: OPTIMIZED, APART, or empty for the network as
    built. engine, precision: from PRECISIONS, or AS_SAVED.
    """

    what: str
    form: str = ""
    engine: str = "graph"
    precision: str = "float32"

    def __str__(self) -> str:
        default = self.precision in (AS_SAVED, PRECISIONS[self.engine][0])
        return f"{self.what}{self.form and f'+{self.form}'}@{self.engine}{'' if default else f',{self.precision}'}"

    @property
    def kind(self) -> str:
        """ "ours", "applications", "timm", "saved" (a .keras file) or "exported"."""
        if self.what == APPLICATIONS:
            return "applications"
        if self.network is not None:
            return "timm" if self.what.startswith(TIMM) else "ours"
        return "exported" if self.precision == AS_SAVED else "saved"

    @property
    def computed_in(self) -> str:
        """The type of its multiplications: "float32", "tf32", "bfloat16", "float16", "int8", or AS_SAVED."""
        return self.precision.removeprefix("mixed_")

    @property
    def network(self) -> Network | None:
        """The table that gives its multiply-adds; None for a file."""
        what = "inception_resnet_v2" if self.what == APPLICATIONS else self.what.removeprefix(TIMM)
        name, _, variant = what.partition(":")
        return networks.find(name, variant or "slim") if name in networks.NETWORKS else None

    @property
    def needs_export(self) -> bool:
        return self.engine in EXPORTED and self.precision != AS_SAVED

    @property
    def why_not_trained(self) -> str:
        """Empty if it can be trained."""
        if self.network is None:
            return "a saved model is not trained here: name its network"
        folded = "a network whose batch norm is folded is not trained" if self.form else ""
        return f"{self.engine} does not train" if self.engine in EXPORTED else folded


def parse(text: str) -> Contender:
    """The contender of a line. Raises InputError, which names the wrong part and the nearest right line."""
    what, at, how = text.rpartition("@")
    if not at or "/" in how or "\\" in how:  # the name of a folder may contain an @
        what, how = text, ""
    engine, _, precision = how.partition(",")
    form = next((form for form in (OPTIMIZED, APART) if what.endswith(f"+{form}")), "")
    what, engines, exported = _resolve(text, what.removesuffix(f"+{form}") if form else what)
    engine = _one_of(text, "engine", engine or engines[0], engines)
    if exported:
        if precision or form:
            raise InputError(f"contender {text!r}: {what} runs as it was exported; give {what!r} alone")
        return Contender(what, "", engine, AS_SAVED)
    precision = _one_of(text, "precision", precision or PRECISIONS[engine][0], PRECISIONS[engine])
    plain = text.replace(f"+{form}", "")
    if form and (what == APPLICATIONS or what.startswith(TIMM)):
        raise InputError(f"contender {text!r}: {form} is for our networks; give {plain!r}")
    if form == OPTIMIZED and engine in EXPORTED:
        raise InputError(f"contender {text!r}: an export is optimized already; give {plain!r}")
    return Contender(what, form, engine, precision)


def parse_all(texts: Iterable[str]) -> list[Contender]:
    """The contenders of several lines. Raises InputError if one is given twice."""
    contenders: list[Contender] = []
    for text in texts:
        if (contender := parse(text)) in contenders:
            raise InputError(f"contender {text!r}: {contender} is named twice; give it once")
        contenders.append(contender)
    return contenders


def _resolve(text: str, what: str) -> tuple[str, tuple[str, ...], bool]:  # noqa: PLR0911 - one for each kind
    """The subject with its variant written out, the engines that run it, and whether it is exported already."""
    if what == APPLICATIONS:
        return what, IN_TENSORFLOW, False
    if what.startswith(TIMM):
        return TIMM + _one_of(text, "network of timm", what.removeprefix(TIMM), TIMM_NETWORKS), IN_TORCH, False
    ours = (*IN_TENSORFLOW, *EXPORTED)
    name, colon, variant = what.partition(":")
    if name in networks.NETWORKS:
        variants = tuple(networks.NETWORKS[name])
        variant = _one_of(text, f"variant of {name}", variant, variants) if colon else variants[0]
        return f"{name}:{variant}", ours, False
    path = Path(what)
    if path.suffix in FILES:
        return what, (FILES[path.suffix],), True
    if path.suffix == ".keras" or (path / "model.keras").is_file():
        return what, ours, False
    if (path / "saved_model.pb").is_file():
        return what, ("savedmodel",), True
    if "/" in what or "\\" in what or path.exists():
        takes = f"a run's folder, a .keras file, or an exported model: {', '.join(FILES)}, a SavedModel's folder"
        raise InputError(f"contender {text!r}: {what} is no model that can be opened; it takes {takes}")
    every = [f"{network}:{variant}" for network, variants in networks.NETWORKS.items() for variant in variants]
    return _one_of(text, "network", what, [APPLICATIONS, *(TIMM + name for name in TIMM_NETWORKS), *every]), ours, False


def _one_of(text: str, part: str, got: str, choices: Iterable[str]) -> str:
    if got in choices:
        return got
    nearest = max(choices, key=lambda choice: SequenceMatcher(None, got.lower(), choice).ratio())
    right = nearest.join(text.rsplit(got, 1)) if got else nearest
    listed = ", ".join(choices)
    raise InputError(f"contender {text!r}: {part} {got!r} is not one of {listed}; the nearest right one: {right!r}")


class Preset(NamedTuple):
    """A set of contenders, the baseline first, with batches of inference and of training steps."""

    about: str
    contenders: list[str]
    batches: tuple[int, ...]
    training: tuple[int, ...] = ()


_SLIM, _V4 = "inception_resnet_v2:slim", "inception_v4:slim"

_ON_CPU = f"""\
{APPLICATIONS}@graph {_SLIM}@graph {_SLIM}+{OPTIMIZED}@graph {_SLIM}@xla {_SLIM}+{OPTIMIZED}@xla
{_SLIM}@openvino {_SLIM}@openvino,bfloat16 {_SLIM}@openvino,int8 {_SLIM}@onnxruntime {_SLIM}@onnxruntime,int8
{_SLIM}@litert {_SLIM}@litert,int8 {TIMM}inception_resnet_v2@eager {TIMM}inception_resnet_v2@compile"""

_HOW_ON_GPU = product((_SLIM, _V4), PRECISIONS["graph"], IN_TENSORFLOW, ("", f"+{OPTIMIZED}", f"+{APART}"))

_ON_GPU = [
    *(f"{APPLICATIONS}@{how}" for how in ("graph,mixed_bfloat16", "graph,tf32", "xla,tf32", "xla,mixed_bfloat16")),
    *(f"{network}{form}@{engine},{precision}" for network, precision, engine, form in _HOW_ON_GPU),
    *(f"{TIMM}{name}@{engine},bfloat16" for name in TIMM_NETWORKS for engine in IN_TORCH),
]

_CPU = "ResNet-v2 slim on a CPU: TensorFlow, OpenVINO, ONNX Runtime, LiteRT, and the peers"
_GPU = "ResNet-v2 slim and v4 on a GPU: TensorFlow's precisions, with and without XLA, and the peers; with training"

PRESETS = {
    "cpu": Preset(_CPU, _ON_CPU.split(), (1, 8)),
    "gpu": Preset(_GPU, _ON_GPU, (1, 32, 128, 256), (64, 128, 256)),
}


# What a contender needs before it starts: weights that behave like trained ones, reference outputs, exports.
CLASSES = 1000
CHECKED, CALIBRATED = 8, 64  # pictures that outputs are compared on, and that an int8 export is calibrated with
SPREAD = 3.0  # standard deviation of the logits


def prepare(contender: Contender, folder: Path, size: int) -> tuple[str, str]:
    """Write what a contender needs, except what an earlier one of the same network has written.

    folder: one for each network; its parent holds the pictures. Returns the file that the engine opens, and an .npz
    with `images` and the network's own float32 `outputs` on the CPU, which outputs are compared with.
    """
    import numpy as np

    from ..data.benchmark import write_pictures
    from ..data.images import read_image

    pictures, reference = folder.parent / "pictures", folder / "reference.npz"
    source = folder / {"timm": "model.pt", "applications": "model.weights.h5"}.get(contender.kind, "model.keras")
    if contender.kind == "saved":  # a file, or a run's folder
        path = Path(contender.what)
        source = path / "model.keras" if path.is_dir() else path
    if not reference.exists():
        if not pictures.exists():
            write_pictures(pictures, CHECKED + CALIBRATED)
        folder.mkdir(exist_ok=True)
        files = sorted(pictures.glob("*/*.jpg"))[:: (CHECKED + CALIBRATED) // CHECKED][:CHECKED]
        images = np.stack([read_image(file, (size, size)) for file in files]).astype(np.float32)
        outputs = _torch_outputs if contender.kind == "timm" else _keras_outputs
        np.savez(reference, images=images, outputs=outputs(contender, source, images))
    if contender.form:
        from ..deploy.folding import optimize_for_inference
        from ..models.model_file import load_model, save_model

        plain, source = source, folder / f"{contender.form}.keras"
        if not source.exists():
            model, card = load_model(plain)
            save_model(optimize_for_inference(model, join_siblings=contender.form != APART), source, card)
    if contender.needs_export:
        from ..deploy.export import export_model

        target = FORMATS[EXPORTED[contender.engine]]
        plain, source = source, folder / f"{contender.engine}_{contender.precision}_{contender.form}{target.suffix}"
        # A form is optimized already. The bounds of `export` are for trained networks: `compare_outputs` decides here.
        options: dict[str, Any] = {"precision": contender.precision, "optimize": not contender.form}
        options |= {"calibrate": pictures} if contender.precision == "int8" else {}
        export_model(plain, source, target.name, **options, max_difference=1e9, min_agreement=0.0)
    return str(source), str(reference)


def _keras_outputs(contender: Contender, source: Path, images: np.ndarray) -> np.ndarray:
    import keras

    from ..models.model_file import Card, load_model, save_model
    from ..networks.factories import build

    keras.utils.set_random_seed(0)
    shape, network = images.shape[1:], contender.network
    if network is None:
        model, _ = load_model(source)
    elif contender.kind == "applications":
        images = images / 127.5 - 1
        model = keras.applications.InceptionResNetV2(weights=None, input_shape=shape, classes=CLASSES)
        settle(model, images)
        model.save_weights(source)
    else:
        model = build(network, input_shape=shape, include_preprocessing=True, dtype="float32")
        settle(model, images)
        classes = [str(number) for number in range(model.output_shape[-1])]
        save_model(model, source, Card(network.name, network.variant, classes, shape[:2]))
    return keras.ops.convert_to_numpy(model(images, training=False)).astype("float32")


def settle(model: keras.Model, images: np.ndarray) -> None:
    """Give each batch norm the statistics of its input, and a classifier the confidence of a trained one.

    Initial statistics normalise nothing: after 244 convolutions the numbers are unlike any trained network's, too
    small for half precision and int8, or denormal and slow. And 8 bits cannot tell 1,000 equal probabilities apart.
    """
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # the statistics become those of the next batch; nothing trains this model
    model(images, training=True)
    if getattr(model.layers[-1], "activation", None) is keras.activations.softmax:
        spread = float(keras.ops.std(keras.ops.log(keras.ops.maximum(model(images, training=False), 1e-30))))
        head = next(layer for layer in reversed(model.layers) if layer.weights)
        head.set_weights([SPREAD / spread * weight for weight in head.get_weights()])


def _torch() -> tuple[Any, Any]:
    try:
        import timm
        import torch
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: pip install torch timm") from None
    return torch, timm


def _torch_outputs(contender: Contender, source: Path, images: np.ndarray) -> np.ndarray:
    torch, timm = _torch()
    torch.manual_seed(0)
    network = timm.create_model(contender.what.removeprefix(TIMM), pretrained=False, num_classes=CLASSES)
    pixels = torch.from_numpy(images / 127.5 - 1).float().permute(0, 3, 1, 2)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # PyTorch's is the share of the new statistics
    with torch.no_grad():
        network.train()(pixels)
        outputs = network.eval()(pixels).softmax(dim=1).numpy()
    torch.save(network.state_dict(), source)
    return outputs


# Whether a contender computes the network at all: its outputs against the reference.

# The largest difference that rounding explains over the depth of these networks. Measured on a CPU with ResNet-v2
# slim: 2e-6 in float32 and 2e-2 in bfloat16 at 299 pixels, 0.27 in int8 at 139. A constant output gives 1.
BOUNDS = {"float32": 1e-3, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 1e-1, "int8": 5e-1}


def compare_outputs(outputs: np.ndarray, reference: np.ndarray, computed_in: str) -> dict[str, Any]:
    """outputs, reference: (pictures, classes) probabilities or embeddings; computed_in: from BOUNDS.

    Returns `difference`, its `bound`, whether it `passed` (never with NaN), and the `agreement`, the share of the
    `pictures` with the same top-1.
    """
    if outputs.shape != reference.shape:
        raise ValueError(f"its outputs have the shape {outputs.shape}, the network's {reference.shape}")
    # The softmax of LiteRT is int8 too, in steps of 1/256: smaller probabilities are all the same to it.
    distance, bound = difference(outputs, reference, 1 / 256 if computed_in == "int8" else 1e-12), BOUNDS[computed_in]
    agreement = float((outputs.argmax(axis=1) == reference.argmax(axis=1)).mean())
    result = {"difference": distance, "bound": bound, "agreement": agreement, "pictures": len(outputs)}
    return {**result, "passed": distance <= bound}


def difference(outputs: np.ndarray, reference: np.ndarray, floor: float = 1e-12) -> float:
    """‖outputs - reference‖ / ‖reference‖, of the logits if the rows are probabilities.

    A softmax hides differences where it is sure, and an untrained network is sure of nothing: so probabilities, of at
    least `floor`, are turned back into logits, up to a constant for each row.
    """
    import numpy as np

    def logits(probabilities: np.ndarray) -> np.ndarray:
        logs = np.log(np.maximum(probabilities.astype(np.float64), floor))
        return logs - logs.mean(axis=1, keepdims=True)

    if (reference >= 0).all() and np.allclose(reference.sum(axis=1), 1, atol=1e-3):
        outputs, reference = logits(outputs), logits(reference)
    distance = np.linalg.norm(outputs.astype(np.float64) - reference) / np.linalg.norm(reference)
    return float(distance) if np.isfinite(outputs).all() else float("inf")


# How a contender runs, inside its own process.
Step = Callable[[], Any]
RATE = 1e-3  # learning rate: small, so that what is timed stays finite


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The size of pictures in pixels, "cpu" or "gpu", threads (None: each one's choice), training steps of a call."""

    size: int = 299
    device: str = "cpu"
    threads: int | None = None
    steps: int = 1


class Engine:
    """An exported model, run by its own library without TensorFlow or Keras; and what all engines have in common."""

    def __init__(self, contender: Contender, model: str, setting: Setting) -> None:
        """model: the file that `prepare` wrote, or an exported model."""
        from ..models.runtimes import open_runtime

        self.setting, self.runtime = setting, open_runtime(Path(model), threads=setting.threads)
        self.card: Card | None = _check_size(self.runtime.card, setting.size)

    def load(self, images: np.ndarray) -> Any:
        """Pixels of 0-255, (n, size, size, 3), scaled as the network takes them and moved to its device."""
        return images

    def forward(self, images: Any) -> Any:
        """Start to compute outputs of loaded pixels; returns a handle."""
        return self.runtime.run(images)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """float32 probabilities or embeddings of pixels of 0-255."""
        return self.forward(self.load(images))

    def inference(self, batch: int) -> Step:
        return partial(self.forward, self.load(synthetic(batch, self.setting.size)))

    def training(self, batch: int) -> Step:
        """One optimizer step, or `Setting.steps` of them, on one batch over and over."""
        raise NotImplementedError("this engine does not train")

    def wait(self, handle: Any) -> None:
        """Return once the numbers of a step's handle exist."""

    def device_memory(self) -> int | None:
        """The most bytes held on the GPU since the last call; None without a GPU."""
        return None

    def facts(self) -> dict[str, Any]:
        """What it runs on and, of a model with a card, what it is."""
        facts: dict[str, Any] = {"device": "CPU"}
        if (card := self.card) is not None:
            facts |= {"network": [card.network, card.variant], "classes": len(card.classes)}
            facts |= {"precision": card.precision} if hasattr(card, "precision") else {}
        return facts


class KerasEngine(Engine):
    """Keras on TensorFlow: our networks and `keras.applications`, in graph mode or compiled by XLA."""

    def __init__(self, contender: Contender, model: str, setting: Setting) -> None:
        import keras
        import tensorflow as tf

        from ..common.devices import use_gpus
        from ..models.runtimes import use_threads

        if setting.threads is not None:
            use_threads(setting.threads)
        gpus = use_gpus() if setting.device == "gpu" else []
        if setting.device == "gpu" and not gpus:
            raise RuntimeError("TensorFlow sees no GPU")
        if contender.precision == "tf32" and not gpus:
            raise RuntimeError("TF32 is a type of NVIDIA's GPUs")
        tf.config.experimental.enable_tensor_float_32_execution(contender.precision == "tf32")
        self.tf, self.keras, self.contender, self.file, self.setting = tf, keras, contender, model, setting
        self.gpus, self.card = gpus, None
        self.policy = contender.precision if contender.precision.startswith("mixed_") else "float32"
        self.xla, self.peer = contender.engine == "xla", contender.kind == "applications"

    @cached_property
    def model(self) -> keras.Model:
        from ..deploy.prepare import in_policy
        from ..models.model_file import load_model

        if self.peer:
            self.keras.config.set_dtype_policy(self.policy)
            shape = (self.setting.size, self.setting.size, 3)
            return self.keras.applications.InceptionResNetV2(weights=self.file, input_shape=shape, classes=CLASSES)
        model, card = load_model(Path(self.file))
        self.card = _check_size(card, self.setting.size)
        return model if self.policy == "float32" else in_policy(model, self.policy)

    @cached_property
    def forward(self) -> Any:
        model, tf = self.model, self.tf  # opened before the graph is traced, where nothing can be read

        def outputs(images: Any) -> Any:
            return tf.cast(model(images, training=False), tf.float32)

        return tf.function(outputs, autograph=False, jit_compile=self.xla)

    def load(self, images: np.ndarray) -> Any:
        return self._on_device(images / 127.5 - 1 if self.peer else images)  # our networks scale pixels themselves

    def predict(self, images: np.ndarray) -> np.ndarray:
        return self.forward(self.load(images)).numpy()

    def training(self, batch: int) -> Step:
        """Our production step, or Keras's own `train_on_batch`."""
        images, steps = self.load(synthetic(batch, self.setting.size)), self.setting.steps
        labels = self._on_device(self.tf.range(batch, dtype="int64") % CLASSES)
        if self.peer:
            if steps > 1:
                raise NotImplementedError("train_on_batch takes one step a call")
            if not (model := self.model).compiled:
                sgd = self.keras.optimizers.SGD(RATE, momentum=0.9, nesterov=True)
                model.compile(sgd, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=self.xla)
            return lambda: model.train_on_batch(images, labels)
        from ..training.cluster import make_strategy
        from ..training.config import TrainConfig
        from ..training.session import Session

        network = self.contender.network
        assert network is not None
        config = TrainConfig(model=network.name, variant=network.variant, size=self.setting.size, batch_size=batch)
        config = replace(config, optimizer="sgd", schedule="constant", warmup=0.0, learning_rate=RATE, strategy="one")
        config = replace(config, precision=self.policy, jit=self.xla)
        stepper = Session(config, list(map(str, range(CLASSES))), 1000, 0.99, make_strategy(config)).stepper
        if steps > 1:
            return lambda: stepper.repeat(images, labels, steps)
        return lambda: stepper.apply(stepper.compute(images, labels)[1], 0)  # `compute` waits for its figures

    def wait(self, handle: Any) -> None:
        if isinstance(handle, self.tf.Tensor):  # train_on_batch has waited already
            handle.numpy()

    def device_memory(self) -> int | None:
        if not self.gpus:
            return None
        peak = self.tf.config.experimental.get_memory_info("GPU:0")["peak"]
        self.tf.config.experimental.reset_memory_stats("GPU:0")
        return peak

    def facts(self) -> dict[str, Any]:
        facts = super().facts()
        if self.gpus:
            details = self.tf.config.experimental.get_device_details(self.gpus[0])
            built = self.tf.sysconfig.get_build_info()
            facts["device"] = details.get("device_name", "GPU")
            facts["compute_capability"] = details.get("compute_capability")
            facts |= {key: built.get(key) for key in ("cuda_version", "cudnn_version")}
        return facts

    def _on_device(self, values: Any) -> Any:
        with self.tf.device("/GPU:0" if self.gpus else "/CPU:0"):
            return self.tf.identity(self.tf.constant(values))


class TorchEngine(Engine):
    """timm's networks on PyTorch, as a user of timm would run them fast: channels last, AMP, eager or compiled."""

    def __init__(self, contender: Contender, model: str, setting: Setting) -> None:
        torch, timm = _torch()
        self.torch, self.contender, self.setting = torch, contender, setting
        if setting.threads is not None:
            torch.set_num_threads(setting.threads)
        self.on_gpu = setting.device == "gpu"
        if self.on_gpu and not torch.cuda.is_available():
            raise RuntimeError("PyTorch sees no GPU")
        if contender.precision == "tf32" and not self.on_gpu:
            raise RuntimeError("TF32 is a type of NVIDIA's GPUs")
        self.device = torch.device("cuda" if self.on_gpu else "cpu")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = contender.precision != "float32"
        torch.backends.cudnn.benchmark = True
        network = timm.create_model(contender.what.removeprefix(TIMM), pretrained=False, num_classes=CLASSES)
        network.load_state_dict(torch.load(model, weights_only=True, map_location="cpu"))
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()
        half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(contender.precision)
        self.autocast = partial(torch.autocast, self.device.type, dtype=half, enabled=half is not None)
        self.logits = torch.compile(self.network) if contender.engine == "compile" else self.network

    def load(self, images: np.ndarray) -> Any:
        pixels = self.torch.from_numpy(images / 127.5 - 1).float().permute(0, 3, 1, 2)
        return pixels.to(self.device).contiguous(memory_format=self.torch.channels_last)

    def forward(self, images: Any) -> Any:
        with self.torch.inference_mode(), self.autocast():
            return self.logits(images)

    def predict(self, images: np.ndarray) -> np.ndarray:
        return self.forward(self.load(images)).float().softmax(dim=1).cpu().numpy()

    def training(self, batch: int) -> Step:
        torch = self.torch
        if self.setting.steps > 1:
            raise NotImplementedError("PyTorch takes one step a call")
        images = self.load(synthetic(batch, self.setting.size))
        labels = (torch.arange(batch) % CLASSES).to(self.device)
        self.network.train()
        optimizer = torch.optim.SGD(self.network.parameters(), lr=RATE, momentum=0.9, nesterov=True)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.contender.precision == "float16")

        def step() -> Any:
            optimizer.zero_grad(set_to_none=True)
            with self.autocast():
                loss = torch.nn.functional.cross_entropy(self.logits(images), labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            return loss.detach()

        return step

    def wait(self, handle: Any) -> None:
        if self.on_gpu:
            self.torch.cuda.synchronize()

    def device_memory(self) -> int | None:
        if not self.on_gpu:
            return None
        peak = self.torch.cuda.max_memory_allocated()
        self.torch.cuda.empty_cache()
        self.torch.cuda.reset_peak_memory_stats()
        return peak

    def facts(self) -> dict[str, Any]:
        torch = self.torch
        if not self.on_gpu:
            return {"device": "CPU", "intra_op_threads": torch.get_num_threads()}
        cuda, cudnn = torch.version.cuda, torch.backends.cudnn.version()
        facts = {"device": torch.cuda.get_device_name(), "cuda_version": cuda, "cudnn_version": cudnn}
        return {**facts, "compute_capability": list(torch.cuda.get_device_capability())}


def open_engine(contender: Contender, model: str, setting: Setting) -> Engine:
    in_python = {**dict.fromkeys(IN_TENSORFLOW, KerasEngine), **dict.fromkeys(IN_TORCH, TorchEngine)}
    return in_python.get(contender.engine, Engine)(contender, model, setting)


def synthetic(batch: int, size: int) -> np.ndarray:
    """Pixels of 0-255: no engine here is faster on some than on others."""
    import numpy as np

    return np.random.default_rng(0).random((batch, size, size, 3), np.float32) * np.float32(255)


def _check_size(card: Card, size: int) -> Card:
    if card.size != (size, size):
        raise ValueError(f"it takes pictures of {card.size[0]}×{card.size[1]}: give --size {card.size[0]}")
    return card
