"""One session: an agent process and the ordered record of everything that happens to it.

Owns the order of records, exactly-once writes, back-pressure and the end of the process. It knows neither sockets nor
files nor how a process is made: those are ports. The runner's core creates it and passes calls of the link on; a
`Reader` gets its records as they are written.

Every record is in the journal before anything follows from it. What cannot be journalled (a full disk) is held here,
the output is read no further, and it is tried again.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Concatenate, Literal, ParamSpec, Protocol

import msgspec

from holdfast import faults
from holdfast.runner.ending import Ending
from holdfast.runner.ports import Journal, Process, StorageFullError
from holdfast.wire import link
from holdfast.wire.jsonl import Frame, Framer, Oversize
from holdfast.wire.link import Exit, Ladder, RecordKind, Spec

log = logging.getLogger(__name__)

APPENDED = faults.declare("runner.record.appended", "records are in the journal, and nobody was told of them")
RECEIVED = faults.declare(
    "runner.write.received", "a write is noted, and nothing of it was handed to the agent"
)
HALF = faults.declare("runner.write.half", "the first half of a write was handed to the agent")
WRITTEN = faults.declare(
    "runner.write.done", "a write was handed to the agent in full, and is not noted as such"
)
EXITED = faults.declare("runner.exit.recorded", "the end of the process is in the journal")

STDERR_BYTES = 64 * 1024
QUEUED_BYTES_MAX = 64 * 1024 * 1024
RETRY_STORAGE_S = 1.0
DRAIN_S = 1.0
SILENT_END_S = 5.0
"""An agent that closed its output can say nothing more: it is ended after this."""

State = Literal["opening", "live", "ending", "ended"]


class Reader(Protocol):
    """Whoever is attached. Called in order; must not raise."""

    def appended(self, records: Sequence[bytes]) -> None: ...


class Owner(Protocol):
    """The core, as a session sees it."""

    def now(self) -> float: ...

    def start_task(self, work: Coroutine[None, None, None]) -> None: ...

    def session_ended(self, session: Session) -> None: ...

    def crashed(self) -> None: ...


P = ParamSpec("P")


def entry(method: Callable[Concatenate[Session, P], None]) -> Callable[Concatenate[Session, P], None]:
    """A call from outside, that no exception of the simulator may leave: a dead runner hears nothing."""

    def enter(self: Session, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.dead:
            return
        try:
            method(self, *args, **kwargs)
        except faults.Crash:
            self.owner.crashed()

    return enter


class Session:
    """See the module. Every method returns at once; only `_finish` waits, as a task of the core."""

    def __init__(
        self,
        session_id: str,
        spec: Spec,
        journal: Journal,
        owner: Owner,
    ) -> None:
        self.id = session_id
        self.spec = spec
        self.journal = journal
        self.state: State = "opening"
        self.pid = 0
        self.blocked = False
        self.storage_full = False
        self.acked = 0
        self.dead = False
        self.reader: Reader | None = None
        self.owner = owner
        self._loop = asyncio.get_running_loop()
        self._framer = Framer(spec.frame_bytes_max)
        self._process: Process | None = None
        self._held: list[tuple[RecordKind, bytes, str]] = []
        self._retry: asyncio.TimerHandle | None = None
        self._ids: set[str] = set()
        self._writes: deque[tuple[str, bytes]] = deque()
        self._queued_bytes = 0
        self._handing = False
        self._stderr = bytearray()
        self._output_over = asyncio.Event()
        self._exit: tuple[int | None, int | None] = (None, None)
        self._ending = Ending(self._loop, self._close_input, self._terminate, self._kill)
        self._close_wanted = False

    # What the core calls.

    def started(self, process: Process) -> None:
        """The process runs. Raises StorageFullError if that cannot be noted: it must be ended then."""
        self._process = process
        self.pid = process.pid
        started_at = self.owner.now()
        start = {"pid": process.pid, "argv0": self.spec.argv[0], "started_at": started_at}
        self._append("start", msgspec.json.encode(start))
        if self._held:
            self._held.clear()
            self._cancel_retry()
            raise StorageFullError("cannot start session: because its journal cannot be written")
        self.state = "live"
        process.resume()

    def write(self, write_id: str, data: bytes) -> tuple[str, str]:
        """Code and detail of the reply: "" when the write is noted, now or earlier."""
        if write_id in self._ids:
            return "", ""
        if self.state != "live":
            return ("busy" if self.state == "opening" else "ended"), f"session {self.id} is {self.state}"
        if b"\n" in data or not data or len(data) > self.spec.frame_bytes_max:
            return (
                "invalid",
                f"a write is one frame of 1 to {self.spec.frame_bytes_max} bytes without a newline",
            )
        if self._queued_bytes + len(data) > QUEUED_BYTES_MAX:
            return "busy", f"the agent does not read: {self._queued_bytes} bytes are waiting for it"
        self._append("received", b"", write_id)
        if self.storage_full:
            self._held.pop()
            return "storage_full", "cannot take on a write: because the journal cannot be written"
        self._ids.add(write_id)
        self._writes.append((write_id, data))
        self._queued_bytes += len(data)
        faults.point(RECEIVED)
        self._write_next()
        return "", ""

    def acknowledge(self, no: int) -> None:
        if not self.acked < no <= self.journal.last:
            return
        self.acked = no
        self.journal.acknowledged(no)
        if self.blocked and self.unacknowledged <= self.spec.unacked_bytes_max // 2:
            self.blocked = False
            self._append("unblocked")
            self._flow()

    def stop(self, ladder: Ladder) -> None:
        if self.state in ("live", "ending"):
            self._ending.start(ladder)

    def abandon(self) -> None:
        """The runner is dead (in a simulation): nothing that happens from here on is heard or noted."""
        self.dead = True
        self._cancel_retry()
        self._ending.cancel()

    # What the process tells (ports.Sink).

    @entry
    def output(self, data: bytes) -> None:
        self._frames(self._framer.feed(data))

    @entry
    def output_ended(self) -> None:
        self._output_over.set()
        if self.state == "live":
            self._frames(self._framer.finish())
            self._ending.start_after(SILENT_END_S, Ladder())

    def errors(self, data: bytes) -> None:
        self._stderr += data
        if len(self._stderr) > 2 * STDERR_BYTES:
            del self._stderr[:-STDERR_BYTES]

    @entry
    def exited(self, code: int | None, signal: int | None) -> None:
        self._exit = (code, signal)
        self.state = "ending"
        self._ending.cancel()
        # Whoever could still write is ended next, so what is left is at most a pipe's content.
        self._flow()
        self.owner.start_task(self._finish())

    async def _finish(self) -> None:
        """From the end of the process to the `exit` record."""
        process = self._process
        assert process is not None
        await process.end_all()
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._output_over.wait()
        except TimeoutError:
            log.warning(
                "session %s: its output is still held open by somebody; reading what is there", self.id
            )
        process.release()
        if self.dead:
            return
        self._frames(self._framer.finish())
        for write_id, _ in self._unwritten():
            self._append("refused", b"the agent ended before it had read the frame", write_id)
        code, signal = self._exit
        stderr = bytes(self._stderr[-STDERR_BYTES:]).decode("utf-8", "replace")
        self._append("exit", msgspec.json.encode(Exit(code, signal, stderr, self._ending.stage)))

    # Records.

    def _frames(self, frames: Sequence[Frame]) -> None:
        if not frames:
            return
        for frame in frames:
            if isinstance(frame, Oversize):
                prefix = frame.prefix.decode("utf-8", "replace")
                self._held.append(
                    ("oversize", msgspec.json.encode({"bytes": frame.length, "prefix": prefix}), "")
                )
            else:
                self._held.append(("out", frame, ""))
        self._write_held()
        if (
            not self.blocked
            and self.state == "live"
            and not self.storage_full
            and self.unacknowledged >= self.spec.unacked_bytes_max
        ):
            self.blocked = True
            self._append("blocked")
            self._flow()

    def _append(self, kind: RecordKind, data: bytes = b"", write_id: str = "") -> None:
        self._held.append((kind, data, write_id))
        self._write_held()

    def _write_held(self) -> None:
        """Journal what is held, all of it or nothing, then tell the reader."""
        if self.storage_full:
            return  # the retry will take it along
        no, at = self.journal.last, self.owner.now()
        records = [
            link.encode_record(link.Record(no + index, at, kind, data, write_id))
            for index, (kind, data, write_id) in enumerate(self._held, 1)
        ]
        try:
            self.journal.append(records)
        except StorageFullError as error:
            log.error("%s; session %s is read no further until there is room", error, self.id)
            self.storage_full = True
            self._flow()
            self._retry = self._loop.call_later(RETRY_STORAGE_S, self._retry_storage)
            return
        over = self._held[-1][0] == "exit"
        self._held.clear()
        faults.point(APPENDED)
        if over:
            self._over()
        if self.reader is not None:
            self.reader.appended(records)

    def _over(self) -> None:
        self.state = "ended"
        self.journal.close()
        faults.point(EXITED)
        self.owner.session_ended(self)

    @entry
    def _retry_storage(self) -> None:
        self._retry = None
        self.storage_full = False
        if self._held:
            self._write_held()
        if not self.storage_full:
            self._flow()

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    @property
    def unacknowledged(self) -> int:
        return self.journal.total - self.journal.total_through(self.acked)

    def _flow(self) -> None:
        """Read the output, or leave it in the pipe."""
        if self._process is None:
            return
        if self.state == "ending" or not (self.blocked or self.storage_full):
            self._process.resume()
        else:
            self._process.pause()

    # Writes.

    def _write_next(self) -> None:
        """Hand over what waits, one write at a time; entered again by `_written`."""
        while self._writes and not self._handing and self._process is not None:
            self._handing = True
            frame = self._writes[0][1] + b"\n"
            if faults.armed(HALF):
                self._write_in_halves(self._process, frame)
            else:
                self._process.write(frame, self._written)
        if self._close_wanted and not self._writes:
            self._close_input()

    def _write_in_halves(self, process: Process, frame: bytes) -> None:
        middle = len(frame) // 2

        def then(reason: str) -> None:
            if reason:
                self._written(reason)
            else:
                faults.point(HALF)
                process.write(frame[middle:], self._written)

        process.write(frame[:middle], functools.partial(self._guarded, then))

    @entry
    def _guarded(self, then: Callable[[str], None], reason: str) -> None:
        then(reason)

    @entry
    def _written(self, reason: str) -> None:
        if not self._writes:
            return  # refused already: the process ended first
        write_id, data = self._writes.popleft()
        self._queued_bytes -= len(data)
        if reason:
            self._append("refused", reason.encode(), write_id)
        else:
            faults.point(WRITTEN)
            self._append("in", data, write_id)
        self._handing = False
        self._write_next()

    def _unwritten(self) -> list[tuple[str, bytes]]:
        unwritten = list(self._writes)
        self._writes.clear()
        self._queued_bytes = 0
        return unwritten

    # The ladder's rungs.

    def _close_input(self) -> None:
        if self._writes:
            self._close_wanted = True
        elif self._process is not None:
            self._process.close_input()

    def _terminate(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def _kill(self) -> None:
        if self._process is not None:
            self.owner.start_task(self._process.end_all())
