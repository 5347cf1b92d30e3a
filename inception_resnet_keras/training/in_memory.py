"""Writing datasets and models that are given in memory to files, so that the run can be resumed and evaluated later."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..common.bars import reading
from ..common.errors import InputError, refuse
from ..data.datasets import is_dataset, pack_dataset
from ..data.packed import open_packed
from ..networks.recognise import image_size, whole_network
from .pretrained import require_trainable_table, table_settings

if TYPE_CHECKING:
    import keras


def is_model(value: Any) -> bool:
    """Whether `value` is a Keras model. Does not import Keras."""
    return hasattr(value, "layers") and hasattr(value, "get_layer")


@contextmanager
def written(
    settings: Mapping[str, Any], run: Path, class_names: Sequence[str] | None, console: Console
) -> Iterator[tuple[dict[str, Any], dict[str, Path]]]:
    """Write datasets and a model into a temporary folder beside the run's, which is removed at the end of the block.

    Args:
        settings: The settings, in which `data` and `val` may be datasets and `model` a Keras model.
        run: A path in the folder that will contain the run's folder.
        class_names: Class names of the datasets.
        console: The console for progress.

    Yields:
        The settings with the paths of the files instead, and these paths by setting.

    Raises:
        InputError: A dataset or the model cannot be used.
    """
    made = dict(settings)
    model: Any = settings.get("model")
    if is_model(model):
        made |= model_settings(model, settings)
    new = not run.parent.exists()
    run.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=".given-", dir=run.parent))
    places: dict[str, Path] = {}
    several = False
    try:
        for setting, name in (("data", "dataset"), ("val", "held_out")):
            if is_dataset(dataset := settings.get(setting)):
                places[setting] = folder / name  # this name becomes part of the name of the run's folder
                _pack(
                    dataset,
                    places[setting],
                    setting,
                    console,
                    class_names=class_names,
                    several=several,
                    every_class=setting == "data",
                )
                packed = open_packed(places[setting], 0)
                class_names, several = packed.class_names, packed.multi_label  # apply to the held-out pictures too
        if is_model(model):
            places["weights"] = folder / "pretrained.keras"
            model.save(places["weights"])
        yield made | {setting: str(place) for setting, place in places.items()}, places
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if new:
            with suppress(OSError):  # not empty if it contains the run
                run.parent.rmdir()


def _pack(dataset: Any, out: Path, setting: str, console: Console, **labels: Any) -> None:
    with reading(console) as bars:
        bar = bars.add_task("writing the dataset's pictures", total=None)

        def show(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total or None)

        pack_dataset(dataset, out, argument=setting, progress=show, **labels)


def model_settings(model: keras.Model, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that follow from a pretrained model: its network with depths and scales, and its size if fixed.

    Raises InputError if it is not one of the package's networks, or one that a run cannot train, or if a setting
    contradicts the model.
    """
    found = whole_network(model, "a model of this package, its name, or None")
    if found.channels != 3:
        raise InputError(f"model: {model.name!r} reads images of {found.channels} channels; training needs three")
    # Check this before the table: a network with output stride 8 lacks the blocks C, which settings cannot express.
    require_trainable_table(
        f"model: {model.name!r} is",
        found,
        "build it without padding= and output_stride=, or train this one with Keras's fit",
    )
    table = table_settings(found)
    if table is None:
        raise InputError(
            f"model: {model.name!r} is a modified {found.name}, which cannot be trained by settings; use Keras's fit"
        )
    for name in ("weights", "variant", "depths", "scale"):
        given = settings.get(name)
        if given is not None and (name == "weights" or _plain(given) != _plain(table[name])):
            raise refuse(name, given, "nothing beside a model, which has its own value")
    height, width = image_size(model)
    size = {"size": (height, width)} if height and width and "size" not in settings else {}
    return {**table, **size}


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value
