"""Subscriptions: from any cursor to the head and on, in order, without gap or duplicate, at bounded memory.

Owns the channels between workers and readers. A channel carries what was just committed as a short cut; whatever it
does not have is read from the log. A reader that falls behind its window loses the short cut, is told `Resync`, and
reads on from the log: never an unbounded queue. Workers publish, surfaces follow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from holdfast.core.ids import stream_of
from holdfast.engine.port import CaughtUp, FeedEvent, Resync, Text
from holdfast.store.port import Draft, EventStore
from holdfast.wire.api import EventObject, Snapshot


class Publication(msgspec.Struct, frozen=True):
    """One commit: its events (the last one has `version`), and the pieces of text that came with or after them."""

    version: int
    events: Sequence[EventObject]
    texts: Sequence[Text]
    bytes: int


class Channel:
    """What one reader has not read yet; bounded by `window_bytes`."""

    def __init__(self, window_bytes: int) -> None:
        self._window = window_bytes
        self._queue: deque[Publication] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self.lagging = False
        self.closed = False

    def put(self, publication: Publication) -> None:
        if self.lagging:
            self._changed.set()
            return
        self._queue.append(publication)
        self._bytes += publication.bytes
        if self._bytes > self._window:
            self._queue.clear()
            self._bytes = 0
            self.lagging = True
        self._changed.set()

    def take(self) -> list[Publication]:
        """All that waits, without waiting."""
        taken = list(self._queue)
        self._queue.clear()
        self._bytes = 0
        self._changed.clear()
        return taken

    async def wait(self) -> None:
        await self._changed.wait()

    def close(self) -> None:
        self.closed = True
        self._changed.set()


class Feed:
    """All channels, by thread. Single-threaded: everything happens on the loop."""

    def __init__(self, window_bytes: int) -> None:
        self._window = window_bytes
        self._channels: dict[str, dict[Channel, None]] = {}  # in the order in which they came
        self._closed = False

    def followed(self, thread_id: str) -> bool:
        return thread_id in self._channels

    def publish(self, thread_id: str, publication: Publication) -> None:
        for channel in self._channels.get(thread_id, ()):
            channel.put(publication)

    @contextmanager
    def channel(self, thread_id: str) -> Iterator[Channel]:
        channel = Channel(self._window)
        if self._closed:
            channel.close()
        self._channels.setdefault(thread_id, {})[channel] = None
        try:
            yield channel
        finally:
            rest = self._channels[thread_id]
            del rest[channel]
            if not rest:
                del self._channels[thread_id]

    def close(self) -> None:
        """All readers end after what they have."""
        self._closed = True
        for channels in self._channels.values():
            for channel in channels:
                channel.close()


class _Known:
    """How far the reader has the text of each open item.

    A piece that does not join on is left out: its item had completed when the drafts were read, and the completion,
    which has the whole text, comes next.
    """

    def __init__(self) -> None:
        self._ends: dict[str, int] = {}

    def begin(self, snapshot: Snapshot) -> None:
        self._ends = {item.id: len(item.text) for item in snapshot.items if item.status == "open"}

    def whole(self, drafts: Sequence[Draft]) -> list[Text]:
        """The text so far of all items that are open now."""
        self._ends = {draft.item_id: len(draft.text) for draft in drafts}
        return [Text(draft.item_id, 0, draft.text) for draft in drafts]

    def joining(self, publication: Publication) -> Iterator[Text]:
        for event in publication.events:
            if event.type == "item.completed":
                self._ends.pop(_completed.decode(event.data).item_id, None)
        for text in publication.texts:
            if text.offset <= self._ends.get(text.item, 0):
                self._ends[text.item] = text.offset + len(text.text)
                yield text


class _Completed(msgspec.Struct):
    item_id: str


_completed = msgspec.json.Decoder(_Completed)


async def follow(
    feed: Feed, store: EventStore, thread_id: str, *, after: int | None, page: int
) -> AsyncGenerator[FeedEvent, None]:
    """The stream of one reader, as `EnginePort.follow` describes it. The channel is opened first, so that nothing
    that is committed while the log is read can be missed."""
    known = _Known()
    with feed.channel(thread_id) as channel:
        cursor = after
        if cursor is not None:
            head = await _head(store, thread_id)
            if cursor > head:
                cursor = None
        if cursor is None:
            snapshot = await store.snapshot(thread_id)
            if snapshot is None:
                return
            yield snapshot
            cursor = snapshot.version
            known.begin(snapshot)
        else:
            async for event in _log(store, thread_id, cursor, page):
                yield event
                cursor = event.version
        yield CaughtUp(cursor)
        if after is not None:
            for text in known.whole(await store.drafts(thread_id)):
                yield text
        while True:
            await channel.wait()
            taken = channel.take()
            if channel.lagging:
                channel.lagging = False
                yield Resync(cursor)
                async for event in _log(store, thread_id, cursor, page):
                    yield event
                    cursor = event.version
                for text in known.whole(await store.drafts(thread_id)):
                    yield text
                continue
            for publication in taken:
                if publication.version < cursor:
                    continue  # older than what was read from the log: its pieces may be of items that have completed
                async for event in _events(store, thread_id, cursor, publication, page):
                    yield event
                    cursor = event.version
                for text in known.joining(publication):
                    yield text
            if channel.closed:
                return


async def _events(
    store: EventStore, thread_id: str, cursor: int, publication: Publication, page: int
) -> AsyncIterator[EventObject]:
    """The publication's events after the cursor; read from the log if it does not join on."""
    if publication.version <= cursor:
        return
    first = publication.version - len(publication.events) + 1
    if first <= cursor + 1:
        for event in publication.events[cursor + 1 - first :]:
            yield event
        return
    async for event in _log(store, thread_id, cursor, page):
        if event.version > publication.version:
            return
        yield event


async def _log(store: EventStore, thread_id: str, after: int, page: int) -> AsyncIterator[EventObject]:
    """Everything after the cursor that the log has now."""
    while True:
        events = await store.events(stream_of(thread_id), after=after, limit=page)
        for event in events:
            yield event
        if len(events) < page:
            return
        after = events[-1].version


async def _head(store: EventStore, thread_id: str) -> int:
    snapshot = await store.snapshot(thread_id, items=1)
    return snapshot.version if snapshot else 0
