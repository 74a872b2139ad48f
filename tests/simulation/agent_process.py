"""Processes of the scripted agent in memory: the real mind behind the runner's `Process` port, in virtual time.

Owns what an operating system would: pipes that deliver late and in pieces, signals, the end of a process, and the
native histories, which outlive everything as files do.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from random import Random
from typing import Any

from holdfast.agents.scripted_mind import ScriptedMind
from holdfast.agents.scripted_words import Out
from holdfast.runner.ports import Sink, SpawnError, Written
from holdfast.wire.link import Spec

FOLDER = "/simulated"
"""Where the native histories would be."""

PIPE_BYTES = 64 * 1024


class Histories:
    """The native histories by native id, as lines."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}
        self._lost: list[dict[str, list[str]]] = []

    def read(self, native: str) -> list[str] | None:
        return list(self.lines[native]) if native in self.lines else None

    def at(self, path: str) -> list[str] | None:
        return self.read(path.removeprefix(FOLDER + "/").removesuffix(".jsonl"))

    def lose(self) -> None:
        """As if somebody had removed the files. What was noted is still known to the laws."""
        self._lost += [self.lines]
        self.lines = {}

    def notes(self, key: str) -> list[dict[str, str]]:
        """Every line that has that key, of all conversations."""
        found = [
            json.loads(line)
            for all_lines in (*self._lost, self.lines)
            for lines in all_lines.values()
            for line in lines
        ]
        return [note for note in found if key in note]


class MindProcess:
    """See `ports.Process`. `mute`: it hangs from its start on."""

    def __init__(
        self,
        pid: int,
        mark: str,
        sink: Sink,
        histories: Histories,
        rng: Random,
        wall: Callable[[], float],
        *,
        mute: bool,
    ) -> None:
        self.pid = pid
        self.mark = mark
        self.dead = False
        self.died_at = 0.0
        #: whole frames that it has read
        self.read: list[bytes] = []
        self._sink: Sink | None = sink
        self._histories = histories
        self._rng = rng
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._mute = mute
        self._mind = ScriptedMind(histories.read)
        self._input = bytearray()
        self._input_closed = False
        self._waiting: tuple[bytes, Written] | None = None
        self._output = bytearray()
        self._reading = False
        self._handle: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._exit: tuple[int | None, int | None] = (None, None)
        self._end_told = False

    # The runner's side.

    def write(self, data: bytes, written: Written) -> None:
        if self.dead or self._input_closed:
            written("the agent's input is closed")
            return
        self._waiting = (data, written)
        self._loop.call_later(self._moment(0.02), self._take)

    def close_input(self) -> None:
        if not self._input_closed:
            self._input_closed = True
            self._loop.call_later(self._moment(0.02), self._feed, {"type": "eof"})

    def pause(self) -> None:
        self._reading = False

    def resume(self) -> None:
        self._reading = True
        self._flush_later()

    def terminate(self) -> None:
        if not self._mind.stubborn:
            self.die(None, 15)

    async def end_all(self) -> None:
        await asyncio.sleep(self._moment(0.05))
        self.die(None, 9)

    def release(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None and self._output:
            sink.output(bytes(self._output))
            self._output.clear()

    # What happens to it.

    def die(self, code: int | None, signal: int | None) -> None:
        """The process is gone at once; what it has written may still be in the pipe."""
        if self.dead:
            return
        self.dead = True
        self.died_at = self._loop.time()
        self._exit = (code, signal)
        if self._alarm is not None:
            self._alarm.cancel()
        if self._waiting is not None:
            self._loop.call_soon(self._take)
        self._loop.call_later(self._moment(0.05), self._tell_exit)
        self._flush_later()

    def abandoned(self) -> None:
        """Its runner is dead: nobody reads it any more."""
        self._sink = None

    # Its own life.

    def _moment(self, most: float) -> float:
        return self._rng.random() * most if self._rng.random() < 0.5 else 0.0

    def _tell_exit(self) -> None:
        if self._sink is not None:
            self._sink.exited(*self._exit)

    def _take(self) -> None:
        if self._waiting is None:
            return
        (data, written), self._waiting = self._waiting, None
        if self.dead:
            written("the agent has ended")
            return
        self._input += data
        written("")
        *lines, rest = bytes(self._input).split(b"\n")
        self._input = bytearray(rest)
        self.read += lines
        for line in lines:
            self._feed(json.loads(line))

    def _feed(self, message: dict[str, Any]) -> None:
        if not (self.dead or self._mute):
            self._perform(self._mind.feed(message, self._wall()))

    def _wake(self) -> None:
        self._alarm = None
        if not self.dead:
            self._perform(self._mind.wake(self._wall() + 1e-3))

    def _perform(self, outs: list[Out]) -> None:
        todo = list(outs)
        while todo and not self.dead:
            out = todo.pop(0)
            match out.do:
                case "out":
                    self._output += out.data
                case "note":
                    self._histories.lines.setdefault(self._mind.native, []).append(out.data.decode())
                case "err":
                    if self._sink is not None:
                        self._sink.errors(out.data)
                case "run":
                    self._loop.call_later(self._moment(2.0), self._ran, out.ref)
                case "write":
                    todo += self._mind.feed({"type": "host.done", "item": out.ref, "code": 0}, self._wall())
                case "exit":
                    self.die(out.code, None)
                case "kill":
                    self.die(None, out.code)
                case _:
                    pass  # "end": its commands end by themselves; "stubborn": `terminate` asks the mind
        self._flush_later()
        self._set_alarm()

    def _ran(self, item: str) -> None:
        told = {"item": item, "code": 0, "text": "done\n"}
        self._feed({"type": "host.output", **told})
        self._feed({"type": "host.done", **told})

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        at = self._mind.wake_at
        if at is not None and not self.dead:
            self._alarm = self._loop.call_later(max(0.0, at - self._wall()), self._wake)

    def _flush_later(self) -> None:
        if self._handle is None:
            self._handle = self._loop.call_later(self._moment(0.03), self._flush)

    def _flush(self) -> None:
        """A part of the pipe's content reaches the runner."""
        self._handle = None
        if self._sink is None or not self._reading:
            return
        if self._output:
            size = len(self._output)
            if self._rng.random() < 0.3:
                size = self._rng.randint(1, size)
            data = bytes(self._output[:size])
            del self._output[:size]
            self._sink.output(data)
        if self._output:
            self._flush_later()
        elif self.dead and not self._end_told and self._sink is not None:
            self._end_told = True
            self._sink.output_ended()


class MindSpawner:
    """See `ports.Spawner`. Keeps every process that it ever made."""

    def __init__(self, histories: Histories, rng: Random, wall: Callable[[], float]) -> None:
        self.processes: list[MindProcess] = []
        #: chances of a start that fails, and of a process that never says a word
        self.fails = 0.0
        self.mute = 0.0
        self._histories = histories
        self._rng = rng
        self._wall = wall

    async def spawn(self, spec: Spec, mark: str, sink: Sink) -> MindProcess:
        await asyncio.sleep(self._rng.random() * 0.2)
        if self._rng.random() < self.fails:
            raise SpawnError("spawn_failed", "no more processes")
        mute = self._rng.random() < self.mute
        pid = 1000 + len(self.processes)
        process = MindProcess(pid, mark, sink, self._histories, self._rng, self._wall, mute=mute)
        self.processes.append(process)
        return process

    def alive(self) -> list[MindProcess]:
        return [process for process in self.processes if not process.dead]
