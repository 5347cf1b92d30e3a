"""A network of a few hundred weights that has every kind of row: production code, in milliseconds.

At 32 pixels a side its maps are 7² (stride 4), 4² (8), 2² (16) and 1² (32).
"""

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from inception_resnet_keras.networks.build import build as build_network
from inception_resnet_keras.networks.rows import AVG_POOL, MAX_POOL, Conv, Fork, Network, Pool, Repeat, Residual

SIDE = 32
CLASSES = 3
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, SIDE, SIDE, 3)).astype(np.float32)

TINY = Network(
    name="tiny",
    variant="paper",
    stem=[
        Conv(4, 3, stride=2, padding="valid"),  # 15²
        Conv(4, (1, 3)),
        MAX_POOL,  # 7²
        Fork([[Conv(3, 3, stride=2)], [Pool("max", stride=2)]]),  # 4²×7
    ],
    stem_figure="Figure 3",
    stages=[
        Repeat(Residual([[Conv(2, 1)], [Conv(2, 1), Conv(3, 3)]], name="a"), 2, scale=0.1),
        Fork([[Pool("max", stride=2)], [Conv(4, 3, stride=2)]], name="reduction_a"),  # 2²×11
        Repeat(Fork([[AVG_POOL, Conv(3, 1)], [Conv(4, 1), Fork([[Conv(2, (1, 3))], [Conv(3, (3, 1))]])]], name="b"), 2),
        Fork([[Pool("max", stride=2)], [Conv(4, 3, stride=2)]], name="reduction_b"),  # 1²×12
        Repeat(Residual([[Conv(3, 1)], [Conv(2, (3, 1))]], name="c"), 1, scale=0.2),
        Repeat(Residual([[Conv(3, 1)], [Conv(2, (3, 1))]], name="c"), 1, scale=None, activation=False),
    ],
    final=[Conv(10, 1)],
    aux=[Pool("avg", size=2, stride=1, padding="valid"), Conv(3, 1), Conv(5, None, padding="valid")],
)

# Of a few layers, which are what tracing takes its time for: where a test trains, and any network will do.
FEW = Network(
    name="few",
    variant="paper",
    stem=[Conv(6, 3, stride=2, padding="valid"), MAX_POOL],  # 7²
    stem_figure="Figure 3",
    stages=[
        Repeat(Residual([[Conv(4, 1)], [Conv(6, 3)]], name="a"), 1, scale=0.1),
        Repeat(Fork([[Pool("max", stride=2)], [Conv(6, 3, stride=2)]], name="b"), 1),  # 4²
    ],
)

# With blocks of each kind, where a test trains and names a stage.
STAGED = replace(
    FEW,
    name="staged",
    stages=[*FEW.stages, Repeat(Residual([[Conv(4, 1)]], name="c"), 2, scale=0.2)],
    final=[Conv(10, 1)],
)

KNOWN = {network.name: {network.variant: network} for network in (TINY, FEW)}  # as `spec.NETWORKS` has them


def build(network: Network = TINY, **options: Any) -> keras.Model:
    """The tiny network as the factories build theirs; `options` are those of `build`.

    Always from the same seed: of so few filters, an unlucky draw's ReLUs let nothing through.
    """
    keras.utils.set_random_seed(1)
    return build_network(network, **{"num_classes": CLASSES, "input_shape": (SIDE, SIDE, 3), **options})


def randomised(model: keras.Model, seed: int = 1) -> keras.Model:
    """With weights away from their start: a batch norm that has not moved hides much."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.uniform(0.1, 1, weight.shape) * (1 if "variance" in weight.name else rng.choice([-1, 1])))
    return model


def run(model: keras.Model, images: Any = IMAGES, training: bool = False) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.cast(model(images, training=training), "float32"))
