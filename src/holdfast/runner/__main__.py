"""The runner as a process of its own: `python -m holdfast.runner --home HOME`.

Owns the order of its start and end, and its signals. It is started by whoever needs a runner (`engine.runners`), lives
on without a server, and leaves when it is told to, or after an hour with nothing to hold.
"""

import sys

if __name__ == "__main__":
    sys.modules["ssl"] = None  # type: ignore[assignment] # asyncio does without; it is a fifth of our memory

import argparse
import asyncio
import logging
import os
import secrets
import signal
import time
from pathlib import Path

from holdfast import __version__
from holdfast.runner import marks
from holdfast.runner.core import RunnerCore
from holdfast.runner.home import HeldError, RunnerHome, RunnerInfo
from holdfast.runner.host import HostCalls
from holdfast.runner.keeper import Keeper
from holdfast.runner.keeping import FileJournals
from holdfast.runner.locks import FileLocks, shared_folder
from holdfast.runner.processes import PosixSpawner, raise_files_limit
from holdfast.runner.restarts import Restarts
from holdfast.runner.server import listen
from holdfast.wire.link import Ladder

log = logging.getLogger("holdfast.runner")

HELD = 3
"""Exit code: another runner serves this home."""

TERMINATED = Ladder(close_s=1.0, terminate_s=3.0)
LOOK_EVERY_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="holdfast.runner", description="Holds the agent processes of one home."
    )
    parser.add_argument("--home", type=Path, required=True, help="the home it belongs to")
    parser.add_argument(
        "--detach", action="store_true", help="go on in the background, the log in HOME/runner"
    )
    parser.add_argument("--journal-days", type=float, default=14.0, help="how long ended journals are kept")
    parser.add_argument(
        "--idle-s", type=float, default=3600.0, help="leave after so long with nothing to hold"
    )
    options = parser.parse_args()
    home = RunnerHome(options.home.absolute())
    home.prepare()
    if options.detach:
        detach(home.log)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        home.acquire()
    except HeldError as error:
        log.error("%s", error)
        return HELD
    try:
        asyncio.run(run(home, options.journal_days, options.idle_s))
    finally:
        home.leave()
    return 0


async def run(home: RunnerHome, journal_days: float, idle_s: float) -> None:
    runner_id = "r" + secrets.token_hex(8)
    spawner = PosixSpawner(files_max=raise_files_limit())
    marks.sweep(home.marks)
    marks.note(home.marks, runner_id)
    loop = asyncio.get_running_loop()
    keeper = Keeper(runner_id, spawner)
    loop.add_signal_handler(signal.SIGCHLD, keeper.children_changed)
    for ignored in (signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    keeper.start()
    holder: dict[str, object] = {"home": str(home.home), "runner": runner_id, "pid": os.getpid()}
    journals = FileJournals(home.journals)
    core = RunnerCore(
        runner_id=runner_id,
        pid=os.getpid(),
        spawner=spawner,
        journals=journals,
        locks=FileLocks(shared_folder(), holder),
        host=HostCalls(spawner, runner_id),
        now=time.time,
    )
    async with core:
        Restarts(core, home.home / "logs" / "server.log")
        loop.add_signal_handler(signal.SIGTERM, lambda: core.start_task(end(core)))
        server = await listen(core, home.new_socket())
        home.publish(RunnerInfo(runner_id, os.getpid(), __version__, time.time()))
        log.info("runner %s of %s is ready", runner_id, home.home)
        try:
            await until_over(core, home, journals, journal_days, idle_s)
        finally:
            server.close()
            home.withdraw()
    marks.remove(home.marks, runner_id)
    keeper.close()
    log.info("runner %s leaves", runner_id)


async def until_over(
    core: RunnerCore, home: RunnerHome, journals: FileJournals, journal_days: float, idle_s: float
) -> None:
    """Returns when the runner was told to leave, its home is gone, or it had nothing to hold for long enough."""
    clock = asyncio.get_running_loop().time
    idle_since = clock()
    prune_at = clock()
    while True:
        if clock() >= prune_at:
            journals.prune(time.time(), journal_days)
            prune_at = clock() + 3600.0
        try:
            async with asyncio.timeout(min(LOOK_EVERY_S, idle_s)):
                await core.stopped.wait()
            return
        except TimeoutError:
            pass
        if not home.exists():
            log.warning("%s was removed: nobody can find this runner any more", home.folder)
            await core.end_sessions(TERMINATED)
            return
        if not core.idle:
            idle_since = clock()
        elif clock() - idle_since >= idle_s:
            log.info("nothing to hold for %d s", idle_s)
            return


async def end(core: RunnerCore) -> None:
    log.info("told to end: ending %d sessions", len(core.sessions))
    await core.end_sessions(TERMINATED)
    core.stopped.set()


def detach(log_path: Path) -> None:
    """Go on as a process that nothing here waits for: own session, no parent of ours, output to the log."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if log_path.exists() and log_path.stat().st_size > 5 * 1024 * 1024:
        log_path.rename(log_path.with_suffix(".log.1"))
    output = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.close(nothing)
    os.chdir("/")


if __name__ == "__main__":
    sys.exit(main())
