"""Memory of freed tensors on the CPU, handed back to the system.

The C library keeps what is freed for later, in pieces, and a process is larger than what is in it. Handing back after every block would
cost time, for pages that are soon asked for again; so it is done when the process has grown by a good piece.
"""

from __future__ import annotations

import ctypes
import os
import sys

GROWTH = 2**28
"""Bytes that the process may grow by before unused memory is handed back."""


class Heap:
    """The heap of this process. Does nothing where the C library is not glibc."""

    def __init__(self) -> None:
        # glibc's alone; on other systems there is neither the function nor what it mends.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        self._size = self._resident()

    def tidy(self) -> None:
        """Hand unused memory back if the process has grown by GROWTH since it was smallest, or since the last time."""
        size = self._resident()
        if self._trim is not None and size > self._size + GROWTH:
            self._trim(0)
            self._size = self._resident()
        else:
            self._size = min(self._size, size)

    def _resident(self) -> int:
        """Bytes of the process that are in memory."""
        if self._trim is None:
            return 0
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


heap = Heap()
"""There is one to a process."""
