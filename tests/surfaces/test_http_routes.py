"""The routes: their answers, their pages, their errors, and what is not built yet."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdfast import __version__
from holdfast.errors import STATUS, Rejected
from holdfast.surfaces.http.app import Application
from holdfast.surfaces.http.routes import PREFIX, ROUTES
from tests.surfaces.memory_engine import MemoryEngine, away, crash
from tests.surfaces.test_access import problem_of

API = PREFIX


async def opened(
    http: httpx2.AsyncClient, folder: str, text: str | None = None, **rest: Any
) -> dict[str, Any]:
    body: dict[str, Any] = {"agent": "scripted", "cwd": folder, **rest}
    if text is not None:
        body["message"] = {"text": text}
    response = await http.post(f"{API}/threads", json=body)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_health_and_readiness(bare: httpx2.AsyncClient, engine: MemoryEngine, app: Application) -> None:
    assert (await bare.get(f"{API}/health")).json() == {"status": "ok", "version": __version__}
    ready = await bare.get(f"{API}/ready")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    engine.is_ready = False
    ready = await bare.get(f"{API}/ready")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    engine.is_ready = True
    app.stopping.set()
    assert (await bare.get(f"{API}/ready")).status_code == 503


async def test_only_the_owner_learns_what_recovery_found(
    bare: httpx2.AsyncClient, http: httpx2.AsyncClient
) -> None:
    assert set((await bare.get(f"{API}/ready")).json()) == {"ready"}
    assert set((await http.get(f"{API}/ready")).json()) == {"ready", "recovery"}


async def test_a_thread_with_its_first_message(http: httpx2.AsyncClient, folder: str) -> None:
    answer = await opened(http, folder, "hello there")
    thread, run = answer["thread"]["id"], answer["run"]["id"]
    assert answer["run"]["text"] == "hellothere"
    picture = (await http.get(f"{API}/threads/{thread}")).json()
    assert set(picture) == {"thread", "runs", "requests", "version"}
    assert [found["id"] for found in picture["runs"]] == [run]
    whole = (await http.get(f"{API}/threads/{thread}?items=5")).json()
    assert set(whole) == {"thread", "runs", "items", "requests", "version", "log"}
    assert (await http.get(f"{API}/runs/{run}")).json()["status"] == "completed"
    items = (await http.get(f"{API}/threads/{thread}/items")).json()
    assert items["before"] is None
    assert [item["text"] for item in items["items"]] == ["hellothere"]


async def test_a_thread_without_a_message_has_no_run(http: httpx2.AsyncClient, folder: str) -> None:
    answer = await opened(http, folder)
    assert set(answer) == {"thread"}
    sent = await http.post(f"{API}/threads/{answer['thread']['id']}/messages", json={"text": "now"})
    assert sent.status_code == 202
    assert sent.json()["prompt"] == "now"


async def test_threads_come_in_pages(http: httpx2.AsyncClient, folder: str) -> None:
    made = [(await opened(http, folder))["thread"]["id"] for _ in range(5)]
    found: list[str] = []
    cursor = ""
    for _ in range(3):
        page = (
            await http.get(f"{API}/threads", params={"limit": "2", **({"cursor": cursor} if cursor else {})})
        ).json()
        found += [thread["id"] for thread in page["threads"]]
        cursor = page["cursor"]
    assert cursor is None
    assert found == made[::-1]


async def test_items_come_in_pages_backwards(http: httpx2.AsyncClient, folder: str) -> None:
    thread = (await opened(http, folder, "one"))["thread"]["id"]
    for text in ("two", "three"):
        await http.post(f"{API}/threads/{thread}/messages", json={"text": text})
    page = (await http.get(f"{API}/threads/{thread}/items?limit=2")).json()
    assert [item["text"] for item in page["items"]] == ["two", "three"]
    earlier = (await http.get(f"{API}/threads/{thread}/items", params={"before": page["before"]})).json()
    assert [item["text"] for item in earlier["items"]] == ["one"]
    assert earlier["before"] is None


async def test_a_request_is_answered_once(http: httpx2.AsyncClient, folder: str) -> None:
    answer = await opened(http, folder, "ask to delete it")
    pending = (await http.get(f"{API}/requests")).json()["requests"]
    assert [request["run_id"] for request in pending] == [answer["run"]["id"]]
    path = f"{API}/requests/{pending[0]['id']}/answer"
    first = await http.post(path, json={"decision": "accept"})
    assert (first.status_code, first.json()["decision"]) == (200, "accept")
    second = await http.post(path, json={"decision": "decline"})
    assert problem_of(second)["code"] == "already_answered"
    assert second.status_code == 409
    assert (await http.get(f"{API}/requests")).json() == {"requests": []}
    assert (await http.get(f"{API}/requests?thread={answer['thread']['id']}")).json() == {"requests": []}


async def test_waiting_for_a_run_returns_when_it_ends_and_no_later(
    http: httpx2.AsyncClient, folder: str
) -> None:
    run = (await opened(http, folder, "hang around"))["run"]["id"]
    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        waiting = group.create_task(http.get(f"{API}/runs/{run}?wait=60"))
        done, _ = await asyncio.wait((waiting,), timeout=0.2)
        assert not done
        stopped = await http.post(f"{API}/runs/{run}/stop")
        assert stopped.json()["status"] == "interrupted"
        assert (await waiting).json()["status"] == "interrupted"


async def test_waiting_ends_with_the_wait_or_with_the_server(
    http: httpx2.AsyncClient, app: Application, folder: str
) -> None:
    run = (await opened(http, folder, "hang around"))["run"]["id"]
    async with asyncio.timeout(10):
        assert (await http.get(f"{API}/runs/{run}?wait=0.05")).json()["status"] == "working"
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(http.get(f"{API}/runs/{run}?wait=60"))
            done, _ = await asyncio.wait((waiting,), timeout=0.1)
            assert not done
            app.stopping.set()
            assert (await waiting).json()["status"] == "working"


async def test_waiting_for_an_unknown_run_is_a_plain_refusal(http: httpx2.AsyncClient) -> None:
    assert problem_of(await http.get(f"{API}/runs/run_x_1?wait=5"))["code"] == "unknown_run"


async def test_stopping_a_thread_names_what_was_ended(http: httpx2.AsyncClient, folder: str) -> None:
    answer = await opened(http, folder, "hang around")
    path = f"{API}/threads/{answer['thread']['id']}"
    stopped = (await http.post(f"{path}/stop", content=b"")).json()
    assert (stopped["stopped"], stopped["cancelled"]) == (answer["run"]["id"], [])
    assert (await http.post(f"{path}/release", json={})).status_code == 200


async def test_the_transcript_comes_as_lines(http: httpx2.AsyncClient, folder: str) -> None:
    thread = (await opened(http, folder, "hello"))["thread"]["id"]
    response = await http.get(f"{API}/threads/{thread}/transcript")
    assert response.headers["content-type"] == "application/x-ndjson"
    assert len(response.content.splitlines()) == 5


async def test_the_same_key_and_content_give_the_same_bytes(
    http: httpx2.AsyncClient, engine: MemoryEngine, folder: str
) -> None:
    key = {"idempotency-key": "k-1"}
    body = {"agent": "scripted", "cwd": folder, "message": {"text": "once"}}
    first = await http.post(f"{API}/threads", json=body, headers=key)
    second = await http.post(f"{API}/threads", json=body, headers=key)
    assert first.content == second.content
    assert engine.calls == 1
    other = await http.post(f"{API}/threads", json={**body, "title": "other"}, headers=key)
    assert problem_of(other)["code"] == "idempotency_conflict"
    fresh = await http.post(f"{API}/threads", json=body)
    assert fresh.json()["thread"]["id"] != first.json()["thread"]["id"]


@pytest.mark.parametrize("key", ["", "x" * 201, "with space", "tab\t", "üml"])
async def test_a_key_is_visible_and_short(http: httpx2.AsyncClient, folder: str, key: str) -> None:
    response = await http.post(
        f"{API}/threads",
        json={"agent": "scripted", "cwd": folder},
        headers=[(b"idempotency-key", key.encode("utf-8"))],
    )
    assert problem_of(response)["code"] == "invalid"
    assert "Idempotency-Key" in response.json()["detail"]


@pytest.mark.parametrize("code", sorted(STATUS))
async def test_every_code_of_the_engine_has_its_status(
    http: httpx2.AsyncClient, engine: MemoryEngine, code: str
) -> None:
    engine.fault = Rejected(code, "cannot do it: because of a test")
    response = await http.get(f"{API}/threads")
    assert response.status_code == STATUS[code]
    assert problem_of(response)["code"] == code
    assert problem_of(response)["detail"] == "cannot do it: because of a test"


async def test_a_transient_refusal_says_when_to_come_back(
    http: httpx2.AsyncClient, engine: MemoryEngine
) -> None:
    engine.fault = away()
    response = await http.get(f"{API}/threads")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


async def test_a_fault_of_ours_tells_nothing_but_where_to_look(
    http: httpx2.AsyncClient, engine: MemoryEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.fault = crash()
    response = await http.get(f"{API}/threads")
    detail = problem_of(response)["detail"]
    assert problem_of(response)["code"] == "internal"
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    (record,) = [record for record in caplog.records if record.name == "holdfast.http"]
    assert record.getMessage().split()[1].strip(":") in detail


NOT_BUILT = [route for route in ROUTES if route.handler.__name__ == "not_built_yet"]


def test_everything_that_is_named_and_not_built_is_in_the_table() -> None:
    assert {(route.method, route.path) for route in NOT_BUILT} == {
        ("POST", "/threads/{id}/fork"),
        ("POST", "/threads/{id}/handoff"),
        ("POST", "/threads/{id}/merge-back"),
        ("POST", "/threads/{id}/rollback"),
        ("GET", "/threads/{id}/transfers"),
        ("GET", "/threads/{id}/checkpoints"),
        ("GET", "/threads/{id}/diff"),
        ("GET", "/openapi.json"),
        ("GET", "/metrics"),
        ("GET", "/stream"),
    }


@pytest.mark.parametrize("route", NOT_BUILT, ids=lambda route: route.path)
async def test_what_is_not_built_says_so(http: httpx2.AsyncClient, route: Any) -> None:
    response = await http.request(route.method, API + route.path.replace("{id}", "th_1"))
    assert (response.status_code, problem_of(response)["code"]) == (422, "unsupported")


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1", "/api/v1/", "/api/v1/thread", "/api/v1/threads/", "/api/v2/health"]
)
async def test_an_unknown_path_is_a_problem(http: httpx2.AsyncClient, path: str) -> None:
    response = await http.get(path)
    assert (response.status_code, problem_of(response)["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/threads", {"GET", "POST", "HEAD"}),
        ("PUT", "/threads/th_1", {"GET", "HEAD"}),
        ("GET", "/runs/run_1/stop", {"POST"}),
        ("OPTIONS", "/threads", {"GET", "POST", "HEAD"}),
    ],
)
async def test_a_wrong_method_names_the_right_ones(
    http: httpx2.AsyncClient, method: str, path: str, allow: set[str]
) -> None:
    response = await http.request(method, API + path)
    assert (response.status_code, problem_of(response)["code"]) == (405, "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == allow


async def test_a_stopping_server_takes_no_commands(
    http: httpx2.AsyncClient, app: Application, folder: str
) -> None:
    app.stopping.set()
    response = await http.post(f"{API}/threads", json={"agent": "scripted", "cwd": folder})
    assert (response.status_code, problem_of(response)["code"]) == (503, "shutting_down")
    assert (await http.get(f"{API}/threads")).status_code == 200


async def test_no_answer_may_be_kept_by_a_cache(http: httpx2.AsyncClient, folder: str) -> None:
    for response in (await http.get(f"{API}/threads"), await http.get(f"{API}/nothing")):
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"


def test_the_in_memory_engine_is_a_whole_one(tmp_path: Path) -> None:
    from holdfast.engine.port import EnginePort

    engine: EnginePort = MemoryEngine()
    assert engine.ready()["ready"] is True
