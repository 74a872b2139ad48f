"""What is asked of a thread: by people, by the engine's clock, by sessions. The decider turns each into events.

A person's command carries an owner and an id at the engine's door; here it is only its content.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from holdfast.core.events import ImageRef
from holdfast.core.reports import Decision, Failure, Report

Delivery = Literal["auto", "queue", "steer", "restart"]


class SendMessage(msgspec.Struct, frozen=True, tag="send_message"):
    """`agent` "" keeps the thread's. The text is byte-exact."""

    text: str
    delivery: Delivery = "auto"
    agent: str = ""
    images: list[ImageRef] = []
    command_id: str = ""


class CreateThread(msgspec.Struct, frozen=True, tag="create_thread"):
    """Everything is resolved before: `kind` is the agent's, `mode` and `model` have the agent's defaults filled in."""

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
    message: SendMessage | None = None


class StopRun(msgspec.Struct, frozen=True, tag="stop_run"):
    """Ends that run; the next queued one starts. Stopping what has ended changes nothing."""

    run_id: str
    by: str


class StopThread(msgspec.Struct, frozen=True, tag="stop_thread"):
    """Ends the active run and cancels the queued ones."""

    by: str


class ReleaseQueue(msgspec.Struct, frozen=True, tag="release_queue"):
    by: str


class AnswerRequest(msgspec.Struct, frozen=True, tag="answer_request"):
    """The first valid answer wins; the same answer again is no error."""

    request_id: str
    decision: Decision
    by: str
    message: str = ""
    answers: dict[str, list[str]] = {}


class Observe(msgspec.Struct, frozen=True, tag="observe"):
    """What a session reported, in order. Reports of an older generation change nothing."""

    generation: int
    reports: list[Report]


class LaunchDone(msgspec.Struct, frozen=True, tag="launch_done"):
    """The session's process runs. `missed`: runs that the resumed conversation lacks, because it was cut off with them."""

    generation: int
    native_id: str
    resumed: bool
    why: str = ""
    grown: bool = False
    runner: str = ""
    missed: list[str] = []


class LaunchFailed(msgspec.Struct, frozen=True, tag="launch_failed"):
    """The session's process could not be started; nothing runs."""

    generation: int
    failure: Failure


class HistoryRead(msgspec.Struct, frozen=True, tag="history_read"):
    """What the agent's own history says about the prompt of a doubtful run."""

    run_id: str
    attempt: int
    found: Literal["present", "absent", "unknown"]


class BindingMeasured(msgspec.Struct, frozen=True, tag="binding_measured"):
    """The size of the native history after its session ended."""

    native_id: str
    native_bytes: int


class TimeUp(msgspec.Struct, frozen=True, tag="time_up"):
    """A deadline of `policies.deadlines` has passed; it is decided again whether it still means anything."""

    what: Literal[
        "interrupt", "forced_end", "handshake", "prompt", "history", "idle", "stall", "silence", "run_cap"
    ]
    run_id: str = ""
    attempt: int = 0
    generation: int = 0
    since: float = 0.0


class NoteActivity(msgspec.Struct, frozen=True, tag="note_activity"):
    """Frames came in that led to no event of their own."""


class CloseSession(msgspec.Struct, frozen=True, tag="close_session"):
    """The session shall end because the house is to be emptied (`serve --stop --agents`)."""

    reason: Literal["shutdown"] = "shutdown"


Command = (
    CreateThread
    | SendMessage
    | StopRun
    | StopThread
    | ReleaseQueue
    | AnswerRequest
    | Observe
    | LaunchDone
    | LaunchFailed
    | HistoryRead
    | BindingMeasured
    | TimeUp
    | NoteActivity
    | CloseSession
)
