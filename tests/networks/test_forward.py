"""What a built model computes, against the same arithmetic in numpy."""

import numpy as np

from .. import tiny
from ..tiny import IMAGES, randomised, run
from .arithmetic import Arithmetic, pooled


def test_output_is_what_the_paper_says() -> None:
    """The whole tiny network once more, in numpy, from its weights."""
    model = randomised(tiny.build())
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    layers = Arithmetic(weights)

    def conv(x: np.ndarray, name: str, stride: int = 1, padding: str = "same") -> np.ndarray:
        kernel = weights[name][0].shape
        return layers.conv(x, name, (kernel[0], kernel[1]), stride, padding)

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
