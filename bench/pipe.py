"""An agent's program on a bare pipe: the reference. Nothing but `os.read`, decoding, and waiting for the turn's end.

Owns the process. It is started with the arguments and the environment that Holdfast would give it and is sent the very
frames that Holdfast would send: both come from the agent's kind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from types import TracebackType
from typing import Any, Self

import msgspec

from bench.server import Server
from holdfast.agents.catalog import KINDS
from holdfast.agents.port import Begin, LaunchContext, Prompt, TranslatorContext
from holdfast.config import agent_environment, load

READ_BYTES = 64 * 1024
TURN_ENDS = {"claude": "result", "scripted": "turn.ended"}


class Pipe:
    """`with Pipe(server, "claude") as pipe`, then `turn`. Starting takes as long as the program takes to be spawned."""

    def __init__(self, server: Server, agent: str) -> None:
        config = load(server.home, server.environment()).agents[agent]
        self._kind = KINDS[config.kind]
        native = str(uuid.uuid4())
        self._cwd = cwd = str(server.workspace)
        context = LaunchContext(
            command=list(config.command or self._kind.default_command),
            env=agent_environment(server.environment(), self._kind, config),
            cwd=cwd,
            add_dirs=[],
            model=config.model,
            effort="",
            mode="ask",
            plan=False,
            fresh_id=native,
        )
        self._launch = self._kind.launch(context, [])
        about = TranslatorContext("bench", native, False, cwd, "ask", False, config.model)
        self._translator = self._kind.translator(about, None)
        self._end = TURN_ENDS[config.kind]
        self._buffer = b""

    def __enter__(self) -> Self:
        launch = self._launch
        self._process = subprocess.Popen(
            launch.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=launch.env,
            cwd=self._cwd,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin.fileno(), self._process.stdout.fileno()
        for write in self._translator.send(Begin(), time.time()):
            self._write(write.data)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with self._process:
            pass

    def turn(self, text: str) -> Any:
        """Sends the prompt and returns the frame that ends its turn."""
        for write in self._translator.send(Prompt(str(uuid.uuid4()), text), time.time()):
            self._write(write.data)
        while True:
            for frame in self._frames():
                if frame["type"] == self._end:
                    return frame

    def _frames(self) -> list[Any]:
        data = os.read(self._stdout, READ_BYTES)
        if not data:
            raise EOFError("cannot measure: because the agent's program ended")
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [msgspec.json.decode(line) for line in lines]

    def _write(self, frame: bytes) -> None:
        os.write(self._stdin, frame + b"\n")
