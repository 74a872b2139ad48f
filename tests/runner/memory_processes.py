"""Processes in memory: a spawner for cores without an operating system. A test plays the program by hand."""

from __future__ import annotations

import asyncio

from holdfast.runner.ports import Sink, SpawnError, Written
from holdfast.wire.link import Spec


class MemoryProcess:
    """See `ports.Process`. `say`, `end` and `read_input` are the program's side."""

    def __init__(self, sink: Sink, pid: int) -> None:
        self.pid = pid
        self.input: list[bytes] = []
        self.reads_input = True
        self.input_closed = False
        self.paused = True
        self.terminated = False
        self.ends_by_itself = False
        self.released = False
        self._sink = sink
        self._unread: list[bytes] = []
        self._waiting: tuple[bytes, Written] | None = None
        self._ended = False

    # The runner's side.

    def write(self, data: bytes, written: Written) -> None:
        if not self.reads_input:
            self._waiting = (data, written)
            return
        self.input.append(data)
        written("")

    def close_input(self) -> None:
        self.input_closed = True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        asyncio.get_running_loop().call_soon(self._read_on)

    def terminate(self) -> None:
        self.terminated = True

    async def end_all(self) -> None:
        if not self._ended:
            self.end(None, 9)

    def release(self) -> None:
        self.released = True
        for data in self._unread:
            self._sink.output(data)
        self._unread = []

    def _read_on(self) -> None:
        while self._unread and not self.paused:
            self._sink.output(self._unread.pop(0))

    # The program's side.

    def say(self, data: bytes) -> None:
        if self.paused or self._unread:
            self._unread.append(data)
        else:
            self._sink.output(data)

    def complain(self, data: bytes) -> None:
        self._sink.errors(data)

    def read_input(self) -> None:
        self.reads_input = True
        if self._waiting is not None:
            (data, written), self._waiting = self._waiting, None
            self.input.append(data)
            written("")

    def end(self, code: int | None = 0, signal: int | None = None) -> None:
        self._ended = True
        self._sink.exited(code, signal)
        self._sink.output_ended()


class MemorySpawner:
    """See `ports.Spawner`. `fails` makes the next spawn fail."""

    def __init__(self) -> None:
        self.processes: dict[str, MemoryProcess] = {}
        self.fails: SpawnError | None = None

    async def spawn(self, spec: Spec, mark: str, sink: Sink) -> MemoryProcess:
        if self.fails is not None:
            raise self.fails
        process = MemoryProcess(sink, 1000 + len(self.processes))
        self.processes[mark.partition(".")[2]] = process
        return process
