"""Benchmark of the input pipeline: images per second and core, compared with Keras and Pillow in alternating rounds.

    python -m inception_resnet_keras.data.benchmark

Compared are this package's pipeline; `keras.utils.image_dataset_from_directory` with Keras's augmentation layers; and
Pillow, used like timm's RandomResizedCrop, flip and ColorJitter. The pictures are 500×375 JPEGs, ImageNet's usual size,
cut from the two photographs that scikit-learn ships.

Two figures are printed: images per second of wall-clock time and core, which is valid only if nothing else runs on the
machine, and images per second of processor time, which other programs disturb far less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Generator
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from ..common.devices import usable_cores
from .draws import inception_boxes

SIZE = (299, 299)
BATCH = 32
EPOCH = 50_000
WIDTH, HEIGHT = 500, 375
Batches = Generator[tuple[int, float]]
AREA, ASPECT = (0.05, 1.0), (3 / 4, 4 / 3)


def write_pictures(folder: Path, count: int) -> None:
    """Write `count` JPEGs of quality 90 in two classes: random boxes of a photograph, at least 4/5 of a side."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    for label, photograph in enumerate(load_sample_images().images):
        of_class = folder / str(label)
        of_class.mkdir(parents=True)
        height, width = photograph.shape[:2]
        for number in range(count // 2):
            share = random.uniform(0.8, 1)
            left, top = random.uniform(0, 1 - share, 2) * (width, height)
            box = (left, top, left + share * width, top + share * height)
            image = Image.fromarray(photograph).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box)
            image.save(of_class / f"{number}.jpg", quality=90)


def ours(folder: Path) -> Batches:
    """This package's batches, endlessly: the number of pictures and the processor seconds of each batch."""
    from .options import DataOptions
    from .pipeline import batches
    from .sources import open_source

    source = open_source(folder)
    # Repeated to the length of a real epoch, so that the cost of starting an epoch is spread as in real training.
    source = source.take(np.tile(np.arange(len(source)), -(-EPOCH // len(source))))
    options, epoch = DataOptions("inception"), 0
    while True:
        made = batches(source, options, size=SIZE, batch_size=BATCH, training=True, seed=0, epoch=epoch)
        yield from _timed(made)
        epoch += 1


def keras_zoom(folder: Path) -> Batches:
    """Keras with random zoom: the layer nearest to a crop of random area and aspect, which Keras does not have."""
    import keras

    return _keras(folder, SIZE, keras.layers.RandomZoom((-0.75, 0.0), (-0.75, 0.0)))


def keras_crop(folder: Path) -> Batches:
    """Keras with random crop, its cheapest layer: crops of 7/8 of a side, without varying scale or aspect."""
    import keras

    return _keras(folder, (SIZE[0] * 8 // 7, SIZE[1] * 8 // 7), keras.layers.RandomCrop(*SIZE))


def _keras(folder: Path, size: tuple[int, int], crop: Any) -> Batches:
    import keras
    import tensorflow as tf

    augment = keras.Sequential(
        [
            crop,
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomBrightness(32 / 255),
            keras.layers.RandomSaturation((0.25, 0.75)),
        ]
    )
    pictures = keras.utils.image_dataset_from_directory(
        folder, image_size=size, batch_size=BATCH, seed=0, verbose=False
    )
    made = pictures.map(lambda x, y: (augment(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE)
    return _timed(made.repeat().prefetch(tf.data.AUTOTUNE))


def _timed(made: Any) -> Batches:
    before = time.process_time()
    for _, labels in made:
        now = time.process_time()
        yield len(labels), now - before
        before = now


def pillow(folder: Path) -> Batches:
    """Pillow in one process per core, like the workers of a PyTorch DataLoader; each makes float32 batches."""
    paths = sorted(folder.glob("*/*.jpg"))
    context = get_context("spawn")
    queue = context.Queue(maxsize=4)
    workers = [
        context.Process(target=_pillow_worker, args=(paths, number, queue), daemon=True)
        for number in range(usable_cores())
    ]
    for worker in workers:
        worker.start()
    try:
        while True:
            yield queue.get()
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def pillow_transform(path: Path, random: np.random.Generator) -> np.ndarray:
    """RandomResizedCrop, RandomHorizontalFlip, ColorJitter(brightness, saturation) and ToTensor's array."""
    image = Image.open(path).convert("RGB")
    [(top, left, height, width)] = inception_boxes(
        np.array([[image.height, image.width]]), random.random((1, 4)), AREA, ASPECT
    )
    image = image.crop((left, top, left + width, top + height)).resize(SIZE[::-1], Image.Resampling.BILINEAR)
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    brightness, saturation = random.uniform((1 - 32 / 255, 0.5), (1 + 32 / 255, 1.5))
    if random.random() < 0.5:
        image = ImageEnhance.Color(ImageEnhance.Brightness(image).enhance(brightness)).enhance(saturation)
    else:
        image = ImageEnhance.Brightness(ImageEnhance.Color(image).enhance(saturation)).enhance(brightness)
    return np.asarray(image, np.float32)


def _pillow_worker(paths: list[Path], number: int, queue: Any) -> None:
    random = np.random.default_rng(number)
    before = time.process_time()
    while True:
        chosen = random.choice(len(paths), BATCH)
        batch = np.stack([pillow_transform(paths[index], random) for index in chosen])
        now = time.process_time()
        queue.put((len(batch), now - before))  # not the array: a DataLoader passes it by shared memory, without a copy
        before = now


WAYS: dict[str, Callable[[Path], Batches]] = {
    "ours": ours,
    "Keras, zoom": keras_zoom,
    "Keras, crop": keras_crop,
    "Pillow": pillow,
}


def measure(folder: Path, rounds: int, seconds: float) -> dict[str, np.ndarray]:
    """For each way, an array with one row per round: images per second and core, images per processor second."""
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            made = way(folder)
            for _ in islice(made, 4 + 2 * usable_cores()):  # warm up, and drain the batches made in advance
                pass
            images, used, begun = 0, 0.0, time.perf_counter()
            while (taken := time.perf_counter() - begun) < seconds:
                pictures, processor = next(made)
                images, used = images + pictures, used + processor
            made.close()
            speeds[name].append((images / taken / usable_cores(), images / used))
    return {name: np.array(figures) for name, figures in speeds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=400, help="number of JPEGs (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="seconds per way and round (default: %(default)s)")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        write_pictures(Path(folder), args.pictures)
        speeds = measure(Path(folder), args.rounds, args.seconds)
    print(
        f"{usable_cores()} cores, batches of {BATCH} pictures of {SIZE[0]}×{SIZE[1]}, medians of {args.rounds} rounds"
    )
    for column, unit in enumerate(("images/s per core", "images per second of processor time")):
        print(f"\n{unit}")
        own = speeds["ours"][:, column]
        for name, figures in speeds.items():
            found, ratios = figures[:, column], own / figures[:, column]
            print(
                f"  {name:12}{np.median(found):7.1f} ({found.min():.0f} to {found.max():.0f});  "
                f"ours / this {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
            )


if __name__ == "__main__":
    main()
