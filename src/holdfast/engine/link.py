"""The control plane's end of a link to a runner: calls with their answers, and streams of records.

Owns call numbers, what is attached, and the errors that a caller sees. It performs no decision and keeps nothing: the
engine's sessions use it, over whichever carrier (`LocalLink` in this process, `link_socket.SocketLink` on this host).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from holdfast.runner.connection import Connection
from holdfast.runner.core import RunnerCore
from holdfast.wire import link
from holdfast.wire.link import HostCall, Ladder, Record, Spec, Welcome

log = logging.getLogger(__name__)

TAKEN_BYTES = link.WINDOW_BYTES // 4
TAKEN_RECORDS = 4096


class LinkClosed(Exception):
    """The link has ended; what was asked may or may not have been done."""


class LinkRefused(Exception):
    """The runner refused. `code` is a code of `wire.link.Reply`, or `version`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class Link(Protocol):
    """A runner, as the engine sees it. Every coroutine raises `LinkClosed` when the link ends, and `LinkRefused`."""

    welcome: Welcome
    closed: asyncio.Event

    async def open(self, session: str, spec: Spec) -> dict[str, object]:
        """{"pid", "existing"}."""

    def write(self, session: str, write_id: str, data: bytes) -> Awaitable[object]:
        """On its way when this returns; the awaitable is done when the write is noted. Its `in` or `refused` record
        tells the rest. May be repeated."""

    def ack(self, session: str, no: int) -> None:
        """Everything up to `no` is committed."""

    def attach(self, session: str, after: int) -> AbstractAsyncContextManager[AsyncIterator[list[Record]]]:
        """The session's records after `after`, as they come, in lists. Ends with `LinkClosed` alone.

        A reader that does not read costs a bounded window here; the rest waits in the runner's journal.
        """

    async def stop(self, session: str, ladder: Ladder) -> None: ...

    async def forget(self, session: str) -> None: ...

    async def host(self, action: HostCall) -> dict[str, object]: ...

    async def status(self) -> dict[str, object]: ...

    async def shutdown(self, ladder: Ladder) -> None:
        """Returns when all agents have ended; the runner leaves after it."""

    async def aclose(self, goodbye: bool = True) -> None: ...


class Stream:
    """The records of one session on this end, until the link ends or another attach takes its place."""

    def __init__(self, session: str, taken: Callable[[str, int], None]) -> None:
        self.started = False
        self._session = session
        self._tell_taken = taken
        self._batches: deque[list[Record]] = deque()
        self._untold_bytes = 0
        self._untold_records = 0
        self._ended = ""
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> list[Record]:
        while not self._batches:
            if self._ended:
                raise LinkClosed(self._ended)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        records = self._batches.popleft()
        while self._batches:
            records += self._batches.popleft()
        self._untold_bytes += sum(len(record.data) for record in records)
        self._untold_records += len(records)
        if self._untold_bytes >= TAKEN_BYTES or self._untold_records >= TAKEN_RECORDS:
            self._untold_bytes = self._untold_records = 0
            self._tell_taken(self._session, records[-1].no)
        return records

    def put(self, records: list[Record]) -> None:
        if self.started and records:
            self._batches.append(records)
            self._wake()

    def end(self, reason: str) -> None:
        self._ended = self._ended or reason
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class MessageLink:
    """A link over a carrier of messages: a subclass gives `_send` and `_close`, and calls `_message` and `_lost`."""

    def __init__(self) -> None:
        self.welcome = Welcome(0, "", 0, 0.0)
        self.closed = asyncio.Event()
        self.unknown_messages = 0
        self._loop = asyncio.get_running_loop()
        self._greeted: asyncio.Future[Welcome] = self._loop.create_future()
        self._calls: dict[int, asyncio.Future[dict[str, object]]] = {}
        self._numbers = itertools.count(1)
        self._streams: dict[str, Stream] = {}
        self._attaching: dict[int, Stream] = {}

    async def open(self, session: str, spec: Spec) -> dict[str, object]:
        return await self._call(lambda call: link.Open(call, session, spec))

    def write(self, session: str, write_id: str, data: bytes) -> Awaitable[object]:
        return self._begin(lambda call: link.Write(call, session, write_id, data))

    def ack(self, session: str, no: int) -> None:
        if not self.closed.is_set():
            self._send(link.encode(link.Ack(session, no)))

    @contextlib.asynccontextmanager
    async def attach(self, session: str, after: int) -> AsyncIterator[AsyncIterator[list[Record]]]:
        stream = Stream(session, self._taken)
        if earlier := self._streams.get(session):
            earlier.end(f"session {session} was attached again")
        self._streams[session] = stream
        try:
            await self._call(lambda call: self._attach(call, session, after, stream))
            yield stream
        finally:
            if self._streams.get(session) is stream:
                del self._streams[session]
                if not self.closed.is_set():
                    self._send(link.encode(link.Detach(session)))

    async def stop(self, session: str, ladder: Ladder) -> None:
        await self._call(lambda call: link.Stop(call, session, ladder))

    async def forget(self, session: str) -> None:
        await self._call(lambda call: link.Forget(call, session))

    async def host(self, action: HostCall) -> dict[str, object]:
        return await self._call(lambda call: link.Host(call, action))

    async def status(self) -> dict[str, object]:
        return await self._call(link.Status)

    async def shutdown(self, ladder: Ladder) -> None:
        await self._call(lambda call: link.Shutdown(call, ladder))

    async def aclose(self, goodbye: bool = True) -> None:
        if not self.closed.is_set():
            if goodbye:
                self._send(link.encode(link.Goodbye()))
            self._close()
        await self.closed.wait()

    def _send(self, message: bytes) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError

    async def _greet(self, hello: link.Hello) -> None:
        """The handshake; raises `LinkRefused` with code `version`, or `LinkClosed`."""
        self._send(link.encode(hello))
        self.welcome = await self._greeted
        if self.welcome.refused:
            await self.aclose(goodbye=False)
            raise LinkRefused("version", self.welcome.refused)

    async def _call(self, message: Callable[[int], link.Down]) -> dict[str, object]:
        return await self._begin(message)

    def _begin(self, message: Callable[[int], link.Down]) -> asyncio.Future[dict[str, object]]:
        """Send the message; the future is its answer. Nothing is raised here."""
        answer: asyncio.Future[dict[str, object]] = self._loop.create_future()
        call = next(self._numbers)
        answer.add_done_callback(lambda done: self._answered(call, done))
        if self.closed.is_set():
            answer.set_exception(LinkClosed("the link to the runner has ended"))
            return answer
        data = link.encode(message(call))
        if len(data) > link.MESSAGE_BYTES_MAX:
            detail = f"a message of {len(data)} bytes is above {link.MESSAGE_BYTES_MAX}"
            answer.set_exception(LinkRefused("invalid", detail))
            return answer
        self._calls[call] = answer
        self._send(data)
        return answer

    def _answered(self, call: int, answer: asyncio.Future[dict[str, object]]) -> None:
        self._calls.pop(call, None)
        self._attaching.pop(call, None)
        if not answer.cancelled():
            answer.exception()  # whoever began the call may be gone: that is no fault of the loop's

    def _attach(self, call: int, session: str, after: int, stream: Stream) -> link.Attach:
        self._attaching[call] = stream
        return link.Attach(call, session, after)

    def _taken(self, session: str, no: int) -> None:
        if not self.closed.is_set():
            self._send(link.encode(link.Taken(session, no)))

    def _message(self, data: bytes) -> None:
        """One message of the runner. A bad one ends the link."""
        try:
            message = link.decode_up(data)
        except msgspec.DecodeError as error:
            log.error("closing the link to the runner: because a message of it cannot be read: %s", error)
            self._close()
            return
        match message:
            case link.Records():
                if stream := self._streams.get(message.session):
                    stream.put(message.records)
            case link.Reply():
                self._reply(message)
            case link.Welcome():
                if not self._greeted.done():
                    self._greeted.set_result(message)
            case link.Unknown():
                self.unknown_messages += 1
                log.info("ignoring a message of the runner that this build does not know: %s", message.name)

    def _reply(self, reply: link.Reply) -> None:
        stream = self._attaching.get(reply.call)
        if stream is not None and not reply.code:
            stream.started = True  # records that came before this are of an earlier attach
        answer = self._calls.get(reply.call)
        if answer is None or answer.done():
            return
        if reply.code:
            answer.set_exception(LinkRefused(reply.code, reply.detail))
        else:
            answer.set_result(reply.result)

    def _lost(self) -> None:
        """The link has ended, from whichever side."""
        if self.closed.is_set():
            return
        self.closed.set()
        reason = "the link to the runner has ended"
        if not self._greeted.done():
            self._greeted.set_exception(LinkClosed(reason))
        for answer in list(self._calls.values()):
            if not answer.done():
                answer.set_exception(LinkClosed(reason))
        for stream in self._streams.values():
            stream.end(reason)


class LocalLink(MessageLink):
    """A link to a runner core in this process: for tests, simulations and embedding.

    Messages are encoded and decoded as on a socket. `deliver` decides when one arrives at the other end; by default
    in the next turn of the loop, in order.
    """

    def __init__(self, core: RunnerCore, deliver: Callable[[Callable[[], None]], None] | None = None) -> None:
        super().__init__()
        self._deliver = deliver or self._soon
        self._far = Connection(core, _LocalCarrier(self))

    @classmethod
    async def connect(
        cls,
        core: RunnerCore,
        hello: link.Hello,
        deliver: Callable[[Callable[[], None]], None] | None = None,
    ) -> LocalLink:
        local = cls(core, deliver)
        await local._greet(hello)
        return local

    def received(self, message: bytes) -> None:
        self._deliver(lambda: None if self.closed.is_set() else self._message(message))

    def far_end_closed(self) -> None:
        self._deliver(self._lost)

    def _soon(self, arrive: Callable[[], None]) -> None:
        self._loop.call_soon(arrive)

    def _send(self, message: bytes) -> None:
        self._deliver(lambda: self._far.message(message))

    def _close(self) -> None:
        self._deliver(self._far.lost)
        self._deliver(self._lost)


class _LocalCarrier:
    """See `runner.connection.Carrier`."""

    def __init__(self, near: LocalLink) -> None:
        self.paused = False
        self._near = near

    def send(self, message: bytes) -> None:
        self._near.received(message)

    def close(self) -> None:
        self._near.far_end_closed()
