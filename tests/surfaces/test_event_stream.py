"""Server-sent events: their shape, where they begin, what keeps them alive, and their ends; over a real server too."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest

from holdfast.client.events import ServerEvent, Splitter
from holdfast.engine.port import CaughtUp, Resync, Text
from holdfast.settings import BOUNDS
from holdfast.surfaces.http.sse import frame
from holdfast.wire.api import EventObject
from tests.surfaces.conftest import BEARER, served
from tests.surfaces.memory_engine import MemoryEngine

WITHIN_S = 10


async def opened(http: httpx2.AsyncClient, url: str, folder: str, text: str) -> tuple[str, str]:
    body = {"agent": "scripted", "cwd": folder, "message": {"text": text}}
    answer = (await http.post(f"{url}/api/v1/threads", json=body)).json()
    return answer["thread"]["id"], answer["run"]["id"]


async def events_of(response: httpx2.Response) -> AsyncIterator[ServerEvent]:
    splitter = Splitter()
    async for piece in response.aiter_raw():
        for event in splitter.feed(piece):
            yield event


async def until(events: AsyncIterator[ServerEvent], name: str) -> list[ServerEvent]:
    seen: list[ServerEvent] = []
    async with asyncio.timeout(WITHIN_S):
        async for event in events:
            seen.append(event)
            if event.event == name:
                return seen
    raise AssertionError(f"the stream ended before {name}: {seen}")


def test_an_event_is_framed_as_on_the_websocket() -> None:
    event = EventObject("run.queued", "th_1", 7, "2026-01-01T00:00:00Z", msgspec.Raw(b'{"text":"a\\nb"}'))
    assert frame("th_1", event) == (
        b"id: 7\nevent: run.queued\ndata: "
        b'{"type":"run.queued","thread":"th_1","version":7,"at":"2026-01-01T00:00:00Z","data":{"text":"a\\nb"}}\n\n'
    )


def test_a_piece_of_text_has_neither_id_nor_version() -> None:
    piece = frame("th_1", Text("item_1", 3, "one\ntwo"))
    head, data = piece.decode().removesuffix("\n\n").split("\ndata: ")
    assert head == "event: text"
    expected = {"type": "text", "thread": "th_1", "data": {"item": "item_1", "offset": 3, "text": "one\ntwo"}}
    assert json.loads(data) == expected


def test_a_resync_does_not_move_the_readers_place() -> None:
    assert b"id:" not in frame("th_1", Resync(9))
    assert frame("th_1", CaughtUp(9)).startswith(b"id: 9\nevent: caught_up\n")


async def test_a_stream_from_the_beginning(engine: MemoryEngine, folder: str) -> None:
    async with served(engine) as (url, _), httpx2.AsyncClient(headers=BEARER) as http:
        thread, _ = await opened(http, url, folder, "hello")
        async with http.stream("GET", f"{url}/api/v1/threads/{thread}/events?after=0") as response:
            assert response.headers["content-type"] == "text/event-stream"
            assert response.headers["cache-control"] == "no-store"
            seen = await until(events_of(response), "caught_up")
        assert [event.id for event in seen] == ["1", "2", "3", "4", "5", "5"]
        assert [event.event for event in seen][:2] == ["thread.created", "run.queued"]
        for event in seen[:-1]:
            data = json.loads(event.data)
            assert set(data) == {"type", "thread", "version", "at", "data"}
            assert (data["type"], data["version"]) == (event.event, int(event.id))


async def test_a_stream_without_a_place_begins_with_a_snapshot(engine: MemoryEngine, folder: str) -> None:
    async with served(engine) as (url, _), httpx2.AsyncClient(headers=BEARER) as http:
        thread, run = await opened(http, url, folder, "hang on")
        engine.say(run, "so far")
        path = f"{url}/api/v1/threads/{thread}/events"
        async with http.stream("GET", path) as response:
            stream = events_of(response)
            first, caught_up = await until(stream, "caught_up")
            snapshot = json.loads(first.data)
            assert (first.event, first.id, caught_up.id) == ("snapshot", "3", "3")
            assert set(snapshot["data"]) == {"thread", "runs", "items", "requests", "version", "log"}
            assert snapshot["data"]["items"][0]["text"] == "so far"
            engine.say(run, " and on")
            (piece,) = await until(stream, "text")
            assert json.loads(piece.data)["data"] == {
                "item": snapshot["data"]["items"][0]["id"], "offset": 6, "text": " and on",
            }  # fmt: skip
        async with http.stream("GET", f"{path}?after=99") as response:
            assert (await until(events_of(response), "caught_up"))[0].event == "snapshot"


async def test_the_last_event_id_wins_over_after(engine: MemoryEngine, folder: str) -> None:
    async with served(engine) as (url, _), httpx2.AsyncClient(headers=BEARER) as http:
        thread, _ = await opened(http, url, folder, "hello")
        path = f"{url}/api/v1/threads/{thread}/events?after=0"
        async with http.stream("GET", path, headers={"last-event-id": "3"}) as response:
            seen = await until(events_of(response), "caught_up")
        assert [event.id for event in seen] == ["4", "5", "5"]


async def test_open_text_comes_whole_again_after_a_reconnect(engine: MemoryEngine, folder: str) -> None:
    async with served(engine) as (url, _), httpx2.AsyncClient(headers=BEARER) as http:
        thread, run = await opened(http, url, folder, "hang on")
        engine.say(run, "abc")
        engine.say(run, "def")
        async with http.stream("GET", f"{url}/api/v1/threads/{thread}/events?after=3") as response:
            seen = await until(events_of(response), "text")
        assert json.loads(seen[-1].data)["data"] == {"item": json_item(seen), "offset": 0, "text": "abcdef"}


def json_item(seen: list[ServerEvent]) -> Any:
    return json.loads(seen[-1].data)["data"]["item"]


async def test_a_refusal_before_the_stream_is_a_problem(http: httpx2.AsyncClient) -> None:
    response = await http.get("/api/v1/threads/th_none/events?after=0")
    assert (response.status_code, response.json()["code"]) == (404, "unknown_thread")


async def test_a_reader_that_fell_behind_is_told_and_let_go(engine: MemoryEngine, folder: str) -> None:
    async with served(engine) as (url, _), httpx2.AsyncClient(headers=BEARER) as http:
        thread, _ = await opened(http, url, folder, "hang on")
        async with http.stream("GET", f"{url}/api/v1/threads/{thread}/events?after=0") as response:
            stream = events_of(response)
            await until(stream, "caught_up")
            engine.kept[thread].tell(Resync(3))
            (told,) = await until(stream, "resync")
            assert told.id == ""
            async with asyncio.timeout(WITHIN_S):
                assert [event async for event in stream] == []


async def test_a_client_that_leaves_ends_its_subscription(engine: MemoryEngine, folder: str) -> None:
    async with served(engine) as (url, _), httpx2.AsyncClient(headers=BEARER) as http:
        thread, run = await opened(http, url, folder, "hang on")
        kept = engine.kept[thread]
        async with http.stream("GET", f"{url}/api/v1/threads/{thread}/events?after=0") as response:
            await until(events_of(response), "caught_up")
            assert len(kept.readers) == 1
        async with asyncio.timeout(WITHIN_S):
            while kept.readers:
                engine.say(run, ".")
                await asyncio.sleep(0.01)
        assert kept.readers == []


async def test_a_silent_stream_is_kept_alive(engine: MemoryEngine, folder: str) -> None:
    bounds = msgspec.structs.replace(BOUNDS, sse_keep_alive_s=0.05)
    async with (
        served(engine, bounds) as (url, app),
        httpx2.AsyncClient(headers=BEARER) as http,
    ):
        thread, _ = await opened(http, url, folder, "hang on")
        comments = 0
        async with http.stream("GET", f"{url}/api/v1/threads/{thread}/events?after=0") as response:
            async with asyncio.timeout(WITHIN_S):
                async for piece in response.aiter_raw():
                    comments += piece.count(b": keep-alive\n\n")
                    if comments >= 3:
                        break
        assert comments >= 3
        assert not app.stopping.is_set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_open_streams_with_a_last_word(
    engine: MemoryEngine, folder: str, number: signal.Signals
) -> None:
    async with served(engine) as (url, app), httpx2.AsyncClient(headers=BEARER) as http:
        thread, _ = await opened(http, url, folder, "hang on")
        async with http.stream("GET", f"{url}/api/v1/threads/{thread}/events?after=0") as response:
            received = b""
            async with asyncio.timeout(5):
                async for piece in response.aiter_raw():
                    received += piece
                    if b"caught_up" in received and not app.stopping.is_set():
                        signal.raise_signal(number)
        assert received.endswith(b": the server stops; come back with Last-Event-ID\n\n")


async def test_a_body_that_is_too_large_is_answered_not_cut_off(engine: MemoryEngine) -> None:
    async with served(engine) as (url, _), httpx2.AsyncClient(headers=BEARER) as http:
        body = b" " * (BOUNDS.http_body_bytes_max + 8 * 1024 * 1024)
        response = await http.post(f"{url}/api/v1/requests/req_1/answer", content=body)
        assert (response.status_code, response.json()["code"]) == (413, "too_large")


async def test_a_refused_websocket_is_a_problem(engine: MemoryEngine) -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus

    async with served(engine) as (url, _):
        address = url.replace("http", "ws") + "/api/v1/stream"
        with pytest.raises(InvalidStatus) as refused:
            await connect(address, additional_headers=BEARER)
        assert refused.value.response.status_code == 422
        assert json.loads(refused.value.response.body or b"")["code"] == "unsupported"
        with pytest.raises(InvalidStatus) as refused:
            await connect(address)
        assert refused.value.response.status_code == 401
        with pytest.raises(InvalidStatus) as refused:
            await connect(address, additional_headers=BEARER, origin="https://evil.example")  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403
