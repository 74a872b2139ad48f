"""The reserve: a file beside the database that is given up when the disk is full.

What it frees is for vital commits only (stops, declines, endings): while it is spent, every other commit must first
succeed in putting it back. Used by the SQLite store.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

RESERVE_BYTES = 4 * 1024 * 1024
"""Enough for thousands of endings: one takes a few pages of the write-ahead log."""


def allocate(descriptor: int, size: int) -> None:
    """Take the blocks from the file system, not only the size. Raises OSError when there are none."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.write(descriptor, b"\0" * size)
    os.fsync(descriptor)


class Reserve:
    """`present`: the file is there and whole."""

    def __init__(
        self, path: Path, size: int = RESERVE_BYTES, allocate: Callable[[int, int], None] = allocate
    ) -> None:
        self._path = path
        self._size = size
        self._allocate = allocate
        self.present = path.is_file() and path.stat().st_size >= size

    def restore(self) -> bool:
        """Put it back if the disk has room. Whether it is there now."""
        if self.present:
            return True
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600)
        except OSError:
            return False
        try:
            self._allocate(descriptor, self._size)
            self.present = True
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink()
        finally:
            os.close(descriptor)
        return self.present

    def release(self) -> bool:
        """Give it up. Whether that has freed anything."""
        if not self.present:
            return False
        self._path.unlink(missing_ok=True)
        self.present = False
        return True
