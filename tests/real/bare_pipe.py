"""The real Claude Code on a bare pipe: what it does with nothing of Holdfast in between.

For tests of the scripted model and as the reference that Holdfast is compared with. Every permission request
is put to `permit`; all frames are kept in `frames`.
"""

import asyncio
import contextlib
import json
import os
import signal
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.real import claude_program

Frame = dict[str, Any]
LINE_LIMIT = 64 * 1024 * 1024
PATIENCE_S = 30.0


def allow(request: Frame) -> Frame | None:
    return {"behavior": "allow", "updatedInput": request["input"]}


def leave_pending(_request: Frame) -> Frame | None:
    return None


class BarePipe:
    """`async with BarePipe(home, model.url) as claude`: a process, its frames, and a handful of verbs."""

    def __init__(
        self,
        home: Path,
        url: str,
        *arguments: str,
        permit: Callable[[Frame], Frame | None] = allow,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.frames: list[Frame] = []
        self.workspace = home / "ws"
        self.code: int | None = None
        self._environment = claude_program.environment(home, url, environment)
        self._arguments = arguments
        self._permit = permit
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self.workspace.mkdir(parents=True, exist_ok=True)
        self.process = await asyncio.create_subprocess_exec(
            claude_program.program(),
            *claude_program.ARGUMENTS,
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._environment,
            cwd=self.workspace,
            limit=LINE_LIMIT,
            start_new_session=True,
        )
        self._reader = asyncio.create_task(self._read(), name="bare-pipe")
        await self.control("initialize", hooks={"PreToolUse": [{"matcher": "*", "hookCallbackIds": ["h0"]}]})
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self._reader

    async def prompt(self, text: str, **fields: object) -> str:
        """Sends a prompt and returns its uuid."""
        identity = str(uuid.uuid4())
        message = {"role": "user", "content": text}
        frame = {"type": "user", "message": message, "parent_tool_use_id": None, "session_id": ""}
        await self.write({**frame, "uuid": identity, **fields})
        return identity

    async def ask(self, text: str) -> Frame:
        """Sends a prompt and returns the result of its turn."""
        ended = len(self.results())
        await self.prompt(text)
        return await self.result(ended + 1)

    async def control(self, subtype: str, **fields: object) -> Frame:
        identity = str(uuid.uuid4())
        request = {"subtype": subtype, **fields}
        await self.write({"type": "control_request", "request_id": identity, "request": request})

        def is_reply(frame: Frame) -> bool:
            return bool(frame["type"] == "control_response" and frame["response"]["request_id"] == identity)

        return await self.until(is_reply)

    async def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()

    def results(self) -> list[Frame]:
        return [frame for frame in self.frames if frame["type"] == "result"]

    async def result(self, ordinal: int) -> Frame:
        def has_them(_frame: Frame) -> bool:
            return len(self.results()) >= ordinal

        await self.until(has_them)
        return self.results()[ordinal - 1]

    async def until(self, expected: Callable[[Frame], bool]) -> Frame:
        """The first frame, seen or to come, that is as expected."""
        seen = 0
        async with asyncio.timeout(PATIENCE_S), self._changed:
            while True:
                for frame in self.frames[seen:]:
                    if expected(frame):
                        return frame
                seen = len(self.frames)
                if self.code is not None:
                    raise EOFError(f"cannot wait for more frames: because the program ended with {self.code}")
                await self._changed.wait()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            frame: Frame = json.loads(line)
            await self._answer(frame)
            async with self._changed:
                self.frames.append(frame)
                self._changed.notify_all()
        code = await self.process.wait()
        async with self._changed:
            self.code = code
            self._changed.notify_all()

    async def _answer(self, frame: Frame) -> None:
        if frame["type"] != "control_request":
            return
        request = frame["request"]
        reply: Frame | None
        if request["subtype"] == "hook_callback":
            decision = {"hookEventName": "PreToolUse", "permissionDecision": "ask"}
            reply = {"hookSpecificOutput": decision}
        else:
            reply = self._permit(request)
        if reply is not None:
            response = {"subtype": "success", "request_id": frame["request_id"], "response": reply}
            await self.write({"type": "control_response", "response": response})

    async def write(self, frame: Frame) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(frame).encode() + b"\n")
        await self.process.stdin.drain()
