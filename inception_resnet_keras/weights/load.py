"""Loads what this project saved into a model, by the layers' names."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import keras


def load(model: keras.Model, path: str | PathLike[str]) -> None:
    """Sets a model's weights from a .keras or .weights.h5 file that this project saved.

    Args:
        model: The model, changed only if every weight fits.
        path: The file.

    Raises:
        ValueError: The file is missing or of another kind, or its layers or shapes differ from the
            model's; the first that differ are listed.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"weights: got {str(path)!r}, which is no file; it takes None or the path of a saved model")
    if file.name.endswith(".keras"):
        _copy(keras.saving.load_model(file, compile=False), model, file)
    elif file.name.endswith(".weights.h5"):
        model.load_weights(file)
    else:
        raise ValueError(f"weights: got {str(path)!r}; it takes a file ending in .keras or .weights.h5")


def _copy(source: keras.Model, target: keras.Model, file: Path) -> None:
    there, here = ({layer.name: layer for layer in model.layers if layer.weights} for model in (source, target))
    differ = [f"{name} is only in the file" for name in there.keys() - here.keys()]
    differ += [f"{name} is only in the model" for name in here.keys() - there.keys()]
    for name in there.keys() & here.keys():
        shapes = [[tuple(weight.shape) for weight in layers[name].weights] for layers in (there, here)]
        if shapes[0] != shapes[1]:
            differ.append(f"{name} has shapes {shapes[0]} in the file, {shapes[1]} in the model")
    if differ:
        listed = "; ".join(sorted(differ)[:5])
        raise ValueError(f"weights: {file} does not fit {target.name} ({len(differ)} layers differ): {listed}")
    for name, layer in here.items():
        layer.set_weights(there[name].get_weights())
