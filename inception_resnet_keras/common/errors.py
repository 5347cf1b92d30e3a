"""The error of everything that a user can put right."""

from __future__ import annotations

from typing import Any

from .console import printable

LONGEST_SHOWN = 300


class InputError(ValueError):
    """Names the argument or file, what was found, what is accepted and what to do next.

    The command line prints its text alone; any other exception is a bug and keeps its traceback.

    Its text is one line for each argument, whatever the names in it hold.
    """

    def __str__(self) -> str:
        return "\n".join(map(printable, self.args))


class NoMemoryError(InputError, MemoryError):
    """The machine has less memory than a model needs."""


NO_MEMORY = "the memory does not suffice to open it; end other programs, or give the machine or container more"


def refuse(argument: str, got: Any, takes: str) -> InputError:
    """The one form of a complaint about an argument."""
    return InputError(f"{argument}: got {shown(got)}; it takes {takes}")


def shown(value: Any) -> str:
    """A value in an error, on one line and cut where it is long."""
    try:
        text = repr(value).replace("\n", " ")
    except (ValueError, RecursionError):  # Python writes no integer of more than 4300 digits, and no endless list
        text = "an integer of more than 4300 digits" if isinstance(value, int) else f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"  # an array's, say


def reason_of(error: BaseException) -> str:
    """The reason for a library's error in one line: its kind and the beginning of its text.

    Keras quotes a layer's whole configuration before the reason.
    """
    text = " ".join(str(error).rpartition("Exception encountered:")[2].split())
    return f"{type(error).__name__}: {text}".removesuffix(": ")[:LONGEST_SHOWN]
