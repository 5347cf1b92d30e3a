"""The contenders of a benchmark: how they are named, the files that they need, and the engines that run them.

Every contender takes pixels of 0 to 255 and returns probabilities or an embedding. The top of this module imports
nothing heavy, because `bench --help` prints what contenders may be.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .. import networks
from ..common.arguments import nearest, number_between, one_of, positive_integer
from ..common.errors import InputError, refuse
from ..common.packages import require_tensorflow_installed
from ..deploy.formats import FORMATS
from ..networks.trace import minimum_side, trace

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
    def tasks(self) -> tuple[str, ...]:
        """The tasks that are timed: "training" only for named networks as built, in Keras or PyTorch.

        Forms of training have no "inference", because they are the same network there.
        """
        trainable = self.table != ("", "") and self.form not in (OPTIMIZED, APART) and self.engine not in FORMATS
        return ("inference",) * (self.form not in (FIT, PLAIN)) + ("training",) * trainable


def parse(text: str) -> Contender:
    """Parse a contender. Raises InputError that names the part of the text that is wrong, and what it may be."""
    what, at, how = text.rpartition("@")
    if not at or "/" in how or "\\" in how or Path(text).exists():  # a folder's name may contain an @
        what, how = text, ""
    engine, _, precision = how.partition(",")
    form = next((form for form in FORMS if what.endswith(f"+{form}")), "")
    argument = f"contender {text!r}"
    kind, what, engines = _subject(argument, what.removesuffix(f"+{form}") if form else what)
    engine = one_of(f"{argument}: engine", engine or engines[0], engines)
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


MOST_PIXELS = 4096  # per side


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a benchmark, which is checked on creation.

    Attributes:
        contenders: The contenders; the first one is the baseline.
        inference, training: The batch sizes of each task, ascending; none leaves the task out.
        rounds: The number of turns of each contender.
        seconds: The duration of one measurement.
        drop_wrong: Whether to exclude contenders whose outputs differ from the network's by more than rounding.
        size: (height, width) of the images.
        device: "cpu" or "gpu".
        threads: The number of threads that a contender computes with; None for its default.
    """

    contenders: tuple[Contender, ...]
    inference: tuple[int, ...] = (1, 8)
    training: tuple[int, ...] = ()
    rounds: int = 5
    seconds: float = 2.0
    drop_wrong: bool = True
    size: tuple[int, int] = (299, 299)
    device: str = "cpu"
    threads: int | None = None

    @property
    def on_gpu(self) -> bool:
        return self.device == "gpu"

    def __post_init__(self) -> None:
        one_of("device", self.device, ("cpu", "gpu"))
        counts = {name: [getattr(self, name)] for name in ("rounds", "threads")}
        counts |= {"size": list(self.size), "batch": list(self.inference), "train-batch": list(self.training)}
        for name, values in counts.items():
            for value in values:
                if (name, value) != ("threads", None):
                    positive_integer(name, value)
        number_between("seconds", self.seconds, 0, 3600, "a number from 0 to below 3600")
        if not self.inference and not self.training:
            raise InputError("batch: none is given; give sizes for inference (--batch) or training (--train-batch)")
        for contender in self.contenders:
            if contender.kind in OF_KERAS:
                require_tensorflow_installed(f"contender {contender}")
            least = minimum_side(networks.find(*contender.table)) if contender.table[0] else 1
            if not all(least <= side <= MOST_PIXELS for side in self.size):
                takes = f"a side or HEIGHTxWIDTH from {least} to {MOST_PIXELS} for {contender}"
                raise refuse("size", sides(self.size), takes)
            if self.on_gpu and contender.engine in FORMATS:
                raise InputError(f"contender {contender}: {contender.engine} runs on the CPU: give --device cpu")
            if not self.on_gpu and contender.precision == "tf32":
                raise InputError(f"contender {contender}: only NVIDIA GPUs have tf32: give --device gpu")


# Files: weights that behave like trained ones, reference outputs, exports.
CHECKED, CALIBRATED = 8, 64  # numbers of images for the comparison of outputs, and for the calibration of int8
PICTURES = "pictures"  # the folder of these images
Made = TypeVar("Made")


class Files(NamedTuple):
    """The files of a contender.

    Attributes:
        model: The file or folder that its engine opens.
        reference: An .npz with `images` and the network's `outputs` in float32 on the CPU; None without a reference.
        macs: Multiply-adds per image, 0 if unknown.
    """

    model: str
    reference: str | None = None
    macs: int = 0


def make_files(contender: Contender, folder: Path, size: tuple[int, int], models: Sequence[str]) -> Iterator[Files]:
    """Write the files of a contender that no earlier one of the same network has written, and yield them.

    An export is compared with the model that it was made from, if this is beside it or among `models`, the Keras files
    of all contenders. folder: The folder of all contenders' files. size: (height, width) of the images.
    """
    from ..deploy.export import export_model
    from ..models.runtimes import open_runtime

    if contender.kind == "exported":
        card = open_runtime(contender.what).card
        if card.size != size:
            raise InputError(f"it takes images of {sides(card.size)}: give this as --size")
        made = Files(contender.what)
        for model in (str(Path(contender.what).parent), *models):
            with suppress(InputError, ImportError):  # not a Keras model, or of another size
                files, weights_sha256 = _network_files(replace(contender, kind="file", what=model), folder, size)
                if weights_sha256 == getattr(card, "weights_sha256", None):
                    made = files._replace(model=contender.what)
                    break
        yield made
        return
    made, _ = _network_files(contender, folder, size)
    if contender.engine in FORMATS:
        name = f"{contender.engine}_{contender.precision}{FORMATS[contender.engine].suffix}"
        exported = Path(str(made.reference)).with_name(name)
        # The bounds of `export_model` are for trained networks; here `compare_outputs` decides.
        options: dict[str, Any] = {"precision": contender.precision, "max_difference": 1e9, "min_agreement": 0.0}
        options |= {"calibrate": folder / PICTURES} if contender.precision == "int8" else {}
        of_any_pixels(partial(export_model, made.model, exported, FORMATS[contender.engine].name, size=size, **options))
        made = made._replace(model=str(exported))
    yield made


def _network_files(contender: Contender, folder: Path, size: tuple[int, int]) -> tuple[Files, str]:
    """The model and the reference of a contender's network, and the SHA-256 of its weights; "" for timm."""
    import numpy as np

    from ..data.benchmark import write_pictures
    from ..data.images import read_image
    from ..models.open import find_keras_file

    source = find_keras_file(Path(contender.what)) if contender.kind == "file" else None
    own = folder / sha256(os.fsencode(source or contender.what)).hexdigest()[:16]
    source = source or own / ("model.pt" if contender.kind == "timm" else "model.keras")
    pictures, reference = folder / PICTURES, own / "reference.npz"
    # The reference outputs, on images that are written once for all networks.
    if not reference.exists():
        own.mkdir(exist_ok=True)
        if not pictures.exists():
            write_pictures(pictures, CHECKED + CALIBRATED)
        files = sorted(pictures.glob("*/*.jpg"))[:: (CHECKED + CALIBRATED) // CHECKED][:CHECKED]
        images = np.stack([read_image(file, size) for file in files]).astype(np.float32)
        compute = torch_outputs if contender.kind == "timm" else _keras_outputs
        np.savez(reference, images=images, **compute(contender, source, images))
    with np.load(reference) as arrays:
        return Files(str(source), str(reference), int(arrays["macs"])), str(arrays["weights_sha256"])


def sides(size: tuple[int, int]) -> str:
    return "×".join(map(str, size))


def own_size(contenders: Sequence[Contender]) -> Iterator[tuple[int, int] | None]:
    """Yield the (height, width) of the files; None if they take any size. Raises InputError if sizes differ."""
    from ..models.model_file import load_keras_model, read_card_if_any
    from ..models.open import find_keras_file
    from ..models.runtimes import open_runtime
    from ..networks.recognise import image_size

    found: dict[Any, str] = {}
    for contender in contenders:
        with suppress(InputError, ImportError):  # reported later, as the failure of this contender
            file = find_keras_file(Path(contender.what)) or Path(contender.what)
            card = open_runtime(file).card if contender.kind == "exported" else read_card_if_any(file)
            size = tuple(card.size if card else image_size(load_keras_model(file)))
            found |= {size: contender.what} if all(size) else {}
    if len(found) > 1:
        takes = " and ".join(f"{what} of {sides(size)}" for size, what in found.items())
        raise InputError(f"{takes}; contenders are compared on images of one size: run bench for each size")
    yield next(iter(found), None)


def _keras_outputs(contender: Contender, source: Path, images: np.ndarray) -> dict[str, Any]:
    """Build and save a named network; then open it like any other file, for the arrays of its reference."""
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
    opened = open_keras(contender, source, images.shape[1:3])
    forward = tf.function(lambda x: opened.reference(x, training=False), autograph=False)
    outputs, macs = forward(tf.constant(images)).numpy(), multiply_adds(forward, images.shape)
    return {"outputs": outputs, "macs": macs, "weights_sha256": opened.card.weights_sha256}


def open_keras(contender: Contender, file: Path, size: tuple[int, int], policy: str = "float32") -> ExportableModel:
    """Open any Keras model that takes images of this size, in a dtype policy; its `reference` is in float32."""
    from ..deploy.prepare import prepare

    optimize, join = contender.form in (OPTIMIZED, APART), contender.form != APART
    options: dict[str, Any] = {"class_names": None, "optimize": optimize, "join_siblings": join, "policy": policy}
    return of_any_pixels(partial(prepare, file, "float32", size=size, **options))


def of_any_pixels(make: Callable[..., Made]) -> Made:
    """Call `make` so that it measures the pixel range; if that fails, without one, as speed does not depend on it."""
    try:
        return make(preprocessing=None)
    except InputError as error:
        if "preprocessing" not in str(error):
            raise
    return make(preprocessing="none")


def torch_outputs(contender: Contender, source: Path, images: np.ndarray) -> dict[str, Any]:
    """Build one of timm's networks, and write its weights, for its outputs and multiply-adds."""
    import timm
    import torch

    from ..networks.batch_norm import SHIFT

    torch.manual_seed(0)
    network = timm.create_model(contender.what.removeprefix(TIMM), pretrained=False)
    pixels = torch.from_numpy(images / 127.5 - 1).permute(0, 3, 1, 2)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # in PyTorch, the weight of the new statistics
            torch.nn.init.constant_(module.bias, SHIFT)  # as `imitate_training` does
    with torch.no_grad():
        network.train()(pixels)
        outputs = network.eval()(pixels).softmax(dim=1).numpy()
    torch.save(network.state_dict(), source)
    nodes = trace(networks.find(*contender.table), images.shape[1:3])  # the same network
    return {"outputs": outputs, "macs": sum(node.macs or 0 for node in nodes), "weights_sha256": ""}


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


class Engine:
    """The base of all engines, which runs an exported model with its own library, without TensorFlow or Keras."""

    def __init__(self, contender: Contender, model: str, plan: Plan) -> None:
        self.contender, self.model, self.plan = contender, Path(model), plan
        self.size, self.on_gpu, self.precision = plan.size, plan.on_gpu, contender.precision

    @cached_property
    def forward(self) -> Callable[[Any], Any]:
        """A function that starts to compute the outputs for loaded pixels, and returns a handle."""
        from ..models.runtimes import open_runtime

        runtime = open_runtime(self.model, threads=self.plan.threads)
        self.precision = getattr(runtime.card, "precision", self.precision)  # the precision of the export
        return runtime.run

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

    def __init__(self, contender: Contender, model: str, plan: Plan) -> None:
        super().__init__(contender, model, plan)
        import tensorflow as tf

        from ..common.devices import use_gpus
        from ..models.runtimes import use_threads

        if plan.threads:
            use_threads(plan.threads)
        self.tf, self.xla = tf, contender.engine == "xla"
        self.policy = contender.precision if contender.precision.startswith("mixed_") else "float32"
        tf.config.experimental.enable_tensor_float_32_execution(contender.precision != "float32")
        if self.on_gpu and not use_gpus():
            raise InputError("TensorFlow sees no GPU")

    @cached_property
    def forward(self) -> Callable[[Any], Any]:
        model = open_keras(self.contender, self.model, self.size, self.policy).exported
        gc.collect()  # free the copies that it was made from
        return self.tf.function(lambda images: model(images, training=False), autograph=False, jit_compile=self.xla)

    def load(self, images: np.ndarray) -> Any:
        with self.tf.device("/GPU:0" if self.on_gpu else "/CPU:0"):
            return self.tf.identity(self.tf.constant(images))

    def fetch(self, handle: Any) -> np.ndarray | None:
        import numpy as np

        found: np.ndarray = handle.numpy()
        if not np.isfinite(found).all():
            raise InputError("its outputs or its loss are not finite")
        return found

    def training(self, batch: int) -> Step:
        """A function that runs an optimizer step: that of `train`, or that of Keras's `fit`."""
        import keras

        images, labels = map(self.load, synthetic(batch, self.size))
        if self.contender.kind == "applications":
            keras.config.set_dtype_policy(self.policy)
            model = keras.applications.InceptionResNetV2(weights=None, input_shape=(*self.size, 3))
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
        if self.contender.form == FIT:
            return self._fit(session.model, session.optimizer, images, labels)
        fused = self.contender.form != PLAIN
        stepper = Stepper(session.model, session.optimizer, config, session.strategy, fused=fused)
        return lambda: stepper.step(images, labels, 0)

    def _fit(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, images: Any, labels: Any) -> Step:
        """The function that `fit` calls for every batch, without callbacks."""
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=self.xla)
        model.make_train_function()
        train, batches = model.train_function, iter(self.tf.data.Dataset.from_tensors((images, labels)).repeat())
        return lambda: train(batches)["loss"]


class TorchEngine(Engine):
    """timm's networks on PyTorch with the usual optimisations: channels last, AMP, eager or compiled."""

    def __init__(self, contender: Contender, model: str, plan: Plan) -> None:
        super().__init__(contender, model, plan)
        import timm
        import torch

        if plan.threads:
            torch.set_num_threads(plan.threads)
        self.torch, self.device = torch, torch.device("cuda" if self.on_gpu else "cpu")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = contender.precision != "float32"
        torch.backends.cudnn.benchmark = True
        network = timm.create_model(contender.what.removeprefix(TIMM), pretrained=False)
        network.load_state_dict(torch.load(model, weights_only=True, map_location="cpu"))
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()
        mixed = contender.precision == "bfloat16"
        self.autocast = partial(torch.autocast, self.device.type, dtype=torch.bfloat16, enabled=mixed)
        self.logits = torch.compile(self.network, dynamic=False) if contender.engine == "compile" else self.network

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
