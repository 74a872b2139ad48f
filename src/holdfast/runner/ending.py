"""The stop ladder of one process: close its input, ask it to end, kill it.

Owns when each rung is due. It performs nothing itself: the session gives it the three actions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from holdfast.wire.link import Ladder

Stage = Literal["", "close", "terminate", "kill"]


class Ending:
    """Once started it climbs until it is cancelled by the end of the process. A second start only brings rungs
    forward.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        close: Callable[[], None],
        terminate: Callable[[], None],
        kill: Callable[[], None],
    ) -> None:
        self.stage: Stage = ""
        self._loop = loop
        self._close = close
        self._terminate = terminate
        self._kill = kill
        self._terminate_at: float | None = None
        self._kill_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, ladder: Ladder) -> None:
        asked_at = self._loop.time() + (ladder.close_s or 0.0)
        kill_at = asked_at + (ladder.terminate_s or 0.0)
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)
        if ladder.terminate_s is not None and self.stage in ("", "close"):
            self._terminate_at = asked_at if self._terminate_at is None else min(self._terminate_at, asked_at)
        if ladder.close_s is not None and not self.stage:
            self.stage = "close"
            self._close()
        self._climb()

    def start_after(self, delay_s: float, ladder: Ladder) -> None:
        """Start later, unless it has been started by then."""
        if self._timer is None and not self.stage:
            self._timer = self._loop.call_later(delay_s, self.start, ladder)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _climb(self) -> None:
        self.cancel()
        if self.stage == "kill" or self._kill_at is None:
            return
        now = self._loop.time()
        if self._kill_at <= now:
            self.stage = "kill"
            self._kill()
            return
        if self._terminate_at is not None and self._terminate_at <= now:
            self.stage = "terminate"
            self._terminate_at = None
            self._terminate()
        due = self._kill_at if self._terminate_at is None else min(self._kill_at, self._terminate_at)
        self._timer = self._loop.call_at(due, self._climb)
