"""Server-sent events: one thread's log from a version on, then live, until either side leaves.

Owns the framing and the life of a stream. What it sends comes from the engine's `follow`. Event data is the same
object as on the WebSocket: {"type", "thread", "version", "at", "data"}; pieces of text carry no version and no id.

Three ends: the client goes, the server stops (a last comment says so), or the feed ends. Whoever comes back sends
`Last-Event-ID` and misses nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.types import Send

from holdfast.engine.port import CaughtUp, FeedEvent, Resync, Text
from holdfast.errors import HoldfastError
from holdfast.surfaces.http.bodies import invalid
from holdfast.surfaces.http.call import Call, Sent
from holdfast.wire.api import EventObject, Snapshot

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),
]
KEEP_ALIVE = b": keep-alive\n\n"
STOPPING = b": the server stops; come back with Last-Event-ID\n\n"

_encode = msgspec.json.encode


class _Envelope(msgspec.Struct):
    """What is no event of the log, in the log's own form."""

    type: str
    thread: str
    version: int
    data: Any


class _Piece(msgspec.Struct):
    """A piece of text: without a version, because it is not in the log."""

    type: str
    thread: str
    data: Text


def frame(thread_id: str, event: FeedEvent) -> bytes:
    """One event as it goes over the wire."""
    match event:
        case EventObject():
            return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.version, event.type.encode(), _encode(event))
        case Text():
            return b"event: text\ndata: %b\n\n" % _encode(_Piece("text", thread_id, event))
        case Snapshot():
            data = _encode(_Envelope("snapshot", thread_id, event.version, event))
            return b"id: %d\nevent: snapshot\ndata: %b\n\n" % (event.version, data)
        case CaughtUp():
            data = _encode(_Envelope("caught_up", thread_id, event.version, {}))
            return b"id: %d\nevent: caught_up\ndata: %b\n\n" % (event.version, data)
        case Resync():
            # without an id: the reader's own last version is where it must go on
            return b"event: resync\ndata: %b\n\n" % _encode(_Envelope("resync", thread_id, event.version, {}))


def start_after(call: Call) -> int | None:
    """`Last-Event-ID` wins over `after`; None without either."""
    query = call.query(("after",))
    for name, text in (("Last-Event-ID", call.header(b"last-event-id")), ("after", query.get("after"))):
        if text is not None and text != "":
            if not text.isascii() or not text.isdigit() or len(text) > 18:
                raise invalid(
                    f"cannot read {name}: because {text[:40]!r} is no version; allowed is 0 or more"
                )
            return int(text)
    return None


async def events(call: Call) -> Sent:
    """GET /threads/{id}/events."""
    after = start_after(call)
    async with call.engine.follow(call.caller, call.id, after=after) as feed:
        await call.send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        line = _Line(call.send)
        await line.write(b"retry: %d\n\n" % call.bounds.sse_retry_ms)
        last_words: bytes | None = b""
        try:
            async with asyncio.TaskGroup() as group:
                watch = [
                    group.create_task(_until_gone(call)),
                    group.create_task(_until_stopping(call)),
                    group.create_task(_keep_alive(line, call.bounds.sse_keep_alive_s)),
                ]
                async for event in feed:
                    await line.write(frame(call.id, event))
                for task in watch:
                    task.cancel()
        except* _Gone:
            last_words = None
        except* _Stopping:
            last_words = STOPPING
        except* HoldfastError as errors:
            # the answer has begun: all that is left to say is a comment, and to end
            last_words = b": %b\n\n" % str(errors.exceptions[0]).replace("\n", " ").encode()
    if last_words is not None:
        await call.send({"type": "http.response.body", "body": last_words, "more_body": False})
    return Sent()


class _Gone(Exception):
    """The client has left."""


class _Stopping(Exception):
    """The server is asked to stop."""


class _Line:
    """The response's body; knows when it last carried something."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._clock = asyncio.get_running_loop().time
        self.last = self._clock()

    async def write(self, data: bytes) -> None:
        self.last = self._clock()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def silent_for(self) -> float:
        return self._clock() - self.last


async def _until_gone(call: Call) -> None:
    while (await call.receive())["type"] != "http.disconnect":
        pass
    raise _Gone


async def _until_stopping(call: Call) -> None:
    await call.stopping.wait()
    raise _Stopping


async def _keep_alive(line: _Line, every_s: float) -> None:
    while True:
        await asyncio.sleep(max(every_s - line.silent_for(), 0.01))
        if line.silent_for() >= every_s:
            await line.write(KEEP_ALIVE)
