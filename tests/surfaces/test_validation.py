"""Bodies and parameters: each wrong one is refused with the name of what is wrong, and nothing reaches the engine."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import HoldfastError
from holdfast.settings import BOUNDS
from holdfast.surfaces.http import bodies
from holdfast.surfaces.http.access import LOCAL, Access
from holdfast.surfaces.http.app import Application
from holdfast.surfaces.http.routes import PREFIX
from tests.surfaces.conftest import BEARER, PORT, TOKEN, URL
from tests.surfaces.memory_engine import MemoryEngine
from tests.surfaces.test_access import problem_of

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and so on").decode()
SMALL = msgspec.structs.replace(
    BOUNDS, text_bytes_max=100, image_bytes_max=50, http_body_bytes_max=400, http_image_body_bytes_max=2000
)

MESSAGES: list[tuple[Any, str, str]] = [
    ({}, "invalid", "text is missing"),
    ({"text": 5}, "invalid", "field text is wrong"),
    ({"text": None}, "invalid", "field text"),
    ({"text": ""}, "invalid", "field text is empty"),
    ({"text": "x", "txt": "y"}, "invalid", "unknown field txt; did you mean text?"),
    ({"text": "x", "delivry": "y"}, "invalid", "did you mean delivery?"),
    ({"text": "x", "zzz": 1}, "invalid", "unknown field zzz; known are text"),
    ({"text": "x", "delivery": "now"}, "invalid", "one of auto, queue, steer, restart"),
    ({"text": "x", "delivery": ""}, "invalid", "delivery is empty"),
    ({"text": "x", "agent": 7}, "invalid", "field agent"),
    ({"text": "x", "agent": "a" * 201}, "too_large", "field agent"),
    ({"text": "x", "agent": "a\nb"}, "invalid", "control characters"),
    ({"text": "x", "images": "no"}, "invalid", "field images"),
    ({"text": "x", "images": [{}]}, "invalid", "images[0].media_type is missing"),
    ({"text": "x", "images": [{"media_type": "image/png"}]}, "invalid", "data is missing"),
    (
        {"text": "x", "images": [{"media_type": "image/png", "data": PNG, "name": "a"}]},
        "invalid",
        "images[0].name",
    ),
    ({"text": "x", "images": [{"media_type": "text/html", "data": PNG}]}, "invalid", "images[0].media_type"),
    (
        {"text": "x", "images": [{"media_type": "image/png", "data": "***"}]},
        "invalid",
        "images[0].data is no base64",
    ),
    (
        {"text": "x", "images": [{"media_type": "image/png", "data": ""}]},
        "invalid",
        "images[0].data is empty",
    ),
    ({"text": "x", "images": [{"media_type": "image/png", "data": PNG}] * 9}, "too_large", "the limit is 8"),
    ({"text": "x" * 101}, "too_large", "101 bytes, the limit is 100"),
    ({"text": "ü" * 51}, "too_large", "102 bytes, the limit is 100"),
    (
        {"text": "x", "images": [{"media_type": "image/png", "data": base64.b64encode(b"x" * 51).decode()}]},
        "too_large",
        "images[0] is above the limit of 50 bytes",
    ),
    ([], "invalid", "not a JSON object"),
    ("text", "invalid", "not a JSON object"),
    (None, "invalid", "not a JSON object"),
]


@pytest.fixture
async def small(engine: MemoryEngine) -> httpx2.AsyncClient:
    app = Application(engine, Access("127.0.0.1", PORT, {TOKEN: LOCAL}), bounds=SMALL)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=URL, headers=BEARER)


@pytest.mark.parametrize(("body", "code", "says"), MESSAGES)
async def test_a_wrong_message_is_refused_by_name(
    small: httpx2.AsyncClient, engine: MemoryEngine, body: Any, code: str, says: str
) -> None:
    response = await small.post(f"{PREFIX}/threads/th_1/messages", content=json.dumps(body))
    document = problem_of(response)
    assert (document["code"], engine.calls) == (code, 0)
    assert says in document["detail"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "no valid JSON"),
        (b'{"text": NaN}', "no valid JSON"),
        (b'{"text": "\xff"}', "no valid JSON"),
        (b'{"text": "\xed\xa0\x80"}', "no valid JSON"),
        (b'{"text": "\\ud800"}', "half a surrogate pair"),
        (b'{"text": "\\udc00 and more of it"}', "half a surrogate pair"),
        (b'{"text":' + b"[" * 5000 + b"]" * 5000 + b"}", "no valid JSON"),
        (b"", "text is missing"),
    ],
)
async def test_what_is_no_json_is_refused(http: httpx2.AsyncClient, content: bytes, says: str) -> None:
    document = problem_of(await http.post(f"{PREFIX}/threads/th_1/messages", content=content))
    assert document["code"] == "invalid"
    assert says in document["detail"]


THREADS: list[tuple[dict[str, Any], str, str]] = [
    ({"agent": None}, "invalid", "field agent"),
    ({"agent": ""}, "invalid", "agent is empty"),
    ({"cwd": "relative/path"}, "invalid", "must be an absolute path"),
    ({"cwd": ""}, "invalid", "absolute path"),
    ({"cwd": "/" + "a" * 5000}, "too_large", "field cwd"),
    ({"mode": "yolo"}, "invalid", "one of ask, edits, auto, full"),
    ({"plan": "yes"}, "invalid", "field plan"),
    ({"title": "t" * 201}, "too_large", "field title"),
    ({"add_dirs": ["relative"]}, "invalid", "add_dirs[0]"),
    ({"add_dirs": ["/"] * 65}, "too_large", "add_dirs has 65 folders"),
    ({"message": "hello"}, "invalid", "field message"),
    ({"message": {"text": ""}}, "invalid", "message.text is empty"),
    ({"message": {"text": "x", "imges": []}}, "invalid", "did you mean message.images?"),
    ({"message": {"text": "x", "delivery": "x"}}, "invalid", "message.delivery"),
    ({"tittle": "x"}, "invalid", "did you mean title?"),
]


@pytest.mark.parametrize(("change", "code", "says"), THREADS)
async def test_a_wrong_thread_is_refused_by_name(
    http: httpx2.AsyncClient, engine: MemoryEngine, folder: str, change: dict[str, Any], code: str, says: str
) -> None:
    body = {"agent": "scripted", "cwd": folder, **change}
    document = problem_of(await http.post(f"{PREFIX}/threads", json=body))
    assert (document["code"], engine.calls) == (code, 0)
    assert says in document["detail"]


async def test_a_thread_needs_its_folder(http: httpx2.AsyncClient) -> None:
    document = problem_of(await http.post(f"{PREFIX}/threads", json={"agent": "scripted"}))
    assert "the field cwd is missing" in document["detail"]


ANSWERS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "invalid", "decision is missing"),
    ({"decision": "maybe"}, "invalid", "one of accept, accept_for_session, decline, cancel"),
    ({"decision": 1}, "invalid", "field decision"),
    ({"decision": "accept", "mesage": "x"}, "invalid", "did you mean message?"),
    ({"decision": "accept", "amended": {"command": "ls"}}, "unsupported", "amended"),
    ({"answers": {"q": "label"}}, "invalid", "field answers"),
    ({"answers": {"q": [1]}}, "invalid", "field answers"),
]


@pytest.mark.parametrize(("body", "code", "says"), ANSWERS)
async def test_a_wrong_answer_is_refused_by_name(
    http: httpx2.AsyncClient, engine: MemoryEngine, body: dict[str, Any], code: str, says: str
) -> None:
    document = problem_of(await http.post(f"{PREFIX}/requests/req_1/answer", json=body))
    assert (document["code"], engine.calls) == (code, 0)
    assert says in document["detail"]


async def test_a_command_that_is_said_by_its_path_takes_no_fields(http: httpx2.AsyncClient) -> None:
    document = problem_of(await http.post(f"{PREFIX}/runs/run_1/stop", json={"force": True}))
    assert "unknown field force" in document["detail"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/threads?limit=0", "limit is '0'; allowed is a whole number from 1 to 1000"),
        ("/threads?limit=1001", "limit"),
        ("/threads?limit=ten", "limit"),
        ("/threads?limit=-1", "limit"),
        ("/threads?cursor=rubbish", "cursor is 'rubbish', which no page has given"),
        ("/threads?status=busy", "one of idle, queued, working, waiting, paused, failed"),
        ("/threads/th_1/items?before=th_0000000000000001", "before is"),
        ("/threads?lmit=5", "'lmit' is no parameter here"),
        ("/threads?limit=1&limit=2", "twice"),
        ("/threads?status=%ff", "cannot read the query"),
        ("/threads/th_1?items=x", "items"),
        ("/runs/run_1?wait=61", "wait is '61'; allowed is a number of seconds from 0 to 60"),
        ("/runs/run_1?wait=-1", "wait"),
        ("/runs/run_1?wait=nan", "wait"),
        ("/runs/run_1?wait=soon", "wait"),
        ("/threads/th_1/events?after=-1", "cannot read after"),
        ("/threads/th_1/events?after=x", "cannot read after"),
    ],
)
async def test_a_wrong_parameter_is_refused_by_name(http: httpx2.AsyncClient, path: str, says: str) -> None:
    document = problem_of(await http.get(PREFIX + path))
    assert document["code"] == "invalid"
    assert says in document["detail"]


async def test_a_body_above_its_bound_is_refused(small: httpx2.AsyncClient, engine: MemoryEngine) -> None:
    response = await small.post(f"{PREFIX}/requests/req_1/answer", content=b" " * 401)
    assert (response.status_code, problem_of(response)["code"]) == (413, "too_large")
    assert "limit of 400 bytes" in response.json()["detail"]

    async def drops() -> Any:
        for _ in range(500):
            yield b" "

    response = await small.post(f"{PREFIX}/requests/req_1/answer", content=drops())
    assert problem_of(response)["code"] == "too_large"
    assert engine.calls == 0


def test_a_message_with_an_image_and_no_text_is_one() -> None:
    body = json.dumps({"text": "", "images": [{"media_type": "image/png", "data": PNG}]}).encode()
    assert bodies.new_message(body, BOUNDS).images[0].data == PNG


@given(text=st.text(min_size=1))
def test_a_text_arrives_as_it_was_sent(text: str) -> None:
    for encoded in (json.dumps({"text": text}), json.dumps({"text": text}, ensure_ascii=False)):
        assert bodies.new_message(encoded.encode(), BOUNDS).text == text


@given(data=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
def test_no_bytes_break_the_reading(data: bytes) -> None:
    assert refusals(data) <= {"", "invalid", "too_large", "unsupported"}


def refusals(data: bytes) -> set[str]:
    """The codes by which the three readings refuse the data; "" for one that takes it."""
    codes = set()
    for read in (bodies.new_message, bodies.new_thread, bodies.new_answer):
        try:
            read(data, BOUNDS)
            codes.add("")
        except HoldfastError as error:
            codes.add(error.code if error.detail.startswith("cannot ") else error.detail)
    return codes


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    ["text", "images", "delivery", "agent", "cwd", "mode", "decision", "answers", "message"]
)


@given(body=st.dictionaries(FIELDS | st.text(max_size=8), VALUES, max_size=6))
def test_no_object_breaks_the_checks(body: dict[str, Any]) -> None:
    assert refusals(msgspec.json.encode(body)) <= {"", "invalid", "too_large", "unsupported"}
