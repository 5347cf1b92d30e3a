"""Transfer learning: a pretrained trunk and a new classifier, in two phases.

    uv run --extra cpu python examples/transfer_learning.py

Without arguments it needs only this clone: it trains Inception-ResNet-v1 on the digits 0 to 4, transfers this trunk to
the digits 5 to 9 with twenty training images of each, and compares the result with a network that starts from nothing.
With your own images and the weights that were released for ImageNet:

    uv run --extra cpu --extra weights python examples/transfer_learning.py --data FOLDER --weights imagenet \
        --model inception_resnet_v2 --variant slim --size 299
"""

from __future__ import annotations

import argparse
from pathlib import Path

from digit_pictures import write_digits
from new_folder import new_folder

from inception_resnet_keras import finetune, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="one folder of images per class (default: the digits 5 to 9)")
    parser.add_argument("--weights", help="weights of the trunk (default: train it on the digits 0 to 4)")
    parser.add_argument("--model", default="inception_resnet_v1")
    parser.add_argument("--variant", default="paper")
    parser.add_argument("--size", type=int, default=75)
    parser.add_argument(
        "--trunk-epochs", type=int, default=4, help="of the trunk, without --weights (default: %(default)s)"
    )
    parser.add_argument(
        "--epochs",
        type=int,
        default=8,
        help="of fine-tuning, half of them for the classifier alone (default: %(default)s)",
    )
    parser.add_argument(
        "--per-class",
        type=int,
        default=25,
        help="images per digit for the transfer, a fifth held out (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, help="a new folder for the runs (default: a temporary one)")
    args = parser.parse_args()

    place = new_folder(args.out, "transfer")
    network = {"model": args.model, "variant": args.variant, "size": args.size}
    weights = args.weights
    if weights is None:
        old = write_digits(place / "digits 0 to 4", range(5), 150)
        weights = train(old, out=place / "trunk", epochs=args.trunk_epochs, **network).folder.model
    data = args.data or write_digits(place / "digits 5 to 9", range(5, 10), args.per_class)

    # Phase one trains only the classifier on an unchanged trunk. Phase two also trains the blocks from B on, each a
    # little more slowly than the one above it. Batch norm keeps the trunk's statistics throughout.
    # A mirrored digit is not a digit, so images are only shifted.
    settings = {"epochs": args.epochs, "head_epochs": args.epochs // 2, "unfreeze_from": "b01", "batch_size": 16}
    settings |= {"augmentation": "shift", "central_crop": 1.0}
    tuned = finetune(data, weights=weights, out=place / "fine-tuned", layer_rate=0.95, **network, **settings)
    fresh = train(data, out=place / "from nothing", epochs=args.epochs, batch_size=16, **network)
    print(f"held-out accuracy on {data}")
    print(f"  fine-tuned    {tuned.report.accuracy:.1%}   {tuned.folder.model}")
    print(f"  from nothing  {fresh.report.accuracy:.1%}")


if __name__ == "__main__":
    main()
