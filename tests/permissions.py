"""Root's right to pass over permissions, given up for a while, so that a mode denies what it denies to other users."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

VERSION_3 = 0x20080522
OVERRIDING = 0b1110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER


@contextmanager
def as_other_users() -> Iterator[None]:
    """For this thread alone; nothing changes for anyone but root."""
    if os.getuid():
        yield
        return
    library = ctypes.CDLL(None, use_errno=True)
    header, before = (ctypes.c_uint32 * 2)(VERSION_3, 0), (ctypes.c_uint32 * 6)()
    assert library.capget(header, before) == 0
    less = (ctypes.c_uint32 * 6)(*before)
    less[0] &= ~OVERRIDING  # of the effective ones; what is permitted can be taken back
    assert library.capset(header, less) == 0
    try:
        yield
    finally:
        assert library.capset(header, before) == 0
