"""The contenders of a benchmark: how they are named, the files that they need, and the engines that run them.

Every contender takes pixels of 0 to 255 and returns probabilities or an embedding. The top of this module imports
nothing heavy, because `bench --help` prints what contenders may be.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .. import networks
from ..common.arguments import nearest, one_of
from ..common.errors import InputError
from ..deploy.formats import FORMATS

if TYPE_CHECKING:
    import keras
    import numpy as np

    from ..deploy.prepare import ExportableModel
    from ..training.trouble import MemoryMeter

APPLICATIONS, TIMM = "keras-applications", "timm:"
OPTIMIZED, APART = "optimized", "apart"  # forms of a Keras model in inference
FIT, PLAIN = "fit", "plain"  # other training steps of the same network
FORMS = (OPTIMIZED, APART, FIT, PLAIN)
TIMM_NETWORKS = ("inception_resnet_v2", "inception_v4")
IN_TENSORFLOW, IN_TORCH = ("graph", "xla"), ("eager", "compile")
IN_KERAS = (*IN_TENSORFLOW, *FORMATS)  # the engines of a Keras model, those that need an export included
OF_KERAS = ("network", "applications", "file")  # the kinds of contenders that Keras runs or exports
ALIASES = {"onnxruntime": "onnx", "savedmodel": "saved_model"}  # other names of engines
# The precisions of each engine, the default first.
PRECISIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(IN_TENSORFLOW, ("float32", "tf32", "mixed_bfloat16", "mixed_float16")),
    **{name: target.precisions for name, target in FORMATS.items()},
    **dict.fromkeys(IN_TORCH, ("float32", "tf32", "bfloat16")),
}


@dataclass(frozen=True)
class Contender:
    """A contender. `str()` gives the text that `parse` reads.

    Attributes:
        kind: "network", "applications", "timm", "file" (a Keras model) or "exported".
        what: A network as "name:variant", the name of another project's network, or a path.
        engine: The engine that runs it.
        precision: The precision; "" for an exported file, which has its own.
        form: One of `FORMS`, or "" for the network as built, trained with the step of `train`.
    """

    kind: str
    what: str
    engine: str
    precision: str
    form: str = ""

    def __str__(self) -> str:
        default = self.precision in ("", PRECISIONS[self.engine][0])
        return f"{self.what}{self.form and f'+{self.form}'}@{self.engine}{'' if default else f',{self.precision}'}"

    @property
    def table(self) -> tuple[str, str]:
        """The name and the variant of the network; ("", "") for a file."""
        if self.kind in ("file", "exported"):
            return "", ""
        name, _, variant = self.what.removeprefix(TIMM).partition(":")
        return ("inception_resnet_v2" if self.kind == "applications" else name), variant or "slim"

    @property
    def trainable(self) -> bool:
        """Whether training steps are timed: only for named networks as built, in Keras or PyTorch."""
        return self.table != ("", "") and self.form not in (OPTIMIZED, APART) and self.engine not in FORMATS

    @property
    def inferring(self) -> bool:
        """Whether inference is timed: not for forms of training, which are the same network in inference."""
        return self.form not in (FIT, PLAIN)


def parse(text: str) -> Contender:
    """Parse a contender.

    Raises:
        InputError: A part of the text is wrong; the message names the part and what it may be.
    """
    what, at, how = text.rpartition("@")
    if not at or "/" in how or "\\" in how or Path(text).exists():  # a folder's name may contain an @
        what, how = text, ""
    engine, _, precision = how.partition(",")
    form = next((form for form in FORMS if what.endswith(f"+{form}")), "")
    argument = f"contender {text!r}"
    kind, what, engines = _subject(argument, what.removesuffix(f"+{form}") if form else what)
    engine = one_of(f"{argument}: engine", ALIASES.get(engine, engine) or engines[0], engines)
    precisions = ("",) if kind == "exported" else PRECISIONS[engine]
    precision = one_of(f"{argument}: precision", precision or precisions[0], precisions)
    if form and engine not in IN_TENSORFLOW:
        raise InputError(f"{argument}: {form} applies only to graph and xla; exports are optimized; leave it out")
    if form in (FIT, PLAIN) and kind != "network":
        raise InputError(f"{argument}: {form} applies only to training a network of this package; leave it out")
    return Contender(kind, what, engine, precision, form)


def _subject(argument: str, what: str) -> tuple[str, str, tuple[str, ...]]:
    """The kind of a contender, its full name, and the engines that can run it."""
    name, colon, variant = what.partition(":")
    if what == APPLICATIONS:
        return "applications", what, IN_KERAS
    if what.startswith(TIMM):
        return "timm", TIMM + one_of(f"{argument}: network of timm", variant, TIMM_NETWORKS), IN_TORCH
    if name in networks.NETWORKS:
        variants = tuple(networks.NETWORKS[name])
        variant = one_of(f"{argument}: variant of {name}", variant, variants) if colon else variants[0]
        return "network", f"{name}:{variant}", IN_KERAS

    from ..models.open import find_keras_file
    from ..models.runtimes import find_runtime

    path = Path(what)
    if "\0" in what or not (path.exists() or "/" in what or "\\" in what):
        known = (APPLICATIONS, *(TIMM + name for name in TIMM_NETWORKS), *networks.NETWORKS)
        raise InputError(f"{argument}: {what!r} is neither a file nor one of {', '.join(known)}{nearest(what, known)}")
    try:
        if find_keras_file(path) is not None:
            return "file", what, IN_KERAS
        return "exported", what, (find_runtime(path)[0].kind,)
    except InputError as error:
        raise InputError(f"{argument}: {error}") from None


# Files: weights that behave like trained ones, reference outputs, exports.
CHECKED, CALIBRATED = 8, 64  # numbers of images for the comparison of outputs, and for the calibration of int8


Made = TypeVar("Made")


class Files(NamedTuple):
    """The files of a contender.

    Attributes:
        model: The file or folder that its engine opens.
        reference: An .npz with `images` and the network's `outputs` in float32 on the CPU; None without a reference.
        macs: Multiply-adds per image, 0 if unknown; None if they are not counted yet.
    """

    model: str = ""
    reference: str | None = None
    macs: int | None = None


def make_files(
    contenders: Sequence[Contender], folder: Path, size: tuple[int, int], others: Mapping[str, Path]
) -> Iterator[Files]:
    """Write the files that contenders of one network need, and yield those of each contender.

    Args:
        contenders: The contenders.
        folder: The network's folder; its parent holds the images.
        size: (height, width) of the images.
        others: The folders of all Keras files, by file.
    """
    for contender in contenders:
        gc.collect()  # free the models of the previous contender
        yield (_exported_files if contender.kind == "exported" else _files)(contender, folder, size, others)


def _files(contender: Contender, folder: Path, size: tuple[int, int], others: Mapping[str, Path]) -> Files:
    """Write weights and reference, unless an earlier contender of the network has done so, and the export."""
    import numpy as np

    from ..data.benchmark import write_pictures
    from ..data.images import read_image
    from ..deploy.export import export_model
    from ..models.model_file import read_card_if_any

    pictures = folder.parent / "pictures"
    source, reference = folder / ("model.pt" if contender.kind == "timm" else "model.keras"), folder / "reference.npz"
    if contender.kind == "file":
        source = keras_file(contender.what) or source
        read_card_if_any(source)  # report a damaged file before Keras is imported
    # The reference outputs, on images that are written once for all networks.
    if not reference.exists():
        folder.mkdir(exist_ok=True)
        if not pictures.exists():
            write_pictures(pictures, CHECKED + CALIBRATED)
        files = sorted(pictures.glob("*/*.jpg"))[:: (CHECKED + CALIBRATED) // CHECKED][:CHECKED]
        images = np.stack([read_image(file, size) for file in files]).astype(np.float32)
        compute = _torch_outputs if contender.kind == "timm" else _keras_outputs
        outputs, macs = compute(contender, source, images)
        np.savez(reference, images=images, outputs=outputs, macs=macs)
    with np.load(reference) as arrays:
        macs = int(arrays["macs"])
    if contender.engine not in FORMATS:
        return Files(str(source), str(reference), macs)
    exported = folder / f"{contender.engine}_{contender.precision}{FORMATS[contender.engine].suffix}"
    # The bounds of `export_model` are for trained networks; here `compare_outputs` decides.
    options: dict[str, Any] = {"precision": contender.precision, "max_difference": 1e9, "min_agreement": 0.0}
    options |= {"calibrate": pictures} if contender.precision == "int8" else {}
    make = partial(export_model, source, exported, FORMATS[contender.engine].name, size=size, **options)
    of_any_pixels(lambda preprocessing: make(preprocessing=preprocessing))
    return Files(str(exported), str(reference), macs)


def _exported_files(contender: Contender, folder: Path, size: tuple[int, int], others: Mapping[str, Path]) -> Files:
    """An export, with the reference of its model, which is the Keras file beside it or that of another contender."""
    from ..models.model_file import read_card_if_any
    from ..models.runtimes import open_runtime

    path = Path(contender.what)
    card = open_runtime(path).card
    if card.size != size:
        raise InputError(f"it takes images of {sides(card.size)}: give this as --size")
    beside = keras_file(str(path.parent))
    for file, place in {**({str(beside): folder} if beside else {}), **others}.items():
        own = read_card_if_any(Path(file)) if Path(file).suffix == ".keras" else None
        if own is not None and all(getattr(own, name) == getattr(card, name) for name in SAME_MODEL):
            engine = IN_KERAS[0]
            made = _files(Contender("file", file, engine, PRECISIONS[engine][0]), others.get(file, place), size, others)
            return made._replace(model=contender.what)
    return Files(contender.what, None, 0)


SAME_MODEL = ("network", "variant", "classes", "size", "thresholds")  # the parts of a card that an export keeps


def keras_file(what: str) -> Path | None:
    """The Keras file that a path refers to; None if it refers to none."""
    from ..models.open import find_keras_file

    try:
        return find_keras_file(Path(what))
    except InputError:
        return None


def sides(size: tuple[int, int]) -> str:
    return "×".join(map(str, size))


def own_sizes(contenders: Sequence[Contender]) -> Iterator[tuple[int, int] | None]:
    """Yield the (height, width) of each file; None if it takes any size or cannot be opened."""
    from ..models.model_file import load_keras_model, read_card_if_any
    from ..models.runtimes import open_runtime
    from ..networks.recognise import image_size

    for contender in contenders:
        try:
            if contender.kind == "exported":
                height, width = open_runtime(contender.what).card.size
            else:
                file = keras_file(contender.what) or Path(contender.what)
                card = read_card_if_any(file)
                height, width = card.size if card else image_size(load_keras_model(file))
            yield (height, width) if height and width else None
        except (InputError, ImportError):  # reported later, as the failure of this contender
            yield None


def _keras_outputs(contender: Contender, source: Path, images: np.ndarray) -> tuple[np.ndarray, int]:
    """Build and save a named network; then open it like any other file, for its outputs and multiply-adds."""
    import keras
    import tensorflow as tf

    from ..models.multiply_adds import multiply_adds
    from ..networks.batch_norm import imitate_training
    from ..networks.build import build

    keras.utils.set_random_seed(0)
    options: dict[str, Any] = {"input_shape": images.shape[1:]}
    if contender.kind == "applications":
        imitate_training(keras.applications.InceptionResNetV2(weights=None, **options), images / 127.5 - 1).save(source)
    elif contender.kind == "network":
        options |= {"include_preprocessing": True, "dtype": "float32"}
        imitate_training(build(networks.find(*contender.table), **options), images).save(source)
    model = open_keras(contender, source, images.shape[1:3]).reference
    forward = tf.function(lambda x: model(x, training=False), autograph=False)
    return forward(tf.constant(images)).numpy(), multiply_adds(forward, images.shape)


def open_keras(contender: Contender, file: Path, size: tuple[int, int], policy: str = "float32") -> ExportableModel:
    """Open any Keras model in a dtype policy, with its `reference` in float32.

    Raises:
        InputError: The model does not take images of this size.
    """
    from ..deploy.prepare import prepare

    options: dict[str, Any] = {
        "class_names": None,
        "optimize": contender.form in (OPTIMIZED, APART),
        "join_siblings": contender.form != APART,
        "policy": policy,
        "size": size,
    }
    return of_any_pixels(lambda preprocessing: prepare(file, "float32", **options, preprocessing=preprocessing))


def of_any_pixels(make: Callable[[Any], Made]) -> Made:
    """`make(None)`, which measures the pixel range; if that fails, `make("none")`, as speed does not depend on it."""
    try:
        return make(None)
    except InputError as error:
        if "preprocessing" not in str(error):
            raise
    return make("none")


def _torch_outputs(contender: Contender, source: Path, images: np.ndarray) -> tuple[np.ndarray, int]:
    import timm
    import torch

    torch.manual_seed(0)
    network = timm.create_model(contender.what.removeprefix(TIMM), pretrained=False)
    pixels = torch.from_numpy(images / 127.5 - 1).permute(0, 3, 1, 2)
    counts: list[int] = []
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # in PyTorch, the weight of the new statistics
    with torch.no_grad():
        network.train()(pixels)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                # Each output value is an inner product with one filter.
                module.register_forward_hook(lambda of, _, out: counts.append(out[0].numel() * of.weight[0].numel()))
        outputs = network.eval()(pixels).softmax(dim=1).numpy()
    torch.save(network.state_dict(), source)
    return outputs, sum(counts)


# The largest difference that rounding can cause at the depth of these networks. Measured on a CPU with ResNet-v2 slim:
# 2e-6 for float32 and 2e-2 for bfloat16 at 299 pixels, 0.27 for int8 at 139. A constant output gives 1.
BOUNDS = {"float32": 1e-3, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 1e-1, "int8": 5e-1}


def compare_outputs(outputs: np.ndarray, reference: np.ndarray, precision: str) -> dict[str, Any]:
    """The `difference` ‖outputs - reference‖ / ‖reference‖, its `bound`, and whether it `passed`, which NaN never does.

    A saturated softmax hides differences, and the probabilities of an untrained network are almost equal. Therefore
    probabilities are converted back to logits, up to a constant per row.
    """
    import numpy as np

    if outputs.shape != reference.shape:
        raise InputError(f"its outputs have the shape {outputs.shape}, but those of the network {reference.shape}")
    kind = precision.removeprefix("mixed_")
    arrays = outputs.astype(np.float64), reference.astype(np.float64)
    if (reference >= 0).all() and np.allclose(reference.sum(axis=1), 1, atol=1e-3):
        # LiteRT's int8 softmax has steps of 1/256, and cannot distinguish smaller probabilities.
        logs = [np.log(np.maximum(array, 1 / 256 if kind == "int8" else 1e-12)) for array in arrays]
        arrays = logs[0] - logs[0].mean(axis=1, keepdims=True), logs[1] - logs[1].mean(axis=1, keepdims=True)
    distance = float(np.linalg.norm(arrays[0] - arrays[1]) / np.linalg.norm(arrays[1]))
    return {"difference": distance, "bound": BOUNDS[kind], "passed": distance <= BOUNDS[kind]}


# Engines, which run in the process of their contender.
Step = Callable[[], Any]
RATE = 1e-5  # learning rate: small, so that the timed steps stay finite


def synthetic(batch: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Random pixels of 0-255, and labels: the speed of these engines does not depend on values."""
    import numpy as np

    return np.random.default_rng(0).random((batch, *size, 3), np.float32) * np.float32(255), np.arange(batch)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How contenders run.

    Attributes:
        size: (height, width) of the images.
        device: "cpu" or "gpu".
        threads: The number of threads that a contender computes with; None for its default.
        steps: The number of training steps per call.
    """

    size: tuple[int, int] = (299, 299)
    device: str = "cpu"
    threads: int | None = None
    steps: int = 1

    @property
    def on_gpu(self) -> bool:
        return self.device == "gpu"


class Engine:
    """The base of all engines, which runs an exported model with its own library, without TensorFlow or Keras."""

    def __init__(self, contender: Contender, model: str, setting: Setting) -> None:
        self.contender, self.model, self.setting = contender, Path(model), setting
        self.size, self.on_gpu, self.precision = setting.size, setting.on_gpu, contender.precision

    @cached_property
    def forward(self) -> Callable[[Any], Any]:
        """A function that starts to compute the outputs for loaded pixels, and returns a handle."""
        from ..models.runtimes import open_runtime

        runtime = open_runtime(self.model, threads=self.setting.threads)
        self.precision = getattr(runtime.card, "precision", self.precision)  # the precision of the export
        return runtime.run

    def multiply_adds(self) -> int:
        """The multiply-adds per image of the trained model; 0 if unknown."""
        return 0

    def load(self, images: np.ndarray) -> Any:
        """Move pixels of 0-255, (n, height, width, 3), to the device."""
        return images

    def fetch(self, handle: Any) -> np.ndarray | None:
        """Wait for the result of a step; for inference, return the float32 outputs."""
        return handle

    def inference(self, batch: int) -> Step:
        """A function that computes the outputs of one batch, which is the same in every call."""
        return partial(self.forward, self.load(synthetic(batch, self.size)[0]))

    def meter(self) -> MemoryMeter:
        """A meter of the GPU's memory, or of the process's memory on a CPU."""
        from ..training.trouble import memory_meter, process_meter

        return memory_meter() if self.on_gpu else process_meter()


class KerasEngine(Engine):
    """A Keras model on TensorFlow, in graph mode or compiled by XLA."""

    def __init__(self, contender: Contender, model: str, setting: Setting) -> None:
        super().__init__(contender, model, setting)
        import tensorflow as tf

        from ..common.devices import use_gpus
        from ..models.runtimes import use_threads

        if setting.threads:
            use_threads(setting.threads)
        self.tf, self.xla = tf, contender.engine == "xla"
        self.policy = contender.precision if contender.precision.startswith("mixed_") else "float32"
        tf.config.experimental.enable_tensor_float_32_execution(contender.precision != "float32")
        if self.on_gpu and not use_gpus():
            raise InputError("TensorFlow sees no GPU")

    @cached_property
    def forward(self) -> Callable[[Any], Any]:
        opened = open_keras(self.contender, self.model, self.size, self.policy)
        model = opened.exported
        del opened
        gc.collect()  # free the copies that it was made from
        return self.tf.function(lambda images: model(images, training=False), autograph=False, jit_compile=self.xla)

    def load(self, images: np.ndarray) -> Any:
        with self.tf.device("/GPU:0" if self.on_gpu else "/CPU:0"):
            return self.tf.identity(self.tf.constant(images))

    def fetch(self, handle: Any) -> np.ndarray | None:
        import numpy as np

        if isinstance(handle, dict):  # the logs of `fit`
            handle = handle["loss"]
        found: np.ndarray = handle.numpy()
        if not np.isfinite(found).all():
            raise InputError("its outputs or its loss are not finite")
        return found

    def multiply_adds(self) -> int:
        from ..models.multiply_adds import multiply_adds

        model, takes = self.trained, (1, *self.size, 3)
        return multiply_adds(self.tf.function(lambda images: model(images, training=False), autograph=False), takes)

    def training(self, batch: int) -> Step:
        """A function that runs the optimizer step of `train`, `Setting.steps` of them, or a step of Keras's `fit`."""
        import keras

        images, labels = map(self.load, synthetic(batch, self.size))
        if self.contender.kind == "applications":
            keras.config.set_dtype_policy(self.policy)
            model = keras.applications.InceptionResNetV2(weights=None, input_shape=(*self.size, 3))
            self.trained = model
            return self._fit(model, keras.optimizers.Adam(RATE), images / 127.5 - 1, labels)

        from ..training.cluster import make_strategy
        from ..training.config import TrainConfig
        from ..training.session import Session
        from ..training.step import Stepper

        name, variant = self.contender.table
        config = TrainConfig(model=name, variant=variant, size=self.size, batch_size=batch, strategy="one")
        config = replace(config, schedule="constant", warmup=0.0, learning_rate=RATE)
        config = replace(config, precision=self.policy, jit=self.xla)
        session = Session(config, list(map(str, range(1000))), 1000, 0.99, make_strategy(config))
        self.trained = session.model
        if self.contender.form == FIT:
            return self._fit(session.model, session.optimizer, images, labels)
        stepper = session.stepper
        if self.contender.form == PLAIN:
            stepper = Stepper(session.model, session.optimizer, config, session.strategy, fused=False)
        if self.setting.steps > 1:
            return lambda: stepper.repeat(images, labels, self.tf.constant(self.setting.steps))
        return lambda: stepper.step(images, labels, 0)

    def _fit(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, images: Any, labels: Any) -> Step:
        """The function that `fit` calls for every batch, without callbacks."""
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=self.xla)
        model.make_train_function()
        return partial(model.train_function, iter(self.tf.data.Dataset.from_tensors((images, labels)).repeat()))


class TorchEngine(Engine):
    """timm's networks on PyTorch with the usual optimisations: channels last, AMP, eager or compiled."""

    def __init__(self, contender: Contender, model: str, setting: Setting) -> None:
        super().__init__(contender, model, setting)
        import timm
        import torch

        if setting.threads:
            torch.set_num_threads(setting.threads)
        self.torch, self.device = torch, torch.device("cuda" if self.on_gpu else "cpu")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = contender.precision != "float32"
        torch.backends.cudnn.benchmark = True
        network = timm.create_model(contender.what.removeprefix(TIMM), pretrained=False)
        network.load_state_dict(torch.load(model, weights_only=True, map_location="cpu"))
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()
        mixed = contender.precision == "bfloat16"
        self.autocast = partial(torch.autocast, self.device.type, dtype=torch.bfloat16, enabled=mixed)
        compiled = contender.engine == "compile"
        self.logits = torch.compile(self.network, dynamic=False) if compiled else self.network

    @cached_property
    def forward(self) -> Callable[[Any], Any]:
        def outputs(images: Any) -> Any:
            with self.torch.inference_mode(), self.autocast():
                return self.logits(images).float().softmax(dim=1)

        return outputs

    def load(self, images: np.ndarray) -> Any:
        pixels = self.torch.from_numpy(images / 127.5 - 1).permute(0, 3, 1, 2)
        return pixels.to(self.device).contiguous(memory_format=self.torch.channels_last)

    def fetch(self, handle: Any) -> np.ndarray | None:
        return handle.cpu().numpy()

    def training(self, batch: int) -> Step:
        torch, (pixels, classes) = self.torch, synthetic(batch, self.size)
        images, labels = self.load(pixels), torch.from_numpy(classes).to(self.device)
        self.network.train()
        optimizer = torch.optim.Adam(self.network.parameters(), lr=RATE)

        def step() -> Any:
            optimizer.zero_grad(set_to_none=True)
            with self.autocast():
                loss = torch.nn.functional.cross_entropy(self.logits(images), labels)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    def meter(self) -> MemoryMeter:
        from ..training.trouble import MemoryMeter

        if not self.on_gpu:
            return super().meter()
        cuda = self.torch.cuda
        return MemoryMeter("the GPU", lambda: (0, cuda.max_memory_allocated()), cuda.reset_peak_memory_stats)


ENGINES = {**dict.fromkeys(IN_TENSORFLOW, KerasEngine), **dict.fromkeys(IN_TORCH, TorchEngine)}
