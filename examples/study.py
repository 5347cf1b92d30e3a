"""A study, from a folder of images to its conclusions: groups, folds, one test, intervals.

    uv run --extra cpu python examples/study.py

The question: how many digits does a network read correctly if it never saw the person's writing? scikit-learn's 1,797
digits were written on 14 forms, one after the other, so that the form of each is known. Ten forms are
cross-validated, and no form is on both sides of a split. The four others are kept apart and evaluated once, with the
models of the folds and with the average of their probabilities. The page inception_resnet_keras/guides/study.md does
the same with commands, and has the results and the conclusions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from digit_pictures import write_forms
from new_folder import new_folder

from inception_resnet_keras import compare, train

DEVELOPMENT, KEPT = range(1, 11), range(11, 15)
FORM = r"re:(form_\d+)"  # the group of an image, from its path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="inception_resnet_v1")
    parser.add_argument("--size", type=int, default=75)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only-pictures", action="store_true", help="write the images and train nothing")
    parser.add_argument("--out", type=Path, help="a new folder for the results (default: a temporary one)")
    args = parser.parse_args()

    out = new_folder(args.out, "study")
    development = write_forms(out / "pictures", DEVELOPMENT)
    kept = write_forms(out / "kept", KEPT)
    if args.only_pictures:
        print(f"the pictures are in {development} and {kept}")
        return

    # The number of epochs is decided before the first run, and a run is judged by its last epoch, so that no
    # held-out image chooses anything.
    settings = {"model": args.model, "size": args.size, "epochs": args.epochs, "group": FORM}
    if args.model == "inception_resnet_v1":
        settings["depths"] = (1, 2, 1)  # fewer blocks than the paper's are enough for digits
    study = train(development, out=out / "folds", folds=args.folds, **settings)

    # The images that were kept apart are evaluated here, once: whoever changes something because of this result has
    # no test any more.
    tested = compare([run.path for run in study.runs], kept, group=FORM, out=out / "tested")

    by_fold = ", ".join(f"{figures['accuracy']:.1%}" for figures in study.figures.runs.values())
    digits = sum(int(figures["pictures"]) for figures in study.figures.runs.values())
    print(f"cross-validated: {study.report.accuracy:.1%} of {digits} digits; by fold {by_fold}")
    average = tested.pairs[-1]
    print(f"average of the folds' models: {average.row('accuracy').second:.1%} of {average.pictures} digits kept apart")
    print(tested.sentences[-1])
    print(f"reports: {out / 'folds' / 'report.html'} and {out / 'tested' / 'report.html'}")


if __name__ == "__main__":
    main()
