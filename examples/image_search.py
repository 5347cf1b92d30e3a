"""Image search: a network's features as a search index, and what they find.

    uv run --extra cpu python examples/image_search.py

Trains Inception-ResNet-v1 on the digits 0 to 4, takes the averages of a map as features, and searches with them among
digits 5 to 9, which it has never seen. Beside it, the same search by plain pixels, which is hard to beat here: digits
stand alike, and fill the picture. Leaves found.png. With a model and pictures of your own, a folder a class:

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

from inception_resnet_keras.common.files import replacing
from inception_resnet_keras.data.sources import Source, open_source
from inception_resnet_keras.models.model_file import load_model
from inception_resnet_keras.networks.features import feature_extractor
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.train import train

NEIGHBOURS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="pictures to search among, a folder a class (default: digits 5 to 9)")
    parser.add_argument("--run", type=Path, help="the folder of a run of `train` (default: trained here)")
    parser.add_argument("--endpoint", default="stride_32", help="whose map is averaged (default: %(default)s)")
    parser.add_argument("--model", default="inception_resnet_v1", help="to train here")
    parser.add_argument("--size", type=int, default=75)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--per-class", type=int, default=100, help="digits a class")
    parser.add_argument("--out", type=Path, help="a new folder (default: a temporary one)")
    args = parser.parse_args()

    out = new_folder(args.out, "search")
    run = args.run
    if run is None:
        old = write_digits(out / "digits 0 to 4", range(5), args.per_class)
        run = train(
            TrainConfig(data=str(old), model=args.model, size=args.size, epochs=args.epochs), out / "run"
        ).folder.path
    model, card = load_model(run / "model.keras")
    pictures = open_source(args.data or write_digits(out / "digits 5 to 9", range(5, 10), args.per_class))
    images = pictures.read_all(card.size, card.central_crop)

    pixels = images.astype(np.float32)
    # A map's average over its cells is one vector a picture; the angle between two says how alike they are.
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
    """Each picture's nearest others, (n, NEIGHBOURS), and the share of them that are of its class."""
    index = NearestNeighbors(n_neighbors=NEIGHBOURS, metric="cosine").fit(features)
    found = index.kneighbors(return_distance=False)  # without the picture itself
    return found, float((pictures.labels[found] == pictures.labels[:, None]).mean())


def show(images: np.ndarray, pictures: Source, found: np.ndarray, path: Path) -> None:
    """A row a class: a picture, and what was found for it; what is of another class has a red frame."""
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
