"""Which runners this home has had: a small file each, so that a start can end what a dead one left.

Owns `runner/marks/`. A runner counts as dead by boot id, pid and start time together, never by a pid alone. Used by
the runner's start; the ending itself is `guardian`'s.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from holdfast.runner import guardian

log = logging.getLogger(__name__)

SWEEP_S = 5.0


class Mark(msgspec.Struct, frozen=True):
    """A runner as its file describes it."""

    runner: str
    pid: int
    start_time: int
    boot: str


def note(folder: Path, runner: str) -> None:
    """This process is that runner."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pid = os.getpid()
    mark = Mark(runner, pid, guardian.start_time(pid) or 0, boot_id())
    (folder / f"{runner}.json").write_bytes(msgspec.json.encode(mark))


def remove(folder: Path, runner: str) -> None:
    (folder / f"{runner}.json").unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """End what dead runners of this home left running. A file that cannot be read is put aside, and stops nothing."""
    for path in sorted(folder.glob("*.json")):
        try:
            mark = msgspec.json.decode(path.read_bytes(), type=Mark)
        except (OSError, msgspec.DecodeError) as error:
            log.warning("putting %s aside: because it cannot be read: %s", path, error)
            path.rename(path.with_suffix(".broken"))
            continue
        if mark.boot == boot_id():
            if guardian.start_time(mark.pid) == mark.start_time:
                continue
            if not end_runner(mark.runner):
                log.warning("some processes of runner %s do not end; the next start tries again", mark.runner)
                continue
        path.unlink(missing_ok=True)


def end_runner(runner: str) -> bool:
    """End everything that carries a mark of that runner."""
    return guardian.end(lambda: guardian.marked(f"{runner}.", whole=False), limit_s=SWEEP_S, empty_scans=1)


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
