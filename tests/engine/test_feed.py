"""Readers see everything once and in order, wherever they begin, however slow they are, whatever is committed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core import events as e
from holdfast.core.ids import stream_of, thread_id
from holdfast.engine.feed import Feed, Publication, follow
from holdfast.engine.port import CaughtUp, FeedEvent, Resync, Text
from holdfast.store.port import Commit, Draft
from holdfast.store.sqlite import SqliteStore
from holdfast.wire.api import EventObject, Snapshot, rfc3339

THREAD = thread_id("0" * 16)
PAGE = 7
BOUND_S = 10.0


class Writer:
    """A worker's habits: commit, then publish, in order."""

    def __init__(self, store: SqliteStore, feed: Feed) -> None:
        self.store = store
        self.feed = feed
        self.version = 0
        self.text = ""

    async def commit(self, events: list[e.Event], piece: str = "") -> None:
        drafts = [Draft("item_1", len(self.text), piece)] if piece else []
        first = self.version + 1
        commit = Commit(stream=stream_of(THREAD), expected=self.version, at=1.0, events=events, drafts=drafts)
        self.version = (await self.store.commit(commit)).version
        objects = [
            EventObject(e.type_of(event), THREAD, first + i, rfc3339(1.0), msgspec.Raw(e.encode(event)))
            for i, event in enumerate(events)
        ]
        texts = [Text("item_1", len(self.text), piece)] if piece else []
        self.text += piece
        size = sum(len(bytes(o.data)) for o in objects) + len(piece)
        self.feed.publish(THREAD, Publication(self.version, objects, texts, size))

    async def begin(self) -> None:
        created = e.ThreadCreated(THREAD, "local", "/tmp", "scripted", "scripted", "ask")
        await self.commit([created, e.ItemStarted("item_1", 1, "assistant_message")])


async def opened(window: int = 1 << 20) -> Writer:
    store = await SqliteStore.open(":memory:", inline=True)
    writer = Writer(store, Feed(window))
    await writer.begin()
    return writer


class Reader:
    """What one reader has seen."""

    def __init__(self) -> None:
        self.versions: list[int] = []
        self.text = ""
        self.marks: list[str] = []

    def take(self, event: FeedEvent) -> None:
        match event:
            case Snapshot():
                self.versions = [event.version]
                self.text = next(item.text for item in event.items if item.id == "item_1")
            case EventObject():
                self.versions.append(event.version)
            case Text():
                self.text = self.text[: event.offset] + event.text
            case CaughtUp() | Resync():
                self.marks.append(type(event).__name__)

    async def until(self, stream: AsyncIterator[FeedEvent], version: int, text: str) -> None:
        async with asyncio.timeout(BOUND_S):
            async for event in stream:
                self.take(event)
                if "CaughtUp" in self.marks and self.versions[-1:] == [version] and self.text == text:
                    return


def titled(number: int) -> e.Event:
    return e.ThreadTitled(str(number))


@pytest.mark.parametrize("after", [0, 1, 2, 5])
async def test_a_reader_at_any_cursor_gets_each_version_once_and_then_what_comes(after: int) -> None:
    writer = await opened()
    for number in range(20):
        await writer.commit([titled(number)])
    reader = Reader()
    async with aclosing(follow(writer.feed, writer.store, THREAD, after=after, page=PAGE)) as stream:
        await reader.until(stream, 22, "")
        await writer.commit([titled(99)], "live")
        await reader.until(stream, 23, "live")
    assert reader.versions == list(range(after + 1, 24))


async def test_a_cursor_beyond_the_head_gives_a_fresh_snapshot() -> None:
    writer = await opened()
    async with aclosing(follow(writer.feed, writer.store, THREAD, after=1000, page=PAGE)) as stream:
        assert isinstance(await anext(stream), Snapshot)


async def test_a_reader_that_falls_behind_is_told_and_reads_on_from_the_log() -> None:
    writer = await opened(window=300)
    reader = Reader()
    async with aclosing(follow(writer.feed, writer.store, THREAD, after=0, page=PAGE)) as stream:
        await reader.until(stream, 2, "")
        for number in range(50):
            await writer.commit([titled(number)], "abc")
        await reader.until(stream, 52, "abc" * 50)
    assert reader.versions == list(range(1, 53))
    assert reader.marks == ["CaughtUp", "Resync"]


async def test_pieces_of_an_item_that_has_completed_never_come_after_its_end() -> None:
    writer = await opened(window=200)
    reader = Reader()
    async with aclosing(follow(writer.feed, writer.store, THREAD, after=None, page=PAGE)) as stream:
        await reader.until(stream, 2, "")
        await writer.commit([], "early")
        await writer.commit([], "x" * 500)
        await writer.commit([e.ItemCompleted("item_1", "completed", "done")])
        seen: list[FeedEvent] = []
        async with asyncio.timeout(BOUND_S):
            while not (seen and isinstance(seen[-1], EventObject) and seen[-1].version == 3):
                seen.append(await anext(stream))
        await writer.commit([titled(1)])
        after_its_end = await anext(stream)
    assert isinstance(after_its_end, EventObject)
    assert after_its_end.version == 4


@settings(max_examples=150)
@given(
    steps=st.lists(st.sampled_from(["event", "two", "text", "both", "read", "read", "turn"]), max_size=60),
    window=st.sampled_from([1, 150, 1 << 20]),
    after=st.sampled_from([None, 0, 1, 2]),
)
def test_any_interleaving_of_commits_and_reading_gives_every_version_once(
    steps: list[str], window: int, after: int | None
) -> None:
    asyncio.run(_interleaved(steps, window, after))


async def _interleaved(steps: list[str], window: int, after: int | None) -> None:
    writer = await opened(window)
    reader = Reader()
    async with aclosing(follow(writer.feed, writer.store, THREAD, after=after, page=PAGE)) as stream:
        next_event: asyncio.Task[FeedEvent] | None = None
        for number, step in enumerate(steps):
            if step == "read" or (step == "turn" and next_event is None):
                if next_event is None:
                    next_event = asyncio.get_running_loop().create_task(_next(stream))
                await asyncio.sleep(0)
                if next_event.done():
                    reader.take(next_event.result())
                    next_event = None
            elif step == "text":
                await writer.commit([], "ab")
            else:
                events = [titled(number)] * (2 if step == "two" else 1)
                await writer.commit(events, "c" if step == "both" else "")
        if next_event is not None:
            await writer.commit([titled(-1)])
            async with asyncio.timeout(BOUND_S):
                reader.take(await next_event)
        await writer.commit([titled(-2)], "!")
        await reader.until(stream, writer.version, writer.text)
    assert reader.versions == list(range(reader.versions[0], writer.version + 1))
    assert after is None or reader.versions[0] == after + 1


async def _next(stream: AsyncIterator[FeedEvent]) -> FeedEvent:
    return await anext(stream)
