"""Recipes: a run's settings as a short TOML file, and single settings over them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from ..common.arguments import nearest
from ..common.errors import InputError, refuse
from .config import TrainConfig

FOLDER = Path(__file__).with_name("recipes")

KEYS = [field.name for field in fields(TrainConfig)]

_KINDS = {str: "text", int: "an integer", float: "a number", bool: "true or false", list: "two numbers: [low, high]"}


def recipe_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_recipe(name_or_file: str) -> dict[str, Any]:
    """The settings of a recipe of this package, by name, or of a TOML file.

    Raises InputError where there is none, it is no TOML, or a key or a value's type is wrong.
    """
    path = FOLDER / f"{name_or_file}.toml" if name_or_file in recipe_names() else Path(name_or_file)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        takes = f"a TOML file or one of {', '.join(recipe_names())}{nearest(name_or_file, recipe_names())}"
        raise refuse("recipe", name_or_file, takes) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a TOML file: {error}") from None
    return {key: _checked(str(path), key, value) for key, value in found.items()}


def read_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts as settings; InputError names what is wrong, and the nearest right key."""
    settings = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise refuse("set", pair, "key=value, such as epochs=10")
        settings[key] = _checked("set", key, _value(key, text))
    return settings


def configured(
    recipe: str | None = None, settings: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> TrainConfig:
    """A configuration: the recipe's settings, then `key=value` texts, then what else was given."""
    base = {} if recipe is None else read_recipe(recipe)
    for key in flags or {}:
        _kind("settings", key)
    return TrainConfig(**{**base, **read_settings(settings), **(flags or {})})


def _checked(where: str, key: str, value: Any) -> Any:
    """The value, of a type that the setting has."""
    kinds, optional = _kind(where, key)
    if (value is None and optional) or type(value) in kinds:
        return value
    if float in kinds and type(value) is int:
        return float(value)
    usual = f" (without it: {json.dumps(getattr(TrainConfig(), key))})"
    raise InputError(f"{where}: {key}: got {value!r}; it takes {_KINDS[kinds[-1]]}{usual}")


def _value(key: str, text: str) -> Any:
    """A command line's text as TOML would have it; quotes around text may be left out."""
    kinds, optional = _kind("set", key)
    if optional and text == "none":
        return None
    if str in kinds and not text.startswith(('"', "'")):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _kind(where: str, key: str) -> tuple[list[type], bool]:
    """The types that a setting's value may have in TOML, the widest last; and whether it may be left unset."""
    if key not in KEYS:
        raise InputError(f"{where}: {key!r} is no setting{nearest(key, KEYS) or f'; there are {chr(44).join(KEYS)}'}")
    hint = get_type_hints(TrainConfig)[key]
    if get_origin(hint) is tuple:
        return [list], False
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] or [hint]
    return kinds, type(None) in get_args(hint)
