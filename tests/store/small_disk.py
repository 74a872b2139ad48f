"""A disk of a few hundred pages: a VFS of SQLite that counts the real sizes of all files in one folder.

Whatever would make the folder larger than the disk is refused as a full disk refuses it. Removing a file, as the store
removes its reserve, really makes room.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import apsw


class SmallDisk(apsw.VFS):
    def __init__(self, folder: Path, room: int) -> None:
        self.folder = folder
        self.room = room
        self.name = f"small-{folder}"
        super().__init__(self.name, "")

    def used(self) -> int:
        return sum(file.stat().st_size for file in self.folder.iterdir())

    def allocate(self, descriptor: int, size: int) -> None:
        """For the reserve, which does not go through SQLite."""
        if self.used() + size > self.room:
            raise OSError(errno.ENOSPC, "no space left on the small disk")
        os.posix_fallocate(descriptor, 0, size)

    def xOpen(self, name: Any, flags: Any) -> apsw.VFSFile:  # noqa: N802
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: SmallDisk, name: Any, flags: Any) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        growth = offset + memoryview(data).nbytes - self.xFileSize()
        if growth > 0 and self._disk.used() + growth > self._disk.room:
            raise apsw.FullError("the small disk is full")
        super().xWrite(data, offset)
