"""Matches a model's outputs with a folder's classes or another model's, by name and never by position."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..common.console import counted
from ..common.errors import InputError
from ..data.spelling import canonical
from ..weights.labels import CLASSES, class_index, quoted
from .open import OpenedModel

_WORDNET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Classes:
    """A model's classes.

    Attributes:
        names: The names in the order of the outputs, all different.
        keys: Other names for each class, such as its WordNet id "n01440764".
    """

    names: Sequence[str]
    keys: Sequence[tuple[str, ...]] = ()

    def numbers(self) -> dict[str, int | None]:
        """Every name and key → the index of its class; None for a key of several classes."""
        found: dict[str, int | None] = {}
        for number, keys in enumerate(self.keys):
            for key in keys:
                found[key] = number if found.get(key, number) == number else None
        for spelt in (canonical, str):  # the exact names are looked up first
            found |= {spelt(name): number for number, name in enumerate(self.names)}
        return found


def classes_of(opened: OpenedModel, named: Sequence[str] | None = None, folders: Sequence[str] = ()) -> Classes:
    """The classes of a model: its own, otherwise those in `named`, otherwise ImageNet's.

    Args:
        opened: The model.
        named: The user's class names for models without their own.
        folders: As for `imagenet`.

    Raises:
        InputError: There are no names, or their number is not the number of outputs.
    """
    if opened.classes:
        return Classes(opened.classes)
    if named is not None:
        if len(named) != opened.outputs:
            raise InputError(f"classes: got {len(named)} names, and {opened.name} has {opened.outputs} outputs")
        return Classes(named)
    if opened.imagenet:
        return imagenet(folders)
    raise InputError(
        f"{opened.name}: has no names for its {opened.outputs} classes; give a file with one name per line, in the "
        "order of its outputs, as --classes"
    )


def imagenet(folders: Sequence[str]) -> Classes:
    """ImageNet's 1000 classes in their order, which is that of the sorted WordNet ids.

    `folders` are the names of the classes to match. If they are all 1000 ids, the class index (Keras's
    imagenet_class_index.json, downloaded once) is needed only for the English names.

    Raises InputError if the index is needed and not available.
    """
    complete = len(folders) == CLASSES and all(map(_WORDNET.fullmatch, folders))
    try:
        index = class_index()
    except InputError:
        if not complete:
            raise
        index = [(name, name) for name in sorted(folders)]
    times = Counter(name for _, name in index)
    names = [f"{name} ({key})" if times[name] > 1 else name for key, name in index]
    return Classes(names, [(key, name, name.lower()) for key, name in index])


def places(wanted: Sequence[str], classes: Classes, *, source: str, model: str) -> np.ndarray:
    """int64: the index of each wanted class among the model's classes.

    Args:
        wanted: The class names to find.
        classes: The model's classes.
        source: What has the wanted names, for messages.
        model: The model's name, for messages.

    Raises:
        InputError: The model lacks a wanted class, or two wanted names are the same class. The message has both lists.
    """
    known = classes.numbers()
    found = [number_of(name, known, imagenet=bool(classes.keys)) for name in wanted]
    if missing := [name for name, number in zip(wanted, found, strict=True) if number is None]:
        raise InputError(
            f"{source}: has {len(missing)} of {counted(len(wanted), 'class')} that {model} lacks: {quoted(missing)}; "
            f"its {len(classes.names)} classes are {quoted(classes.names)}"
        )
    if twice := [number for number, count in Counter(found).items() if count > 1 and number is not None]:
        names = [name for name, number in zip(wanted, found, strict=True) if number == twice[0]]
        raise InputError(
            f"{source}: {quoted(names)} are the same class of {model}, {classes.names[twice[0]]}; merge them"
        )
    return np.array(found, np.int64)


def columns(first: Classes, other: Classes, *, model: str, first_model: str) -> np.ndarray:
    """int64: for each class of the first model, its output in the other. Raises InputError if the classes differ."""
    known = first.numbers()
    keys = other.keys or [()] * len(other.names)
    found = [
        next((known[key] for key in (name, canonical(name), *also) if known.get(key) is not None), None)
        for name, also in zip(other.names, keys, strict=True)
    ]
    unknown = [name for name, number in zip(other.names, found, strict=True) if number is None]
    lacking = [name for number, name in enumerate(first.names) if number not in set(found)]
    if unknown or lacking:
        raise InputError(
            f"models with different classes cannot be averaged: {first_model} has {len(lacking)} that {model} lacks"
            f"{': ' + quoted(lacking) if lacking else ''}; {model} has {len(unknown)} that {first_model} lacks"
            f"{': ' + quoted(unknown) if unknown else ''}. Use them one by one"
        )
    return np.argsort(np.array(found, np.int64))


def require_positive(classes: Sequence[str], positive: str, *, several: bool = False) -> np.ndarray:
    """int64 (2,): the order of two classes in which the positive one is second.

    All results for two classes treat the second one as positive, so their order defines it.

    Args:
        classes: The class names.
        positive: The name of the positive class.
        several: Whether an image may have several classes.

    Raises:
        InputError: There are not exactly two classes, or `positive` is not one of them.
    """
    if several:
        raise InputError(
            f"positive: got {positive!r}; pictures may have several labels, and each label is evaluated separately: "
            "leave it out"
        )
    if len(classes) != 2:
        raise InputError(
            f"positive: got {positive!r}; it is for two classes, and there are {len(classes):,}, each of which is "
            "evaluated against the rest: leave it out"
        )
    if positive not in classes:
        raise InputError(f"positive: got {positive!r}; it takes one of the two classes, {quoted(classes)}")
    return np.array([1, 0] if classes[0] == positive else [0, 1], np.int64)


def with_positive(classes: Classes, positive: str | None, *, several: bool) -> Classes:
    """Two classes in the order of `require_positive`, with its arguments and errors; for None, unchanged."""
    if positive is None:
        return classes
    order = require_positive(classes.names, positive, several=several).tolist()
    return Classes([classes.names[place] for place in order], [classes.keys[place] for place in order if classes.keys])


def number_of(name: str, known: dict[str, int | None], *, imagenet: bool) -> int | None:
    """The index of a class by its folder's name; None if unknown.

    ImageNet's folders may be named n01440764, n01440764_tench, tench, great white shark or tench, Tinca tinca.
    """
    if name in known or not imagenet:
        return known.get(name)
    ids = _WORDNET.match(name)
    word = name.partition(",")[0].strip().lower().replace(" ", "_")
    return next((known[guess] for guess in (ids[0] if ids else word, word) if known.get(guess) is not None), None)
