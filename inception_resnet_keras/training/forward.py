"""Faster forward passes for training steps, which compute a model's layers in other ways with the same weights.

The model that is built, evaluated and saved remains plain Keras; the models made here share its variables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import keras
import lazy_loader  # type: ignore[import-untyped]

from ..common.errors import InputError, refuse
from ..common.packages import require_tensorflow
from ..networks import names
from ..networks.keras_graph import functional
from .config import TrainConfig

if TYPE_CHECKING:
    import tensorflow as tf
else:
    tf = lazy_loader.load("tensorflow")  # lazily, so that the public function can raise a clear error if it is missing

NOT_SAVED = "model: is for training only and cannot be saved; save the model that was given to optimize_for_training"


def training_forward(model: keras.Model, config: TrainConfig, *, fused: bool = True) -> Callable[[Any], Any]:
    """A function that computes `model(images, training=True)` in the way that the configuration asks for.

    Args:
        fused: Whether to compute batch norm by one kernel, and 1×1 convolutions on a CPU as matrix products. Ignored
            with XLA, which fuses Keras's operations itself.
    """

    def prepare(part: keras.Model) -> keras.Model:
        return training_graph(part, in_pairs=config.deterministic, fused=fused and not config.jit)

    if config.remat:
        return rematerialised(model, prepare)
    prepared = prepare(model)
    return lambda images: prepared(images, training=True)


def training_graph(model: keras.Model, *, in_pairs: bool = False, fused: bool = True) -> keras.Model:
    """Make a model for training steps with the same weights.

    Args:
        in_pairs: Whether each tensor is read by at most two layers, for determinism; see `_Readers`.
        fused: Whether to compute batch norm by one kernel, and 1×1 convolutions on a CPU as matrix products.
    """
    call = _Readers().call if in_pairs else None
    return keras.models.clone_model(model, clone_function=_faster if fused else lambda layer: layer, call_function=call)


def optimize_for_training(model: keras.Model) -> keras.Model:
    """Make a model for `fit` that computes the same as a given model, but faster, and shares its weights.

    Each trained batch norm runs in TensorFlow's fused kernel, as in `train`, instead of Keras's separate passes for
    the mean, the variance and the affine map. On a CPU, each trained 1×1 convolution runs as a matrix product. Compile
    and fit the result, then evaluate and save the given model, which remains plain Keras.

    Batch norm keeps Keras's computation if it is frozen, synchronized or renormalized, if its axis is not the last, or
    if its input is not 4-dimensional. Set `trainable` flags before the call, and call again after changing them.

    By default, Keras compiles `fit` with XLA, which fuses operations itself. For the result, this default is off.

    Args:
        model: A functional or sequential Keras model with a known input shape, of any input size. It is not changed,
            except that training the result changes its weights.

    Returns:
        A functional model with the same inputs, outputs and variables, not compiled. In inference its outputs are the
        same as those of `model`; in training they agree to about 1e-6 of their size (float32). It cannot be saved. Its
        weights can be saved, in files that `model.load_weights` reads.

    Raises:
        ValueError: `model` is not a Keras model, or not one with a known graph; or Keras's backend is not TensorFlow.

    Examples:
        >>> layers = keras.layers
        >>> block = [layers.Conv2D(8, 3), layers.BatchNormalization(), layers.ReLU(), layers.GlobalAveragePooling2D()]
        >>> model = keras.Sequential([keras.Input((16, 16, 3)), *block, layers.Dense(4, activation="softmax")])
        >>> faster = optimize_for_training(model)
        >>> faster.compile("adam", "sparse_categorical_crossentropy")
        >>> images, labels = keras.ops.ones((8, 16, 16, 3)), keras.ops.zeros(8, "int32")
        >>> history = faster.fit(images, labels, epochs=1, verbose=0)
        >>> len(history.history["loss"]), faster.count_params() == model.count_params()
        (1, True)
        >>> model.predict(images, verbose=0).shape  # with the trained weights
        (8, 4)
    """
    require_tensorflow("optimize_for_training")
    graph = functional(model)
    if graph is None:
        raise refuse("model", model, "a functional Keras model, or a sequential one that has an input")
    return keras.models.clone_model(graph, clone_function=_faster, recursive=True)


def _faster(layer: keras.Layer) -> keras.Layer:
    """The layer to compute in a training step: a faster one with the same variables if there is one, or the same."""
    if _is_fusible_norm(layer):
        return _FusedBatchNorm(layer)
    return _MatrixProduct(layer) if _is_matrix_product(layer) else layer


# ----------------------------------------------------------------------------------------------------------------------
# Batch norm in one kernel
# ----------------------------------------------------------------------------------------------------------------------
def _is_fusible_norm(layer: keras.Layer) -> bool:
    plain = type(layer) is keras.layers.BatchNormalization and not (layer.synchronized or layer.renorm)
    return plain and layer.trainable and layer.input_spec.ndim == 4 and layer.axis in (-1, 3)


class _FusedBatchNorm(keras.layers.Layer):
    """Batch norm over the last axis of a feature map, equal to Keras's layer.

    Keras makes one pass over the map for each moment and another for the affine map. TensorFlow's kernel computes all
    at once, in float32 also for maps in half precision. In inference, Keras's layer is called.
    """

    def __init__(self, norm: keras.layers.BatchNormalization) -> None:
        super().__init__(dtype=norm.dtype_policy, name=norm.name)
        self.supports_jit = False  # XLA supports this kernel, but is slower with it than with Keras's operations
        # The variables in Keras's order, so that weights are saved as those of the layer.
        self.gamma, self.beta = norm.gamma, norm.beta
        self.moving_mean, self.moving_variance = norm.moving_mean, norm.moving_variance
        self.momentum, self.epsilon = norm.momentum, norm.epsilon
        self._in_inference = partial(norm, training=False)

    def call(self, x: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        if not training:
            return self._in_inference(x)
        if mask is not None:
            raise InputError(
                f"{self.name}: masks are not supported by the fused batch norm; train the model itself instead of the "
                "result of optimize_for_training"
            )
        ones = tf.ones(x.shape[-1])
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=ones if self.gamma is None else tf.convert_to_tensor(self.gamma),
            offset=tf.zeros_like(ones) if self.beta is None else tf.convert_to_tensor(self.beta),
            mean=tf.constant([], tf.float32),
            variance=tf.constant([], tf.float32),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel returns the unbiased estimate of the variance; Keras averages the variance of the batch.
        count = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
        variance *= (count - 1) / count
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + tf.stop_gradient(value) * (1 - self.momentum))
        return y

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape

    def get_config(self) -> dict[str, Any]:
        raise InputError(NOT_SAVED)


# ----------------------------------------------------------------------------------------------------------------------
# 1×1 convolutions as matrix products
# ----------------------------------------------------------------------------------------------------------------------
def _is_matrix_product(layer: keras.Layer) -> bool:
    """Whether a layer is a trained 1×1 convolution of channels-last maps, on a CPU.

    On a GPU, TensorFlow itself computes it as a matrix product, and may keep maps in another layout between
    convolutions.
    """
    return (
        type(layer) is keras.layers.Conv2D
        and (layer.kernel_size, layer.strides, layer.groups) == ((1, 1), (1, 1), 1)
        and layer.data_format == "channels_last"
        and layer.trainable
        and not layer.lora_enabled
        and layer.dtype_policy.quantization_mode is None
        and not tf.config.list_logical_devices("GPU")
    )


class _MatrixProduct(keras.layers.Layer):
    """A 1×1 convolution with stride 1, computed as a product of each cell's channels with the kernel.

    oneDNN's gradients of convolution kernels are slow on the small maps of the last stages, most of all in bfloat16
    with AMX, and its convolutions first convert kernels and maps to other layouts. Matrix products avoid both.
    """

    def __init__(self, conv: keras.layers.Conv2D) -> None:
        super().__init__(dtype=conv.dtype_policy, name=conv.name)
        # The variables in Keras's order, so that weights are saved as those of the layer.
        self.kernel, self.bias, self.activation = conv.kernel, conv.bias, conv.activation

    def call(self, x: tf.Tensor) -> tf.Tensor:
        kernel = tf.convert_to_tensor(self.kernel)
        inputs, outputs = self.kernel.shape[2:]
        y = tf.matmul(tf.reshape(x, [-1, inputs]), tf.reshape(kernel, [inputs, outputs]))
        y = tf.reshape(y, tf.concat([tf.shape(x)[:3], [outputs]], axis=0))
        y.set_shape(self.compute_output_shape(x.shape))
        if self.bias is not None:
            y = tf.nn.bias_add(y, tf.convert_to_tensor(self.bias))
        return self.activation(y)

    def compute_output_shape(self, shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (*shape[:3], self.kernel.shape[3])

    def get_config(self) -> dict[str, Any]:
        raise InputError(NOT_SAVED)


# Keras names the entries of weight files by the layers' classes, so the replacements have the original names.
_FusedBatchNorm.__name__ = keras.layers.BatchNormalization.__name__
_MatrixProduct.__name__ = keras.layers.Conv2D.__name__


# ----------------------------------------------------------------------------------------------------------------------
# Determinism
# ----------------------------------------------------------------------------------------------------------------------
class _Readers:
    """Calls a graph's layers so that no tensor has more than two readers, and gradients are summed two at a time.

    If a map feeds three or more branches, TensorFlow sums their gradients in one operation, in an order that depends on
    which buffer is free at the moment. TensorFlow's op determinism does not cover this. A sum of two has no order. A
    single inter-op thread would also help, at the same cost, but must be set before TensorFlow computes anything.
    """

    def __init__(self) -> None:
        # By the tensor's id: the tensor, so that the id is not reused, and the tensor to pass to the next reader.
        self._rest: dict[int, tuple[Any, Any]] = {}

    def call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        return layer(*keras.tree.map_structure(self._read, args), **keras.tree.map_structure(self._read, kwargs))

    def _read(self, tensor: Any) -> Any:
        if not keras.backend.is_keras_tensor(tensor):
            return tensor
        now = self._rest.get(id(tensor), (tensor, tensor))[1]
        self._rest[id(tensor)] = (tensor, _Copy(dtype=now.dtype)(now))
        return now


class _Copy(keras.layers.Layer):
    """Copies a tensor to a new one; Keras's Identity returns the same tensor."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.identity(x)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape


# ----------------------------------------------------------------------------------------------------------------------
# Rematerialisation
# ----------------------------------------------------------------------------------------------------------------------
def rematerialised(
    model: keras.Model, prepare: Callable[[keras.Model], keras.Model] = lambda part: part
) -> Callable[[Any], Any]:
    """A function that computes `model(images, training=True)`, keeps only the stages' outputs, and recomputes the rest
    for the gradients.

    Batch-norm statistics are updated once: the updates of the second computation are dropped. Stages have no dropout,
    so that both computations agree. `prepare` is applied to each part into which the model is divided.
    """
    # Divide the model into one sub-model per stage, and a tail after the last stage and the auxiliary head's input.
    cuts = _stage_outputs(model)
    tensors = [model.inputs[0], *cuts]
    segments = [prepare(keras.Model(before, after)) for before, after in pairwise(tensors)]
    aux = -1
    if len(model.outputs) > 1:
        aux = next((index for index, tensor in enumerate(cuts) if tensor is _auxiliary_input(model)), -1)
    tail = prepare(keras.Model([cuts[-1], *([cuts[aux]] if aux >= 0 and aux != len(cuts) - 1 else [])], model.outputs))

    def forward(images: Any) -> Any:
        x, kept = images, []
        for segment in segments:
            x = _recomputed(segment)(x)
            kept.append(x)
        outputs = tail([x] if len(tail.inputs) == 1 else [x, kept[aux]], training=True)
        return outputs[0] if isinstance(outputs, list) and len(outputs) == 1 else outputs

    return forward


def _stage_outputs(model: keras.Model) -> list[Any]:
    """The last tensor of each stage, from the input on."""
    last: dict[str, Any] = {}
    for layer in model.layers:
        stage = names.stage(layer.name)
        if stage and not names.in_branch(layer.name):
            last[stage] = layer.output
    return list(last.values())


def _auxiliary_input(model: keras.Model) -> Any:
    return next(layer for layer in model.layers if names.place(layer.name) == names.AUX).input


def _recomputed(segment: keras.Model) -> Callable[[Any], Any]:
    @tf.custom_gradient
    def call(x: tf.Tensor) -> Any:
        y = segment(x, training=True)

        def gradient(upstream: tf.Tensor, variables: Any = ()) -> Any:
            # Wait for `upstream`; otherwise the graph optimizer merges the recomputation with the first computation.
            with tf.control_dependencies([upstream]), keras.StatelessScope(), tf.GradientTape() as tape:
                again = tf.identity(x)
                tape.watch(again)
                output = segment(again, training=True)
            gradients = tape.gradient(output, [again, *variables], output_gradients=upstream)
            return (gradients[0], gradients[1:]) if variables else gradients[0]

        return y, gradient

    return call
