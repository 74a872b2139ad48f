"""Real processes: starting them, their pipes, and their end with everything that they started.

Owns descriptors and pids. It knows no record and no frame: bytes go to a `Sink`, the session decides. Started through
`exec_shim`, each in a session and process group of its own, with a mark in its environment that finds its offspring.

The main thread must run the event loop: a child's parent-death signal follows the thread that started it.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path

from holdfast.runner import guardian
from holdfast.runner.ports import Sink, SpawnError, Written
from holdfast.wire.link import Spec

log = logging.getLogger(__name__)

READ_BYTES = 128 * 1024
PIPE_BYTES = 1024 * 1024
LARGE_PIPES = 16
"""Only so many sessions get a large pipe: the pages of all pipes of a user are limited, and then every new one is tiny."""

SPAWN_S = 30.0
END_S = 5.0
DRAIN_READS = 4 * PIPE_BYTES // READ_BYTES

SHIM = Path(__file__).with_name("exec_shim.py")
CODES = {"cwd": "cwd_missing", "missing": "not_found", "exec": "spawn_failed"}


class PosixSpawner:
    """Starts processes. `alive` are the pids that it has started and not reaped."""

    def __init__(self, *, files_max: int = -1) -> None:
        self.alive: set[int] = set()
        self._files_max = files_max

    async def spawn(self, spec: Spec, mark: str, sink: Sink) -> PosixProcess:
        process, report = self._start(spec, mark, sink)
        failure: str | None = ""
        try:
            failure = await _read_report(report)
        finally:
            if failure is not None:  # or this was cancelled: the process is nobody's
                await asyncio.shield(process.end_all())
                process.release()
        if failure is None:
            return process
        stage, _, detail = failure.partition("\n")
        reason, _, name = detail.partition("\n")
        what = f"enter {spec.cwd}" if stage == "cwd" else f"start {name or spec.argv[0]}"
        raise SpawnError(
            CODES.get(stage, "spawn_failed"), f"cannot {what}: because {reason or 'it did not start'}"
        )

    def forget(self, pid: int) -> None:
        self.alive.discard(pid)

    def _start(self, spec: Spec, mark: str, sink: Sink) -> tuple[PosixProcess, int]:
        lc_ctype = "=" + spec.env["LC_CTYPE"] if "LC_CTYPE" in spec.env else "-"
        ours: list[int] = []
        theirs: list[int] = []
        try:
            for is_input in (True, False, False, False):
                read, write = os.pipe()
                theirs.append(read if is_input else write)
                ours.append(write if is_input else read)
                os.set_blocking(ours[-1], False)
            if len(self.alive) < LARGE_PIPES:
                _enlarge(ours[1])
            shim = [sys.executable, "-I", "-S", str(SHIM)]
            settings = [str(os.getpid()), str(theirs[3]), str(self._files_max), lc_ctype, spec.cwd]
            child = subprocess.Popen(
                [*shim, *settings, *spec.argv],
                stdin=theirs[0],
                stdout=theirs[1],
                stderr=theirs[2],
                pass_fds=(theirs[3],),
                env=spec.env | {guardian.MARK: mark},
                start_new_session=True,
            )
            self.alive.add(child.pid)
            return PosixProcess(self, child, mark, sink, ours[0], ours[1], ours[2]), ours[3]
        except (OSError, ValueError) as error:
            for fd in ours:
                os.close(fd)
            raise SpawnError("spawn_failed", f"cannot start {spec.argv[0]}: because {error}") from error
        finally:
            for fd in theirs:
                os.close(fd)


class PosixProcess:
    """See `ports.Process`."""

    def __init__(
        self,
        spawner: PosixSpawner,
        child: subprocess.Popen[bytes],
        mark: str,
        sink: Sink,
        input_fd: int,
        output_fd: int,
        errors_fd: int,
    ) -> None:
        self._spawner = spawner
        self._child = child
        self._mark = mark
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._input = input_fd
        self._output = output_fd
        self._errors = errors_fd
        self._pidfd = os.pidfd_open(child.pid)
        self._reading = False
        self._over = False
        self._rest: memoryview | None = None
        self._written: Written | None = None
        self._began = False

    @property
    def pid(self) -> int:
        return self._child.pid

    def write(self, data: bytes, written: Written) -> None:
        if self._input < 0:
            written("the agent's input is closed")
            return
        self._rest, self._written = memoryview(data), written
        self._write_rest()

    def close_input(self) -> None:
        self._stop_writing()
        self._input = _close(self._input)

    def pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._output)

    def resume(self) -> None:
        if not self._began:
            self._began = True
            self._loop.add_reader(self._errors, self._read_errors)
            self._loop.add_reader(self._pidfd, self._ended)
        if not self._reading and self._output >= 0:
            self._reading = True
            self._loop.add_reader(self._output, self._read_output)

    def terminate(self) -> None:
        self._signal_group(signal.SIGTERM)

    async def end_all(self) -> None:
        if not await self._loop.run_in_executor(None, self._end_all):
            log.error("some processes of %s do not end", self._mark)

    def release(self) -> None:
        self.pause()
        for _ in range(DRAIN_READS):
            if self._output < 0 or not self._read_output():
                break
        if self._errors >= 0:
            self._read_errors()
        self.close_input()
        self._output = self._close_reader(self._output)
        self._errors = self._close_reader(self._errors)
        self._pidfd = self._close_reader(self._pidfd)
        # All of its group are dead by now, and the group's number was kept from others until here.
        self._child.poll()
        if self._child.returncode is None:
            log.error("process %s does not end; its pid is left to the system", self.pid)
        self._spawner.forget(self.pid)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._child.returncode is None:
            try:
                os.killpg(self.pid, number)
            except OSError:
                pass  # nobody is left in it

    def _end_all(self) -> bool:
        """In a thread. Descendants that dropped the mark are found only while their ancestor lives: they come first."""
        kin = [] if self._over else guardian.descendants(self.pid)
        self._signal_group(signal.SIGKILL)
        for process in kin:
            guardian.kill(process)
        ended = guardian.end(lambda: guardian.marked(self._mark, whole=True), limit_s=END_S, empty_scans=1)
        if not self._over:
            self._await_leader()
        return ended

    def _await_leader(self) -> None:
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return  # reaped in this moment
        try:
            select.select([fd], [], [], END_S)
        finally:
            os.close(fd)

    def _write_rest(self) -> None:
        rest, written = self._rest, self._written
        assert rest is not None
        assert written is not None
        reason = ""
        try:
            while rest:
                rest = rest[os.write(self._input, rest) :]
        except BlockingIOError:
            if self._rest is not None and len(self._rest) != len(rest):
                self._rest = rest
            self._loop.add_writer(self._input, self._write_rest)
            return
        except OSError as error:
            reason = f"the agent does not take its input any more: {error.strerror}"
        self._stop_writing()
        written(reason)

    def _stop_writing(self) -> None:
        if self._rest is not None:
            self._rest = self._written = None
            self._loop.remove_writer(self._input)

    def _read_output(self) -> bool:
        """False when there is nothing to read now."""
        try:
            data = os.read(self._output, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self._sink.output(data)
            return True
        self._output = self._close_reader(self._output)
        self._reading = False
        self._sink.output_ended()
        return False

    def _read_errors(self) -> None:
        try:
            data = os.read(self._errors, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._sink.errors(data)
        else:
            self._errors = self._close_reader(self._errors)

    def _ended(self) -> None:
        code = number = None
        try:
            status = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:
            log.error("process %s was reaped by somebody else; how it ended is not known", self.pid)
        else:
            if status is None:
                return
            if status.si_code == os.CLD_EXITED:
                code = status.si_status
            else:
                number = status.si_status
        self._over = True
        self._pidfd = self._close_reader(self._pidfd)
        self._sink.exited(code, number)

    def _close_reader(self, fd: int) -> int:
        if fd >= 0:
            self._loop.remove_reader(fd)
        return _close(fd)


async def _read_report(fd: int) -> str | None:
    """None when the program itself runs; else what the shim told ("" if it told nothing in time)."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[str | None] = loop.create_future()

    def read() -> None:
        data = os.read(fd, 16 * 1024)
        loop.remove_reader(fd)
        if not told.done():
            told.set_result(data.decode("utf-8", "surrogateescape") if data else None)

    loop.add_reader(fd, read)
    try:
        async with asyncio.timeout(SPAWN_S):
            return await told
    except TimeoutError:
        return ""
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def raise_files_limit() -> int:
    """Lets this process open as many files as it may; returns the limit that children are to have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def _enlarge(fd: int) -> None:
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass  # this user's share of pipe memory is used up: the usual size does as well


def _close(fd: int) -> int:
    if fd >= 0:
        os.close(fd)
    return -1
