"""The error of everything that a user can put right."""

from __future__ import annotations

from typing import Any

LONGEST_SHOWN = 300


class InputError(ValueError):
    """Names the argument or file, what was found, what is accepted and what to do next.

    The command line prints its text alone; any other exception is a bug and keeps its traceback.
    """


class NoMemoryError(InputError, MemoryError):
    """The machine has less memory than a model needs."""


NO_MEMORY = "the memory does not suffice to open it; end other programs, or give the machine or container more"


def refuse(argument: str, got: Any, takes: str) -> InputError:
    """The one form of a complaint about an argument."""
    shown = repr(got).replace("\n", " ")
    shown = shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}…"  # an array's, say
    return InputError(f"{argument}: got {shown}; it takes {takes}")


def reason_of(error: BaseException) -> str:
    """The reason for a library's error in one line: its kind and at most 300 characters of its text.

    Keras quotes a layer's whole configuration before the reason.
    """
    text = " ".join(str(error).rpartition("Exception encountered:")[2].split())
    return f"{type(error).__name__}: {text}".removesuffix(": ")[:300]
