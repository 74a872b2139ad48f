"""Processes as the operating system shows them: who belongs to a house, who lives, what they hold open.

Everything that a house starts carries the path of its folder in its environment or arguments, so that a test ends and
counts its own processes and no others.
"""

import asyncio
import inspect
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from holdfast.runner.guardian import start_time

T = TypeVar("T")

PATIENCE_S = 20.0
LOOK_EVERY_S = 0.02


async def until(fact: Callable[[], T | None], within: float = PATIENCE_S, said: str = "") -> T:
    """The first true value of `fact`; fails when there is none in time."""

    async def asked() -> T | None:
        return fact()

    return await eventually(asked, within, said or inspect.getsource(fact).strip())


async def eventually(
    fact: Callable[[], Awaitable[T | None]], within: float = PATIENCE_S, said: str = ""
) -> T:
    """The same for a fact that has to be asked for."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + within
    while True:
        if value := await fact():
            return value
        if clock() > deadline:
            raise AssertionError(f"not within {within:g} s: {said or inspect.getsource(fact).strip()}")
        await asyncio.sleep(LOOK_EVERY_S)


def lives(pid: int) -> bool:
    return start_time(pid) is not None


def command_line(pid: int) -> str:
    return _read(pid, "cmdline").replace("\0", " ").strip()


def belonging_to(folder: Path) -> dict[int, str]:
    """Living processes with the folder in their environment or arguments, and their command lines."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        pid = int(name)
        if (str(folder) in _read(pid, "environ") or str(folder) in _read(pid, "cmdline")) and lives(pid):
            found[pid] = command_line(pid)
    return found


def running(words: str) -> list[int]:
    """Living processes whose command line contains the words."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    return [pid for pid in pids if words in command_line(pid) and lives(pid)]


def open_files(pid: int) -> list[str]:
    """What the process's descriptors lead to."""
    found = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(entry.path))
        except OSError:
            continue  # closed in the meantime
    return found


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    assert pid > 1, f"{pid} is no process of ours"
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
