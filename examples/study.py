"""A study, from a folder of pictures to what may be concluded: groups, folds, one test, intervals.

    uv run --extra cpu python examples/study.py

The question: how many digits does a network read of people whose writing it never saw? scikit-learn's 1,797 digits were
written on 14 forms, one after the other, so that the form of each is known. Ten forms are cross-validated, and no form
lies on both sides of a split. The four others are kept apart and looked at once, by the models of the folds and by the
average of their probabilities. The page inception_resnet_keras/guides/study.md goes through it by commands, with what
came of it and what may be concluded.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from digit_pictures import write_forms
from new_folder import new_folder

from inception_resnet_keras import compare, train

DEVELOPMENT, KEPT = range(1, 11), range(11, 15)
FORM = r"re:(form_\d+)"  # of a picture's path: its group


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="inception_resnet_v1")
    parser.add_argument("--size", type=int, default=75)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only-pictures", action="store_true", help="write the pictures and train nothing")
    parser.add_argument("--out", type=Path, help="a new folder (default: a temporary one)")
    args = parser.parse_args()

    out = new_folder(args.out, "study")
    development = write_forms(out / "pictures", DEVELOPMENT)
    kept = write_forms(out / "kept", KEPT)
    if args.only_pictures:
        print(f"the pictures are in {development} and {kept}")
        return

    # How long is trained is decided before the first run, and a run is judged by its last epoch, so that no held-out
    # picture chooses anything.
    settings = {"model": args.model, "size": args.size, "epochs": args.epochs, "group": FORM}
    if args.model == "inception_resnet_v1":
        settings["depths"] = (1, 2, 1)  # fewer blocks than the paper's, which is enough for digits
    study = train(development, out=out / "folds", folds=args.folds, **settings)

    # The pictures that were kept apart are looked at here, and never again: whoever changes something now, because of
    # what they show, has no test any more.
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
