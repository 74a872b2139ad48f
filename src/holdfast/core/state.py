"""What decisions need to know of a thread: small however long the thread is.

Owns the state's shape and nothing about how it changes (`evolve` does). It holds runs in flight, the queue, open
items and requests, the session and the binding; no timeline, no text.
"""

from __future__ import annotations

from copy import copy as shallow
from typing import Literal

import msgspec

from holdfast.core.reports import Decision, Failure, RequestKind

RunStatus = Literal["queued", "starting", "working", "paused"]
"""Statuses of a run in flight. `waiting` is `working` with a pending request, so it is never stored."""

Dispatch = Literal["unsent", "taken", "written", "seen"]


class RunState(msgspec.Struct):
    """A run that has not ended."""

    id: str
    ordinal: int
    origin: str
    prompt_ref: str
    #: queued at first; a run of origin agent is working at once
    status: RunStatus = "queued"
    attempt: int = 0
    dispatch: Dispatch = "unsent"
    #: the user message's item; it is made on the first attempt
    item_id: str = ""
    #: the agent's turn that this attempt is, "" until it began
    turn: str = ""
    #: starts that failed before the prompt could reach the agent
    restarts: int = 0
    started_at: float = 0.0
    #: when the current stage (sent, seen ...) was reached
    stage_at: float = 0.0
    #: when Stop was asked for, 0: it was not
    stopping_at: float = 0.0
    #: the ladder was started because the agent did not end by itself
    forced: bool = False
    #: set while the agent's history is asked: what the run fails with if the prompt is there
    doubt: Failure | None = None
    #: the run's last event
    active_at: float = 0.0
    stalled: bool = False
    #: what the run fails with once it has stopped; None: it ends interrupted
    ending: Failure | None = None


class OpenItem(msgspec.Struct):
    """An item that has not completed."""

    id: str
    run_id: str
    kind: str
    attempt: int = 0


class RequestState(msgspec.Struct):
    """A request whose decision has not reached the agent yet."""

    id: str
    ref: str
    run_id: str
    item_id: str
    kind: RequestKind
    generation: int
    fingerprint: str
    grant: str
    options: list[Decision]
    question_ids: list[str]
    decision: Decision | None = None
    message: str = ""
    answers: dict[str, list[str]] = {}


class ClosedRequest(msgspec.Struct):
    """Kept so that a second answer learns which was the first. Bounded: the newest hundred."""

    id: str
    state: Literal["delivered", "expired", "withdrawn", "answered"]
    decision: Decision | None
    reason: str
    message: str = ""
    answers: dict[str, list[str]] = {}


class SessionState(msgspec.Struct):
    """Our live link to one native conversation. `stage` closed means that there is none."""

    id: str
    generation: int
    stage: Literal["opening", "launched", "ready", "closing", "closed"]
    opened_at: float
    native_id: str = ""
    resumed: bool = False
    #: the next prompt must carry the context from the log
    rebuild: bool = False
    #: runs that the native history lacks: the next prompt must tell of them
    missed: list[str] = []
    #: the session's own last event, for idleness
    idle_since: float = 0.0
    closing_at: float = 0.0
    #: why we end it, "" while we do not
    closing_for: str = ""


class BindingState(msgspec.Struct):
    native_id: str
    resumable: bool
    native_bytes: int = -1


class ThreadState(msgspec.Struct):
    """Invariants: `version` counts the events; at most one user run is active; every queued run is in `queue` and in
    `runs`; `refs` has an entry for each open item and for the newest that have completed: children and late reports
    name them.
    """

    id: str = ""
    version: int = 0
    owner: str = ""
    cwd: str = ""
    add_dirs: list[str] = []
    agent: str = ""
    kind: str = ""
    model: str = ""
    effort: str = ""
    mode: str = "ask"
    plan: bool = False
    titled: bool = False
    #: runs that have not ended
    runs: dict[str, RunState] = {}
    queue: list[str] = []
    #: the run that holds the thread: its attempt is starting, working or in doubt; "" none
    active: str = ""
    held: bool = False
    last_run: int = 0
    last_item: int = 0
    last_request: int = 0
    generation: int = 0
    session: SessionState | None = None
    binding: BindingState | None = None
    #: a completed run exists: a fresh native conversation would lack its context
    has_history: bool = False
    items: dict[str, OpenItem] = {}
    #: native reference -> item id, of this session
    refs: dict[str, str] = {}
    requests: dict[str, RequestState] = {}
    closed_requests: list[ClosedRequest] = []
    #: "accept for the session": grant -> the request that gave it
    grants: dict[str, str] = {}
    #: turn of this session -> run
    turns: dict[str, str] = {}
    #: turns of this session whose run has ended -> that run and its attempt: what comes late belongs to it.
    #: Bounded: the newest hundred.
    past_turns: dict[str, tuple[str, int]] = {}


SNAPSHOT_VERSION = 1
"""Raise it when the shape changes so that old snapshots are folded again from the events."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ThreadState)


def encode(state: ThreadState) -> bytes:
    return b"%d\n%s" % (SNAPSHOT_VERSION, _encoder.encode(state))


def decode(data: bytes) -> ThreadState | None:
    """None if the snapshot is of another shape: fold the events instead."""
    version, _, body = data.partition(b"\n")
    if version != b"%d" % SNAPSHOT_VERSION:
        return None
    return _decoder.decode(body)


def copy(state: ThreadState) -> ThreadState:
    """An independent copy: `evolve` changes what it is given.

    It changes the state's own fields and collections, and those of runs, the session and requests. Everything else is
    only ever replaced, and so is shared.
    """
    return msgspec.structs.replace(
        state,
        runs={key: shallow(run) for key, run in state.runs.items()},
        queue=list(state.queue),
        session=shallow(state.session),
        items=dict(state.items),
        refs=dict(state.refs),
        requests={key: _copied(request) for key, request in state.requests.items()},
        closed_requests=list(state.closed_requests),
        grants=dict(state.grants),
        turns=dict(state.turns),
        past_turns=dict(state.past_turns),
    )


def _copied(request: RequestState) -> RequestState:
    lists = {"options": list(request.options), "question_ids": list(request.question_ids)}
    return msgspec.structs.replace(request, answers=dict(request.answers), **lists)
