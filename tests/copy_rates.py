"""How many changed copies of images the search for copies recognises, and how many pairs it reports wrongly.

    python -m tests.copy_rates

The originals are tiles of the two photographs that scikit-learn ships. Each change is applied to every tile. The second
part enlarges scikit-learn's digits: they no longer count as small images, and their hashes are alike. It is not part of
the test suite; guides/measurements.md has its figures.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import product

from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from inception_resnet_keras.data.copies import find_copies, fingerprint_pictures
from inception_resnet_keras.data.sources import open_source

from .data.test_copies import in_memory

TILES = [(213, 213), (160, 142), (128, 128)]  # half of a side is 64 pixels or more: such images are not small ones
Change = Callable[[Image.Image], Image.Image]


def tiles() -> list[Image.Image]:
    images = []
    for pixels in load_sample_images().images:
        photograph = Image.fromarray(pixels)
        for width, height in TILES:
            corners = product(
                range(0, photograph.height - height + 1, height), range(0, photograph.width - width + 1, width)
            )
            images += [photograph.crop((left, top, left + width, top + height)) for top, left in corners]
    return images


def compressed(quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        content = io.BytesIO()
        image.save(content, "JPEG", quality=quality)
        return Image.open(content)

    return change


def resized(scale: float) -> Change:
    return lambda image: image.resize((round(image.width * scale), round(image.height * scale)))


def without_border(share: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        x, y = max(1, round(image.width * share)), max(1, round(image.height * share))
        return image.crop((x, y, image.width - x, image.height - y))

    return change


CHANGES: dict[str, Change] = {
    **{f"JPEG of quality {quality}": compressed(quality) for quality in (90, 50, 20)},
    "resized to half": resized(0.5),
    "resized to twice the size": resized(2),
    "resized to 224×224": lambda image: image.resize((224, 224)),
    "brightness - 20 %": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "brightness + 20 %": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "contrast + 20 %": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "grey": lambda image: image.convert("L"),
    **{f"{share:.0%} cut off each side": without_border(share) for share in (0.01, 0.02, 0.05)},
    "turned by 1 degree": lambda image: image.rotate(1, Image.Resampling.BICUBIC),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
}


def main() -> None:
    images = tiles()
    originals = [images[index] for index in fingerprint_pictures(in_memory(images)).hashed.nonzero()[0]]
    count, wrong = len(originals), 0
    print(f"{count} originals, without {len(images) - count} tiles of plain sky, which have no hash")
    for name, change in CHANGES.items():
        prints = fingerprint_pictures(in_memory([*originals, *(change(image) for image in originals)]))
        pairs = find_copies(prints)
        own = pairs.other == pairs.one + count
        wrong += int((~own & (pairs.other >= count)).sum())
        print(f"  {name:28} {own.sum() / count:6.1%}")
    between = len(find_copies(fingerprint_pictures(in_memory(originals))))
    print(f"pairs of different images: {between} among the originals, {wrong} between originals and changed copies")

    digits = open_source("digits")
    enlarged = [digits.decode(index).convert("RGB").resize((224, 224)) for index in range(len(digits.labels))]
    pairs = find_copies(fingerprint_pictures(in_memory(enlarged)))
    print(f"{len(enlarged)} digits at 224×224: {len(pairs)} of {len(enlarged) * (len(enlarged) - 1) // 2:,} pairs")


if __name__ == "__main__":
    main()
