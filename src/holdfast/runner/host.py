"""Host calls: bounded looks at this host's files, and short programs run to their end.

Owns their bounds. Files are read in threads, since a network file system may hang; programs run as sessions' processes
do, marked, and ended with everything they started.
"""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from holdfast.runner.ports import HostError, Spawner, SpawnError
from holdfast.wire.link import FindInFile, HostCall, RunProgram, Spec, StatFile

CHUNK_BYTES = 1024 * 1024
PROGRAMS_AT_ONCE = 8
DRAIN_S = 1.0


class HostCalls:
    """See `ports.HostActions`."""

    def __init__(self, spawner: Spawner, runner_id: str) -> None:
        self._spawner = spawner
        self._runner_id = runner_id
        self._numbers = itertools.count(1)
        self._programs = asyncio.Semaphore(PROGRAMS_AT_ONCE)

    async def perform(self, action: HostCall) -> dict[str, object]:
        match action:
            case StatFile():
                return await asyncio.to_thread(stat_file, action)
            case FindInFile():
                return await asyncio.to_thread(find_in_file, action)
            case RunProgram():
                async with self._programs:
                    return await self._run(action)

    async def _run(self, action: RunProgram) -> dict[str, object]:
        output = Output(action.bytes_max)
        spec = Spec(action.argv, action.env, action.cwd)
        if not action.argv or any("\0" in text for text in [*action.argv, *action.env, *action.env.values()]):
            raise HostError("invalid", "argv needs a program, and no text of it may hold a NUL")
        try:
            process = await self._spawner.spawn(spec, f"{self._runner_id}.host-{next(self._numbers)}", output)
        except SpawnError as error:
            raise HostError(error.code, error.detail) from error
        in_time = False
        try:
            process.close_input()
            process.resume()
            async with asyncio.timeout(action.timeout_s):
                await output.over.wait()
            in_time = True
        except TimeoutError:
            pass
        finally:
            await asyncio.shield(process.end_all())
            if not output.ended.is_set():
                await _wait(output.ended, DRAIN_S)
            process.release()
        return {
            "code": output.code if in_time else None,
            "stdout": output.stdout.decode("utf-8", "replace"),
            "stderr": output.stderr.decode("utf-8", "replace"),
        }


class Output:
    """Collects what a program says, to a bound (ports.Sink)."""

    def __init__(self, bytes_max: int) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.code: int | None = None
        self.over = asyncio.Event()
        self.ended = asyncio.Event()
        self._bytes_max = bytes_max

    def output(self, data: bytes) -> None:
        self.stdout += data[: self._bytes_max - len(self.stdout)]

    def output_ended(self) -> None:
        self.ended.set()

    def errors(self, data: bytes) -> None:
        self.stderr += data[: self._bytes_max - len(self.stderr)]

    def exited(self, code: int | None, signal: int | None) -> None:
        self.code = code if signal is None else -signal
        self.over.set()


def stat_file(action: StatFile) -> dict[str, object]:
    try:
        found = Path(action.path).stat()
    except (OSError, ValueError):
        return {"exists": False, "size": 0, "mtime": 0.0}
    return {"exists": True, "size": found.st_size, "mtime": found.st_mtime}


def find_in_file(action: FindInFile) -> dict[str, object]:
    missing = {needle: needle.encode() for needle in action.needles}
    found: list[str] = []
    overlap = max((len(data) for data in missing.values()), default=1) - 1
    left = action.bytes_max
    tail = b""
    try:
        with Path(action.path).open("rb") as file:
            while missing and left > 0 and (chunk := file.read(min(CHUNK_BYTES, left))):
                left -= len(chunk)
                text = tail + chunk
                for needle in [needle for needle, data in missing.items() if data in text]:
                    found.append(needle)
                    del missing[needle]
                tail = text[-overlap:] if overlap > 0 else b""
    except (OSError, ValueError):
        return {"exists": False, "found": []}
    return {"exists": True, "found": [needle for needle in action.needles if needle in found]}


async def _wait(event: asyncio.Event, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return
