"""Matches the branches of two blocks of one kind, whatever the order of the branches in each fork."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, count

from ..networks import names
from .graph import Op, Part


def as_on_the_left(left: Part, right: Part) -> dict[str, tuple[Op, str]]:
    """The right block's operations under the names of their matches on the left, and their own names."""
    numbers = {(fork, own): like for fork, alike in _alike(left, right).items() for own, like in alike.items()}

    def name(own: str) -> str:
        found = names.split_at_branch(own)
        if found is None:
            return own
        fork, number, rest = found
        return f"{fork}{numbers[fork, number]}{rest}"

    return {name(op.name): (replace(op, name=name(op.name), inputs=tuple(map(name, op.inputs))), op.name)
            for op in right.ops}  # fmt: skip


def _alike(left: Part, right: Part) -> dict[str, dict[str, str]]:
    """For each fork, the right branches' numbers with their matches' on the left: equal branches, else by order."""
    ours, matched = _branches(left), {}
    for fork, branches in _branches(right).items():
        free = dict(ours.get(fork, {}))
        beyond = map(str, count(len(free) + 1))
        alike = {}
        for number, ops in branches.items():
            like = next((own for own, other in free.items() if other == ops), None)
            if like is not None:
                alike[number] = like
                del free[like]
        rest = [number for number in branches if number not in alike]
        matched[fork] = alike | dict(zip(rest, chain(free, beyond), strict=False))
    return matched


def _branches(part: Part) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Each fork's branches by number: the place of each operation, and what it computes."""
    forks: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for op in part.ops:
        if found := names.split_at_branch(op.name):
            fork, number, rest = found
            forks.setdefault(fork, {}).setdefault(number, []).append((rest, operation_text(op)))
    return forks


def operation_text(op: Op) -> str:
    words = f"{op.title} {op.detail}".strip()
    return words.replace(op.note, "") if op.note else words
