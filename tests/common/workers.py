"""What a worker runs in a process of its own in tests; light, so that the process starts quickly."""

import os
import time
from collections.abc import Iterator


def prints_and_dies() -> Iterator[int]:
    yield 1
    print("no such instruction", flush=True)
    os._exit(3)


def is_killed() -> Iterator[int]:
    yield 1
    os.kill(os.getpid(), 9)


def never_answers() -> Iterator[int]:
    time.sleep(60)
    yield 1


def counts(most: int) -> Iterator[int]:
    yield from range(most)
    raise TypeError("missing\nmore of it")


def has_no_memory() -> Iterator[int]:
    raise MemoryError
    yield 1
