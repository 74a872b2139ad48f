"""The scripted agent in memory and virtual time: the same mind as the process has, around it no host but this one.

For simulations and for tests of the mind. A `Twin` is one process; the histories are given from outside and outlive
it. Its commands run at once and say what they are. Deterministic: the same calls give the same frames.
"""

import msgspec

from holdfast.agents.scripted_mind import ScriptedMind
from holdfast.agents.scripted_words import Out
from holdfast.wire.link import Exit


class Twin:
    def __init__(self, histories: dict[str, list[str]]) -> None:
        self.histories = histories
        self.mind = ScriptedMind(lambda native: list(histories[native]) if native in histories else None)
        self.exit: Exit | None = None
        self.stderr = ""
        self.files: dict[str, bytes] = {}
        self.commands: list[str] = []
        self.left_running: list[str] = []
        self.unfinished = b""  # of a frame

    @property
    def wake_at(self) -> float | None:
        return None if self.exit else self.mind.wake_at

    def write(self, frame: bytes, now: float) -> list[bytes]:
        """A frame for the agent; answers the frames that it writes at once."""
        return self._perform(self.mind.feed(msgspec.json.decode(frame), now), now)

    def wake(self, now: float) -> list[bytes]:
        """To be called at `wake_at`."""
        return self._perform(self.mind.wake(now), now)

    def close_input(self, now: float) -> list[bytes]:
        return self._perform(self.mind.feed({"type": "eof"}, now), now)

    def stop(self, number: int) -> None:
        """A signal from outside."""
        if self.exit is None and not (number == 15 and self.mind.stubborn):
            self.exit = Exit(signal=number, stderr=self.stderr)

    def run(self, until: float) -> list[bytes]:
        """Lives until then: every waking in its time."""
        frames = []
        while self.wake_at is not None and self.wake_at <= until:
            frames += self.wake(self.wake_at)
        return frames

    def _perform(self, outs: list[Out], now: float) -> list[bytes]:
        frames: list[bytes] = []
        todo = list(outs)
        while todo and self.exit is None:
            out = todo.pop(0)
            match out.do:
                case "out":
                    *whole, self.unfinished = (self.unfinished + out.data).split(b"\n")
                    frames += whole
                case "err":
                    self.stderr += out.data.decode()
                case "note":
                    self.histories.setdefault(self.mind.native, []).append(out.data.decode())
                case "run":
                    self.commands.append(out.data.decode())
                    for answer in ("output", "done"):
                        told = {"type": f"host.{answer}", "item": out.ref, "code": 0}
                        text = f"ran {out.data.decode()}\n" if answer == "output" else ""
                        todo += self.mind.feed(told | {"text": text}, now)
                case "write":
                    self.files[out.path] = out.data
                    todo += self.mind.feed({"type": "host.done", "item": out.ref, "code": 0}, now)
                case "child" | "heir":
                    self.left_running.append(out.data.decode())
                case "exit":
                    self.exit = Exit(code=out.code, stderr=self.stderr)
                case "kill":
                    self.exit = Exit(signal=out.code, stderr=self.stderr)
                case _:  # "end": a command here has always ended; "stubborn": `stop` asks the mind
                    pass
        return frames
