"""Puts an engine together for a home and takes it apart again: the one place that chooses implementations.

`open_engine` recovers in the background: the engine answers reads and commands at once, and `ready` tells how far
recovery is. Called by `serve` and by programs that embed Holdfast.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import holdfast
from holdfast.agents.catalog import KINDS
from holdfast.config import Config
from holdfast.core.policies import Limits
from holdfast.engine.agents import ConfiguredAgents
from holdfast.engine.clock import SystemClock
from holdfast.engine.engine import Engine
from holdfast.engine.feed import Feed
from holdfast.engine.hosts import SocketRunners
from holdfast.engine.house import Bounds, House, Tasks
from holdfast.engine.recovery import Found, recover
from holdfast.engine.workers import Workers
from holdfast.home import Home
from holdfast.store.sqlite import SqliteStore
from holdfast.wire.link import Restart

log = logging.getLogger("holdfast.engine")

FEED_WINDOW_BYTES = 4 * 1024 * 1024
"""What one reader may be behind before it is told to read on from the log: some seconds of a fast agent."""

PRUNE_EVERY_S = 3600.0
"""How often receipts that are past their keeping are forgotten."""


@asynccontextmanager
async def open_engine(home: Home, config: Config, *, restart: Restart | None = None) -> AsyncIterator[Engine]:
    """The engine of this home. The caller holds the home's lock. Agents go on when it is closed."""
    store = await SqliteStore.open(home.db_path)
    clock = SystemClock()
    runners = SocketRunners(
        home.path,
        home.journals_dir,
        peer=f"holdfast {holdfast.__version__} pid {os.getpid()}",
        journal_days=float(config.limits.journal_days or 0),
        restart=restart,
    )
    agents = ConfiguredAgents(config, KINDS, os.environ, runners)
    found = Found()
    try:
        async with Tasks() as tasks:
            house = House(
                store=store,
                runners=runners,
                agents=agents,
                feed=Feed(FEED_WINDOW_BYTES),
                clock=clock,
                tasks=tasks,
                limits=_limits(config),
                bounds=_bounds(config),
                kinds=KINDS,
            )
            workers = Workers(house)
            engine = Engine(house, agents, workers, found)
            try:
                tasks.start(recover(workers, found), "recovery")
                tasks.start(agents.probe(), "probes of agents")
                tasks.start(_prune(house, config), "pruning of receipts")
                yield engine
            finally:
                engine.stop_taking()
                workers.close()
    finally:
        await runners.close()
        await store.close()


def _limits(config: Config) -> Limits:
    bounds, limits = config.bounds, config.limits
    return Limits(
        stall_s=limits.stall_s,
        silence_s=limits.silence_s,
        run_s=limits.run_s,
        handshake_s=bounds.handshake_s,
        prompt_s=bounds.prompt_seen_s,
        history_s=bounds.history_s,
        interrupt_s=bounds.stop_interrupt_s,
        forced_end_s=bounds.forced_end_s,
        activity_s=bounds.activity_s,
        restarts_max=bounds.restart_attempts_max,
    )


def _bounds(config: Config) -> Bounds:
    return Bounds(
        frame_bytes_max=config.limits.frame_bytes_max,
        unacked_bytes_max=config.limits.journal_bytes_max,
        close_s=config.bounds.close_s,
        terminate_s=config.bounds.stop_terminate_s,
        workers_max=config.bounds.threads_in_memory_max,
        page=config.bounds.feed_page_max,
    )


async def _prune(house: House, config: Config) -> None:
    keep_s = config.bounds.idempotency_days * 86400.0
    while True:
        gone = await house.store.prune(receipts_before=house.clock.now() - keep_s)
        if gone:
            log.info("forgot %d receipts older than %d days", gone, config.bounds.idempotency_days)
        await asyncio.sleep(PRUNE_EVERY_S)
