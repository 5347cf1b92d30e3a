"""keras-hub's DeepLabV3+ on our backbone: which pixels are a circle's, a square's, a triangle's?

    uv run --extra cpu --extra hub python examples/hub_segmentation.py

The network is Inception-ResNet-v1 with one block of each kind, `padding="same"` and `output_stride=8`: the size of
each map is that of the image divided by its stride, and no stride is above 8. `hub.backbone` turns it into a backbone
for keras-hub. DeepLabV3+ reads the map of stride 8 (P3) with several dilations, and the edges from the map of stride
4 (P2). The shapes are drawn in random colours over noise. Writes segmented.png, and the segmenter as segmenter.keras,
which is loaded again.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure
from new_folder import new_folder
from PIL import Image, ImageDraw

from inception_resnet_keras import create_inception_resnet_v1
from inception_resnet_keras.common.files import replacing

CLASSES = ("nothing", "circle", "square", "triangle")
COLOURS = np.array([[30, 30, 30], [230, 97, 1], [94, 60, 153], [80, 190, 130]], np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--size", type=int, default=64, help="side of the images in pixels, a multiple of 8 (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=320)
    parser.add_argument("--out", type=Path, help="a new folder for the results (default: a temporary one)")
    args = parser.parse_args()

    out = new_folder(args.out, "hub_segmentation")
    keras.utils.set_random_seed(0)
    images, masks = scenes(args.pictures, args.size, seed=0)
    test_images, test_masks = scenes(64, args.size, seed=1)
    network = segmenter(args.size)
    steps = args.epochs * -(-args.pictures // 16)
    network.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        keras.losses.CategoricalCrossentropy(),
        metrics=[keras.metrics.CategoricalAccuracy(name="pixels")],
        jit_compile=False,
    )
    network.fit(images, keras.utils.to_categorical(masks, len(CLASSES)), batch_size=16, epochs=args.epochs, verbose=2)
    network.save(out / "segmenter.keras")
    # keras-hub compiles what it loads with an optimizer of its own, and Keras warns that it is another one.
    warnings.filterwarnings("ignore", message="Skipping variable loading for optimizer")
    loaded = keras.models.load_model(out / "segmenter.keras", compile=False)
    found = loaded.predict(test_images, batch_size=16, verbose=0).argmax(axis=-1)
    show(test_images, test_masks, found, out / "segmented.png")
    whole = np.ones_like(test_masks, bool)
    print(f"intersection over union in {len(test_images)} new pictures:")
    for number, name in list(enumerate(CLASSES))[1:]:
        learned, constant = (overlap(answer, test_masks == number) for answer in (found == number, whole))
        print(f"  {name} {learned:.1%}; calling every pixel a {name}: {constant:.1%}")
    print(f"everything is in {out}")


def segmenter(size: int) -> Any:
    """A model from pixels of 0-255 to the probabilities of the classes, (n, size, size, 4)."""
    import keras_hub

    from inception_resnet_keras import hub

    trunk = create_inception_resnet_v1(
        depths=(1, 1, 1),
        include_top=False,
        padding="same",
        output_stride=8,
        input_shape=(size, size, 3),
        include_preprocessing=True,
        batch_norm_momentum=0.9,
    )
    decoder = keras_hub.models.DeepLabV3Backbone(
        hub.backbone(trunk),
        spatial_pyramid_pooling_key="P3",
        low_level_feature_key="P2",
        upsampling_size=2,
        dilation_rates=[2, 4],
        image_shape=(size, size, 3),
    )
    for layer in decoder._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # 0.99 would not settle in a few hundred steps
    return keras_hub.models.DeepLabV3ImageSegmenter(decoder, num_classes=len(CLASSES), activation="softmax")


def scenes(count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Shapes over noise: pixels float32 (n, size, size, 3), and the class of each as uint8 (n, size, size)."""
    random = np.random.default_rng(seed)
    images, masks = np.zeros((count, size, size, 3), np.float32), np.zeros((count, size, size), np.uint8)
    for image, mask in zip(images, masks, strict=True):
        noise = random.integers(60, 196, 3) + random.normal(0, 20, (size, size, 3))
        picture, answer = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)), Image.new("L", (size, size))
        for _ in range(random.integers(1, 5)):
            side = int(random.integers(size // 5, size // 2))
            left, top = (int(corner) for corner in random.integers(0, size - side, 2))
            kind, colour = int(random.integers(1, len(CLASSES))), tuple(random.choice([0, 40, 215, 255], 3).tolist())
            draw(ImageDraw.Draw(picture), CLASSES[kind], (left, top, left + side, top + side), colour)
            draw(ImageDraw.Draw(answer), CLASSES[kind], (left, top, left + side, top + side), kind)
        image[:], mask[:] = picture, answer
    return images, masks


def draw(pen: ImageDraw.ImageDraw, shape: str, box: tuple[int, int, int, int], fill: Any) -> None:
    left, top, right, bottom = box
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle(box, fill=fill)
    else:
        pen.polygon([(left, bottom), (right, bottom), ((left + right) / 2, top)], fill=fill)


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union."""
    return float((found & truth).sum() / max((found | truth).sum(), 1))


def show(images: np.ndarray, masks: np.ndarray, found: np.ndarray, path: Path) -> None:
    figure = Figure(figsize=(8.4, 4.5), layout="constrained")
    grid = figure.subplots(3, 6)
    for column in range(6):
        for row, values in enumerate((images[column].astype(np.uint8), COLOURS[masks[column]], COLOURS[found[column]])):
            grid[row, column].imshow(values)
            grid[row, column].set(xticks=[], yticks=[])
    for row, name in enumerate(("picture", "shapes", "found")):
        grid[row, 0].set_ylabel(name)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=110)


if __name__ == "__main__":
    main()
