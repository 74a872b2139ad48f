"""Keeps the guardian alive, and reaps the orphans that fall to the runner.

Owns the pipe whose end tells the guardian of the runner's death, and the child processes that belong to no session.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import subprocess
import sys
from pathlib import Path

from holdfast.runner import guardian
from holdfast.runner.processes import PosixSpawner

log = logging.getLogger(__name__)

PR_SET_CHILD_SUBREAPER = 36
AGAIN_S = 1.0


class Keeper:
    """Call `start` once, and `children_changed` at every SIGCHLD."""

    def __init__(self, runner_id: str, spawner: PosixSpawner) -> None:
        self._runner_id = runner_id
        self._spawner = spawner
        self._read, self._write = os.pipe()
        self._guardian: subprocess.Popen[bytes] | None = None
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None

    def start(self) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._start_guardian()

    def children_changed(self) -> None:
        if self._guardian is not None and self._guardian.poll() is not None and self._again is None:
            log.warning("the guardian ended; starting another one")
            self._again = self._loop.call_later(AGAIN_S, self._start_guardian)
        for pid in _children():
            if pid not in self._spawner.alive and (self._guardian is None or pid != self._guardian.pid):
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass  # reaped in the meantime

    def close(self) -> None:
        """The runner leaves: the guardian looks once more, and leaves too."""
        if self._again is not None:
            self._again.cancel()
        os.close(self._read)
        os.close(self._write)
        if self._guardian is not None:
            self._guardian.returncode = 0  # it outlives this process for a moment

    def _start_guardian(self) -> None:
        self._again = None
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(guardian.__file__)), self._runner_id],
            stdin=self._read,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )


def _children() -> list[int]:
    pid = os.getpid()
    try:
        return [int(child) for child in Path(f"/proc/self/task/{pid}/children").read_text().split()]
    except OSError:
        return []
