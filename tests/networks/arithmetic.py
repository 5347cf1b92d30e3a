"""Convolution, pooling and the three networks once more, in numpy: nothing of the package's tables, nor of Keras.

The networks are written out as the paper's figures and the released code have them: `align_feature_maps` there is
`padding="same"` here. Names of layers say which weights are read; a kernel of another size than is written is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Kernel = int | tuple[int, int]
Step = Kernel | str  # a convolution, or the pool "max" or "avg", which are 3×3
Maps = dict[str, np.ndarray]


def window_of(kernel: Kernel) -> tuple[int, int]:
    return kernel if isinstance(kernel, tuple) else (kernel, kernel)


def padded(
    x: np.ndarray, kernel: tuple[int, int], stride: int, padding: str, fill: float, *, dilation: int = 1
) -> np.ndarray:
    if padding == "valid":
        return x
    reaches = [(size - 1) * dilation + 1 for size in kernel]
    totals = [
        max((-(-side // stride) - 1) * stride + reach - side, 0)
        for side, reach in zip(x.shape[1:3], reaches, strict=True)
    ]
    sides = [(total // 2, total - total // 2) for total in totals]
    return np.pad(x, [(0, 0), *sides, (0, 0)], constant_values=fill)


def windows(x: np.ndarray, kernel: tuple[int, int], stride: int, dilation: int = 1) -> np.ndarray:
    """(n, height, width, channels, *kernel)."""
    reaches = [(size - 1) * dilation + 1 for size in kernel]
    whole = np.lib.stride_tricks.sliding_window_view(x, reaches, axis=(1, 2))
    return whole[:, ::stride, ::stride, :, ::dilation, ::dilation]


def convolved(x: np.ndarray, kernel: np.ndarray, stride: int, padding: str, dilation: int = 1) -> np.ndarray:
    size = (kernel.shape[0], kernel.shape[1])
    cells = windows(padded(x, size, stride, padding, 0, dilation=dilation), size, stride, dilation)
    return np.tensordot(cells, kernel, ([3, 4, 5], [2, 0, 1]))


def pooled(x: np.ndarray, stride: int, padding: str, how: Any, dilation: int = 1) -> np.ndarray:
    """3×3; a border pixel outside the map is not counted."""
    cells = windows(padded(x, (3, 3), stride, padding, np.nan, dilation=dilation), (3, 3), stride, dilation)
    return (np.nanmax if how is np.max else np.nanmean)(cells, axis=(-2, -1))


class Arithmetic:
    """The operations of a network with these weights, by layer: [kernel, bias], [kernel], or of a batch norm
    [beta, mean, variance]. `edge` is the padding where the paper's figures have a V.
    """

    def __init__(self, weights: Mapping[str, Sequence[np.ndarray]], edge: str = "valid") -> None:
        self.weights, self.edge = weights, edge

    def conv(
        self, x: np.ndarray, name: str, kernel: Kernel, stride: int = 1, padding: str = "same", *, dilation: int = 1
    ) -> np.ndarray:
        values, *bias = self.weights[name]
        assert values.shape[:2] == window_of(kernel), name
        x = convolved(x, values, stride, padding, dilation)
        if bias:
            return x + bias[0]
        beta, mean, variance = self.weights[f"{name}_bn"]
        return np.maximum((x - mean) / np.sqrt(variance + 0.001) + beta, 0)

    def path(self, x: np.ndarray, place: str, *steps: Step, dilation: int = 1) -> np.ndarray:
        """Convolutions one after another, and average pools, which have no weights."""
        done = 0
        for step in steps:
            if isinstance(step, str):
                x = pooled(x, 1, "same", np.mean, dilation)
            else:
                done += 1
                x = self.conv(x, f"{place}_conv_{done}", step, dilation=dilation)
        return x

    def side_by_side(self, x: np.ndarray, place: str, *branches: Sequence[Step], dilation: int = 1) -> np.ndarray:
        return join(
            self.path(x, f"{place}_branch_{number}", *steps, dilation=dilation)
            for number, steps in enumerate(branches, 1)
        )

    def residual(
        self, x: np.ndarray, place: str, *branches: Sequence[Step], scale: float, relu: bool = True, dilation: int = 1
    ) -> np.ndarray:
        branch = self.side_by_side(x, place, *branches, dilation=dilation)
        x = x + scale * self.conv(branch, f"{place}_project", 1)
        return np.maximum(x, 0) if relu else x

    def reduction(self, x: np.ndarray, place: str, *branches: Sequence[Step], stride: int) -> np.ndarray:
        """The last step of each branch has the stride."""
        maps = []
        for number, (*steps, last) in enumerate(branches, 1):
            name = f"{place}_branch_{number}"
            before = self.path(x, name, *steps)
            if isinstance(last, str):
                maps.append(pooled(before, stride, self.edge, np.max))
            else:
                maps.append(self.conv(before, f"{name}_conv_{len(steps) + 1}", last, stride, self.edge))
        return join(maps)

    def max_pool(self, x: np.ndarray) -> np.ndarray:
        return pooled(x, 2, self.edge, np.max)


def join(maps: Any) -> np.ndarray:
    return np.concatenate(list(maps), axis=-1)


def first_convolutions(net: Arithmetic, x: np.ndarray) -> np.ndarray:
    """All stems begin so."""
    x = net.conv(x, "stem_conv_1", 3, 2, net.edge)
    return net.conv(net.conv(x, "stem_conv_2", 3, padding=net.edge), "stem_conv_3", 3)


def stem_of_figure_3(net: Arithmetic, x: np.ndarray, first: Kernel, second: Kernel) -> np.ndarray:
    x = first_convolutions(net, x)
    x = join([net.max_pool(x), net.conv(x, "stem_fork_1_branch_2_conv_1", 3, 2, net.edge)])
    short = net.path(x, "stem_fork_2_branch_1", 1)
    long = net.path(x, "stem_fork_2_branch_2", 1, first, second)
    x = join(
        [
            net.conv(short, "stem_fork_2_branch_1_conv_2", 3, padding=net.edge),
            net.conv(long, "stem_fork_2_branch_2_conv_4", 3, padding=net.edge),
        ]
    )
    return join([net.conv(x, "stem_fork_3_branch_1_conv_1", 3, 2, net.edge), net.max_pool(x)])


def stem_of_figure_14(net: Arithmetic, x: np.ndarray) -> np.ndarray:
    x = net.conv(net.max_pool(first_convolutions(net, x)), "stem_conv_4", 1)
    return net.conv(net.conv(x, "stem_conv_5", 3, padding=net.edge), "stem_conv_6", 3, 2, net.edge)


def stem_of_slim(net: Arithmetic, x: np.ndarray) -> np.ndarray:
    """Of Inception-ResNet-v2, Mixed_5b included."""
    x = net.conv(net.max_pool(first_convolutions(net, x)), "stem_conv_4", 1)
    x = net.max_pool(net.conv(x, "stem_conv_5", 3, padding=net.edge))
    return net.side_by_side(x, "stem_fork_1", (1,), (1, 5), (1, 3, 3), ("avg", 1))


def inception_v4(net: Arithmetic, x: np.ndarray, variant: str, output_stride: int | None) -> Maps:
    """One block of each kind."""
    slim = variant == "slim"
    flat, tall = (1, 7), (7, 1)

    def ordered(pool: Sequence[Step], *rest: Sequence[Step]) -> tuple[Sequence[Step], ...]:
        return (*rest, pool) if slim else (pool, *rest)

    maps = {"stem": stem_of_figure_3(net, x, *((flat, tall) if slim else (tall, flat)))}
    x = maps["a01"] = net.side_by_side(maps["stem"], "a01", *ordered(("avg", 1), (1,), (1, 3), (1, 3, 3)))
    dense = output_stride == 8
    x = maps["reduction_a"] = net.reduction(
        x, "reduction_a", *ordered(("max",), (3,), (1, 3, 3)), stride=1 if dense else 2
    )
    long = (1, tall, flat, tall, flat) if slim else (1, flat, tall, flat, tall)
    x = maps["b01"] = net.side_by_side(
        x, "b01", *ordered(("avg", 1), (1,), (1, flat, tall), long), dilation=2 if dense else 1
    )
    if dense:
        return maps
    dense = output_stride == 16
    x = maps["reduction_b"] = net.reduction(
        x, "reduction_b", *ordered(("max",), (1, 3), (1, flat, tall, 3)), stride=1 if dense else 2
    )
    dilation = 2 if dense else 1

    def branch(number: int, *steps: Step) -> np.ndarray:
        return net.path(x, f"c01_branch_{number}", *steps, dilation=dilation)

    def split(y: np.ndarray, number: int, *kernels: Kernel) -> np.ndarray:
        return net.side_by_side(y, f"c01_branch_{number}_fork_1", *([each] for each in kernels), dilation=dilation)

    flat, tall = (1, 3), (3, 1)
    if slim:
        maps["c01"] = join(
            [
                branch(1, 1),
                split(branch(2, 1), 2, flat, tall),
                split(branch(3, 1, tall, flat), 3, flat, tall),
                branch(4, "avg", 1),
            ]
        )
    else:
        maps["c01"] = join(
            [
                branch(1, "avg", 1),
                branch(2, 1),
                split(branch(3, 1), 3, flat, tall),
                split(branch(4, 1, flat, tall), 4, tall, flat),
            ]
        )
    return maps


def inception_resnet(net: Arithmetic, x: np.ndarray, number: int, variant: str, output_stride: int | None) -> Maps:
    """v1 or v2 with one block of each kind; a released one with a second C, which has no scale and no ReLU."""
    released = variant != "paper"
    scales = {"paper": (0.1, 0.1, 0.1), "slim": (0.17, 0.1, 0.2), "facenet": (0.17, 0.1, 0.2)}[variant]

    def ordered(*rest: Sequence[Step]) -> tuple[Sequence[Step], ...]:
        return (*rest, ("max",)) if released else (("max",), *rest)

    if number == 1:
        maps = {"stem": stem_of_figure_14(net, x)}
    else:
        maps = {"stem": stem_of_slim(net, x) if variant == "slim" else stem_of_figure_3(net, x, (7, 1), (1, 7))}
    x = maps["a01"] = net.residual(maps["stem"], "a01", (1,), (1, 3), (1, 3, 3), scale=scales[0])
    dense = output_stride == 8
    x = maps["reduction_a"] = net.reduction(x, "reduction_a", *ordered((3,), (1, 3, 3)), stride=1 if dense else 2)
    x = maps["b01"] = net.residual(x, "b01", (1,), (1, (1, 7), (7, 1)), scale=scales[1], dilation=2 if dense else 1)
    if dense:
        return maps
    dense = output_stride == 16
    x = maps["reduction_b"] = net.reduction(
        x, "reduction_b", *ordered((1, 3), (1, 3), (1, 3, 3)), stride=1 if dense else 2
    )
    branches: tuple[Sequence[Step], ...] = ((1,), (1, (1, 3), (3, 1)))
    dilation = 2 if dense else 1
    x = maps["c01"] = net.residual(x, "c01", *branches, scale=scales[2], dilation=dilation)
    if released:
        x = maps["c02"] = net.residual(x, "c02", *branches, scale=1.0, relu=False, dilation=dilation)
    if variant == "slim":
        maps["final"] = net.conv(x, "final_conv_1", 1)
    return maps


def maps_of(
    name: str,
    variant: str,
    weights: Mapping[str, Sequence[np.ndarray]],
    images: np.ndarray,
    *,
    padding: str = "valid",
    output_stride: int | None = None,
) -> Maps:
    """The endpoints of a network of the package that has one block of each kind, images (n, height, width, 3)."""
    net, x = Arithmetic(weights, padding), images.astype(np.float64)
    if name == "inception_v4":
        return inception_v4(net, x, variant, output_stride)
    return inception_resnet(net, x, int(name[-1]), variant, output_stride)
