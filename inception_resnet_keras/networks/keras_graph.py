"""A functional Keras model as the sequence of its layer calls, so that it can be rebuilt with some of them changed.

Keras has no public access to these calls. All access to its private attributes is in this file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras.src.models.functional import Functional

from ..common.errors import InputError

Call = Any  # Keras's Node: an operation, the arguments it was called with, its output tensors


def functional(model: Any) -> keras.Model | None:
    """The model as a functional model; None if its graph is unknown (subclassed, or not built yet)."""
    if isinstance(model, keras.Sequential):
        if not model.built or not model.inputs:
            return None
        (image,), outputs = model.inputs, model.outputs  # unwrapped: with a list of one, Keras warns at every call
        return keras.Model(image, outputs[0] if len(outputs) == 1 else outputs, name=model.name)
    return model if isinstance(model, Functional) and type(model).call is Functional.call else None


def producer(tensor: Any) -> Any:
    """The layer or operation that computes a Keras tensor."""
    return tensor._keras_history.operation


def producing_call(tensor: Any) -> tuple[Call, int]:
    """The call that computes a Keras tensor, and the tensor's index among the call's outputs, from 0."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index], history.tensor_index


def flattened(model: Any) -> keras.Model | None:
    """The same computation with the same layers, but without nested models; None if the model's graph is unknown.

    The layers of nested functional models are called again on the tensors of the outer model, so that every map inside
    can be computed from the outer model's input. A model without nested models is returned unchanged.
    """
    outer = functional(model)
    if outer is None or not any(functional(layer) for layer in outer.layers):
        return outer
    inputs = {id(tensor): tensor for tensor in keras.tree.flatten(outer.input)}
    outputs = _unnested(outer, inputs)
    try:
        return keras.Model(outer.input, outputs, name=outer.name)
    except ValueError:  # two layers have the same name, which Keras refuses within one model
        return outer


def _unnested(model: keras.Model, tensors: dict[int, Any]) -> Any:
    """The outputs of a model after its tensors with these ids are replaced by others."""
    for call in Graph(model, model.output).calls:
        if call.is_input:
            continue
        args, kwargs = filled_in(call, tensors)
        if inner := functional(call.operation):
            given = keras.tree.flatten(args[0])
            named = keras.tree.flatten(inner.input)
            result = _unnested(inner, {id(old): new for old, new in zip(named, given, strict=True)})
        elif all(tensors.get(id(tensor), tensor) is tensor for tensor in call.input_tensors):
            result = call.outputs  # none of its inputs has changed, so the call is kept
        else:
            result = call.operation(*args, **kwargs)
        tensors |= dict(paired(call, result))
    return keras.tree.map_structure(lambda tensor: tensors.get(id(tensor), tensor), model.output)


class Graph:
    """The calls from a functional model's inputs to `outputs`, a structure of some of its tensors.

    Attributes:
        calls: The calls, sorted so that each comes after the calls that compute its inputs.
        ends: Ids of the tensors in `outputs`.
        times: How often each operation is called, by its id.
    """

    def __init__(self, model: keras.Model, outputs: Any) -> None:
        inside = keras.Model(model.input, outputs)  # leaves out calls that no output depends on
        self.inputs, self.outputs = model.input, outputs
        by_depth: dict[int, list[Call]] = inside._nodes_by_depth
        self.calls: list[Call] = [call for depth in sorted(by_depth, reverse=True) for call in by_depth[depth]]
        self.ends = {id(tensor) for tensor in keras.tree.flatten(outputs)}
        self.times = Counter(id(call.operation) for call in self.calls)
        self._readers: dict[int, list[Call]] = {}
        for call in self.calls:
            for tensor in call.input_tensors:
                self._readers.setdefault(id(tensor), []).append(call)

    def only_reader(self, tensor: Any) -> Call | None:
        """The only call that reads the tensor; None if several or none do, or if the tensor is itself an output."""
        readers = self._readers.get(id(tensor), [])
        return readers[0] if len(readers) == 1 and id(tensor) not in self.ends else None


def plain_input(call: Call) -> Any:
    """The tensor of a plain call `layer(tensor)`; None if there are other arguments that may change the result."""
    args, kwargs = call.arguments.args, call.arguments.kwargs
    single = len(args) == 1 and keras.backend.is_keras_tensor(args[0]) and len(call.outputs) == 1
    return (
        args[0] if single and not any(value is not None and value is not False for value in kwargs.values()) else None
    )


def copied_input(call: Call) -> Any:
    """A new `keras.Input` equal to the one that a call created."""
    old = call.operation
    return keras.Input(batch_shape=old.batch_shape, dtype=old.dtype, name=old.name, optional=old.optional)


class Copier:
    """Copies of layers with their weights: one copy per layer, however often the layer is called."""

    def __init__(self) -> None:
        self._copies: dict[int, Any] = {}
        self._originals: list[tuple[Any, Any]] = []

    def __contains__(self, operation: Any) -> bool:
        return id(operation) in self._copies

    def put(self, operation: Any, copy: Any) -> Any:
        """Use `copy` for an operation; it gets its weights from the caller."""
        self._copies[id(operation)] = copy
        return copy

    def of(self, operation: Any) -> Any:
        """The operation's copy, made at the first request."""
        if id(operation) not in self._copies:
            self._copies[id(operation)] = self._copy(operation)
            self._originals.append((operation, self._copies[id(operation)]))
        return self._copies[id(operation)]

    def fill(self) -> None:
        """Set the copies' weights to the originals'. Call it once all copies have been called, and so have weights."""
        for old, new in self._originals:
            for before, after in zip(variables(old), variables(new), strict=True):
                after.assign(before)

    @staticmethod
    def _copy(operation: Any) -> Any:
        # A lambda of a model in memory is safe: its code is already in this process.
        more = {"safe_mode": False} if isinstance(operation, keras.layers.Lambda) else {}
        try:
            return type(operation).from_config(operation.get_config(), **more)
        except (NotImplementedError, TypeError, ValueError) as error:
            kind = type(operation).__name__
            raise InputError(
                f"model: its layer {operation.name!r} cannot be copied; its class {kind} needs a get_config that "
                f"returns all arguments of __init__ ({type(error).__name__}: {error})"
            ) from error


def variables(operation: Any) -> Iterable[Any]:
    """A layer's weights and all its other variables; an operation of `keras.ops` has none."""
    return operation.variables if isinstance(operation, keras.Layer) else ()


def filled_in(call: Call, tensors: dict[int, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments with old tensors, by their ids, replaced by new ones."""
    filled: tuple[tuple[Any, ...], dict[str, Any]] = call.arguments.fill_in(tensors)
    return filled


def paired(call: Call, results: Any) -> Iterator[tuple[int, Any]]:
    """The ids of a call's output tensors, each with the tensor that replaces it."""
    for tensor, result in zip(call.outputs, keras.tree.flatten(results), strict=True):
        yield id(tensor), result
