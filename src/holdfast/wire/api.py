"""The objects of the outer contract: what HTTP, the command line and the client exchange.

Owns their fields and nothing else: the store fills them, surfaces render them, the client reads them. Times are
RFC 3339 UTC text. Readers ignore unknown fields.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec


def rfc3339(seconds: float) -> str:
    """Unix seconds as RFC 3339 UTC with milliseconds, such as "2026-11-21T10:00:00.000Z"."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{_to_the_second(whole)}.{milliseconds:03d}Z"


@lru_cache(maxsize=64)
def _to_the_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


class Context(msgspec.Struct):
    used: int = 0
    window: int = 0


class FailureObject(msgspec.Struct, rename={"class_": "class"}):
    class_: str
    message: str
    retry_at: str = ""


class UsageObject(msgspec.Struct):
    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cost_usd: float | None = None
    duration_ms: int | None = None
    api_duration_ms: int | None = None


class ThreadObject(msgspec.Struct):
    id: str
    title: str
    project: str
    cwd: str
    add_dirs: list[str]
    agent: str
    model: str
    effort: str
    mode: str
    plan: bool
    status: str
    parent: str | None
    context: Context
    usage: UsageObject
    queue_held: bool
    owner: str
    created_at: str
    updated_at: str


class RunObject(msgspec.Struct):
    id: str
    thread_id: str
    ordinal: int
    status: str
    origin: str
    command_id: str | None
    agent: str
    model: str
    mode: str
    effort: str
    prompt: str
    text: str
    requests: list[str]
    failure: FailureObject | None
    usage: UsageObject | None
    attempts: int
    forced: bool
    queued_at: str
    started_at: str | None
    ended_at: str | None
    rolled_back_at: str | None
    last_activity_at: str
    stalled_since: str | None = None


class ItemObject(msgspec.Struct):
    id: str
    run_id: str | None
    attempt: int
    ordinal: int
    parent_id: str | None
    command_id: str | None
    kind: str
    status: str
    text: str
    data: dict[str, Any]
    at: str


class OptionObject(msgspec.Struct):
    label: str
    detail: str = ""


class QuestionObject(msgspec.Struct):
    id: str
    header: str
    text: str
    multiple: bool = False
    free: bool = False
    options: list[OptionObject] = []


class RequestObject(msgspec.Struct):
    id: str
    version: int
    thread_id: str
    run_id: str
    item_id: str | None
    kind: str
    state: str
    live: bool
    lane: str
    reason: str | None
    title: str
    detail: str
    options: list[str]
    questions: list[QuestionObject]
    decision: str | None
    decided_by: str | None
    asked_at: str
    answered_at: str | None


class EventObject(msgspec.Struct):
    """One event as readers get it: on SSE, on the WebSocket, in pages."""

    type: str
    thread: str
    version: int
    at: str
    data: msgspec.Raw


class Snapshot(msgspec.Struct):
    """A consistent picture of a thread at `version`; `items` are the newest, open ones with their text so far."""

    thread: ThreadObject
    runs: list[RunObject]
    items: list[ItemObject]
    requests: list[RequestObject]
    version: int
    log: str


class Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457. `code` is stable."""

    title: str
    status: int
    code: str
    detail: str
    type: str = "about:blank"


class NewImage(msgspec.Struct):
    """`data`: base64."""

    media_type: str
    data: str


class NewMessage(msgspec.Struct):
    """Body of POST /threads/{id}/messages."""

    text: str
    images: list[NewImage] = []
    delivery: str = "auto"
    agent: str = ""


class NewThread(msgspec.Struct):
    """Body of POST /threads. `cwd` is absolute and exists; empty fields take the agent's defaults."""

    agent: str
    cwd: str
    mode: str = ""
    plan: bool = False
    model: str = ""
    effort: str = ""
    title: str = ""
    project: str = ""
    add_dirs: list[str] = []
    message: NewMessage | None = None


class NewAnswer(msgspec.Struct):
    """Body of POST /requests/{id}/answer. `answers`: question id -> labels or texts; `decision` may then be left out."""

    decision: str = ""
    message: str = ""
    answers: dict[str, list[str]] = {}


class AgentObject(msgspec.Struct):
    id: str
    kind: str
    version: str
    status: str  # unchecked, checking, ready, signed_out, missing, invalid
    proof: str  # unproved, proved, failed
    capabilities: dict[str, Any]
    detail: str = ""
    command: list[str] = []
    modes: dict[str, str] = {}


class RunnerObject(msgspec.Struct):
    """A runner with what it holds. `sessions`: [{"session", "thread_id", "pid", "status"}]."""

    id: str
    pid: int
    version: int
    build: str
    started_at: str
    connected: bool
    sessions: list[dict[str, Any]]
