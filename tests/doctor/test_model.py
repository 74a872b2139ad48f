"""The scripted model over HTTP: the Messages protocol as clients see it, its limits, and its log."""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdfast.doctor.model import ScriptedModel, app, log
from tests.real.model_process import ModelProcess

Json = dict[str, Any]
SHELL = {"name": "Bash", "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}}}


@pytest.fixture(autouse=True)
def no_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """These clients are no agent programs; their turns must not count as those of real ones."""
    monkeypatch.delenv("HOLDFAST_TEST_TURNS", raising=False)


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as running:
        yield running


@pytest.fixture
async def client(model: ScriptedModel) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=model.url, timeout=20, trust_env=False) as made:
        yield made


def body(*texts: str, **fields: object) -> Json:
    messages = [{"role": "user", "content": text} for text in texts]
    return {"model": "scripted-1", "max_tokens": 1024, "messages": messages, **fields}


async def stream(client: httpx2.AsyncClient, *texts: str, **fields: object) -> list[Json]:
    """The events of a streamed answer; the name of each must be the type in its data."""
    response = await client.post("/v1/messages", json=body(*texts, stream=True, **fields))
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


async def test_a_streamed_answer_has_the_order_of_the_real_one(client: httpx2.AsyncClient) -> None:
    events = await stream(client, "SCRIPT:hello")
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    message = events[0]["message"]
    assert (message["role"], message["model"], message["content"]) == ("assistant", "scripted-1", [])
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    text = "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
    assert text == "Hello from the scripted model. users=1"


async def test_a_streamed_call_builds_its_arguments_from_pieces(client: httpx2.AsyncClient) -> None:
    events = await stream(client, 'SCRIPT:bash{echo "a"}', tools=[SHELL])
    starts = [event for event in events if event["type"] == "content_block_start"]
    assert [(start["index"], start["content_block"]["type"]) for start in starts] == [
        (0, "text"),
        (1, "tool_use"),
    ]
    pieces = [
        event["delta"]["partial_json"] for event in events if event.get("index") == 1 and "delta" in event
    ]
    assert len(pieces) > 1
    assert json.loads("".join(pieces)) == {"command": 'echo "a"'}
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


async def test_thinking_is_signed_before_its_block_closes(client: httpx2.AsyncClient) -> None:
    events = await stream(client, "SCRIPT:think{well well}")
    kinds = [event["delta"]["type"] for event in events if event["type"] == "content_block_delta"]
    assert kinds == ["thinking_delta", "thinking_delta", "signature_delta", "text_delta", "text_delta"]


async def test_a_whole_answer_says_the_same(client: httpx2.AsyncClient) -> None:
    answer = (await client.post("/v1/messages", json=body("SCRIPT:think{well}"))).json()
    assert [block["type"] for block in answer["content"]] == ["thinking", "text"]
    assert answer["content"][1]["text"] == "Thought. users=1"
    assert answer["stop_reason"] == "end_turn"
    assert answer["usage"]["output_tokens"] > 0


async def test_identities_are_never_given_twice(client: httpx2.AsyncClient) -> None:
    messages = {(await stream(client, "SCRIPT:hello"))[0]["message"]["id"] for _ in range(3)}
    calls = set()
    for _ in range(3):
        events = await stream(client, "SCRIPT:bash{ls}", tools=[SHELL])
        calls |= {event["content_block"].get("id") for event in events if "content_block" in event} - {None}
    assert (len(messages), len(calls)) == (3, 3)


async def test_the_history_is_read_through_what_agents_put_in(client: httpx2.AsyncClient) -> None:
    history = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>\nbe kind\n</system-reminder>"},
                {"type": "text", "text": "SCRIPT:slow{1,0} remember one"},
            ],
        },
        {"role": "system", "content": "# Environment"},
        {"role": "assistant", "content": [{"type": "text", "text": "word1"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "[Request interrupted by user]\n"},
                {"type": "text", "text": "remember two\n"},
                {"type": "image", "source": {}},
                {"type": "text", "text": "SCRIPT:recall"},
            ],
        },
    ]
    answer = await client.post(
        "/v1/messages", json={"model": "m", "messages": history, "system": "Be brief."}
    )
    assert answer.json()["content"][0]["text"] == "I remember: one two. users=3"


async def test_the_log_shows_each_prompt_for_itself(client: httpx2.AsyncClient, model: ScriptedModel) -> None:
    headers = {"x-claude-code-session-id": "s-1", "user-agent": "claude-cli/2.1 (external)"}
    await client.post("/v1/messages", json=body("first", "SCRIPT:hello", tools=[SHELL]), headers=headers)
    (asked,) = model.requests
    assert asked.users == ["first", "SCRIPT:hello"]
    assert (asked.session, asked.agent, asked.script) == ("s-1", "claude", "hello")
    assert (asked.outcome, asked.tools, asked.path) == ("answered", ["Bash"], "/v1/messages")
    shown = (await client.get("/_log")).json()["requests"]
    assert [entry["users"] for entry in shown] == [["first", "SCRIPT:hello"]]
    assert (await client.get("/_turns")).json() == {"turns": 1}


async def test_only_closing_answers_are_turns(client: httpx2.AsyncClient, model: ScriptedModel) -> None:
    await stream(client, "SCRIPT:bash{ls}", tools=[SHELL])
    await client.post("/v1/messages", json=body("SCRIPT:error{500}"))
    await client.post("/v1/messages/count_tokens", json=body("SCRIPT:hello"))
    assert model.turns == 0
    await stream(client, "SCRIPT:hello")
    assert model.turns == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
async def test_errors_have_the_kind_of_the_real_ones(
    client: httpx2.AsyncClient, status: int, kind: str
) -> None:
    answer = await client.post("/v1/messages", json=body(f"SCRIPT:error{{{status}}}", stream=True))
    assert answer.status_code == status
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == kind


async def test_errors_are_counted_per_conversation(client: httpx2.AsyncClient) -> None:
    async def statuses(session: str) -> list[int]:
        headers = {"x-claude-code-session-id": session}
        made = [
            await client.post("/v1/messages", json=body("SCRIPT:error{529,2}"), headers=headers)
            for _ in range(3)
        ]
        return [answer.status_code for answer in made]

    assert await statuses("one") == [529, 529, 200]
    assert await statuses("two") == [529, 529, 200]


@pytest.mark.parametrize("content", [b"", b"not json", b"[]", b"{}", b'{"messages": [{"role": "nobody"}]}'])
async def test_what_it_cannot_read_is_an_invalid_request(client: httpx2.AsyncClient, content: bytes) -> None:
    answer = await client.post("/v1/messages", content=content)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("cannot read the request: because ")


async def test_a_body_over_the_limit_is_refused(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "BODY_LIMIT", 10_000)
    answer = await client.post("/v1/messages", json=body("x" * 20_000))
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "request_too_large")


async def test_the_log_is_bounded(client: httpx2.AsyncClient, model: ScriptedModel) -> None:
    many = [str(at) + "x" * (log.TEXT_LIMIT + 100) for at in range(20)]
    await client.post("/v1/messages", json=body(*many))
    (asked,) = model.requests
    assert sum(map(len, asked.users)) <= log.TEXTS_LIMIT + 3 * len(asked.users)
    assert asked.users[-1].startswith("19x")
    assert model.requests.maxlen == log.KEPT_REQUESTS


async def test_pieces_come_with_their_delays(client: httpx2.AsyncClient) -> None:
    loop = asyncio.get_running_loop()
    arrivals = []
    request = client.stream("POST", "/v1/messages", json=body("SCRIPT:slow{3,0.2}", stream=True))
    async with request as response:
        async for line in response.aiter_lines():
            if "text_delta" in line:
                arrivals.append(loop.time())
    assert all(later - earlier > 0.1 for earlier, later in itertools.pairwise(arrivals[:4]))


@pytest.mark.parametrize("script", ["hang", "hang{begun}", "slow{100,0.1}"])
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_ends_its_answer(
    client: httpx2.AsyncClient, model: ScriptedModel, script: str, streamed: bool
) -> None:
    request = client.post("/v1/messages", json=body(f"SCRIPT:{script}", stream=streamed))
    waiting = asyncio.create_task(request)
    await model.until(lambda asked: len(asked) == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (asked,) = await model.until(lambda asked: asked[0].outcome != "open")
    assert asked.outcome == "gone"
    assert model.turns == 0


async def test_stopping_the_model_ends_hanging_answers() -> None:
    async with ScriptedModel() as model, httpx2.AsyncClient(base_url=model.url, trust_env=False) as client:
        waiting = asyncio.create_task(client.post("/v1/messages", json=body("SCRIPT:hang", stream=True)))
        await model.until(lambda asked: len(asked) == 1)
        async with asyncio.timeout(5):
            await model.__aexit__(None, None, None)
        with pytest.raises(httpx2.HTTPError):
            await waiting


async def test_waiting_for_a_request_that_does_not_come_says_what_came(
    client: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    await stream(client, "SCRIPT:hello")
    with pytest.raises(TimeoutError, match=r"the model was asked only.*hello"):
        await model.until(lambda asked: len(asked) == 2, within=0.01)


async def test_tokens_are_counted_by_length(client: httpx2.AsyncClient) -> None:
    counts = [
        (await client.post("/v1/messages/count_tokens", json=body("x" * size))).json()["input_tokens"]
        for size in (400, 4000)
    ]
    assert counts == [101, 1001]


async def test_an_unknown_path_is_refused_and_logged(
    client: httpx2.AsyncClient, model: ScriptedModel
) -> None:
    answer = await client.get("/v1/elsewhere")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
    assert [asked.path for asked in model.requests] == ["/v1/elsewhere"]


async def test_turns_are_written_to_the_ledger_of_the_run(
    client: httpx2.AsyncClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setenv("HOLDFAST_TEST_TURNS", str(tmp_path))
    await client.post("/v1/messages", json=body("SCRIPT:hello"), headers={"user-agent": "claude-cli/2.1"})
    (file,) = tmp_path.glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert lines == [{"agent": "claude", "test": request.node.nodeid}]


async def test_many_answers_at_once(client: httpx2.AsyncClient, model: ScriptedModel) -> None:
    texts = await asyncio.gather(*(stream(client, "SCRIPT:slow{3,0.05}") for _ in range(50)))
    assert {events[-1]["type"] for events in texts} == {"message_stop"}
    assert model.turns == 50


def test_as_a_process_it_answers_and_keeps_a_file(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    with ModelProcess(log_file=file) as model:
        answer = httpx2.post(f"{model.url}/v1/messages", json=body("SCRIPT:hello"), trust_env=False)
        assert answer.json()["content"][0]["text"] == "Hello from the scripted model. users=1"
        assert [asked.users for asked in model.requests()] == [["SCRIPT:hello"]]
        assert model.turns() == 1
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [(line["number"], line["outcome"]) for line in lines] == [(1, "open"), (1, "answered")]


def test_as_a_process_it_ends_by_a_signal() -> None:
    command = [sys.executable, "-m", "holdfast.doctor.model", "--port", "0"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["url"].startswith("http://127.0.0.1:")
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_as_a_process_it_does_not_outlive_its_parent() -> None:
    with ModelProcess() as model:
        pass
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{model.url}/_turns", trust_env=False)
