"""The error for everything that a user can fix, and the one form of its message."""

from __future__ import annotations

from typing import Any

from .console import printable

LONGEST_SHOWN = 300


class InputError(ValueError):
    """Raised for anything the user can fix.

    Its message names the argument or file, the value that was found, the accepted values and what to do next. The
    command line prints only this message; any other exception is a bug and keeps its traceback.

    The message has one line for each argument of the exception. Control characters and line ends in file names are
    escaped.
    """

    def __str__(self) -> str:
        return "\n".join(map(printable, self.args))


class NoMemoryError(InputError, MemoryError):
    """Raised when a model needs more memory than the machine has."""


NO_MEMORY = "there is not enough memory to open it; close other programs, or give the machine or container more"


def refuse(argument: str, got: Any, takes: str) -> InputError:
    """The error for an argument out of range: "ARGUMENT: got VALUE; it takes ACCEPTED VALUES"."""
    return InputError(f"{argument}: got {shown(got)}; it takes {takes}")


def shown(value: Any) -> str:
    """A value as shown in an error: on one line, and cut after 300 characters."""
    try:
        text = repr(value).replace("\n", " ")
    except (ValueError, RecursionError):  # Python does not print integers of more than 4300 digits, nor very deep lists
        text = "an integer of more than 4300 digits" if isinstance(value, int) else f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def reason_of(error: BaseException) -> str:
    """A library's error in one line: its class and the beginning of its message.

    Keras quotes a layer's whole configuration before the actual reason, so that part is dropped.
    """
    text = " ".join(str(error).rpartition("Exception encountered:")[2].split())
    return f"{type(error).__name__}: {text}".removesuffix(": ")[:LONGEST_SHOWN]
