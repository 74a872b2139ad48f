"""Finding the server of a home, starting one in the background, and ending it.

Owns the agreement between parallel starts: one starts, the others wait for it, all within a bound. Whether a server is
there is told by the home's lock and by its answer, never by a pid in a file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from holdfast.client.probe import version_at
from holdfast.config.environment import SESSION_MARK
from holdfast.errors import HoldfastError
from holdfast.home import Home, ServerInfo
from holdfast.settings import BOUNDS
from holdfast.surfaces.cli.invocation import UNAVAILABLE, Stop
from holdfast.surfaces.server_program import server_command

if TYPE_CHECKING:
    from holdfast.client import SyncClient

Say = Callable[[str], None]

LOOK_EVERY_S = 0.03
SAY_AFTER_S = 1.0


def connected(home: Home, *, start: bool, say: Say) -> SyncClient:
    """A client of the home's server."""
    info = running(home)
    if info is None:
        if not start:
            raise Stop(
                "unreachable",
                f"cannot reach a server: because none runs for {home.path}; start it with `holdfast serve`, or leave "
                "--no-start out",
                UNAVAILABLE,
            )
        info = start_in_background(home, say=say)
    from holdfast.client import SyncClient

    def relocate() -> str | None:
        now = home.server()
        return now.url if now else None

    return SyncClient(info.url, home.token(), relocate=relocate)


def running(home: Home) -> ServerInfo | None:
    """The server that holds the home and answers, if there is one."""
    if not home.is_held():
        return None
    info = home.server()
    return info if info is not None and version_at(info.url) else None


def start_in_background(home: Home, *, say: Say, host: str = "", port: int | None = None) -> ServerInfo:
    """Returns when a server of the home answers, whoever started it."""
    home.prepare()
    deadline = time.monotonic() + BOUNDS.server_start_s
    say_at = time.monotonic() + SAY_AFTER_S
    child: subprocess.Popen[bytes] | None = None
    with _starting_lock(home) as take:
        while True:
            if (info := running(home)) is not None:
                if child is not None:
                    child.returncode = 0  # it lives on without us
                return info
            if child is None and take() and not home.is_held():
                child = _spawn(home, server_command(home, host=host, port=port))
            if child is not None and child.poll() is not None and not home.is_held():
                raise _did_not_start(home, child.returncode)
            now = time.monotonic()
            if now > deadline:
                raise _did_not_start(home, None)
            if now > say_at:
                say("waiting for the server to start ...")
                say_at = now + 5.0
            time.sleep(LOOK_EVERY_S)


@contextlib.contextmanager
def _starting_lock(home: Home) -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether it is ours to start the server; ours until the context ends."""
    handle = os.open(home.logs_dir / "starting", os.O_RDWR | os.O_CREAT, 0o600)

    def take() -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        yield take
    finally:
        os.close(handle)


def _spawn(home: Home, argv: list[str]) -> subprocess.Popen[bytes]:
    """A server that outlives this process and its terminal; its output goes to its log."""
    with contextlib.suppress(OSError):
        if home.server_log.stat().st_size > BOUNDS.log_bytes_max:
            home.server_log.replace(home.server_log.with_suffix(".log.1"))
    handle = os.open(home.server_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            cwd=home.path,
            env={name: value for name, value in os.environ.items() if name != SESSION_MARK},
            start_new_session=True,
        )
    finally:
        os.close(handle)


def _did_not_start(home: Home, code: int | None) -> Stop:
    why = (
        f"it ended with code {code}"
        if code is not None
        else f"it does not answer within {BOUNDS.server_start_s:g} s"
    )
    try:
        with home.server_log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 64 * 1024))
            tail = log.read().decode("utf-8", "replace").splitlines()[-BOUNDS.log_tail_lines :]
    except OSError:
        tail = []
    shown = "\n".join(f"    {line}" for line in tail)
    return Stop(
        "server_not_started",
        f"cannot start the server: because {why}; see {home.server_log}, which ends:\n{shown}",
        code if code in (2, 4) else UNAVAILABLE,
    )


# Ending


def stop(home: Home, *, agents: bool, force: bool, say: Say) -> int | None:
    """Ends the home's server, and with `agents` its runner with all it holds. The pid that was ended, None: none ran."""
    pid = _stop_server(home, agents=agents, force=force, say=say)
    if agents:
        stop_runner(home)
    return pid


def _stop_server(home: Home, *, agents: bool, force: bool, say: Say) -> int | None:
    if not home.is_held():
        return None
    info = home.server()
    pid = home.holder_pid() or (info.pid if info else None)
    if pid is None:
        raise HoldfastError(
            "home_held", f"cannot stop the server: because nobody knows the pid that holds {home.path}"
        )
    _signal(pid, signal.SIGUSR1 if agents and not force else signal.SIGTERM)
    patience = BOUNDS.http_drain_s + 2.0 if force else BOUNDS.server_stop_s
    if _gone(home, patience + (BOUNDS.stop_wait_s if agents and not force else 0)):
        return pid
    if not force:
        raise Stop(
            "busy",
            f"cannot stop the server: because pid {pid} did not end within {patience:g} s; "
            "use --force to kill it",
            UNAVAILABLE,
        )
    say(f"pid {pid} did not end; killing it")
    _signal(pid, signal.SIGKILL)
    if not _gone(home, BOUNDS.server_stop_s):
        raise Stop(
            "busy", f"cannot stop the server: because pid {pid} does not even end when killed", UNAVAILABLE
        )
    home.server_path.unlink(missing_ok=True)
    _say_goodbye_for(home)
    return pid


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _gone(home: Home, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while home.is_held():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


# The runner, where no server is asked


def stop_runner(home: Home) -> bool:
    """Ends the home's runner and all agents; False if there is none."""
    import asyncio

    from holdfast.engine.link import LinkClosed, LinkRefused
    from holdfast.engine.link_socket import SocketLink
    from holdfast.runner.home import RunnerHome
    from holdfast.wire.link import OLDEST, VERSION, Hello, Ladder

    place = RunnerHome(home.path)
    if not place.is_held():
        return False

    async def end() -> None:
        async with asyncio.timeout(BOUNDS.stop_wait_s):
            link = await SocketLink.connect(place.socket(), Hello(VERSION, OLDEST, "holdfast command line"))
            with contextlib.suppress(LinkClosed):
                await link.shutdown(Ladder(close_s=BOUNDS.close_s, terminate_s=BOUNDS.stop_terminate_s))
                await link.aclose()

    try:
        asyncio.run(end())
        until = time.monotonic() + BOUNDS.server_stop_s
        while place.is_held():
            if time.monotonic() > until:
                raise TimeoutError
            time.sleep(LOOK_EVERY_S)
    except (OSError, LinkClosed, LinkRefused, TimeoutError) as error:
        why = str(error) or "it did not end in time"
        raise Stop("busy", f"cannot stop the runner: because {why}; see {place.log}", UNAVAILABLE) from error
    return True


def _say_goodbye_for(home: Home) -> None:
    """A killed server said no goodbye, and its runner would start it again: a greeting tells that it is meant."""
    import asyncio

    from holdfast.engine.link import LinkClosed, LinkRefused
    from holdfast.engine.link_socket import SocketLink
    from holdfast.runner.home import RunnerHome
    from holdfast.wire.link import OLDEST, VERSION, Hello

    async def greet() -> None:
        async with asyncio.timeout(5.0):
            link = await SocketLink.connect(
                RunnerHome(home.path).socket(), Hello(VERSION, OLDEST, "holdfast serve --stop")
            )
            await link.aclose()

    with contextlib.suppress(OSError, LinkClosed, LinkRefused, TimeoutError):
        asyncio.run(greet())
