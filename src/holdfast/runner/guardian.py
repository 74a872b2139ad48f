"""Finds and ends processes by the mark in their environment; and the guardian, which does so when its runner dies.

Owns the scan of the system's processes and the safe way to kill what it finds (a pid is used only together with its
start time). It decides about no session. The runner imports it for the ends of sessions and for the sweep at its
start; as a program it is started by the runner, isolated and with the standard library alone: it waits for the end
of its input, which the runner's death brings, and ends everything that the runner started.

    python -I -S guardian.py RUNNER_ID
"""

import os
import signal
import sys
import time
from collections.abc import Callable

MARK = "HOLDFAST_SESSION_MARK"

GUARD_S = 60.0
SCAN_EVERY_S = 0.05

Found = tuple[int, int]
"""A process: pid and start time in clock ticks since boot."""


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which the process began; None if there is none, or only what is left of one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def marked(mark: str, *, whole: bool) -> list[Found]:
    """Living processes that carry the mark; with `whole` false, any mark that begins so."""
    wanted = f"\0{MARK}={mark}".encode() + (b"\0" if whole else b"")
    found: list[Found] = []
    for pid in pids():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                carries = wanted in b"\0" + file.read()
        except OSError:
            continue
        if carries and (began := start_time(pid)) is not None:
            found.append((pid, began))
    return found


def descendants(root: int) -> list[Found]:
    """Everything that has the living process as its ancestor, marked or not."""
    children: dict[int, list[int]] = {}
    for pid in pids():
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(pid)
    found: list[Found] = []
    open_ends = [root]
    while open_ends:
        for pid in children.get(open_ends.pop(), []):
            open_ends.append(pid)
            if (began := start_time(pid)) is not None:
                found.append((pid, began))
    return found


def pids() -> list[int]:
    own = os.getpid()
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != own]


def kill(found: Found) -> None:
    """Kills that very process, never another one that got its pid."""
    pid, began = found
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if start_time(pid) == began:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        pass  # it ended by itself, or is not ours to kill
    finally:
        os.close(fd)


def end(find: Callable[[], list[Found]], *, limit_s: float, empty_scans: int) -> bool:
    """Kill what `find` finds until that many scans in a row, after the last find, found nothing. False at the limit."""
    deadline = time.monotonic() + limit_s
    empty = 0
    while True:
        found = find()
        for process in found:
            kill(process)
        empty = 0 if found else empty + 1
        if empty >= empty_scans:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(SCAN_EVERY_S)


def main() -> None:
    runner = sys.argv[1]
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    end(lambda: marked(f"{runner}.", whole=False), limit_s=GUARD_S, empty_scans=2)


if __name__ == "__main__":
    main()
