"""How much the database grows by a megabyte that comes in ten thousand pieces."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.conversation import Conversation
from bench.figures import Row, Target, told
from bench.server import Server

TEXT = "text 1000000 100 0"
REST_S = 3.0


def measure(quick: bool) -> Iterator[Row]:
    rounds = 1 if quick else 3
    with Server() as server, Conversation(server, "scripted", "hello") as thread:
        time.sleep(REST_S)
        grown, took = [], []
        for _ in range(rounds):
            before = server.stored_bytes()
            took.append(thread.turn_ms(TEXT) / 1000)
            time.sleep(REST_S)
            grown.append((server.stored_bytes() - before) / 1e6)
        yield told("database growth, 1 MB in 10,000 pieces", "MB", grown, Target("<=", 3, "MB"))
        yield told("1 MB in 10,000 pieces, to the reader", "s", took)
