"""The engine's runner on this host: joined or started, and joined again when the link goes.

Owns the one link and its renewal; it knows no thread. `Runners` of the house, for a socket; embedding and tests have
their own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

from holdfast.engine.house import NoRunner
from holdfast.engine.link import Link, LinkClosed, LinkRefused
from holdfast.engine.runners import RunnerUnavailable, ensure_runner, runner_is_dead
from holdfast.errors import Unavailable
from holdfast.runner.journal import JournalDamagedError, read_records
from holdfast.wire.link import OLDEST, VERSION, Hello, Record, Restart

log = logging.getLogger("holdfast.engine")


class SocketRunners:
    """`restart` tells the runner how to start this server again, should it die without a goodbye."""

    def __init__(
        self, home: Path, journals: Path, *, peer: str, journal_days: float, restart: Restart | None
    ) -> None:
        self._home = home
        self._journals = journals
        self._hello = Hello(VERSION, OLDEST, peer, restart)
        self._journal_days = journal_days
        self._link: Link | None = None
        self._joining = asyncio.Lock()
        self._closed = False

    async def link(self, *, start: bool = True) -> Link:
        if self._link is not None and not self._link.closed.is_set():
            return self._link
        async with self._joining:
            if self._closed:
                raise Unavailable("shutting_down", "cannot reach the runner: because this server is stopping")
            if self._link is not None and not self._link.closed.is_set():
                return self._link
            if not start and runner_is_dead(self._home):
                raise NoRunner(
                    "agent_unavailable", f"cannot reach a runner of {self._home}: because none lives"
                )
            try:
                self._link = await ensure_runner(self._home, self._hello, journal_days=self._journal_days)
            except (RunnerUnavailable, LinkRefused, LinkClosed) as error:
                raise Unavailable("agent_unavailable", f"cannot reach a runner: because {error}") from error
            log.info("joined runner %s (pid %d)", self._link.welcome.runner, self._link.welcome.pid)
            return self._link

    def current(self) -> Link | None:
        """The link if there is a live one; starts nothing."""
        return self._link if self._link is not None and not self._link.closed.is_set() else None

    def lost_records(self, session: str, after: int) -> Iterator[Record]:
        try:
            yield from read_records(self._journals, session, after)
        except JournalDamagedError as error:
            log.error("cannot read all of the journal of %s: because %s", session, error)

    async def close(self) -> None:
        """Say goodbye: the runner and its agents go on."""
        self._closed = True
        if self._link is not None:
            await self._link.aclose(goodbye=True)
