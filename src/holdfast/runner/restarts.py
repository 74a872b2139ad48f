"""Starts a server again that died without saying goodbye.

Owns the judgement that it is dead (its pid and start time, after a moment of grace, and no other server here) and the
bound on trying. It listens to the core's connections; it never ends a server.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from holdfast.runner import guardian
from holdfast.runner.connection import Connection
from holdfast.runner.core import RunnerCore
from holdfast.wire.link import Restart

log = logging.getLogger(__name__)

GRACE_S = 2.0
TRIES = 5
WITHIN_S = 60.0
BACK_OFF_S = (0.0, 1.0, 2.0, 4.0, 8.0)
OFF = "HOLDFAST_NO_RESTART"


class Restarts:
    """Watches a core's connections. `started` is told the pid of each server that it starts."""

    def __init__(
        self,
        core: RunnerCore,
        log_path: Path,
        *,
        grace_s: float = GRACE_S,
        started: Callable[[int], None] = lambda pid: None,
    ) -> None:
        self._core = core
        self._log_path = log_path
        self._grace_s = grace_s
        self._started = started
        self._servers: dict[Connection, int] = {}  # start time of the server's process, from its Hello on
        self._hellos = 0
        self._tries: list[float] = []
        core.on_connected = self._connected
        core.on_disconnected = self._disconnected

    def _connected(self, connection: Connection) -> None:
        self._hellos += 1
        if connection.restart is not None:
            self._servers[connection] = guardian.start_time(connection.restart.pid) or 0

    def _disconnected(self, connection: Connection) -> None:
        began = self._servers.pop(connection, 0)
        restart = connection.restart
        if restart is None or connection.said_goodbye or restart.env.get(OFF) == "1":
            return
        self._core.start_task(self._restart(restart, began))

    async def _restart(self, restart: Restart, began: int) -> None:
        hellos = self._hellos
        await asyncio.sleep(self._grace_s)
        if self._hellos != hellos or self._core.connections or self._core.stopping:
            return
        if guardian.start_time(restart.pid) == began:
            log.warning("server %s closed its link and lives on: it is not started again", restart.pid)
            return
        now = asyncio.get_running_loop().time()
        self._tries = [at for at in self._tries if at > now - WITHIN_S]
        if len(self._tries) >= TRIES:
            log.error("cannot start the server again: because it died %d times in %d s", TRIES, WITHIN_S)
            return
        await asyncio.sleep(BACK_OFF_S[len(self._tries)])
        if self._hellos != hellos:
            return
        self._tries.append(now)
        try:
            self._start(restart)
        except (OSError, ValueError) as error:
            log.error("cannot start the server again: because %s", error)

    def _start(self, restart: Restart) -> None:
        self._log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        output = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            child = subprocess.Popen(
                restart.argv,
                env=restart.env,
                cwd=restart.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(output)
        child.returncode = 0  # reaped with the orphans, not by this object
        log.warning("server %s died; started it again as %s", restart.pid, child.pid)
        self._started(child.pid)
