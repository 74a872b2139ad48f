"""The runner's folder in a home: where its socket, journals and lock are, and which runner holds them.

Owns `HOME/runner/` but for the journals' content. Used by the runner's own start and by whoever looks for a runner;
it starts nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

import msgspec

SOCKET_PATH_MAX = 100
"""Bytes; the system's bound is 107."""

LOCK_TRIES = 20
LOCK_TRY_S = 0.05


class RunnerInfo(msgspec.Struct, frozen=True):
    """Content of `runner.json`: information for people, never proof that a runner lives."""

    id: str
    pid: int
    version: str
    started_at: float


class HeldError(Exception):
    """Another runner serves this home."""


class RunnerHome:
    """Paths below one home, and the lock that makes one runner its runner."""

    def __init__(self, home: Path) -> None:
        self.home = Path(os.path.abspath(home))
        self.folder = self.home / "runner"
        self.journals = self.folder / "journals"
        self.marks = self.folder / "marks"
        self.log = self.folder / "runner.log"
        self._info = self.folder / "runner.json"
        self._pointer = self.folder / "socket"
        self._lock_path = self.folder / "runner.lock"
        self._lock = -1

    def prepare(self) -> None:
        for folder in (self.home, self.folder, self.journals, self.marks):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)

    def acquire(self) -> None:
        """Become this home's runner until the process ends. Raises `HeldError`."""
        fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for _ in range(LOCK_TRIES):
            if _try_lock(fd, fcntl.LOCK_EX):
                self._lock = fd
                return
            if not _try_lock(fd, fcntl.LOCK_SH):
                break  # a runner holds it; somebody who only asks `is_held` shares it, for an instant
            fcntl.flock(fd, fcntl.LOCK_UN)
            time.sleep(LOCK_TRY_S)
        os.close(fd)
        info = self.info()
        raise HeldError(
            f"cannot start a runner: because runner {info.pid if info else '(unknown pid)'} serves {self.home}"
        )

    def try_starting(self) -> int:
        """A descriptor to close when the start is over, or -1: somebody else is starting a runner for this home."""
        fd = os.open(self.folder / "starting.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _try_lock(fd, fcntl.LOCK_EX):
            return fd
        os.close(fd)
        return -1

    def is_held(self) -> bool:
        """Whether a runner of this home lives."""
        try:
            fd = os.open(self._lock_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def exists(self) -> bool:
        return self._lock_path.exists()

    def new_socket(self) -> Path:
        """Where this runner shall listen; only with the lock. What an earlier runner left there is removed."""
        self._remove_socket()
        path = self.folder / "runner.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
            return path
        path = Path(tempfile.mkdtemp(prefix="holdfast-")) / "runner.sock"  # 0700 by itself
        replace(self._pointer, os.fsencode(path))
        return path

    def socket(self) -> Path:
        """Where a runner of this home listens, if there is one."""
        try:
            return Path(os.fsdecode(self._pointer.read_bytes()))
        except FileNotFoundError:
            return self.folder / "runner.sock"

    def publish(self, info: RunnerInfo) -> None:
        replace(self._info, msgspec.json.encode(info))

    def info(self) -> RunnerInfo | None:
        try:
            return msgspec.json.decode(self._info.read_bytes(), type=RunnerInfo)
        except (OSError, msgspec.DecodeError):
            return None

    def withdraw(self) -> None:
        """Remove what says that a runner is here; only with the lock."""
        self._remove_socket()
        self._info.unlink(missing_ok=True)

    def leave(self) -> None:
        """Let the next one in."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _remove_socket(self) -> None:
        (self.folder / "runner.sock").unlink(missing_ok=True)
        if self._pointer.exists():
            pointed = self.socket()
            if pointed.name == "runner.sock" and pointed.parent.name.startswith("holdfast-"):
                shutil.rmtree(pointed.parent, ignore_errors=True)
            self._pointer.unlink(missing_ok=True)


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def replace(path: Path, content: bytes) -> None:
    """Readers see the old content or the new, never a part."""
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_bytes(content)
    unfinished.chmod(0o600)
    unfinished.rename(path)
