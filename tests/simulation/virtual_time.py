"""An asyncio event loop without sockets, threads or waiting: when nothing is ready, time is the next timer's.

Deterministic: callbacks run in the order in which they were scheduled, and the clock moves by timers alone. A loop in
which nothing can ever happen again raises `Stuck` instead of hanging.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

RESOLUTION_S = 1e-6
STEPS_MAX = 200_000
"""Turns of the loop in one simulation: far above what a seed needs, and the end of one that spins."""


class Stuck(Exception):
    """Nothing is ready and no timer is set, or the loop spins without end."""


class _Selector:
    """What `BaseEventLoop` calls when it wants to wait."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._steps = 0

    def select(self, timeout: float | None) -> list[Any]:
        self._steps += 1
        if timeout is None:
            raise Stuck("nothing is ready, and no timer is set")
        if self._steps > STEPS_MAX:
            raise Stuck(f"the loop spins: {STEPS_MAX} turns at {self._loop.time():.3f} s")
        if timeout > 0:
            self._loop.advance(timeout)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Time begins at 0. What would need a thread or a socket is an error here."""

    def __init__(self) -> None:
        super().__init__()
        self._clock_resolution = RESOLUTION_S
        self._virtual = 0.0
        self._selector = _Selector(self)
        self.faults: list[str] = []
        self.set_exception_handler(self._note_fault)

    def time(self) -> float:
        return self._virtual

    def advance(self, seconds: float) -> None:
        self._virtual += seconds

    def _process_events(self, event_list: list[Any]) -> None:
        return

    def _write_to_self(self) -> None:
        return

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        raise AssertionError(f"the simulation has no threads, and was asked to run {func} in one")

    def _note_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(f"{context.get('message')}: {context.get('exception')!r}")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a loop of its own. What nobody caught is an error."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        result = loop.run_until_complete(main)
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    assert not loop.faults, loop.faults
    return result
