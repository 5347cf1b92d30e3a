"""Image search: a network's features as an index of similar images.

    uv run --extra cpu python examples/image_search.py

Trains Inception-ResNet-v1 on the digits 0 to 4, takes the averages of a map as features, and searches with them among
the digits 5 to 9, which it has never seen. For comparison it searches by plain pixels, which are hard to beat here:
the digits are aligned and fill the image. Writes found.png. With a model and images of your own, in one folder per
class:

    uv run --extra cpu python examples/image_search.py --run runs/MINE --data FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import numpy as np
from digit_pictures import write_digits
from matplotlib.figure import Figure
from new_folder import new_folder
from sklearn.neighbors import NearestNeighbors

from inception_resnet_keras import feature_extractor, train
from inception_resnet_keras.common.files import replacing
from inception_resnet_keras.data.labelled import Source
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.models.model_file import load_model

NEIGHBOURS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="images to search, one folder per class (default: digits 5 to 9)")
    parser.add_argument("--run", type=Path, help="the folder of a run of `train` (default: train one)")
    parser.add_argument("--endpoint", default="stride_32", help="endpoint whose map is averaged (default: %(default)s)")
    parser.add_argument("--model", default="inception_resnet_v1", help="network to train without --run")
    parser.add_argument("--size", type=int, default=75)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--per-class", type=int, default=100, help="digits per class (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="a new folder for the results (default: a temporary one)")
    args = parser.parse_args()

    out = new_folder(args.out, "search")
    run = args.run
    if run is None:
        old = write_digits(out / "digits 0 to 4", range(5), args.per_class)
        run = train(old, out=out / "run", model=args.model, size=args.size, epochs=args.epochs).folder.path
    model, card = load_model(run / "model.keras")
    pictures = open_source(args.data or write_digits(out / "digits 5 to 9", range(5, 10), args.per_class))
    images = pictures.read_all(card.size, card.central_crop)

    pixels = images.astype(np.float32)
    # The average of a map over its cells is one vector per image; the angle between two vectors measures likeness.
    maps = feature_extractor(model, args.endpoint).predict(pixels, verbose=0)[args.endpoint]
    cells = (2, 3) if keras.config.image_data_format() == "channels_first" else (1, 2)
    ours, precision = search(maps.mean(axis=cells), pictures)
    _, by_pixels = search(pixels.reshape(len(pixels), -1), pictures)
    show(images, pictures, ours, out / "found.png")
    print(f"of the {NEIGHBOURS} pictures found for each of {len(pictures)}, so many are of its class:")
    print(f"  by {args.endpoint}  {precision:.1%}")
    print(f"  by pixels     {by_pixels:.1%}")
    print(f"  by chance     {np.mean(np.bincount(pictures.labels)[pictures.labels] / len(pictures)):.1%}")
    print(f"everything is in {out}")


def search(features: np.ndarray, pictures: Source) -> tuple[np.ndarray, float]:
    """The nearest neighbours of each image, (n, NEIGHBOURS), and the share of them that have its class."""
    index = NearestNeighbors(n_neighbors=NEIGHBOURS, metric="cosine").fit(features)
    found = index.kneighbors(return_distance=False)  # without the image itself
    return found, float((pictures.labels[found] == pictures.labels[:, None]).mean())


def show(images: np.ndarray, pictures: Source, found: np.ndarray, path: Path) -> None:
    """One row per class: an image and its neighbours; a red frame marks those of another class."""
    queries = [int(np.flatnonzero(pictures.labels == label)[0]) for label in range(min(6, len(pictures.class_names)))]
    figure = Figure(figsize=(1.3 * (NEIGHBOURS + 1), 1.35 * len(queries) + 0.4), layout="constrained")
    grid = figure.subplots(len(queries), NEIGHBOURS + 1, squeeze=False)
    for query, row in zip(queries, grid, strict=True):
        for axis, number in zip(row, [query, *found[query]], strict=True):
            axis.imshow(images[number])
            axis.set(xticks=[], yticks=[])
            wrong = pictures.labels[number] != pictures.labels[query]
            for spine in axis.spines.values():
                spine.set(color="#c2410c", linewidth=3, visible=bool(wrong))
    grid[0, 0].set_title("searched for", fontsize=10)
    grid[0, 1].set_title("found, the nearest first", fontsize=10, loc="left")
    with replacing(path) as beside:
        figure.savefig(beside, dpi=110)


if __name__ == "__main__":
    main()
