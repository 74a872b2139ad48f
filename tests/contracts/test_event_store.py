"""What every event store keeps, whatever database is behind it. PostgreSQL joins by one more entry in PLACES."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.core import events as e
from holdfast.core.ids import inner_id, stream_of
from holdfast.core.reports import Failure, Usage
from holdfast.store.port import (
    Commit,
    Draft,
    Effect,
    EventStore,
    Receipt,
    SessionRow,
    StoreBroken,
    StoreConflict,
    WriteRow,
)
from holdfast.store.sqlite import SqliteStore
from tests.store.histories import (
    KEY,
    STREAM,
    THREAD,
    begin,
    created,
    histories,
    item,
    queued,
    then,
    thread_named,
)
from tests.store.reducer import Picture

RUN = inner_id("run", THREAD, 1)
ITEM = inner_id("item", THREAD, 1)
REQUEST = inner_id("req", THREAD, 1)


class SqliteFile:
    """A place for one database: the file stays, stores come and go."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "holdfast.db"

    async def open(self) -> EventStore:
        return await SqliteStore.open(self._path)


class SqliteMemory:
    """As the simulation has it: inline, over a core that outlives the store."""

    def __init__(self, folder: Path) -> None:
        self._store: SqliteStore | None = None

    async def open(self) -> EventStore:
        if self._store is None:
            self._store = await SqliteStore.open(":memory:", inline=True)
        return SqliteStore(self._store.core, inline=True)


Place = SqliteFile | SqliteMemory
PLACES = [SqliteFile, SqliteMemory]


@pytest.fixture(params=PLACES, ids=lambda place: place.__name__)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    made: Place = request.param(tmp_path)
    return made


@pytest.fixture
async def store(place: Place) -> AsyncIterator[EventStore]:
    opened = await place.open()
    yield opened
    await opened.close()


def plain(value: object) -> Any:
    return json.loads(msgspec.json.encode(value))


def session(generation: int, *, frame: int = 0, is_open: bool = True) -> SessionRow:
    return SessionRow(f"ses_{KEY}_{generation}", generation, "k", "r1", 1, b"{}", frame, b'{"a":1}', is_open)


# The log


async def test_versions_have_no_gaps_and_events_come_back_as_they_were(store: EventStore) -> None:
    events: list[e.Event] = [created(), queued(text="nul \0 and \u2603"), e.ThreadTitled("new")]
    assert (await store.commit(Commit(stream=STREAM, expected=0, at=1.5, events=events[:2]))).version == 2
    assert (await store.commit(Commit(stream=STREAM, expected=2, at=2.5, events=events[2:]))).version == 3

    page = await store.events(STREAM, after=0)
    assert [x.version for x in page] == [1, 2, 3]
    assert [e.decode(bytes(x.data)) for x in page] == events
    assert [x.type for x in page] == ["thread.created", "run.queued", "thread.titled"]
    assert {x.thread for x in page} == {THREAD}
    assert page[2].at == "1970-01-01T00:00:02.500Z"
    loaded = await store.load(STREAM)
    assert loaded.version == 3
    assert loaded.events == [(events[0], 1.5), (events[1], 1.5), (events[2], 2.5)]


async def test_events_are_read_in_pages(store: EventStore) -> None:
    await store.commit(begin())
    for version in range(2, 12):
        await store.commit(then(version, e.ThreadTitled(str(version))))
    seen: list[int] = []
    while page := await store.events(STREAM, after=seen[-1] if seen else 0, limit=5):
        assert len(page) <= 5
        seen += [x.version for x in page]
    assert seen == list(range(1, 13))
    assert await store.events(STREAM, after=12) == []
    assert await store.events("thread:th_nobody", after=0) == []


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_a_commit_at_another_version_is_a_conflict_and_changes_nothing(
    store: EventStore, expected: int
) -> None:
    await store.commit(begin())
    before = await store.snapshot(THREAD)
    late = Commit(
        stream=STREAM,
        expected=expected,
        at=9.0,
        events=[e.ThreadTitled("late")],
        receipt=Receipt("ada", "k", "h"),
        session=session(1),
        effects=[Effect("x", "open", b"")],
        snapshot=b"late",
    )
    with pytest.raises(StoreConflict, match=r"cannot commit .* at version 2, not at"):
        await store.commit(late)
    assert await store.snapshot(THREAD) == before
    assert await store.receipt("ada", "k") is None
    loaded = await store.load(STREAM)
    assert (loaded.version, loaded.snapshot, loaded.session, loaded.effects) == (2, None, None, [])


async def test_a_commit_without_events_is_checked_and_keeps_the_version(store: EventStore) -> None:
    assert (await store.commit(Commit(stream=STREAM, expected=0, at=1.0))).version == 0
    await store.commit(begin())
    assert (await store.commit(Commit(stream=STREAM, expected=2, at=1.0, session=session(1)))).version == 2
    with pytest.raises(StoreConflict):
        await store.commit(Commit(stream=STREAM, expected=1, at=1.0, session=session(2)))
    assert [row.generation for row in await store.sessions(THREAD)] == [1]


async def test_of_many_writers_at_one_version_one_wins(store: EventStore) -> None:
    await store.commit(begin())
    tries = [store.commit(then(2, e.ThreadTitled(str(n)))) for n in range(20)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(x, StoreConflict) for x in outcomes) == 19
    assert (await store.load(STREAM)).version == 3


async def test_one_bad_commit_among_fifty_harms_no_other(store: EventStore) -> None:
    """Conflicts, a receipt that exists, an event that no view takes, and text that no database takes."""
    threads = [thread_named(n) for n in range(50)]
    await store.commit(begin(thread_named(99)))
    taken = Commit(stream="other:1", expected=0, at=1.0, receipt=Receipt("ada", "taken", "h"))
    await store.commit(taken)
    bad: dict[int, Commit] = {
        7: then(5, e.ThreadTitled("x"), thread=threads[7]),
        13: msgspec.structs.replace(begin(threads[13]), receipt=Receipt("ada", "taken", "h2")),
        21: Commit(stream=stream_of(threads[21]), expected=0, at=1.0, events=[queued(threads[21])]),
        34: msgspec.structs.replace(begin(threads[34]), drafts=[Draft("i", 0, "\ud800")]),
    }
    commits = [bad.get(n, begin(thread)) for n, thread in enumerate(threads)]
    outcomes = await asyncio.gather(*map(store.commit, commits), return_exceptions=True)

    failed = {n: type(x) for n, x in enumerate(outcomes) if isinstance(x, BaseException)}
    assert failed == {7: StoreConflict, 13: StoreConflict, 21: StoreBroken, 34: StoreBroken}
    for n, thread in enumerate(threads):
        assert (await store.load(stream_of(thread))).version == (0 if n in bad else 2)
    assert await store.check() == []


async def test_everything_is_there_after_opening_again(place: Place) -> None:
    first = await place.open()
    await first.commit(begin())
    whole = Commit(
        stream=STREAM,
        expected=2,
        at=3.0,
        events=[item(1, text="so ")],
        snapshot=b"state",
        receipt=Receipt("ada", "k", "h", result="thread", result_id=THREAD),
        drafts=[Draft(ITEM, 0, "far")],
        session=session(1, frame=4),
        writes=[WriteRow(f"ses_{KEY}_1", "w1", b"frame")],
        effects=[Effect("e1", "open", b"{}", 1)],
    )
    await first.commit(whole)
    picture, loaded = await first.snapshot(THREAD), await first.load(STREAM)
    receipt, log_id = await first.receipt("ada", "k"), first.log_id
    if isinstance(place, SqliteFile):
        await first.close()

    second = await place.open()
    assert second.log_id == log_id
    assert await second.snapshot(THREAD) == picture
    assert await second.load(STREAM) == loaded
    assert await second.receipt("ada", "k") == receipt
    assert loaded.session == session(1, frame=4)
    assert loaded.drafts == {ITEM: "far"}
    assert (loaded.snapshot, loaded.snapshot_version, loaded.events) == (b"state", 3, [])
    await second.close()


async def test_load_whole_leaves_the_snapshot_aside(store: EventStore) -> None:
    await store.commit(begin())
    await store.commit(
        Commit(stream=STREAM, expected=2, at=2.0, events=[e.ThreadTitled("a")], snapshot=b"at 3")
    )
    await store.commit(then(3, e.ThreadTitled("b"), at=4.0))
    assert (await store.load(STREAM)).events == [(e.ThreadTitled("b"), 4.0)]
    whole = await store.load(STREAM, whole=True)
    assert (whole.snapshot, whole.snapshot_version, len(whole.events)) == (None, 0, 4)


# Receipts


async def test_a_receipt_keeps_the_answer_of_its_own_commit(store: EventStore) -> None:
    answered = await store.commit(
        msgspec.structs.replace(
            begin(), receipt=Receipt("ada", "k", "h", result="thread_and_run", result_id=RUN)
        )
    )
    both = {"thread": plain(await store.thread(THREAD)), "run": plain(await store.run(RUN))}
    assert json.loads(answered.answer) == both
    await store.commit(then(2, e.ThreadTitled("later")))
    stored = await store.receipt("ada", "k")
    assert stored is not None
    assert (stored.content_hash, stored.code, stored.answer) == ("h", "", answered.answer)
    assert await store.receipt("bob", "k") is None
    assert await store.receipt("ada", "other") is None


@pytest.mark.parametrize("content", ["h", "another"])
async def test_a_command_has_one_outcome(store: EventStore, content: str) -> None:
    receipt = Receipt("ada", "k", "h", result="thread", result_id=THREAD)
    first = await store.commit(msgspec.structs.replace(begin(), receipt=receipt))
    again = msgspec.structs.replace(receipt, content_hash=content)
    with pytest.raises(StoreConflict, match="outcome is stored already"):
        await store.commit(
            Commit(stream=STREAM, expected=2, at=2.0, events=[e.ThreadTitled("2")], receipt=again)
        )
    assert (await store.load(STREAM)).version == 2
    stored = await store.receipt("ada", "k")
    assert stored is not None and (stored.answer, stored.content_hash) == (first.answer, "h")
    other = Receipt("bob", "k", "h", code="expired", detail="cannot answer: because it is over")
    await store.commit(Commit(stream=STREAM, expected=2, at=2.0, receipt=other))
    refused = await store.receipt("bob", "k")
    assert refused is not None
    assert (refused.code, refused.detail, refused.answer) == ("expired", other.detail, b"")


async def test_receipts_are_pruned_by_age(store: EventStore) -> None:
    for at in (10.0, 20.0, 30.0):
        await store.commit(
            Commit(stream=STREAM, expected=0, at=at, receipt=Receipt("ada", f"k{at:.0f}", "h"))
        )
    assert await store.prune(receipts_before=30.0) == 2
    assert await store.prune(receipts_before=30.0) == 0
    assert await store.receipt("ada", "k20") is None
    assert await store.receipt("ada", "k30") is not None


# What must go on


async def test_effects_go_when_done_or_with_their_generation(store: EventStore) -> None:
    bound = [Effect(f"g{n}", "send", b"x", n) for n in (0, 1, 2, 3)]
    await store.commit(msgspec.structs.replace(begin(), effects=[*bound, Effect("again", "tell", b"1")]))
    await store.commit(
        Commit(stream=STREAM, expected=2, at=2.0, drop_generation=2, effects=[Effect("new", "stop", b"", 2)])
    )
    assert [x.id for x in (await store.load(STREAM)).effects] == ["g0", "g3", "again", "new"]
    again = Effect("again", "tell", b"2")
    await store.commit(
        Commit(stream=STREAM, expected=2, at=2.0, effects_done=["g0", "again"], effects=[again])
    )
    assert (await store.load(STREAM)).effects == [bound[3], Effect("new", "stop", b"", 2), again]
    await store.commit(Commit(stream=STREAM, expected=2, at=2.0, effects=[Effect("again", "tell", b"3")]))
    assert again in (await store.load(STREAM)).effects


async def test_writes_wait_in_order_until_they_are_done(store: EventStore) -> None:
    rows = [WriteRow(f"ses_{KEY}_1", f"w{n}", bytes([n])) for n in (3, 1, 2)]
    await store.commit(msgspec.structs.replace(begin(), writes=rows))
    assert (await store.load(STREAM)).writes == rows
    await store.commit(Commit(stream=STREAM, expected=2, at=2.0, writes_done=[(f"ses_{KEY}_1", "w1")]))
    assert (await store.load(STREAM)).writes == [rows[0], rows[2]]


async def test_sessions_keep_their_launch_and_the_newest_is_loaded(store: EventStore) -> None:
    await store.commit(msgspec.structs.replace(begin(), session=session(1)))
    on = msgspec.structs.replace(
        session(1, frame=7, is_open=False), launch=b"ignored", translator_state=b"[1]"
    )
    await store.commit(Commit(stream=STREAM, expected=2, at=2.0, session=on))
    await store.commit(Commit(stream=STREAM, expected=2, at=2.0, session=session(2)))
    assert await store.sessions(THREAD) == [msgspec.structs.replace(on, launch=b'{"a":1}'), session(2)]
    assert (await store.load(STREAM)).session == session(2)


async def test_active_streams_are_those_where_something_must_go_on(store: EventStore) -> None:
    names = [thread_named(n) for n in range(6)]
    for name in names:
        events: list[e.Event] = [created(name), queued(name)]
        events.append(e.RunEnded(inner_id("run", name, 1), 1, "cancelled"))
        await store.commit(Commit(stream=stream_of(name), expected=0, at=1.0, events=events))
    more: list[dict[str, Any]] = [
        {"session": session(1)},
        {"session": session(2, is_open=False)},
        {"effects": [Effect("e", "tell", b"")]},
        {"writes": [WriteRow("s", "w", b"")]},
        {"events": [queued(names[5], 2)]},
    ]
    for name, fields in zip(names[1:], more, strict=True):
        await store.commit(Commit(stream=stream_of(name), expected=3, at=2.0, **fields))
    assert await store.active_streams() == [stream_of(names[n]) for n in (1, 3, 4, 5)]


# Text in flight


async def test_drafts_are_shown_with_their_item_and_go_when_it_completes(store: EventStore) -> None:
    await store.commit(begin())
    await store.commit(then(2, item(1, text="Once "), item(2), item(3)))
    for offset, text in ((0, "upon\0 "), (6, "a \U0001f600"), (9, " time")):
        await store.commit(Commit(stream=STREAM, expected=5, at=3.0, drafts=[Draft(ITEM, offset, text)]))
    second = inner_id("item", THREAD, 2)
    await store.commit(Commit(stream=STREAM, expected=5, at=3.0, drafts=[Draft(second, 0, "other")]))
    whole = "Once upon\0 a \U0001f600 time"
    assert [x.text for x in await store.items(THREAD)] == [whole, "other", ""]
    assert await store.drafts(THREAD) == [Draft(ITEM, 0, whole), Draft(second, 0, "other")]
    assert (await store.load(STREAM)).drafts == {ITEM: whole.removeprefix("Once "), second: "other"}
    assert (await store.events(STREAM, after=5)) == []

    await store.commit(then(5, e.ItemCompleted(ITEM, "completed", whole + ".", {"n": 1})))
    assert (await store.load(STREAM)).drafts == {second: "other"}
    assert [x.text for x in await store.items(THREAD)] == [whole + ".", "other", ""]
    run = await store.run(RUN)
    assert run is not None and run.text == whole + "."


# Views


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(commits=histories(), cut=st.integers(0, 100))
@pytest.mark.parametrize("place_type", PLACES, ids=lambda place: place.__name__)
def test_every_view_is_what_an_independent_reader_of_the_events_has(
    place_type: type[Place], commits: list[Commit], cut: int
) -> None:
    asyncio.run(_fold_equality(place_type, commits, cut % (len(commits) + 1)))


async def _fold_equality(place_type: type[Place], commits: list[Commit], cut: int) -> None:
    """From the beginning, and from a snapshot after `cut` commits."""
    with TemporaryDirectory() as folder:
        async with _opened(place_type(Path(folder))) as store:
            whole, late = Picture(), None
            for number, commit in enumerate(commits):
                if number == cut:
                    late = Picture(plain(await store.snapshot(THREAD))) if number else None
                await store.commit(commit)
                for seen in await store.events(STREAM, after=commit.expected, limit=len(commit.events)):
                    for picture in (whole, late):
                        if picture:
                            picture.event(seen.type, seen.at, plain(seen.data))
                for draft in commit.drafts:
                    for picture in (whole, late):
                        if picture:
                            picture.text(draft.item_id, draft.text)
            snapshot = plain(await store.snapshot(THREAD))
            assert (snapshot.pop("version"), snapshot.pop("log")) == (
                commits[-1].expected + len(commits[-1].events),
                store.log_id,
            )
            assert snapshot == whole.json()
            if late:
                assert snapshot == late.json()
            asked = await store.requests(None, thread_id=THREAD, pending=False)
            assert plain(asked) == whole.json(all_requests=True)["requests"]
            for run in snapshot["runs"]:
                assert plain(await store.run(run["id"])) == run
            assert plain(await store.threads("ada")) == [snapshot["thread"]]
            assert await store.check() == []


@asynccontextmanager
async def _opened(place: Place) -> AsyncIterator[EventStore]:
    store = await place.open()
    try:
        yield store
    finally:
        await store.close()


async def test_the_end_of_a_run_is_absorbing(store: EventStore) -> None:
    await store.commit(begin())
    failure = Failure("agent_error", "no")
    usage = Usage(input=1)
    await store.commit(then(2, e.RunEnded(RUN, 1, "failed", failure, usage, True), at=5.0))
    before = await store.run(RUN)
    late: list[e.Event] = [
        e.RunWorking(RUN, 1),
        e.RunRequeued(RUN, 1, "x"),
        e.RunStarting(RUN, 2, "retry"),
        e.RunStalled(RUN, 1.0),
        e.RunEnded(RUN, 2, "completed", None, usage),
    ]
    await store.commit(then(3, *late, at=9.0))
    assert await store.run(RUN) == before
    thread = await store.thread(THREAD)
    assert thread is not None and (thread.status, thread.usage.input) == ("failed", 1)


@pytest.mark.parametrize(
    "sign",
    [
        e.RunActive(RUN),
        e.RunWorking(RUN, 1),
        e.RunDispatched(RUN, 1, "written"),
        e.RunStopping(RUN, "person:ada"),
        e.RunStarting(RUN, 2, "retry"),
        item(2),
        e.ItemCompleted(ITEM, "completed", "x"),
        e.ItemCompleted(ITEM, "failed"),
        e.RequestAnswered(REQUEST, "accept", "person:ada"),
        e.RequestClosed(REQUEST, "withdrawn", "withdrawn_by_agent"),
    ],
    ids=lambda event: type(event).__name__,
)
async def test_a_stalled_run_shows_since_when_until_it_moves(store: EventStore, sign: e.Event) -> None:
    await store.commit(begin())
    opened = e.RequestOpened(REQUEST, RUN, 1, 1, "command", "hosted-alive", "ls", "f" * 32)
    await store.commit(then(2, e.RunStarting(RUN, 1, "initial"), item(1), opened, at=5.0))
    await store.commit(then(5, e.RunStalled(RUN, 5.0), at=305.0))
    still = await store.run(RUN)
    assert still is not None
    assert still.stalled_since == still.last_activity_at == "1970-01-01T00:00:05.000Z"
    await store.commit(then(6, sign, at=310.0))
    moving = await store.run(RUN)
    assert moving is not None
    assert (moving.stalled_since, moving.last_activity_at) == (None, "1970-01-01T00:05:10.000Z")


async def test_a_closed_session_takes_the_life_of_its_requests(store: EventStore) -> None:
    await store.commit(begin())
    opened = e.RequestOpened(REQUEST, RUN, 1, 1, "command", "hosted-alive", "ls", "f" * 32)
    await store.commit(then(2, e.RunStarting(RUN, 1, "initial"), opened))
    await store.commit(then(4, e.SessionClosed("s", 2, "exit")))
    kept = await store.request(REQUEST)
    assert kept is not None and (kept.live, kept.version, kept.state) == (True, 1, "pending")
    await store.commit(then(5, e.SessionClosed("s", 1, "exit")))
    await store.commit(then(6, e.RequestAnswered(REQUEST, "accept", "person:ada"), at=7.0))
    dead = await store.request(REQUEST)
    assert dead is not None
    assert (dead.live, dead.version, dead.state, dead.decided_by) == (False, 3, "answered", "person:ada")
    assert dead.answered_at == "1970-01-01T00:00:07.000Z"


async def test_threads_come_newest_activity_first_in_pages(store: EventStore) -> None:
    names = [thread_named(n) for n in range(7)]
    for n, name in enumerate(names):
        await store.commit(begin(name, owner="ada" if n % 2 else "bob", project="p" if n > 3 else ""))
    await store.commit(then(2, e.ThreadTitled("up"), thread=names[2]))
    order = [names[n] for n in (2, 6, 5, 4, 3, 1, 0)]

    seen: list[str] = []
    while page := await store.threads(None, before=seen[-1] if seen else "", limit=3):
        seen += [x.id for x in page]
    assert seen == order
    assert [x.id for x in await store.threads("ada")] == [names[n] for n in (5, 3, 1)]
    assert [x.id for x in await store.threads(None, project="p")] == [names[n] for n in (6, 5, 4)]
    await store.commit(then(2, e.RunEnded(inner_id("run", names[5], 1), 1, "failed"), thread=names[5]))
    assert [x.id for x in await store.threads("ada", status="failed")] == [names[5]]
    assert await store.threads("nobody") == []
    assert (await store.owner(names[1]), await store.owner("th_nobody")) == ("ada", None)


async def test_items_and_runs_are_read_from_the_newest_backwards(store: EventStore) -> None:
    await store.commit(begin())
    await store.commit(then(2, *[item(n) for n in range(1, 26)]))
    pages = [await store.items(THREAD, limit=10)]
    while pages[-1]:
        pages.append(await store.items(THREAD, before=pages[-1][0].id, limit=10))
    assert [[x.ordinal for x in page] for page in pages] == [
        list(range(16, 26)),
        list(range(6, 16)),
        list(range(1, 6)),
        [],
    ]
    await store.commit(then(27, *[queued(number=n) for n in range(2, 6)]))
    assert [x.ordinal for x in await store.runs(THREAD, limit=2)] == [4, 5]
    assert await store.items(THREAD, before="nonsense") == []


async def test_requests_are_found_by_owner_and_thread(store: EventStore) -> None:
    for n, owner in enumerate(("ada", "bob")):
        name = thread_named(n)
        run, request = inner_id("run", name, 1), inner_id("req", name, 1)
        opened = e.RequestOpened(request, run, 1, 1, "command", "hosted-alive", owner, "f" * 32)
        await store.commit(begin(name, owner=owner))
        await store.commit(then(2, e.RunStarting(run, 1, "initial"), opened, thread=name))
    assert [x.title for x in await store.requests(None)] == ["ada", "bob"]
    assert [x.title for x in await store.requests("bob")] == ["bob"]
    assert await store.requests("bob", thread_id=thread_named(0)) == []
    closed = e.RequestClosed(inner_id("req", thread_named(0), 1), "expired", "timed_out")
    await store.commit(then(4, closed, thread=thread_named(0)))
    assert [x.title for x in await store.requests(None)] == ["bob"]
    assert [x.reason for x in await store.requests("ada", pending=False)] == ["timed_out"]


async def test_what_is_not_there_is_none(store: EventStore) -> None:
    assert await store.thread(THREAD) is None
    assert await store.run(RUN) is None
    assert await store.request(REQUEST) is None
    assert await store.snapshot(THREAD) is None
    assert (await store.items(THREAD), await store.runs(THREAD), await store.drafts(THREAD)) == ([], [], [])
    assert (await store.load(STREAM)).version == 0


async def test_a_snapshot_is_of_one_moment_while_others_write(store: EventStore) -> None:
    """Each commit adds an item and puts its number into the title, so that parts of two moments would disagree."""
    await store.commit(begin())

    async def write() -> None:
        for n in range(1, 120):
            await store.commit(then(2 * n, item(n), e.ThreadTitled(str(n))))
            await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    moments = set()
    while not writing.done():
        picture = await store.snapshot(THREAD, items=1)
        assert picture is not None
        if picture.items:
            assert picture.thread.title == str(picture.items[0].ordinal)
            assert picture.version == 2 + 2 * picture.items[0].ordinal
            moments.add(picture.version)
        await asyncio.sleep(0)
    await writing
    final = await store.snapshot(THREAD, items=1)
    assert final is not None and final.version == 240
    assert len(moments) > 3


async def test_a_read_sees_every_commit_that_was_acknowledged(store: EventStore) -> None:
    await store.commit(begin())

    async def chain(thread: str) -> None:
        await store.commit(begin(thread))
        for version in range(2, 12):
            await store.commit(then(version, e.ThreadTitled(str(version)), thread=thread))
            shown = await store.thread(thread)
            assert shown is not None and shown.title == str(version)

    await asyncio.gather(*[chain(thread_named(n)) for n in range(20)])
