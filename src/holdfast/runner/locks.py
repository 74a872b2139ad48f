"""Names that one session on this host holds exclusively, whichever home its runner belongs to.

Owns a folder of lock files shared by all homes of the user. A lock is held by the runner's open descriptor, so that
its death releases it; the file's content only says who holds it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from holdfast.runner.ports import LockedError


class FileLocks:
    """`holder` tells others who holds: home, runner and pid."""

    def __init__(self, folder: Path, holder: dict[str, object]) -> None:
        self._folder = folder
        self._holder = holder
        self._held: dict[str, list[int]] = {}

    def take(self, names: Sequence[str], session: str) -> None:
        if not names:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = self._held.setdefault(session, [])
        try:
            for name in sorted(set(names)):
                held.append(self._take(name, session))
        except LockedError:
            self.release(session)
            raise

    def release(self, session: str) -> None:
        for fd in self._held.pop(session, []):
            os.close(fd)

    def _take(self, name: str, session: str) -> int:
        path = self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 4096, 0).decode("utf-8", "replace") or "somebody who did not say who it is"
            os.close(fd)
            raise LockedError(f"cannot take {name}: because it is held by {holder}") from error
        content = msgspec.json.encode({"name": name, "session": session, **self._holder})
        os.ftruncate(fd, 0)
        os.pwrite(fd, content, 0)
        return fd


def shared_folder() -> Path:
    """Where the locks of all homes of this user are; HOLDFAST_LOCKS names another one."""
    if folder := os.environ.get("HOLDFAST_LOCKS"):
        return Path(folder)
    import platformdirs

    return platformdirs.user_state_path("holdfast") / "locks"
