"""What the outside observed: the one vocabulary in which translators and runners speak to the core.

A report is never rejected: the decider applies it or, when it belongs to an older generation or an ended run,
leaves it without effect. Nothing here names an agent. `ref`s are native identities (a tool-use id, a message block):
evidence for correlation inside one session, never identity of ours.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

ItemKind = Literal[
    "user_message",
    "assistant_message",
    "reasoning",
    "command",
    "file_change",
    "tool_call",
    "search",
    "plan",
    "todo_list",
    "subagent",
    "request",
    "checkpoint",
    "handoff",
    "notice",
    "error",
    "compaction",
]
ItemStatus = Literal["queued", "open", "completed", "failed", "declined", "interrupted"]
RequestKind = Literal["command", "file_change", "file_read", "tool", "network", "plan", "question", "unknown"]
Decision = Literal["accept", "accept_for_session", "decline", "cancel"]
REQUEST_KINDS: tuple[RequestKind, ...] = get_args(RequestKind)
DECISIONS: tuple[Decision, ...] = ("accept", "accept_for_session", "decline", "cancel")
FailureClass = Literal[
    "agent_error",
    "usage_limit",
    "auth",
    "context_full",
    "agent_lost",
    "runner_lost",
    "start_failed",
    "protocol",
    "frame_too_large",
    "stalled",
    "unknown_outcome",
]


class Failure(msgspec.Struct, frozen=True, rename={"class_": "class"}):
    """Why a run failed. `retry_at`: RFC 3339 time at which a usage limit resets, "" if unknown."""

    class_: FailureClass
    message: str
    retry_at: str = ""


class Usage(msgspec.Struct, frozen=True):
    """Tokens and cost of one run, as the agent states them. None: not stated."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cost_usd: float | None = None
    duration_ms: int | None = None
    api_duration_ms: int | None = None


class Option(msgspec.Struct, frozen=True):
    label: str
    detail: str = ""


class Question(msgspec.Struct, frozen=True):
    """One question of a request. `free`: a text of the person's own is allowed."""

    id: str
    header: str
    text: str
    multiple: bool = False
    free: bool = False
    options: list[Option] = []


class SessionReady(msgspec.Struct, frozen=True, tag="session_ready"):
    """The agent answered its handshake. Reported once per session, before any turn."""

    native_id: str
    version: str = ""
    model: str = ""
    details: dict[str, Any] = {}


class SessionRefused(msgspec.Struct, frozen=True, tag="session_refused"):
    """The session cannot be used. `resume_lost`: the native conversation is gone; a fresh one may be built from
    the log."""

    failure: Failure
    resume_lost: bool = False


class BindingChanged(msgspec.Struct, frozen=True, tag="binding_changed"):
    """The native conversation's id or whether it can be resumed has changed. `native_bytes`: size of its history
    as far as we know it, to notice when somebody else wrote to it."""

    native_id: str
    resumable: bool


class PromptSeen(msgspec.Struct, frozen=True, tag="prompt_seen"):
    """The agent has acknowledged the prompt with our reference."""

    prompt: str


class TurnStarted(msgspec.Struct, frozen=True, tag="turn_started"):
    """A turn began. `prompt`: the reference of the prompt that it answers, "" if the agent began it by itself."""

    turn: str
    prompt: str = ""


class TurnEnded(msgspec.Struct, frozen=True, tag="turn_ended"):
    """The root turn ended: the only report that ends an attempt while its session lives."""

    turn: str
    status: Literal["completed", "failed", "interrupted"]
    failure: Failure | None = None
    usage: Usage | None = None


class ItemStarted(msgspec.Struct, frozen=True, tag="item_started"):
    turn: str
    ref: str
    kind: ItemKind
    text: str = ""
    data: dict[str, Any] = {}
    parent_ref: str = ""
    changes_files: bool = False


class ItemText(msgspec.Struct, frozen=True, tag="item_text"):
    """The next piece of an open item's text. State, not history: kept as a draft until the item completes."""

    ref: str
    text: str


class ItemCompleted(msgspec.Struct, frozen=True, tag="item_completed"):
    """`text` None: what its pieces amount to. `data` is merged over what the item started with. An item that was
    never started is started and completed at once (then `kind` and `turn` are needed)."""

    ref: str
    status: ItemStatus = "completed"
    text: str | None = None
    data: dict[str, Any] = {}
    turn: str = ""
    kind: ItemKind | None = None
    parent_ref: str = ""


class RequestOpened(msgspec.Struct, frozen=True, tag="request_opened"):
    """The agent waits for a person. `tool` and `arguments` make the fingerprint; `item_ref` the item it is about.

    `grant` is what "accept for the session" would cover: later requests with the same grant pass; "" means this very
    fingerprint. `inside_workspace`: a file change that stays in the thread's folders.
    """

    turn: str
    ref: str
    kind: RequestKind
    title: str
    tool: str = ""
    arguments: dict[str, Any] = {}
    detail: str = ""
    item_ref: str = ""
    options: list[Decision] = msgspec.field(default_factory=lambda: list(DECISIONS))
    questions: list[Question] = []
    grant: str = ""
    inside_workspace: bool = False


class RequestWithdrawn(msgspec.Struct, frozen=True, tag="request_withdrawn"):
    """The agent no longer waits."""

    ref: str


class NoticeGiven(msgspec.Struct, frozen=True, tag="notice_given"):
    """Something a person should see: a retry with its wait, a fallback, a limit warning. `code` is stable."""

    code: str
    text: str
    data: dict[str, Any] = {}
    turn: str = ""


class ContextReported(msgspec.Struct, frozen=True, tag="context_reported"):
    """The agent's context window: tokens used and its size (0: unknown)."""

    used: int
    window: int


class WriteTaken(msgspec.Struct, frozen=True, tag="write_taken"):
    """The runner has noted the write and begins it."""

    write: str


class WriteDone(msgspec.Struct, frozen=True, tag="write_done"):
    """The runner has handed the write to the agent in full."""

    write: str


class WriteRefused(msgspec.Struct, frozen=True, tag="write_refused"):
    write: str
    reason: str


class ReadingBlocked(msgspec.Struct, frozen=True, tag="reading_blocked"):
    blocked: bool


class SessionEnded(msgspec.Struct, frozen=True, tag="session_ended"):
    """The agent's process is gone and reaped. Nothing of this session follows. `cause` says whose end it was."""

    cause: Literal["exit", "runner_lost", "unknown_session"]
    code: int | None = None
    signal: int | None = None
    stderr: str = ""
    stage: Literal["", "close", "terminate", "kill"] = ""


Report = (
    SessionReady
    | SessionRefused
    | BindingChanged
    | PromptSeen
    | TurnStarted
    | TurnEnded
    | ItemStarted
    | ItemText
    | ItemCompleted
    | RequestOpened
    | RequestWithdrawn
    | NoticeGiven
    | ContextReported
    | WriteTaken
    | WriteDone
    | WriteRefused
    | ReadingBlocked
    | SessionEnded
)
