"""Transfer learning: a pretrained trunk, a new classifier, two phases.

    uv run --extra cpu python examples/transfer_learning.py

Without arguments it needs nothing but this clone: it trains Inception-ResNet-v1 on the digits 0 to 4, then
carries that trunk over to the digits 5 to 9, of which it is given twenty pictures each, and compares with a
network that starts from nothing. With your own pictures and the weights that were released for ImageNet:

    uv run --extra cpu --extra weights python examples/transfer_learning.py --data FOLDER --weights imagenet \
        --model inception_resnet_v2 --variant slim --size 299
"""

from __future__ import annotations

import argparse
from pathlib import Path

from digit_pictures import write_digits
from new_folder import new_folder

from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.train import finetune, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of pictures a class (default: the digits 5 to 9)")
    parser.add_argument("--weights", help="of the trunk (default: trained here, on the digits 0 to 4)")
    parser.add_argument("--model", default="inception_resnet_v1")
    parser.add_argument("--variant", default="paper")
    parser.add_argument("--size", type=int, default=75)
    parser.add_argument("--trunk-epochs", type=int, default=4, help="of the trunk, where it is trained here")
    parser.add_argument("--epochs", type=int, default=8, help="of fine-tuning, half of them the classifier alone")
    parser.add_argument("--per-class", type=int, default=25, help="pictures a digit to carry over to, a fifth held out")
    parser.add_argument("--out", type=Path, help="a new folder for the runs (default: a temporary one)")
    args = parser.parse_args()

    place = new_folder(args.out, "transfer")
    network = {"model": args.model, "variant": args.variant, "size": args.size}
    weights = args.weights
    if weights is None:
        old = write_digits(place / "digits 0 to 4", range(5), 150)
        pretraining = TrainConfig(data=str(old), epochs=args.trunk_epochs, **network)
        weights = train(pretraining, place / "trunk").folder.model
    data = args.data or write_digits(place / "digits 5 to 9", range(5, 10), args.per_class)

    # Phase one: the classifier alone, over a trunk that stays as it is. Phase two: the blocks from B on too, each
    # a little slower than the one above it. Batch norm keeps the trunk's statistics throughout.
    # A mirrored digit is no digit: pictures are moved alone.
    settings = {"epochs": args.epochs, "head_epochs": args.epochs // 2, "unfreeze_from": "b01", "batch_size": 16}
    settings |= {"augmentation": "shift", "central_crop": 1.0}
    tuned = finetune(data, weights=weights, out=place / "fine-tuned", layer_rate=0.95, **network, **settings)
    fresh = train(TrainConfig(data=str(data), epochs=args.epochs, batch_size=16, **network), place / "from nothing")
    print(f"held-out accuracy on {data}")
    print(f"  fine-tuned    {tuned.report.accuracy:.1%}   {tuned.folder.model}")
    print(f"  from nothing  {fresh.report.accuracy:.1%}")


if __name__ == "__main__":
    main()
