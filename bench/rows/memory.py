"""What server and runner weigh when nothing happens, and what each idle session adds to them."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.conversation import Conversation
from bench.figures import Row, Target, told
from bench.server import Server
from tests.house import processes

FEW = 10
REST_S = 3.0
"""Longer than the store waits before it tidies up."""


def measure(quick: bool) -> Iterator[Row]:
    many = FEW + (15 if quick else 50)
    with Server() as server:
        _open(server, FEW)
        few = _resting(server)
        _open(server, many - FEW)
        more = _resting(server)
        yield told("memory of the server, idle", "MB", [few[0] / 1e6], Target("<=", 90, "MB"))
        yield told("memory of the runner, idle", "MB", [few[1] / 1e6])
        grown = (sum(more) - sum(few)) / (many - FEW) / 1000
        yield told("memory per idle session", "KB", [grown], Target("<=", 300, "KB"))


def _open(server: Server, count: int) -> None:
    for _ in range(count):
        with Conversation(server, "scripted", "hello"):
            pass


def _resting(server: Server) -> tuple[int, int]:
    """Bytes of server and runner."""
    time.sleep(REST_S)
    return processes.resident_bytes(server.pid), processes.resident_bytes(server.runner_pid)
