"""A thread of Holdfast as a client has it: prompts over one connection, events over another.

Owns what counts as a turn's time: from the first byte of the POST to the run's end at the reader, decoded.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from bench.http import Follower
from bench.server import Server


class Conversation:
    """`with Conversation(server, "scripted", "hello")`: the thread is open and its first run has ended."""

    def __init__(self, server: Server, agent: str, first: str) -> None:
        began = time.perf_counter()
        self._requests = server.requests()
        body = {"agent": agent, "cwd": str(server.workspace), "message": {"text": first}}
        self.id = str(self._requests.post("/threads", body)["thread"]["id"])
        self._follower = Follower(server.url, server.token, self.id, 0)
        self._follower.ended()
        #: milliseconds of the first message, from nothing but a server
        self.first_ms = 1000 * (time.perf_counter() - began)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._requests.__exit__(None, None, None)
        self._follower.__exit__(None, None, None)

    def turn_ms(self, text: str) -> float:
        began = time.perf_counter()
        self._requests.post(f"/threads/{self.id}/messages", {"text": text})
        self._follower.ended()
        return 1000 * (time.perf_counter() - began)
