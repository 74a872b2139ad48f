"""One session of any kind that speaks lines over pipes, without runner and engine: a process, a journal, a translator.

For tests of translators against the real program. It notes every record as a runner would, and before each one it
replaces the translator by one made from its dump, so that every session also proves that the dump says everything.
"""

import asyncio
import contextlib
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import psutil

from holdfast.agents.port import (
    AgentKind,
    Binding,
    Intent,
    Launch,
    LaunchContext,
    Translator,
    TranslatorContext,
)
from holdfast.core.reports import Report
from holdfast.wire.link import Exit, FindInFile, HostCall, Record, RecordKind, RunProgram, StatFile

MARK = "PIPE_DRIVER"
LINE_BYTES_MAX = 64 * 1024 * 1024
PATIENCE_S = 20.0

R = TypeVar("R", bound=Report)


def context_for(kind: AgentKind, home: Path, cwd: Path, **changes: Any) -> LaunchContext:
    """A launch in a scrubbed environment. `changes` are fields; `env` is added to what there is."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"} | changes.pop("env", {})
    fields: dict[str, Any] = {
        "command": list(kind.default_command),
        "env": env,
        "cwd": str(cwd),
        "add_dirs": [],
        "model": "",
        "effort": "",
        "mode": "ask",
        "plan": False,
        "fresh_id": "6b2f0a52-57a8-8c3e-9d1e-2f4c5a6b7c8d",
    }
    return LaunchContext(**fields | changes)


def perform(call: HostCall) -> Mapping[str, Any]:
    """The host calls that openings need, on this host."""
    match call:
        case StatFile(path):
            file = Path(path)
            size = file.stat().st_size if file.exists() else 0
            return {"exists": file.exists(), "size": size, "mtime": 0.0}
        case FindInFile(path, needles):
            text = Path(path).read_bytes() if Path(path).exists() else b""
            return {"exists": Path(path).exists(), "found": [one for one in needles if one.encode() in text]}
        case RunProgram():
            raise AssertionError(f"the driver runs no programs: {call}")


class PipeDriver:
    """`async with PipeDriver(kind, context) as agent`: the process runs; at the end all that it started is killed."""

    def __init__(self, kind: AgentKind, context: LaunchContext) -> None:
        self.kind, self.context = kind, context
        self.launch: Launch = kind.launch(context, [perform(call) for call in kind.launch_calls(context)])
        self.scene = TranslatorContext(
            session="ses_0000000000000000_1",
            native_id=self.launch.native_id,
            resumed=self.launch.resumed,
            cwd=context.cwd,
            mode=context.mode,
            plan=context.plan,
            model=context.model,
            add_dirs=context.add_dirs,
        )
        self.translator: Translator = kind.translator(self.scene, None)
        self.reports: list[Report] = []
        self.records: list[Record] = []
        self.exit: Exit | None = None
        self._moved = asyncio.Condition()
        self._mark = uuid.uuid4().hex

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            *self.launch.argv,
            env=self.launch.env | {MARK: self._mark},
            cwd=self.context.cwd,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
            start_new_session=True,
        )
        await self._note("start", msgspec.json.encode({"argv0": Path(self.launch.argv[0]).name}))
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self._mark:
                    process.kill()
        async with asyncio.timeout(PATIENCE_S):
            await self._listening
        if self.process.stdin is not None:
            self.process.stdin.close()

    async def send(self, *intents: Intent) -> list[bytes]:
        """What the translator writes for them, handed over and noted as the runner would."""
        sent = []
        for intent in intents:
            for write in self.translator.send(intent, self._now()):
                await self._hand_over(write.id, write.data)
                sent.append(write.data)
        return sent

    async def _hand_over(self, name: str, data: bytes) -> None:
        assert self.process.stdin is not None
        await self._note("received", name=name)
        self.process.stdin.write(data + b"\n")
        await self.process.stdin.drain()
        await self._note("in", data, name)

    async def write_raw(self, data: bytes) -> None:
        """Bytes that no translator would write."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def close_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def until(self, fact: Callable[[Self], R | bool | None]) -> R:
        """Waits until the fact holds, and answers what it answered."""
        found: Any = None

        def holds() -> bool:
            nonlocal found
            found = fact(self)
            return bool(found)

        try:
            async with asyncio.timeout(PATIENCE_S), self._moved:
                await self._moved.wait_for(holds)
        except TimeoutError:
            raise AssertionError(
                f"it never came; the last reports: {self.reports[-5:]}, {self.exit}"
            ) from None
        return found  # type: ignore[no-any-return]

    async def report(self, kind: type[R], nth: int = 1) -> R:
        """The nth report of that type, when it is there."""
        return await self.until(lambda agent: next(iter(agent.of(kind)[nth - 1 :]), None))

    async def ended(self) -> Exit:
        await self.until(lambda agent: agent.exit is not None)
        assert self.exit is not None
        return self.exit

    def of(self, kind: type[R]) -> list[R]:
        return [report for report in self.reports if isinstance(report, kind)]

    def binding(self) -> Binding:
        """What a next session would be given, were this one over now."""
        sizes = [perform(call) for call in self.kind.size_calls(self.context)]
        size = sizes[0]["size"] if sizes else -1
        return Binding(self.launch.native_id, resumable=True, native_bytes=size)

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        errors = asyncio.create_task(self.process.stderr.read())
        try:
            while line := await self.process.stdout.readline():
                await self._note("out", line.removesuffix(b"\n"))
        finally:
            stderr = (await errors).decode("utf-8", "replace")
        code = await self.process.wait()
        self.exit = Exit(code if code >= 0 else None, -code if code < 0 else None, stderr)
        await self._note("exit", msgspec.json.encode(self.exit))

    async def _note(self, kind: RecordKind, data: bytes = b"", name: str = "") -> None:
        async with self._moved:
            record = Record(len(self.records) + 1, self._now(), kind, data, name)
            self.records.append(record)
            self.translator = self.kind.translator(self.scene, self.translator.dump())
            step = self.translator.receive(record, record.at)
            self.reports += step.reports
            self._moved.notify_all()
        for write in step.writes:
            await self._hand_over(write.id, write.data)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def eventually(fact: Callable[[], bool]) -> None:
    """For what tells nobody when it happens, such as the end of a grandchild."""
    async with asyncio.timeout(PATIENCE_S):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def fold(kind: AgentKind, scene: TranslatorContext, records: Sequence[Record]) -> list[Report]:
    """What a translator that is never dumped says to a journal."""
    translator = kind.translator(scene, None)
    return [report for record in records for report in translator.receive(record, record.at).reports]
