"""Finding this home's runner, or starting one.

Owns how a runner process is started from here: detached, with an environment that holds nothing of ours. It decides
about no session.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import holdfast
from holdfast.engine.link import LinkClosed
from holdfast.engine.link_socket import SocketLink
from holdfast.runner.home import RunnerHome
from holdfast.wire.link import Hello

START_S = 15.0
TRY_EVERY_S = 0.02
START_AGAIN_S = 3.0
"""The runner that was started may have died at once, or lost against another that did."""

PASSED = frozenset(
    {"HOME", "USER", "LOGNAME", "PATH", "LANG", "TZ", "TMPDIR", "HOLDFAST_LOCKS", "HOLDFAST_FAULT_ONCE"}
    | {"LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "PYTHONWARNINGS"}
)
PASSED_PREFIXES = ("LC_", "XDG_")


class RunnerUnavailable(Exception):
    """No runner could be reached or started; the text says why and where to look."""


async def ensure_runner(
    home: Path, hello: Hello, *, journal_days: float = 14.0, start_s: float = START_S
) -> SocketLink:
    """A link to the home's runner, started if there is none. Of parallel callers one starts it, all get a link.

    Raises `RunnerUnavailable`, and `LinkRefused` where a living runner speaks no common version.
    """
    runner_home = RunnerHome(home)
    runner_home.prepare()
    try:
        async with asyncio.timeout(start_s):
            return await _join_or_start(runner_home, hello, journal_days)
    except TimeoutError as error:
        state = "it does not answer" if runner_home.is_held() else "it did not start"
        raise RunnerUnavailable(
            f"cannot reach a runner for {home}: because {state} within {start_s:g} s; see {runner_home.log}"
        ) from error


def runner_is_dead(home: Path) -> bool:
    """No runner of this home lives: what its journals hold is all that there will be."""
    return not RunnerHome(home).is_held()


async def _join_or_start(home: RunnerHome, hello: Hello, journal_days: float) -> SocketLink:
    clock = asyncio.get_running_loop().time
    start_again_at = clock()
    starting = -1
    try:
        while True:
            try:
                return await SocketLink.connect(home.socket(), hello)
            except (OSError, LinkClosed):
                pass  # nobody listens there, not yet, or no more
            if starting < 0:
                starting = home.try_starting()
            if starting >= 0 and clock() >= start_again_at and not home.is_held():
                await asyncio.to_thread(_start, home, journal_days)
                start_again_at = clock() + START_AGAIN_S
            await asyncio.sleep(TRY_EVERY_S)
    finally:
        if starting >= 0:
            os.close(starting)


def _start(home: RunnerHome, journal_days: float) -> None:
    """Returns when the runner is on its way; whether it lives is seen at its socket."""
    command = [sys.executable, "-m", "holdfast.runner", "--home", str(home.home), "--detach"]
    subprocess.run(
        [*command, "--journal-days", str(journal_days)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=runner_environment(dict(os.environ)),
        cwd="/",
        check=False,
    )


def runner_environment(env: dict[str, str]) -> dict[str, str]:
    """What of the server's environment a runner gets: neither secrets, nor the mark of a session we may run in."""
    passed = {
        name: value for name, value in env.items() if name in PASSED or name.startswith(PASSED_PREFIXES)
    }
    if env.get("HOLDFAST_FAULT", "").startswith("runner."):
        passed["HOLDFAST_FAULT"] = env["HOLDFAST_FAULT"]
    source = str(Path(holdfast.__file__).parent.parent)
    passed["PYTHONPATH"] = os.pathsep.join(filter(None, [source, passed.get("PYTHONPATH", "")]))
    return passed
