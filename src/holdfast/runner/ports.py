"""What the runner's core needs from its surroundings: processes, journals, locks, host calls.

Owns the interfaces alone. The real ones are `processes`, `journal`, `locks` and `host`; a simulator gives its own.
Everything here is driven by the event loop: no port may call back from another thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from holdfast.wire.link import HostCall, Spec


class SpawnError(Exception):
    """The process could not be started. `code` is a code of `Reply`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class StorageFullError(Exception):
    """The journal could not be written: nothing of the entry is kept, and it may be tried again."""


class Sink(Protocol):
    """Who hears what happens to a process. Called by the event loop, never from inside a call on the process but for
    `release`.
    """

    def output(self, data: bytes) -> None: ...

    def output_ended(self) -> None: ...

    def errors(self, data: bytes) -> None: ...

    def exited(self, code: int | None, signal: int | None) -> None:
        """The process has ended; its output may still hold something, its children may still live."""


class Written(Protocol):
    """Called once per write, possibly before `Process.write` returns: "" or why it could not be handed over."""

    def __call__(self, reason: str) -> None: ...


class Process(Protocol):
    """A process that runs. Its output is not read before the first `resume`."""

    @property
    def pid(self) -> int: ...

    def write(self, data: bytes, written: Written) -> None:
        """Hands all of `data` to the process's input. One at a time: the next after `written`."""

    def close_input(self) -> None: ...

    def pause(self) -> None:
        """Stop reading its output; errors are read on."""

    def resume(self) -> None: ...

    def terminate(self) -> None:
        """Ask the process and its group to end."""

    async def end_all(self) -> None:
        """Kill the process, its group and everything that carries its mark, until none is left. Bounded in time."""

    def release(self) -> None:
        """After `exited`: hand over what output is there without waiting, then let go of everything."""


class Spawner(Protocol):
    async def spawn(self, spec: Spec, mark: str, sink: Sink) -> Process:
        """Returns when the program itself runs. Raises `SpawnError`."""


class Cursor(Protocol):
    """Reads one journal forwards, in bounded pieces."""

    next: int
    """Number of the record that the next read begins with."""

    def read(self, bytes_max: int, records_max: int) -> list[bytes]:
        """Encoded records, at least one if there is one; [] at the end of what is written."""

    def close(self) -> None: ...


class Journal(Protocol):
    """The records of one session, encoded, numbered from 1 without gap."""

    @property
    def last(self) -> int: ...

    @property
    def total(self) -> int:
        """Bytes of all records."""

    def append(self, records: Sequence[bytes]) -> None:
        """Survives the death of this process when it returns. Raises `StorageFullError`, then nothing is kept."""

    def total_through(self, no: int) -> int:
        """Bytes of the records up to `no`: exact for the last one, else rounded down."""

    def acknowledged(self, no: int) -> None:
        """Everything up to `no` is committed elsewhere."""

    def cursor(self, after: int) -> Cursor: ...

    def close(self) -> None:
        """Nothing more will be appended."""


class Journals(Protocol):
    def create(self, session: str, spec: Spec) -> Journal:
        """Raises `StorageFullError`, or FileExistsError for a session that has a journal already."""

    def discard(self, session: str) -> None:
        """The session never began: nothing of it is kept."""

    def forget(self, session: str) -> bool:
        """The ended session's journal may be compressed and pruned by age. False if there is none."""

    async def close(self) -> None: ...


class LockedError(Exception):
    """A name is held elsewhere; the text says by whom."""


class Locks(Protocol):
    def take(self, names: Sequence[str], session: str) -> None:
        """All of them, or none and `LockedError`."""

    def release(self, session: str) -> None: ...


class HostError(Exception):
    """A host call could not be performed. `code` is a code of `Reply`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class HostActions(Protocol):
    async def perform(self, action: HostCall) -> dict[str, object]:
        """Raises `HostError`."""
