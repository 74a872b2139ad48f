"""What happened, and never changes: the events of a thread's stream.

Payloads say what changed and never repeat the entity. A released event is never edited: it gets a new version and
an upcast. `tests/core/events/` holds one golden file per type and version.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from holdfast.core.reports import (
    Decision,
    Failure,
    ItemKind,
    ItemStatus,
    Question,
    RequestKind,
    Usage,
)

Origin = Literal["user", "agent", "schedule", "delegate"]
AttemptKind = Literal["initial", "restart", "retry", "recovery"]
EndStatus = Literal["completed", "failed", "interrupted", "cancelled"]
CloseReason = Literal["timed_out", "agent_lost", "run_ended", "withdrawn_by_agent"]


class ImageRef(msgspec.Struct, frozen=True):
    """An image stored as a blob, owned by its message."""

    blob: str
    media_type: str
    bytes: int


class ThreadCreated(msgspec.Struct, frozen=True, tag="thread.created"):
    thread_id: str
    owner: str
    cwd: str
    agent: str
    kind: str
    mode: str
    title: str = ""
    project: str = ""
    add_dirs: list[str] = []
    model: str = ""
    effort: str = ""
    plan: bool = False
    parent: str = ""


class ThreadTitled(msgspec.Struct, frozen=True, tag="thread.titled"):
    title: str


class ContextMeasured(msgspec.Struct, frozen=True, tag="thread.context"):
    used: int
    window: int


class RunQueued(msgspec.Struct, frozen=True, tag="run.queued"):
    """`prompt_ref` is our reference for the agent's own history; `text` the prompt, byte-exact."""

    run_id: str
    ordinal: int
    origin: Origin
    text: str
    prompt_ref: str
    agent: str
    model: str
    mode: str
    effort: str
    command_id: str = ""
    images: list[ImageRef] = []


class RunStarting(msgspec.Struct, frozen=True, tag="run.starting"):
    """An attempt begins. `item_id`: the user message's place in the timeline, on the first attempt of a run that has
    a prompt."""

    run_id: str
    attempt: int
    attempt_kind: AttemptKind
    item_id: str = ""
    item_ordinal: int = 0


class RunDispatched(msgspec.Struct, frozen=True, tag="run.dispatched"):
    """How far the prompt has come on its way to the agent: `taken` on by the runner, `written` to the agent."""

    run_id: str
    attempt: int
    stage: Literal["taken", "written"]


class RunWorking(msgspec.Struct, frozen=True, tag="run.working"):
    """The agent has acknowledged the prompt, or shows a sign of work on it."""

    run_id: str
    attempt: int
    turn: str = ""


class RunActive(msgspec.Struct, frozen=True, tag="run.active"):
    """Something moved, although no other event says so; at most one in fifteen seconds."""

    run_id: str


class RunStalled(msgspec.Struct, frozen=True, tag="run.stalled"):
    """Nothing has moved since `since` (unix seconds): no frame, no pending request, no running tool."""

    run_id: str
    since: float


class RunRequeued(msgspec.Struct, frozen=True, tag="run.requeued"):
    """The attempt ended before the prompt could have reached the agent: the run is at the head of the queue again."""

    run_id: str
    attempt: int
    reason: str


class RunDoubtful(msgspec.Struct, frozen=True, tag="run.doubtful"):
    """The session was lost while the prompt was on its way: the agent's own history is asked."""

    run_id: str
    attempt: int
    failure: Failure


class RunStopping(msgspec.Struct, frozen=True, tag="run.stopping"):
    """The agent is asked to end it. `failure`: what the run then fails with; None: it ends interrupted."""

    run_id: str
    by: str
    failure: Failure | None = None


class RunEnded(msgspec.Struct, frozen=True, tag="run.ended"):
    """Reached once. `forced`: the agent did not stop by itself and its process was ended."""

    run_id: str
    attempt: int
    status: EndStatus
    failure: Failure | None = None
    usage: Usage | None = None
    forced: bool = False


class QueueHeld(msgspec.Struct, frozen=True, tag="queue.held"):
    """Queued runs wait until somebody sends, releases or cancels."""

    run_id: str


class QueueReleased(msgspec.Struct, frozen=True, tag="queue.released"):
    by: str


class SessionOpening(msgspec.Struct, frozen=True, tag="session.opening"):
    session_id: str
    generation: int
    agent: str
    kind: str
    model: str
    effort: str
    mode: str
    plan: bool


class SessionLaunched(msgspec.Struct, frozen=True, tag="session.launched"):
    """The process runs. `rebuilt`: the native conversation could not be resumed, `why` says so, and the first prompt
    carries the context from the log. `grown`: somebody else has written to the native history. `missed`: runs that
    the native history lacks, because the agent died before it had written them down; the first prompt tells of them."""

    session_id: str
    generation: int
    native_id: str
    resumed: bool
    rebuilt: bool = False
    why: str = ""
    grown: bool = False
    missed: list[str] = []


class SessionReadied(msgspec.Struct, frozen=True, tag="session.ready"):
    session_id: str
    generation: int
    native_id: str
    version: str = ""
    model: str = ""
    details: dict[str, Any] = {}


class BindingStored(msgspec.Struct, frozen=True, tag="binding.stored"):
    """The durable handle on the native conversation. `native_bytes`: size of its history when we let go of it."""

    agent: str
    native_id: str
    resumable: bool
    native_bytes: int = -1


class BindingDropped(msgspec.Struct, frozen=True, tag="binding.dropped"):
    """The native conversation is gone."""

    native_id: str
    reason: str


class SessionClosing(msgspec.Struct, frozen=True, tag="session.closing"):
    session_id: str
    generation: int
    reason: Literal["idle", "stop", "refused", "stalled", "shutdown"]


class SessionClosed(msgspec.Struct, frozen=True, tag="session.closed"):
    session_id: str
    generation: int
    cause: Literal["exit", "runner_lost", "unknown_session", "not_started"]
    code: int | None = None
    signal: int | None = None
    stderr: str = ""
    stage: str = ""


class ItemStarted(msgspec.Struct, frozen=True, tag="item.started"):
    item_id: str
    ordinal: int
    kind: ItemKind
    run_id: str = ""
    attempt: int = 0
    ref: str = ""
    parent_id: str = ""
    command_id: str = ""
    text: str = ""
    data: dict[str, Any] = {}


class ItemCompleted(msgspec.Struct, frozen=True, tag="item.completed"):
    """`text` replaces what the item started with; None keeps it. `data` is merged over."""

    item_id: str
    status: ItemStatus
    text: str | None = None
    data: dict[str, Any] = {}


class RequestOpened(msgspec.Struct, frozen=True, tag="request.opened"):
    request_id: str
    run_id: str
    attempt: int
    generation: int
    kind: RequestKind
    lane: str
    title: str
    fingerprint: str
    ref: str = ""
    grant: str = ""
    item_id: str = ""
    detail: str = ""
    tool: str = ""
    options: list[Decision] = []
    questions: list[Question] = []


class RequestAnswered(msgspec.Struct, frozen=True, tag="request.answered"):
    """`by`: `person:<owner>`, `policy:<mode>`, or `grant:<request id>` for a decision remembered for the session."""

    request_id: str
    decision: Decision
    by: str
    message: str = ""
    answers: dict[str, list[str]] = {}


class RequestDelivered(msgspec.Struct, frozen=True, tag="request.delivered"):
    request_id: str


class RequestClosed(msgspec.Struct, frozen=True, tag="request.closed"):
    """Ended without delivery: nobody waits for it any more."""

    request_id: str
    state: Literal["expired", "withdrawn"]
    reason: CloseReason


Event = (
    ThreadCreated
    | ThreadTitled
    | ContextMeasured
    | RunQueued
    | RunStarting
    | RunDispatched
    | RunWorking
    | RunActive
    | RunStalled
    | RunRequeued
    | RunDoubtful
    | RunStopping
    | RunEnded
    | QueueHeld
    | QueueReleased
    | SessionOpening
    | SessionLaunched
    | SessionReadied
    | BindingStored
    | BindingDropped
    | SessionClosing
    | SessionClosed
    | ItemStarted
    | ItemCompleted
    | RequestOpened
    | RequestAnswered
    | RequestDelivered
    | RequestClosed
)

TYPE_VERSION = 1

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def type_of(event: Event) -> str:
    """The stable type string, such as `run.queued`."""
    return str(event.__struct_config__.tag)


def encode(event: Event) -> bytes:
    """The event's data as JSON; it carries its type too, so that it decodes by itself."""
    return _encoder.encode(event)


def decode(data: bytes) -> Event:
    """Raises `msgspec.ValidationError` for a type that this build does not know."""
    event: Event = _decoder.decode(data)
    return event
