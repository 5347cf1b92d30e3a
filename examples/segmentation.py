"""A segmentation network on the endpoints: which pixels belong to a digit?

    uv run --extra cpu python examples/segmentation.py

The maps of strides 4 to 32 are projected to one width and added from the coarsest to the finest, as in feature pyramid
networks (arXiv 1612.03144). `feature_geometry` gives the position of each cell in the image. A 1×1 convolution on the
finest map predicts for each cell whether it shows a digit. Real digits are pasted into real photographs, the two that
scikit-learn ships, so the right answer is known. A detector's neck starts in the same way: it keeps every level of
`pyramid` and puts a head on each. Writes segmented.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np
from digit_pictures import digit_images
from matplotlib.figure import Figure
from new_folder import new_folder
from PIL import Image
from sklearn.datasets import load_sample_images

from inception_resnet_keras import feature_extractor, feature_geometry, networks
from inception_resnet_keras.common.files import replacing
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.build import build
from inception_resnet_keras.networks.geometry import FeatureGeometry

WIDTH = 64  # channels of the pyramid
PIXELS = FeatureGeometry(stride=1, offset=(0.0, 0.0), receptive_field=(1, 1))  # the image itself as a map


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="inception_resnet_v1")
    parser.add_argument(
        "--width", type=float, default=0.25, help="share of the network's filters (default: %(default)s)"
    )
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=320)
    parser.add_argument("--out", type=Path, help="a new folder for the results (default: a temporary one)")
    args = parser.parse_args()

    out = new_folder(args.out, "segmentation")
    keras.utils.set_random_seed(0)
    images, masks = scenes(args.pictures, args.size, seed=0)
    test_images, test_masks = scenes(64, args.size, seed=1)
    network = segmenter(args.model, args.width, args.size)
    network.compile(
        keras.optimizers.Adam(2e-3),
        keras.losses.BinaryFocalCrossentropy(),
        metrics=[keras.metrics.BinaryIoU([1], name="iou")],
        jit_compile=False,
    )
    network.fit(images, masks, batch_size=16, epochs=args.epochs, validation_data=(test_images, test_masks), verbose=2)
    found = network.predict(test_images, verbose=0)
    iou = intersection_over_union(found > 0.5, test_masks > 0.5)
    everything = intersection_over_union(np.ones_like(test_masks, bool), test_masks > 0.5)
    show(test_images, test_masks, found, out / "segmented.png")
    print(f"intersection over union of the digits' pixels: {iou:.1%}; calling every pixel a digit: {everything:.1%}")
    print(f"everything is in {out}")


def segmenter(model: str, width: float, size: int) -> keras.Model:
    """A model from pixels of 0-255, (n, size, size, 3), to probabilities, (n, size, size, 1)."""
    table = edits.with_width(networks.find(model), width)
    trunk = build(
        table,
        include_top=False,
        input_shape=(size, size, 3),
        include_preprocessing=True,
        batch_norm_momentum=0.9,
    )
    features = feature_extractor(trunk)  # strides 4, 8, 16 and 32
    places = feature_geometry(table, (size, size))
    finest = pyramid(features.output, places)["stride_4"]
    x = keras.layers.Conv2D(WIDTH, 3, padding="same", activation="relu", name="smooth")(finest)
    x = keras.layers.Conv2D(1, 1, name="digit")(x)
    x = at_places(x, places["stride_4"], PIXELS, (size, size))
    return keras.Model(features.input, keras.layers.Activation("sigmoid", dtype="float32", name="probability")(x))


def pyramid(maps: dict[str, Any], places: dict[str, FeatureGeometry]) -> dict[str, Any]:
    """Maps of one width: each stride's own map plus the coarser ones, interpolated at the positions of its cells."""
    levels: dict[str, Any] = {}
    above = coarser = None
    for name, tensor in reversed(maps.items()):
        x = keras.layers.Conv2D(WIDTH, 1, name=f"{name}_lateral")(tensor)
        if coarser is not None:  # with valid padding the sides are 7, 15, 31: no exact halves, and not centred alike
            x = keras.layers.Add(name=f"{name}_sum")([x, at_places(above, coarser, places[name], x.shape[1:3])])
        levels[name] = above = x
        coarser = places[name]
    return levels


def at_places(x: Any, here: FeatureGeometry, there: FeatureGeometry, sides: tuple[int, int]) -> Any:
    """A map interpolated linearly at the positions of the cells of another map, which has these sides."""
    rows, columns = (
        between(x.shape[1 + axis], here.offset[axis], here.stride, there.offset[axis] + there.stride * np.arange(side))
        for axis, side in enumerate(sides)
    )
    return keras.ops.einsum("yh,xw,bhwc->byxc", rows, columns, x)


def between(cells: int, offset: float, stride: int, places: np.ndarray) -> np.ndarray:
    """The weight of each cell along an axis for the value at each position, (positions, cells)."""
    at = np.clip((places - offset) / stride, 0, cells - 1)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(cells)), 0).astype(np.float32)


def scenes(count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits over parts of photographs: pixels float32 (n, size, size, 3), and float32 masks (n, size, size, 1)."""
    random = np.random.default_rng(seed)
    photographs, (digits, _) = load_sample_images().images, digit_images()
    digits = digits[: len(digits) // 2] if seed == 0 else digits[len(digits) // 2 :]  # the test digits are unseen ones
    images, masks = np.zeros((count, size, size, 3), np.float32), np.zeros((count, size, size, 1), np.float32)
    for image, mask in zip(images, masks, strict=True):
        photograph = photographs[random.integers(len(photographs))]
        top, left = (random.integers(0, side - size) for side in photograph.shape[:2])
        image[:] = photograph[top : top + size, left : left + size]
        for _ in range(random.integers(1, 4)):
            side = int(random.integers(size // 5, size // 2))
            digit = Image.fromarray(digits[random.integers(len(digits))]).resize((side, side))
            ink = np.asarray(digit, np.float32)[..., None] / 255
            y, x = random.integers(0, size - side, 2)
            here = np.s_[y : y + side, x : x + side]
            image[here] = (1 - ink) * image[here] + ink * random.uniform(0, 255, 3)
            mask[here] = np.maximum(mask[here], ink > 0.5)
    return images, masks


def intersection_over_union(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / max((found | truth).sum(), 1))


def show(images: np.ndarray, masks: np.ndarray, found: np.ndarray, path: Path) -> None:
    figure = Figure(figsize=(8.4, 4.5), layout="constrained")
    grid = figure.subplots(3, 6)
    for column in range(6):
        for row, (values, options) in enumerate(
            (
                (images[column].astype(np.uint8), {}),
                (masks[column], {"cmap": "gray", "vmin": 0, "vmax": 1}),
                (found[column], {"cmap": "gray", "vmin": 0, "vmax": 1}),
            )
        ):
            grid[row, column].imshow(values, **options)
            grid[row, column].set(xticks=[], yticks=[])
    for row, name in enumerate(("picture", "digits", "found")):
        grid[row, 0].set_ylabel(name)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=110)


if __name__ == "__main__":
    main()
