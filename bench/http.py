"""HTTP as lean as it gets: blocking sockets, one request at a time, and a reader of an event stream.

Owns sockets and framing, so that what is measured is the server and not a client library. It knows no route.
"""

from __future__ import annotations

import secrets
import socket
from collections import deque
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httptools
import msgspec

from holdfast.client.events import Splitter

PREFIX = "/api/v1"
ANSWER_S = 60.0
READ_BYTES = 256 * 1024


class _Connection:
    """One connection and the answer that is being read from it; the parser's callbacks fill it."""

    def __init__(self, url: str, token: str) -> None:
        where = urlsplit(url)
        self._head = f"Host: {where.netloc}\r\nAuthorization: Bearer {token}\r\n"
        self._socket = socket.create_connection((where.hostname, where.port), timeout=ANSWER_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = httptools.HttpResponseParser(self)
        self.pieces: list[bytes] = []
        self.complete = False

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        self.complete = True

    def send(self, method: str, path: str, body: bytes = b"", more: str = "") -> None:
        self.pieces, self.complete = [], False
        self._parser = httptools.HttpResponseParser(self)
        head = f"{method} {PREFIX}{path} HTTP/1.1\r\n{self._head}{more}Content-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)

    def receive(self) -> None:
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise ConnectionError("cannot go on: because the server closed the connection")
        self._parser.feed_data(data)

    @property
    def status(self) -> int:
        return int(self._parser.get_status_code())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._socket.close()


class Requests(_Connection):
    """Requests one after the other over a connection that stays open."""

    def get(self, path: str, expected: tuple[int, ...] = (200,)) -> Any:
        self.send("GET", path)
        return self._answer(path, expected)

    def post(self, path: str, body: object) -> Any:
        key = f"Idempotency-Key: {secrets.token_hex(16)}\r\nContent-Type: application/json\r\n"
        self.send("POST", path, msgspec.json.encode(body), key)
        return self._answer(path, (200, 201, 202))

    def _answer(self, path: str, expected: tuple[int, ...]) -> Any:
        while not self.complete:
            self.receive()
        body = b"".join(self.pieces)
        if self.status not in expected:
            raise RuntimeError(f"cannot measure: because {path} answered {self.status}: {body[:500]!r}")
        return msgspec.json.decode(body)


class Follower(_Connection):
    """The event stream of a thread; every event is decoded as it comes."""

    def __init__(self, url: str, token: str, thread: str, after: int) -> None:
        super().__init__(url, token)
        self._splitter = Splitter()
        self._events: deque[tuple[str, Any]] = deque()
        self.send("GET", f"/threads/{thread}/events?after={after}")

    def next(self) -> tuple[str, Any]:
        """Type and content of the next event."""
        while not self._events:
            self.receive()
            for piece in self.pieces:
                self._events.extend(
                    (event.event, msgspec.json.decode(event.data)) for event in self._splitter.feed(piece)
                )
            self.pieces.clear()
        return self._events.popleft()

    def until(self, name: str) -> Any:
        while True:
            kind, content = self.next()
            if kind == name:
                return content

    def ended(self) -> None:
        """The end of a run that completed."""
        status = self.until("run.ended")["data"]["status"]
        if status != "completed":
            raise RuntimeError(f"cannot measure: because a run ended {status}")
