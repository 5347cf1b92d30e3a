"""Settings read from recipes, from `--set key=value` and keyword arguments, and from a run's config.json."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from ..common.arguments import (
    is_integer,
    nearest,
    read_size,
)
from ..common.errors import InputError, refuse
from ..common.files import read_short_text
from ..data.options import DataOptions
from ..models.model_file import damaged_run_config, read_run_config
from .config import CLASS_WEIGHT_TABLE, DATA_OPTIONS, DEFAULTS, KEYS, TrainConfig

# Settings that config.json files of earlier versions may lack. Those versions behaved like the defaults of these
# settings, or like the values in EARLIER.
ADDED_LATER = (
    *(key for key in DATA_OPTIONS if key != "shift"),
    *("max_corrupt", "worker_minutes", "depths", "scale", "val_fraction", "test_fraction", "group"),
    *("value_range", "copies", "copy_distance", "split_seed", "folds", "fold", "seeds"),
    *("class_weight", "sampler", "monitor", "patience", "trunk_learning_rate", "unfreeze"),
)
EARLIER = {"copies": "allow", "monitor": "accuracy"}
# Settings of which only one can be used: giving both is an error, but giving one replaces a recipe's other one.
ALTERNATIVES = (("unfreeze", "unfreeze_from"),)

# ----------------------------------------------------------------------------------------------------------------------
# Recipes, `--set key=value` and keyword arguments
# ----------------------------------------------------------------------------------------------------------------------
RECIPES = Path(__file__).with_name("recipes")
LONGEST_RECIPE = 1024**2  # bytes
_KINDS = {
    str: "text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "two numbers: [low, high]",
    dict: f"none, balanced or {CLASS_WEIGHT_TABLE}",
}
_KINDS_OF = {  # settings with lists that are not a range
    **dict.fromkeys(("depths", "scale"), "a number per block A, B and C"),
    "size": "an integer, or two: [height, width]",
}


def configured(
    recipe: str | None = None, pairs: Sequence[str] = (), settings: Mapping[str, Any] | None = None
) -> TrainConfig:
    """Make a configuration from a recipe, `key=value` texts and settings; each overrides those before it.

    Settings derived from `weights`, such as the network of a run, override settings from before these weights.

    Args:
        recipe: Name of a recipe of this package, or a TOML file; `None` starts from the defaults.
        pairs: `key=value` texts of the command line.
        settings: Values by flat key, such as `{"augmentation": "shift"}`.

    Raises:
        InputError: The recipe or file does not exist, a key is unknown, or a value is not accepted.
    """
    base = {} if recipe is None else read_recipe(recipe)
    for key in settings or {}:
        _kind("settings", key)
    return TrainConfig.from_settings(_with_layer(_with_layer({}, base), {**read_settings(pairs), **(settings or {})}))


def _with_layer(base: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `base`, overridden by those derived from the layer's weights, then by the layer's own.

    A setting of `layer` also removes its counterpart in `ALTERNATIVES` from `base`. If `layer` has another network, the
    variant, depths and scales of `base` are dropped.
    """
    from .pretrained import settings_of

    replaced = {name for names in ALTERNATIVES if any(layer.get(name) is not None for name in names) for name in names}
    other_network = layer.get("model", base.get("model")) != base.get("model")
    if other_network:
        replaced |= {"variant", "depths", "scale"}
    kept = {key: value for key, value in base.items() if key not in replaced}
    derived = settings_of({"weights": kept.get("weights"), **layer}) if other_network or "weights" in layer else {}
    return {**kept, **derived, **layer}


def recipe_names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read_recipe(name_or_file: str) -> dict[str, Any]:
    """Read the settings of a recipe of this package, by name, or of a TOML file.

    Raises InputError if there is no such recipe, the file is not TOML, or a key or the type of a value is wrong.
    """
    path = RECIPES / f"{name_or_file}.toml" if name_or_file in recipe_names() else Path(name_or_file)
    try:
        settings = _toml_table(read_short_text(path, LONGEST_RECIPE))
    except FileNotFoundError:
        takes = f"a TOML file or one of {', '.join(recipe_names())}{nearest(name_or_file, recipe_names())}"
        raise refuse("recipe", name_or_file, takes) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a TOML file: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as a TOML file: {error}") from None
    return {key: _check_type(str(path), key, value) for key, value in settings.items()}


def read_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Read settings from `key=value` texts. The InputError for a wrong key suggests the most similar one."""
    settings = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise refuse("set", pair, "key=value, such as epochs=10")
        settings[key] = _check_type("set", key, _parse(key, text))
    return settings


def _check_type(where: str, key: str, value: Any) -> Any:
    """The value, if it has the type of the setting; an integer is converted to a float if needed."""
    kinds, optional = _kind(where, key)
    if (value is None and optional) or type(value) in kinds:
        return value
    if float in kinds and type(value) is int and is_integer(value):
        return float(value)
    kind = _KINDS_OF.get(key, _KINDS[kinds[-1]])
    takes = f"{kind} (default: {json.dumps(DEFAULTS[key])})"
    raise refuse(f"{where}: {key}", value, takes)


def _parse(key: str, text: str) -> Any:
    """Parse a TOML value from the command line, where text needs no quotes."""
    kinds, optional = _kind("set", key)
    if optional and text == "none":
        return None
    if str in kinds and not text.startswith(('"', "'", *(["{"] if dict in kinds else []))):
        return text
    if key == "size" and isinstance(size := read_size(text), tuple):
        return list(size)
    try:
        table = _toml_table(f"value = {text}")
    except ValueError:
        return text
    return table["value"] if len(table) == 1 else text  # a line break in the text would begin another setting


def _toml_table(text: str) -> dict[str, Any]:
    """Parse a TOML text; raises ValueError if it is invalid in any way."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _kind(where: str, key: str) -> tuple[list[type], bool]:
    """The types that a setting may have in TOML, the widest last, and whether it may be unset."""
    if key not in KEYS:
        raise InputError(
            f"{where}: {key!r} is not a setting{nearest(key, KEYS) or f'; settings: {chr(44).join(KEYS)}'}"
        )
    hint = get_type_hints(DataOptions if key in DATA_OPTIONS else TrainConfig)[key]
    if get_origin(hint) is tuple:
        return [list], False
    given = [kind for kind in get_args(hint) if kind is not type(None)] or [hint]
    kinds = [list if get_origin(kind) is tuple else get_origin(kind) or kind for kind in given]
    return kinds, type(None) in get_args(hint)


# ----------------------------------------------------------------------------------------------------------------------
# The config.json of a run
# ----------------------------------------------------------------------------------------------------------------------
def read_config(path: Path, *, newer: bool = False) -> TrainConfig:
    """The configuration in a run's config.json; see `read_stored_config`.

    Args:
        newer: Whether to ignore settings that this version does not know.
    """
    return read_stored_config(path, newer=newer)[0]


def read_stored_config(path: Path, *, newer: bool = False) -> tuple[TrainConfig, list[str]]:
    """The configuration in a run's config.json, and the names of settings that an older version did not write.

    The data options may be beside the other settings, or in a separate table `data_options`.

    Raises InputError if the file is missing or damaged, has an unknown setting, or lacks a setting that all versions
    write.
    """
    try:
        stored = read_run_config(path)["config"]
        settings = {**stored, **stored.get("data_options", {})}
        settings.pop("data_options", None)
        unknown = [key for key in settings if key not in KEYS]
        missing = [key for key in KEYS if key not in settings]
        if unknown and not newer:
            raise InputError(
                f"{path}: has {unknown[0]!r}, which is not a setting of this version{nearest(unknown[0], KEYS)}"
            )
        if required := [key for key in missing if key not in ADDED_LATER]:
            raise KeyError(*required)
        known = {key: settings.get(key, EARLIER.get(key)) for key in KEYS if key in settings or key in EARLIER}
        if "trunk_learning_rate" in missing and settings["head_epochs"]:
            known["trunk_learning_rate"] = settings["learning_rate"]  # earlier versions used one rate for both phases
        return TrainConfig.from_settings(known), missing
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged_run_config(path, error) from None
