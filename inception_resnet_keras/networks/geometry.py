"""Where the cells of a feature map lie in the image, computed from a network's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..common.arguments import is_integer
from ..common.errors import refuse
from . import names
from .rows import Conv, Network, Pool
from .trace import Node, trace
from .traversal import kernel_of, reach_of

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class FeatureGeometry:
    """Where the cells of one feature map lie in the image. Pairs are (height, width), in pixels.

    Attributes:
        stride: Distance from one cell to the next, the same in both directions.
        offset: Centre of cell (0, 0). 0 is the centre of the first pixel, so that the image's edge is at -0.5. Cell
            (i, j) is centred on (offset[0] + i · stride, offset[1] + j · stride).
        receptive_field: Size of the region that a cell depends on, centred on the cell. Near the border a part of it
            lies outside the image.
    """

    stride: int
    offset: tuple[float, float]
    receptive_field: tuple[int, int]


def feature_geometry(
    model: keras.Model | Network, size: Sequence[int | None] | None = None
) -> dict[str, FeatureGeometry]:
    """Where the cells of each endpoint's map lie in the image.

    It is needed to align a map with another map or with the image, because maps are neither exact halves of one
    another nor centred on the same point. With "valid" padding the first cell lies inside the image; with "same"
    padding its position depends on whether the sides are even.

    Args:
        model: A model of this package, built, loaded or optimised for inference; or a network's table, edited or not.
        size: (height, width) of the image in pixels, if the model leaves them open. None takes the model's own. Only
            "same" padding needs them.

    Returns:
        A dict from the names of those `endpoints` that are maps to their geometry. The image is the input of the
        network's first layer.

    Raises:
        ValueError: None of the tables describes the model (pass the table that it was built from); `size` is not such
            a pair, or differs from the model's; or the padding is "same" and a side is unknown.

    Examples:
        >>> from inception_resnet_keras import create_inception_resnet_v1, feature_geometry
        >>> model = create_inception_resnet_v1(include_top=False, input_shape=(None, None, 3))
        >>> feature_geometry(model)["stem"]
        FeatureGeometry(stride=8, offset=(13.0, 13.0), receptive_field=(31, 31))
    """
    network, own, present = _of_model(model)
    height, width = _sides(own, size)
    maps: dict[str, FeatureGeometry] = {}
    by_stride: dict[str, FeatureGeometry] = {}
    nodes: dict[str, Node] = {}
    found: dict[str, FeatureGeometry] = {}
    for node in trace(network, (height, width), classes=None):
        nodes[node.name] = node
        found[node.name] = geometry = _of_node(node, nodes, found)
        stage = names.stage(node.name)
        if stage and not names.in_branch(node.name) and (present is None or node.name in present):
            maps[stage] = by_stride[f"stride_{geometry.stride}"] = geometry
    return maps | {name: by_stride[name] for name in names.STRIDES if name in by_stride}


def _of_model(model: Any) -> tuple[Network, tuple[int | None, int | None], set[str] | None]:
    """A model's table, its image's sides, and its layers' names; None for the names of a table, which has all."""
    if isinstance(model, Network):
        return model, (None, None), None
    from .keras_graph import flattened
    from .recognise import model_layers, recognise_model, window_differences

    flat = flattened(model)
    layers = {} if flat is None else model_layers(flat)
    found = recognise_model(flat, least=0) if any(map(names.stage, layers)) else None
    if found is None or window_differences(found, layers):
        takes = "a model built by the factories or optimize_for_inference, or the table that it was built from"
        raise refuse("model", getattr(model, "name", model), takes)
    return found.network, found.size, set(layers)


def _sides(own: tuple[int | None, int | None], size: Any) -> tuple[int | None, int | None]:
    """(height, width) of the image: the model's own, else the ones passed."""
    if size is None:
        return own
    takes = "None, or (height, width) in pixels" + (f", {own} for this model" if any(own) else "")
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
        raise refuse("size", size, takes)
    for given, known in zip(size, own, strict=True):
        if given is not None and (not is_integer(given) or given < 1 or (known and given != known)):
            raise refuse("size", size, takes)
    height, width = (known or given for given, known in zip(size, own, strict=True))
    return height, width


def _of_node(node: Node, nodes: dict[str, Node], found: dict[str, FeatureGeometry]) -> FeatureGeometry:
    """The geometry of one operation's map, from those of its inputs."""
    if not node.inputs:
        return FeatureGeometry(1, (0.0, 0.0), (1, 1))
    row = node.row
    if row is None:
        return _united([found[name] for name in node.inputs])
    # A window shifts the first cell to its own centre, and widens the receptive field by its reach less one.
    before, sides = found[node.inputs[0]], nodes[node.inputs[0]].shape[:2]
    kernel = kernel_of(row, *sides) if isinstance(row, Conv) else (row.size, row.size)
    reaches = [reach_of(size, row.dilation) for size in kernel]
    firsts = [_padded(row, side, reach) + (reach - 1) / 2 for side, reach in zip(sides, reaches, strict=True)]
    offset = [old + first * before.stride for old, first in zip(before.offset, firsts, strict=True)]
    seen = [old + (reach - 1) * before.stride for old, reach in zip(before.receptive_field, reaches, strict=True)]
    return FeatureGeometry(before.stride * row.stride, (offset[0], offset[1]), (seen[0], seen[1]))


def _padded(row: Conv | Pool, side: int | None, reach: int) -> int:
    """The index of the first cell under the window's first position: 0, or negative if the map is padded."""
    if row.padding == "valid":
        return 0
    if row.stride == 1:
        return -((reach - 1) // 2)
    if side is None:
        raise refuse(
            "size", None, '(height, width) of the image: with padding="same" the positions of the cells depend on it'
        )
    # TensorFlow's "same": the smaller half of the padding comes first.
    return -(max((-(-side // row.stride) - 1) * row.stride + reach - side, 0) // 2)


def _united(parts: list[FeatureGeometry]) -> FeatureGeometry:
    """The geometry of a map that reads several maps of one stride: a cell depends on the union of their regions."""
    axes = []
    for axis in range(2):
        lows = [part.offset[axis] - (part.receptive_field[axis] - 1) / 2 for part in parts]
        highs = [part.offset[axis] + (part.receptive_field[axis] - 1) / 2 for part in parts]
        axes.append(((min(lows) + max(highs)) / 2, round(max(highs) - min(lows)) + 1))
    (top, tall), (left, wide) = axes
    return replace(parts[0], offset=(top, left), receptive_field=(tall, wide))
