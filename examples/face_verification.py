"""Face verification: do two images show the same person? The `facenet` variant, trained and verified as on LFW.

    uv run --extra cpu python examples/face_verification.py

This project has no images of faces, so digits stand in for persons: the network learns to distinguish seven of them,
its classifier is dropped, and pairs of the three other digits are verified by the distance of their embeddings. This
is the procedure of LFW with ten folds, but not its difficulty: the pairs are of three "persons", and the result says
nothing about faces. With cropped and aligned faces in one folder per person, LFW's pairs.txt, and the weights that
facenet-pytorch published:

    uv run --extra cpu inception-resnet-keras evaluate inception_resnet_v1:facenet=vggface2 \
        --data lfw --pairs pairs.txt --mirror
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from digit_pictures import write_digits
from new_folder import new_folder

from inception_resnet_keras import train, verify_faces
from inception_resnet_keras.common.files import write_text
from inception_resnet_keras.evaluation.faces import Face, Pair, format_pairs

KNOWN, UNSEEN = range(7), range(7, 10)

FOLDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="inception_resnet_v1")
    parser.add_argument(
        "--size",
        type=int,
        default=75,
        help="side of the images in pixels; the released networks take 160 (default: %(default)s)",
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument(
        "--per-class",
        type=int,
        default=100,
        help="images per digit, for training and for the pairs (default: %(default)s)",
    )
    parser.add_argument("--pairs", type=int, default=30, help="pairs of each kind per fold (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="a new folder for the results (default: a temporary one)")
    args = parser.parse_args()

    out = new_folder(args.out, "faces")
    known = write_digits(out / "known", KNOWN, args.per_class)
    settings = {"model": args.model, "variant": "facenet", "size": args.size, "epochs": args.epochs}
    run = train(known, out=out / "run", **settings)
    unseen = write_digits(out / "unseen", UNSEEN, args.per_class, name="{digit}_{number:04d}.png")
    write_text(out / "pairs.txt", format_pairs(pairs(args.per_class, args.pairs), FOLDS, args.pairs))

    # The classifier knows its seven persons only; its input, the embedding, describes anybody.
    found = verify_faces(run.folder.path, out / "pairs.txt", unseen, out=out / "verified").verification
    print(f"on {2 * FOLDS * args.pairs} pairs of digits that it never saw, {FOLDS} folds:")
    print(f"  accuracy {found.accuracy:.1%} ± {found.deviation:.1%}, area under the ROC curve {found.auc:.3f}")
    print(f"  one person below a squared distance of {found.threshold:.3f}")
    print(f"everything is in {out}")


def pairs(per_class: int, each: int) -> list[Pair]:
    """Per fold `each` pairs of one person, and as many pairs of two persons."""
    random = np.random.default_rng(0)
    found = []
    for fold in range(FOLDS):
        for kind in ("one", "two"):
            for _ in range(each):
                first, second = random.choice(UNSEEN, 2, replace=False)
                numbers = random.choice(per_class, 2, replace=False) + 1
                other = first if kind == "one" else second
                found.append(Pair(fold, Face(str(first), int(numbers[0])), Face(str(other), int(numbers[1]))))
    return found


if __name__ == "__main__":
    main()
