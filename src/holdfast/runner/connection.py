"""The runner's end of one link: handshake, calls and their replies, and the streams of records.

Owns what one connected control plane has asked for and how its streams share the link: bounded windows, fair turns,
replies ahead of records. It opens no socket (a carrier moves the bytes) and decides nothing about sessions (the core
does).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import msgspec

from holdfast import faults
from holdfast.runner.core import RunnerCore
from holdfast.runner.ports import Cursor, HostError
from holdfast.runner.session import Session
from holdfast.wire import link
from holdfast.wire.link import BATCH_BYTES, BATCH_RECORDS, WINDOW_BYTES

log = logging.getLogger(__name__)

ACKED = faults.declare("runner.ack", "an acknowledgement has been counted")

TURNS_IN_A_ROW = 8
"""Batches sent before the event loop gets its turn."""


class Carrier(Protocol):
    """Moves whole messages to the peer, in order."""

    @property
    def paused(self) -> bool:
        """The peer reads too slowly: send no more records until `Connection.resume`."""

    def send(self, message: bytes) -> None: ...

    def close(self) -> None:
        """After what was sent has left."""


class Feed:
    """One session's records on their way to one connection: from the journal while it is behind, else from memory."""

    def __init__(self, connection: Connection, session: Session, after: int) -> None:
        self.connection = connection
        self.session = session
        self.waiting = False
        self._cursor: Cursor | None = None
        self._live: list[bytes] = []
        self._live_bytes = 0
        self._next = after + 1
        self._under_way: deque[tuple[int, int]] = deque()  # last record and bytes of each batch not yet taken
        self._under_way_bytes = 0
        if after < session.journal.last:
            self._cursor = session.journal.cursor(after)

    def appended(self, records: Sequence[bytes]) -> None:
        if self._cursor is None:
            self._live += records
            self._live_bytes += sum(map(len, records))
            if self._live_bytes > BATCH_BYTES and (self.connection.carrier.paused or not self._window_open()):
                self._fall_back()
        self.connection.ready(self)

    def taken(self, no: int) -> None:
        while self._under_way and self._under_way[0][0] <= no:
            self._under_way_bytes -= self._under_way.popleft()[1]
        self.connection.ready(self)

    def batch(self) -> list[bytes]:
        """What may be sent now, within the bounds of one message."""
        if not self._window_open():
            return []
        records = self._from_journal() if self._cursor is not None else self._from_memory()
        if records:
            self._next += len(records)
            size = sum(map(len, records))
            self._under_way.append((self._next - 1, size))
            self._under_way_bytes += size
        return records

    def close(self) -> None:
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None
        self._live.clear()

    def _window_open(self) -> bool:
        return self._under_way_bytes < WINDOW_BYTES

    def _from_memory(self) -> list[bytes]:
        if len(self._live) <= BATCH_RECORDS and self._live_bytes <= BATCH_BYTES:
            records, self._live, self._live_bytes = self._live, [], 0
            return records
        count = size = 0
        for record in self._live[:BATCH_RECORDS]:
            if count and size + len(record) > BATCH_BYTES:
                break
            count += 1
            size += len(record)
        records = self._live[:count]
        del self._live[:count]
        self._live_bytes -= size
        return records

    def _from_journal(self) -> list[bytes]:
        assert self._cursor is not None
        records = self._cursor.read(BATCH_BYTES, BATCH_RECORDS)
        if self._cursor.next > self.session.journal.last:
            self._cursor.close()
            self._cursor = None
        return records

    def _fall_back(self) -> None:
        """The reader is slow: the journal is the queue, not this memory."""
        self._live = []
        self._live_bytes = 0
        self._cursor = self.session.journal.cursor(self._next - 1)


class Connection:
    """One peer, from its Hello to the end of the link. The carrier calls `message`, `resume` and `lost`."""

    def __init__(self, core: RunnerCore, carrier: Carrier) -> None:
        self.carrier = carrier
        self.peer = ""
        self.restart: link.Restart | None = None
        self.said_goodbye = False
        self._core = core
        self._feeds: dict[str, Feed] = {}
        self._ready: deque[Feed] = deque()
        self._turn: asyncio.Handle | None = None
        self._open = True

    @property
    def attached(self) -> list[str]:
        return sorted(self._feeds)

    def message(self, data: bytes) -> None:
        """One message of the peer. Never raises: a bad one closes this connection alone."""
        if not self._open or self._core.dead:
            return
        try:
            self._handle(link.decode_down(data))
        except (msgspec.DecodeError, link.LinkError) as error:
            self.broken(str(error))
        except faults.Crash:
            self._core.crashed()

    def broken(self, reason: str) -> None:
        """The peer does not keep to the link's rules."""
        log.warning("closing the link to %s: because %s", self.peer or "a peer without a name", reason)
        self.carrier.close()
        self.lost()

    def resume(self) -> None:
        self._pump()

    def lost(self) -> None:
        """The link has ended, from whichever side."""
        if not self._open:
            return
        self._open = False
        if self._turn is not None:
            self._turn.cancel()
        for session in list(self._feeds):
            self._detach(session)
        self._core.disconnected(self)

    def ready(self, feed: Feed) -> None:
        if not feed.waiting:
            feed.waiting = True
            self._ready.append(feed)
        # In the next turn of the loop: what is noted together travels together, and is committed together.
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._next_turn)

    def dropped(self, session: str) -> None:
        """Another connection has taken the session's stream over."""
        feed = self._feeds.pop(session, None)
        if feed is not None:
            feed.close()

    # Records.

    def _pump(self) -> None:
        """Send what may be sent, a batch of each session in turn."""
        if self._turn is not None:
            return
        for _ in range(TURNS_IN_A_ROW):
            if not self._ready or self.carrier.paused or not self._open:
                return
            feed = self._ready.popleft()
            feed.waiting = False
            if self._feeds.get(feed.session.id) is not feed:
                continue
            records = feed.batch()
            if records:
                feed.waiting = True
                self._ready.append(feed)
                self.carrier.send(link.encode_records(feed.session.id, records))
        if self._ready:
            self._turn = asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        self._pump()

    # Messages.

    def _handle(self, message: link.Down | link.Unknown) -> None:
        if isinstance(message, link.Hello):
            self._hello(message)
            return
        if not self.peer:
            raise link.LinkError("its first message was not Hello")
        match message:
            case link.Write():
                code, detail = self._core.write(message.session, message.id, message.data)
                self._reply(message.call, code, detail)
            case link.Ack():
                self._core.acknowledge(message.session, message.no)
                faults.point(ACKED)
            case link.Taken():
                if feed := self._feeds.get(message.session):
                    feed.taken(message.no)
            case link.Attach():
                self._attach(message)
            case link.Detach():
                self._detach(message.session)
            case link.Goodbye():
                self.said_goodbye = True
            case link.Stop():
                self._reply(message.call, *self._core.stop(message.session, message.ladder))
            case link.Forget():
                self._reply(message.call, *self._core.forget(message.session))
            case link.Status():
                self._reply(message.call, result=self._core.status())
            case link.Open():
                self._core.start_task(self._open_session(message))
            case link.Host():
                self._core.start_task(self._host(message))
            case link.Shutdown():
                self._core.start_task(self._shut_down(message))
            case link.Unknown():
                log.info(
                    "ignoring a message of %s that this build does not know: %s", self.peer, message.name
                )

    def _hello(self, hello: link.Hello) -> None:
        if self.peer:
            raise link.LinkError("it said Hello twice")
        self.peer = hello.peer or "?"
        version, refused = link.agree(hello.version, hello.oldest)
        self._send(self._core.welcome(version, refused))
        if refused:
            self.broken(refused)
            return
        self.restart = hello.restart
        self._core.connected(self)

    def _attach(self, message: link.Attach) -> None:
        session = self._core.sessions.get(message.session)
        if session is None or session.state == "opening":
            self._reply(message.call, "unknown_session", f"no session {message.session} in this runner")
            return
        if not 0 <= message.after <= session.journal.last:
            detail = f"position {message.after} is not between 0 and {session.journal.last}"
            self._reply(message.call, "invalid", detail)
            return
        if isinstance(session.reader, Feed):
            session.reader.connection.dropped(session.id)
        feed = Feed(self, session, message.after)
        self._feeds[session.id] = feed
        session.reader = feed
        self._reply(message.call, result={"last": session.journal.last, "state": session.state})
        self.ready(feed)

    def _detach(self, session_id: str) -> None:
        feed = self._feeds.pop(session_id, None)
        if feed is None:
            return
        feed.close()
        if feed.session.reader is feed:
            feed.session.reader = None

    async def _open_session(self, message: link.Open) -> None:
        code, detail, result = await self._core.open(message.session, message.spec)
        self._reply(message.call, code, detail, result)

    async def _host(self, message: link.Host) -> None:
        try:
            result = await self._core.host.perform(message.action)
        except HostError as error:
            self._reply(message.call, error.code, error.detail)
        else:
            self._reply(message.call, result=result)

    async def _shut_down(self, message: link.Shutdown) -> None:
        await self._core.end_sessions(message.ladder)
        self._reply(message.call)
        self._core.stopped.set()

    def _reply(
        self, call: int, code: str = "", detail: str = "", result: dict[str, object] | None = None
    ) -> None:
        self._send(link.Reply(call, code, detail, result or {}))

    def _send(self, message: link.Up) -> None:
        if self._open:
            self.carrier.send(link.encode(message))
