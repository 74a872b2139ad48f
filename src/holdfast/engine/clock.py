"""The clock port: what time it is, and how to be called later. The simulator has one of its own.

Wall time goes into events; waiting is done by the loop's monotonic time, so that a stepped wall clock ends nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds."""
        ...

    def call_later(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Call once after that many seconds; the handle cancels."""
        ...


class SystemClock:
    """The machine's clock and the running loop."""

    def now(self) -> float:
        return time.time()

    def call_later(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(max(0.0, delay_s), call)
