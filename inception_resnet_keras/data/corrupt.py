"""Which pictures could not be read, and when these are too many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from ..common.arguments import is_integer, is_number
from ..common.errors import InputError, refuse

SHOWN = 5

NOTHING_LEFT = "no picture of a batch can be read"


class CorruptPictures:
    """The unreadable pictures of a source, each once, up to a bound.

    bound: an integer for that many, or a float below 1 for a share of `total`.
    """

    def __init__(self, bound: float, total: int) -> None:
        whole, share = is_integer(bound) and bound >= 0, is_number(bound) and 0 <= bound < 1
        if not (whole or share):
            raise refuse("max_corrupt", bound, "a number of pictures, at least 0, or a share of them below 1")
        self.bound, self.total = (int(bound) if whole else int(bound * total)), total
        self._reasons: dict[str, str] = {}
        self._lock = Lock()  # tf.data asks from many threads

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, name: str, reason: str) -> None:
        """Lists a picture; InputError where that passes the bound."""
        self.list_one(name, reason)
        self.check()

    def list_one(self, name: str, reason: str) -> None:
        """Lists a picture, as one of several that are checked together."""
        with self._lock:
            self._reasons[name] = reason

    def listed(self) -> list[tuple[str, str]]:
        """(name, reason), sorted by name."""
        with self._lock:
            return sorted(self._reasons.items())

    def check(self) -> None:
        """Raises InputError where there are more than the bound allows."""
        if len(self) > self.bound:
            counted = f"{len(self)} of {self.total} pictures cannot be read, max_corrupt allows {self.bound}"
            raise InputError(f"{counted}: {self._shown()}. Mend or remove them, or allow more")

    def _shown(self) -> str:
        listed = self.listed()
        more = f"; and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        return "; ".join(f"{name}: {reason}" for name, reason in listed[:SHOWN]) + more

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turns what tf.data raises within the block, once the bound is passed, into that InputError."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            self.check()
            if NOTHING_LEFT in str(error):
                raise InputError(f"{NOTHING_LEFT}: {self._shown()}. Mend or remove them") from None
            raise
