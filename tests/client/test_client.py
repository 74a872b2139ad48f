"""The client over a real server: done once however often it is sent, followed without gap or duplicate."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from holdfast.client import CaughtUp, Client, SyncClient, Text
from holdfast.errors import HoldfastError
from holdfast.surfaces.http.access import LOCAL, Access
from holdfast.surfaces.http.app import Application
from holdfast.wire.api import EventObject, NewMessage, Snapshot
from tests.surfaces.conftest import PORT, TOKEN, URL, served
from tests.surfaces.memory_engine import MemoryEngine, away

WITHIN_S = 20


class Line(httpx2.AsyncBaseTransport):
    """A way to the application that breaks when it is told: before the request arrives, or before the answer does."""

    def __init__(self, app: Application) -> None:
        self._way = httpx2.ASGITransport(app)
        self.breaks: list[str] = []
        self.keys: list[str | None] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.keys.append(request.headers.get("idempotency-key"))
        broken = self.breaks.pop(0) if self.breaks else ""
        if broken == "before":
            raise httpx2.ConnectError("the line is cut")
        response = await self._way.handle_async_request(request)
        if broken == "after":
            await response.aread()
            raise httpx2.ReadError("the line is cut")
        return response


@pytest.fixture
async def engine() -> MemoryEngine:
    return MemoryEngine()


@pytest.fixture
async def line(engine: MemoryEngine) -> Line:
    return Line(Application(engine, Access("127.0.0.1", PORT, {TOKEN: LOCAL})))


@pytest.fixture
async def client(line: Line) -> AsyncIterator[Client]:
    async with Client(URL, TOKEN, transport=line, retry_s=5) as made:
        yield made


async def test_every_route_has_a_typed_answer(client: Client, tmp_path: object) -> None:
    created = await client.create_thread(
        "scripted", str(tmp_path), message="ask first", title="T", project="P"
    )
    assert created.run is not None
    thread, run = created.thread.id, created.run.id
    assert created.run.status == "waiting"
    assert [found.id for found in (await client.threads(project="P")).threads] == [thread]
    assert (await client.threads(status="failed")).threads == []
    assert (await client.thread(thread)).version == 4
    assert (await client.snapshot(thread, items=10)).log == "log-1"
    assert [item.kind for item in await client.items(thread)] == ["assistant_message"]
    assert (await client.run(run)).id == run
    (request,) = await client.requests(thread_id=thread)
    assert (await client.answer(request.id, "accept", message="go")).decision == "accept"
    assert (await client.run(run, wait=1)).status == "completed"
    assert (await client.send(thread, "hang", images=[])).status == "working"
    assert (await client.stop_thread(thread)).stopped is not None
    assert (await client.stop_run(run)).id == run
    assert (await client.release(thread)).id == thread
    assert [agent.id for agent in await client.agents()] == ["scripted"]
    assert await client.runners() == []
    assert (await client.health())["status"] == "ok"
    assert (await client.ready())["ready"] is True
    assert b"".join([piece async for piece in client.transcript(thread)]).count(b"\n") > 4


async def test_not_ready_is_an_answer_too(client: Client, engine: MemoryEngine) -> None:
    engine.is_ready = False
    assert (await client.ready())["ready"] is False


@pytest.mark.parametrize("breaks", [["before"], ["after"], ["after", "after", "before"]])
async def test_a_command_is_done_once_however_often_the_line_breaks(
    client: Client, line: Line, engine: MemoryEngine, tmp_path: object, breaks: list[str]
) -> None:
    line.breaks = list(breaks)
    created = await client.create_thread("scripted", str(tmp_path), message="once")
    assert created.run is not None
    assert engine.calls == 1
    assert len(engine.kept) == 1
    assert len(line.keys) == len(breaks) + 1
    assert len(set(line.keys)) == 1


async def test_a_busy_server_is_asked_again_with_the_same_key(
    client: Client, line: Line, engine: MemoryEngine, tmp_path: object
) -> None:
    engine.fault = away()
    await client.create_thread("scripted", str(tmp_path))
    assert (engine.calls, len(line.keys), len(set(line.keys))) == (1, 2, 1)


async def test_a_refusal_is_raised_with_its_code_and_not_repeated(client: Client, line: Line) -> None:
    for call, code in (
        (client.thread("th_x"), "unknown_thread"),
        (client.run("run_x"), "unknown_run"),
        (client.answer("req_x", "accept"), "unknown_request"),
        (client.create_thread("scripted", "relative"), "invalid"),
    ):
        line.keys.clear()
        with pytest.raises(HoldfastError) as refused:
            await call
        assert (refused.value.code, len(line.keys)) == (code, 1)


async def test_a_wrong_token_is_said(line: Line) -> None:
    async with Client(URL, "wrong", transport=line) as stranger:
        with pytest.raises(HoldfastError) as refused:
            await stranger.agents()
    assert refused.value.code == "unauthenticated"


async def test_a_server_that_stays_away_is_said_in_time() -> None:
    async with Client("http://127.0.0.1:9", TOKEN, retry_s=0.2) as lonely, asyncio.timeout(WITHIN_S):
        with pytest.raises(HoldfastError, match="cannot reach the server") as away_for_good:
            await lonely.agents()
        assert away_for_good.value.code == "unreachable"
        with pytest.raises(HoldfastError, match="cannot reach the server"):
            await anext(aiter(lonely.follow("th_x")))


async def test_a_server_at_another_address_is_found_again(engine: MemoryEngine, tmp_path: object) -> None:
    async with served(engine) as (url, _):
        async with Client("http://127.0.0.1:9", TOKEN, relocate=lambda: url) as moved:
            assert (await moved.create_thread("scripted", str(tmp_path))).run is None


async def test_a_follower_misses_nothing_when_the_server_goes_and_comes_back(
    engine: MemoryEngine, tmp_path: object
) -> None:
    place = ""
    seen: list[EventObject] = []
    reached: list[asyncio.Event] = [asyncio.Event(), asyncio.Event()]

    async def follow(thread: str, client: Client) -> None:
        async for event in client.follow(thread, after=0):
            if isinstance(event, EventObject):
                seen.append(event)
            elif isinstance(event, CaughtUp):
                next((flag for flag in reached if not flag.is_set()), reached[-1]).set()
                if len(seen) == 9:
                    return

    async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as group:
        async with served(engine) as (url, _):
            place = url
            client = Client(url, TOKEN, relocate=lambda: place)
            created = await client.create_thread("scripted", str(tmp_path), message="one")
            following = group.create_task(follow(created.thread.id, client))
            await reached[0].wait()
        await engine.send_message(LOCAL, "k", created.thread.id, NewMessage("two"))
        async with served(engine) as (url, _):
            place = url
            await reached[1].wait()
            await following
            await client.__aexit__(None, None, None)
    assert [event.version for event in seen] == list(range(1, 10))


async def test_a_follower_without_a_place_gets_a_snapshot_then_text(
    engine: MemoryEngine, tmp_path: object
) -> None:
    async with served(engine) as (url, _), Client(url, TOKEN) as client, asyncio.timeout(WITHIN_S):
        created = await client.create_thread("scripted", str(tmp_path), message="hang")
        assert created.run is not None
        events = client.follow(created.thread.id)
        assert isinstance(await anext(events), Snapshot)
        assert isinstance(await anext(events), CaughtUp)
        engine.say(created.run.id, "word")
        piece = await anext(events)
        assert isinstance(piece, Text)
        assert (piece.offset, piece.text) == (0, "word")
        await events.aclose()


def in_thread(work: Callable[[], None]) -> asyncio.Future[None]:
    """Runs what must not run inside a loop beside the server of this one."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to who waits
            loop.call_soon_threadsafe(done.set_exception, error)
        else:
            loop.call_soon_threadsafe(done.set_result, None)

    threading.Thread(target=run).start()
    return done


async def test_the_client_without_await_does_the_same(engine: MemoryEngine, tmp_path: object) -> None:
    async with served(engine) as (url, _), asyncio.timeout(WITHIN_S):

        def work() -> None:
            with SyncClient(url, TOKEN) as client:
                created = client.create_thread("scripted", str(tmp_path), message="hang")
                assert created.run is not None
                assert [thread.id for thread in client.threads().threads] == [created.thread.id]
                kinds: list[str] = []
                for event in client.follow(created.thread.id, after=0, within=lambda: 0.2):
                    kinds.append(type(event).__name__)
                    if event is None:
                        break
                assert kinds == ["EventObject", "EventObject", "EventObject", "CaughtUp", "NoneType"]
                assert client.stop_run(created.run.id).status == "interrupted"
                assert b"".join(client.transcript(created.thread.id)).endswith(b"\n")
                with pytest.raises(HoldfastError, match="cannot find th_x"):
                    client.thread("th_x")

        await in_thread(work)
