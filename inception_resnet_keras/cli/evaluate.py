"""Top-1, top-5 and calibration of models on labelled pictures, alone and averaged; or of faces, pairs verified."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .pack import number_or_share

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..evaluation.evaluate import Evaluation, Model
    from ..evaluation.faces import Verified

HELP = "top-1, top-5 and calibration of models on labelled pictures; faces verified by pairs"
LEGEND = (
    "±: 95 % interval (Wilson). ECE: expected calibration error. T: the temperature to divide the logits by; "
    "after T: the ECE then, on halves that T was not fitted on. NLL: in nats."
)
CLASSES_SHOWN = 40  # of more classes, those with the least recall


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a run's folder, a .keras file of one, or [NETWORK[:VARIANT]=]WEIGHTS: a checkpoint or a registered name, "
        "such as inception_v4=imagenet; of several, the average of their probabilities is evaluated too",
    )
    add(
        "--data",
        required=True,
        metavar="SOURCE",
        help="a folder of pictures a class, a .csv of path,label, tfds:NAME[:SPLIT], a packed folder, digits; with "
        "--pairs, a folder of pictures a person",
    )
    add("--out", type=Path, metavar="FOLDER", help="what to write (default: next free below evaluations/)")
    add("--crops", type=int, default=1, metavar="N", help="a picture: 1, 12 or 144, averaged (default: %(default)s)")
    add("--crop-fraction", type=float, metavar="F", help="that one crop looks at, instead of the weights' own")
    add("--crop-mode", choices=("squash", "center"), help="whether one crop keeps the picture's shape, or is square")
    add("--interpolation", choices=("bilinear", "bicubic", "lanczos", "nearest"), help="instead of the weights' own")
    add("--classes", type=Path, metavar="FILE", help="class names, one a line, for models that carry none")
    add("--batch-size", type=int, default=32, metavar="N", help="crops at once (default: %(default)s)")
    add(
        "--max-corrupt",
        type=number_or_share,
        default=100,
        metavar="N",
        help="unreadable pictures that may be left out: a number, or a share below 1 (default: %(default)s)",
    )
    add("--pairs", type=Path, metavar="FILE", help="LFW's pairs.txt: verify faces by the model's embedding")
    add("--mirror", action="store_true", help="with --pairs: look at each face mirrored too")
    add("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> None:
    from rich.console import Console

    console = Console(stderr=args.json)
    if args.pairs:
        _verify(args, console)
    elif args.mirror:
        raise InputError("--mirror is of --pairs; for classes, --crops 12 and 144 look at mirrored crops too")
    else:
        _evaluate(args, console)


def _evaluate(args: argparse.Namespace, console: Console) -> None:
    from ..evaluation.evaluate import evaluate
    from ..telling import say
    from ..training.progress import reading

    with reading(console) as bars:
        bar = bars.add_task("pictures", total=None)
        found = evaluate(
            args.models,
            args.data,
            out=args.out,
            crops=args.crops,
            crop_fraction=args.crop_fraction,
            crop_mode=args.crop_mode,
            interpolation=args.interpolation,
            classes=args.classes,
            batch_size=args.batch_size,
            max_corrupt=args.max_corrupt,
            progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    if args.json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        say(console, _head(found), style="italic")
        console.print(_models(found))
        say(console, LEGEND)
        console.print(_classes(found))
    for name, reason in found.report.unreadable:
        say(console, f"left out: {name}: {reason}", style="yellow")
    say(console, f"everything is in {found.folder}")


def _head(found: Evaluation) -> str:
    """What was looked at, and how."""
    views = {model.view for model in found.models if model.view}
    crops = f"{found.crops} crops a picture" if found.crops > 1 else "one crop a picture"
    if len(views) == 1 and found.crops == 1:
        view = next(iter(views))
        crops += ", the whole of it" if view.fraction == 1 else f", {view.fraction:.4g} of it ({view.mode})"
        crops += f", {view.interpolation}, at {view.size[0]}×{view.size[1]}"
    occurring = sum(score.support > 0 for score in found.report.classes)
    return f"{found.reported.figures.pictures:,} pictures of {occurring} classes; {crops}"


def _models(found: Evaluation) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    table.add_column("model", overflow="fold")
    for column in ("top-1", "±", "top-5", "ECE", "T", "after T", "NLL"):
        table.add_column(column, justify="right")
    rows = [*found.models, *([found.average] if found.average else [])]
    beside = any(model.paper or model.published for model in rows)
    if beside:
        table.add_column("published top-1 / top-5")
    for model in rows:
        score, calibration = model.figures, model.figures.calibration
        if model is found.average:
            table.add_section()
        cells = [
            escape(model.name),
            f"{score.top1:.2%}",
            f"{(score.interval[1] - score.interval[0]) / 2:.2%}",
            _share(score.top5),
            f"{calibration.ece:.2%}",
            f"{calibration.temperature:.2f}" if calibration.temperature else "–",
            _share(calibration.scaled_ece),
            f"{calibration.nll:.3f}",
        ]
        table.add_row(*cells, *([_published(model)] if beside else []))
    return table


def _published(model: Model) -> str:
    said = [f"{' / '.join(f'{number:.1f}' for number in model.published.values())} the weights"]
    paper = [f"{model.paper[1]:.1%} / {model.paper[2]:.1%} paper, {model.paper[0]}"] if model.paper else []
    return "\n".join((said if model.published else []) + paper).replace("%", "")


def _classes(found: Evaluation) -> Table:
    from rich.markup import escape
    from rich.table import Table

    there = [score for score in found.report.classes if score.support]
    shown = there
    title = f"class by class, {found.reported.name}" if found.average else "class by class"
    if len(there) > CLASSES_SHOWN:
        shown = sorted(there, key=lambda score: score.recall)[:CLASSES_SHOWN]
        title += f": the {CLASSES_SHOWN} of least recall; all {len(there)} are in report.json"
    table = Table(title=title, title_justify="left")
    table.add_column("class", overflow="fold")
    for column in ("precision", "recall", "F1", "pictures"):
        table.add_column(column, justify="right")
    for score in shown:
        shares = (f"{share:.1%}" for share in (score.precision, score.recall, score.f1))
        table.add_row(escape(score.name), *shares, f"{score.support:,}")
    table.add_section()
    scores = found.reported.figures
    table.add_row("mean of the classes", "", f"{scores.balanced:.1%}", f"{scores.macro_f1:.1%}", f"{scores.pictures:,}")
    return table


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def _verify(args: argparse.Namespace, console: Console) -> None:
    from ..evaluation.faces import verify_faces
    from ..telling import say
    from ..training.progress import reading

    if len(args.models) > 1:
        raise InputError(f"--pairs: {len(args.models)} models are given, and faces are verified by one")
    if args.crops != 1 or args.classes:
        raise InputError("--pairs: --crops and --classes are of classifiers; --mirror looks at faces mirrored too")
    with reading(console) as bars:
        bar = bars.add_task("pictures", total=None)
        found = verify_faces(
            args.models[0],
            args.pairs,
            Path(args.data),
            out=args.out,
            mirror=args.mirror,
            crop_fraction=args.crop_fraction,
            crop_mode=args.crop_mode,
            interpolation=args.interpolation,
            batch_size=args.batch_size,
            max_corrupt=args.max_corrupt,
            progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    if args.json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        kinds = f"{found.one_person:,} pairs of one person, {found.two_persons:,} of two"
        say(console, f"{kinds}; {found.pictures:,} pictures, each embedded once", style="italic")
        console.print(_folds(found))
        scores = found.verification
        say(
            console,
            f"accuracy {scores.accuracy:.2%} ± {scores.deviation:.2%}, each fold by the threshold of the others",
        )
        say(
            console,
            f"threshold of all pairs {scores.threshold:.4f}: one person's where the squared distance is below it",
        )
        say(console, f"area under the ROC curve {scores.auc:.4f}")
        for share, accepts in scores.true_accepts.items():
            said = "too few pairs of two persons to tell" if accepts is None else f"{accepts:.2%}"
            say(console, f"true accepts at {share} false ones: {said}")
    for name, reason in found.unreadable:
        say(console, f"left out: {name}: {reason}", style="yellow")
    if found.left_out:
        say(console, f"{found.left_out:,} pairs were left out, whose pictures these are", style="yellow")
    say(console, f"everything is in {found.folder}")


def _folds(found: Verified) -> Table:
    from rich.table import Table

    scores = found.verification
    table = Table()
    table.add_column("fold")
    for column in ("pairs", "threshold", "accuracy"):
        table.add_column(column, justify="right")
    for number, fold in enumerate(scores.folds, 1):
        table.add_row(str(number), f"{fold.pairs:,}", f"{fold.threshold:.4f}", f"{fold.accuracy:.2%}")
    table.add_section()
    total = sum(fold.pairs for fold in scores.folds)
    table.add_row("mean", f"{total:,}", "", f"{scores.accuracy:.2%} ± {scores.deviation:.2%}")
    return table
