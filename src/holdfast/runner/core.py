"""The runner without its surroundings: sessions, connections, and the calls of the link upon them.

Owns which sessions exist, their opening and their joint end, and every task that runs on their behalf. It touches no
process, file or socket: those are ports. `__main__` runs it as a process of its own, tests and simulations in theirs.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

from holdfast import __version__, faults
from holdfast.runner.ports import (
    HostActions,
    Journals,
    LockedError,
    Locks,
    Process,
    Spawner,
    SpawnError,
    StorageFullError,
)
from holdfast.runner.session import Session
from holdfast.wire import link
from holdfast.wire.link import Ladder, Spec, Welcome

if TYPE_CHECKING:
    from holdfast.runner.connection import Connection

log = logging.getLogger(__name__)

SPAWNED = faults.declare(
    "runner.open.spawned", "a session's process runs, and nothing of it is in the journal"
)

SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
FRAME_BYTES_MAX = link.MESSAGE_BYTES_MAX - 1024 * 1024

LEAVE_S = 10.0

Answer = tuple[str, str, dict[str, object]]
"""Code, detail and result of a reply."""


class RunnerCore:
    """Used as `async with`: leaving it ends what still lives, at once."""

    def __init__(
        self,
        *,
        runner_id: str,
        pid: int,
        spawner: Spawner,
        journals: Journals,
        locks: Locks,
        host: HostActions,
        now: Callable[[], float],
    ) -> None:
        self.id = runner_id
        self.host = host
        self.now = now
        self.dead = False
        self.stopping = False
        self.stopped = asyncio.Event()
        self.sessions: dict[str, Session] = {}
        self.connections: dict[Connection, None] = {}  # in the order in which they came
        self.on_connected: Callable[[Connection], None] = lambda connection: None
        self.on_disconnected: Callable[[Connection], None] = lambda connection: None
        self._pid = pid
        self._started_at = now()
        self._spawner = spawner
        self._journals = journals
        self._locks = locks
        self._opening: dict[str, asyncio.Future[Answer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    async def __aenter__(self) -> RunnerCore:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if not self.dead:
            await self._end_now()
        for connection in list(self.connections):
            connection.carrier.close()
            connection.lost()
        for session in self.sessions.values():
            session.abandon()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for session in self.sessions.values():
            session.journal.close()
        await self._journals.close()

    # Connections.

    def welcome(self, version: int, refused: str) -> Welcome:
        sessions = [session.id for session in self.sessions.values() if session.state != "opening"]
        return Welcome(version, self.id, self._pid, self._started_at, __version__, sessions, refused)

    def connected(self, connection: Connection) -> None:
        self.connections[connection] = None
        self.on_connected(connection)

    def disconnected(self, connection: Connection) -> None:
        if connection in self.connections:
            del self.connections[connection]
            self.on_disconnected(connection)

    # Sessions.

    async def open(self, session_id: str, spec: Spec) -> Answer:
        """Of calls with one id the first starts the process and the others get its outcome."""
        if session := self.sessions.get(session_id):
            if session.state == "opening":
                code, detail, result = await asyncio.shield(self._opening[session_id])
                return code, detail, result | {"existing": True} if not code else result
            return "", "", {"pid": session.pid, "existing": True}
        if refusal := self._refusal(session_id, spec):
            return refusal
        outcome: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._opening[session_id] = outcome
        answer: Answer = ("internal", "the opening was cut off", {})
        try:
            answer = await self._begin(session_id, spec)
        finally:
            del self._opening[session_id]
            outcome.set_result(answer)
        return answer

    def write(self, session_id: str, write_id: str, data: bytes) -> tuple[str, str]:
        session = self.sessions.get(session_id)
        return session.write(write_id, data) if session else _unknown(session_id)

    def acknowledge(self, session_id: str, no: int) -> None:
        if session := self.sessions.get(session_id):
            session.acknowledge(no)

    def stop(self, session_id: str, ladder: Ladder) -> tuple[str, str]:
        session = self.sessions.get(session_id)
        if session is None:
            return _unknown(session_id)
        session.stop(ladder)
        return "", ""

    def forget(self, session_id: str) -> tuple[str, str]:
        session = self.sessions.get(session_id)
        if session is not None and session.state != "ended":
            return "alive", f"session {session_id} is {session.state}"
        if not SESSION_ID.fullmatch(session_id) or not self._journals.forget(session_id):
            return _unknown(session_id)
        self.sessions.pop(session_id, None)
        return "", ""

    def status(self) -> dict[str, object]:
        return {
            "runner": self.id,
            "pid": self._pid,
            "build": __version__,
            "started_at": self._started_at,
            "stopping": self.stopping,
            "connections": sorted(connection.peer for connection in self.connections),
            "sessions": [_describe(session) for session in self.sessions.values()],
        }

    async def end_sessions(self, ladder: Ladder) -> None:
        """No session is opened any more, and all that live are ended."""
        self.stopping = True
        while True:
            self._ended.clear()
            alive = [session for session in self.sessions.values() if session.state != "ended"]
            if not alive:
                return
            for session in alive:
                session.stop(ladder)
            await self._ended.wait()

    @property
    def idle(self) -> bool:
        """Nobody is connected and no process lives."""
        return not self.connections and all(session.state == "ended" for session in self.sessions.values())

    # What sessions call (session.Owner).

    def start_task(self, work: Coroutine[None, None, None]) -> None:
        if self.dead:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        task.add_done_callback(lambda _: work.close())  # it may have been cancelled before it began

    def session_ended(self, session: Session) -> None:
        self._locks.release(session.id)
        self._ended.set()

    def crashed(self) -> None:
        """A fault point has ended this runner (in a simulation): from here on it does nothing at all."""
        if self.dead:
            return
        self.dead = True
        for session in self.sessions.values():
            session.abandon()
        for connection in list(self.connections):
            connection.carrier.close()
            connection.lost()
        for task in self._tasks:
            task.cancel()
        self.stopped.set()

    async def _end_now(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_S):
                await self.end_sessions(Ladder(terminate_s=None))
        except TimeoutError:
            log.error("some sessions have not ended; their journals end without a record of it")

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the runner failed", exc_info=error)

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except faults.Crash:
            self.crashed()

    def _refusal(self, session_id: str, spec: Spec) -> Answer | None:
        if self.stopping:
            return "busy", "the runner is shutting down", {}
        if not SESSION_ID.fullmatch(session_id):
            return "invalid", "a session id is 1 to 128 letters, digits, dots, dashes and underscores", {}
        if not spec.argv or any(
            "\0" in text for text in [*spec.argv, spec.cwd, *spec.env, *spec.env.values()]
        ):
            return "invalid", "argv needs a program, and no text of a spec may hold a NUL", {}
        if any("=" in name or not name for name in spec.env):
            return "invalid", "a name in the environment is empty or holds '='", {}
        if not 0 < spec.frame_bytes_max <= FRAME_BYTES_MAX or spec.unacked_bytes_max <= 0:
            return "invalid", f"bounds must be positive, and a frame at most {FRAME_BYTES_MAX} bytes", {}
        return None

    async def _begin(self, session_id: str, spec: Spec) -> Answer:
        try:
            journal = self._journals.create(session_id, spec)
        except FileExistsError:
            return (
                "ended",
                f"session {session_id} was a session of an earlier runner; its journal is kept",
                {},
            )
        except StorageFullError as error:
            return "storage_full", str(error), {}
        session = Session(session_id, spec, journal, self)
        self.sessions[session_id] = session
        code = detail = ""
        process: Process | None = None
        try:
            self._locks.take(spec.locks, session_id)
            process = await self._spawner.spawn(spec, f"{self.id}.{session_id}", session)
            faults.point(SPAWNED)
            session.started(process)
        except LockedError as error:
            code, detail = "locked", str(error)
        except SpawnError as error:
            code, detail = error.code, error.detail
        except StorageFullError as error:
            code, detail = "storage_full", str(error)
        if not code:
            if self.stopping:
                session.stop(Ladder(close_s=0.0))
            return "", "", {"pid": session.pid, "existing": False}
        if process is not None:
            session.abandon()
            await process.end_all()
            process.release()
        self._locks.release(session_id)
        del self.sessions[session_id]
        journal.close()
        self._journals.discard(session_id)
        self._ended.set()
        return code, detail, {}


def _unknown(session_id: str) -> tuple[str, str]:
    return "unknown_session", f"no session {session_id} in this runner"


def _describe(session: Session) -> dict[str, object]:
    return {
        "session": session.id,
        "pid": session.pid,
        "state": session.state,
        "argv0": session.spec.argv[0],
        "last": session.journal.last,
        "acked": session.acked,
        "unacked_bytes": session.unacknowledged,
        "blocked": session.blocked,
        "storage_full": session.storage_full,
        "attached": session.reader is not None,
    }
