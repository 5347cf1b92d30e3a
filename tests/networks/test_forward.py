"""What a built model computes, against the same arithmetic in numpy."""

from typing import Any

import numpy as np

from .. import tiny
from ..tiny import IMAGES, randomised, run


def test_output_is_what_the_paper_says() -> None:
    """The whole tiny network once more, in numpy, from its weights."""
    model = randomised(tiny.build())
    weights = {layer.name: layer.get_weights() for layer in model.layers}

    def conv(x: np.ndarray, name: str, stride: int = 1, padding: str = "same") -> np.ndarray:
        kernel, *bias = weights[name]
        x = windows_dot(x, kernel, stride, padding)
        if bias:
            return x + bias[0]
        beta, mean, variance = weights[f"{name}_bn"]
        return np.maximum((x - mean) / np.sqrt(variance + 0.001) + beta, 0)

    def fork(*branches: np.ndarray) -> np.ndarray:
        return np.concatenate(branches, axis=-1)

    x = conv(IMAGES, "stem_conv_1", 2, "valid")
    x = pooled(conv(x, "stem_conv_2"), 2, "valid", np.max)
    x = fork(conv(x, "stem_fork_1_branch_1_conv_1", 2), pooled(x, 2, "same", np.max))
    for place in ("a01", "a02"):
        second = conv(conv(x, f"{place}_branch_2_conv_1"), f"{place}_branch_2_conv_2")
        x = np.maximum(x + 0.1 * conv(fork(conv(x, f"{place}_branch_1_conv_1"), second), f"{place}_project"), 0)
    x = fork(pooled(x, 2, "same", np.max), conv(x, "reduction_a_branch_2_conv_1", 2))
    for place in ("b01", "b02"):
        second = conv(x, f"{place}_branch_2_conv_1")
        inner = [conv(second, f"{place}_branch_2_fork_1_branch_{number}_conv_1") for number in (1, 2)]
        x = fork(conv(pooled(x, 1, "same", np.mean), f"{place}_branch_1_conv_1"), *inner)
    x = fork(pooled(x, 2, "same", np.max), conv(x, "reduction_b_branch_2_conv_1", 2))
    for place, scale in (("c01", 0.2), ("c02", 1.0)):
        branches = [conv(x, f"{place}_branch_{number}_conv_1") for number in (1, 2)]
        x = x + scale * conv(fork(*branches), f"{place}_project")
        x = np.maximum(x, 0) if place == "c01" else x
    kernel, bias = weights["logits"]
    logits = conv(x, "final_conv_1").mean((1, 2)) @ kernel + bias
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(run(model), exponents / exponents.sum(1, keepdims=True), rtol=2e-4, atol=1e-6)


def padded(x: np.ndarray, kernel: tuple[int, int], stride: int, padding: str, fill: float) -> np.ndarray:
    if padding == "valid":
        return x
    totals = [
        max((-(-side // stride) - 1) * stride + size - side, 0) for side, size in zip(x.shape[1:3], kernel, strict=True)
    ]
    sides = [(total // 2, total - total // 2) for total in totals]
    return np.pad(x, [(0, 0), *sides, (0, 0)], constant_values=fill)


def windows(x: np.ndarray, kernel: tuple[int, int], stride: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(1, 2))[:, ::stride, ::stride]


def windows_dot(x: np.ndarray, kernel: np.ndarray, stride: int, padding: str) -> np.ndarray:
    size = kernel.shape[:2]
    return np.einsum("nhwcij,ijcf->nhwf", windows(padded(x, size, stride, padding, 0), size, stride), kernel)


def pooled(x: np.ndarray, stride: int, padding: str, how: Any) -> np.ndarray:
    """3×3; a border pixel outside the map is not counted."""
    seen = windows(padded(x, (3, 3), stride, padding, np.nan), (3, 3), stride)
    return (np.nanmax if how is np.max else np.nanmean)(seen, axis=(-2, -1))
