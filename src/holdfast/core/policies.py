"""Pure rules with names: what the gate decides by itself, and which deadlines a thread has.

Called by the decider (the gate) and by the engine's timers (deadlines). Nothing here changes anything.
"""

from __future__ import annotations

import msgspec

from holdfast.core.commands import TimeUp
from holdfast.core.reports import Decision, RequestOpened
from holdfast.core.state import RunState, ThreadState


class Limits(msgspec.Struct, frozen=True):
    """Bounds in seconds; 0 = never where the comment says so. `settings.py` has the reasons."""

    stall_s: float = 300.0  # 0 = never
    silence_s: float = 0.0  # 0 = never
    run_s: float = 0.0  # 0 = never
    idle_s: float = 1800.0  # 0 = never
    handshake_s: float = 120.0
    prompt_s: float = 120.0
    history_s: float = 10.0
    interrupt_s: float = 5.0
    forced_end_s: float = 20.0
    activity_s: float = 15.0
    restarts_max: int = 3


#: kinds of items that mean "a tool runs": no stall while one is open
TOOL_ITEMS = frozenset({"command", "tool_call", "file_change", "search", "subagent"})


def judge(
    request: RequestOpened, mode: str, grant: str, grants: dict[str, str]
) -> tuple[Decision, str] | None:
    """What our gate decides without a person, and by whom; None: the person is asked.

    Questions always go to the person. `full` accepts everything else. `edits` (and `auto`, for agents without a
    reviewer of their own) accepts changes to files inside the workspace. A grant repeats an earlier decision.
    """
    if request.kind == "question":
        return None
    if mode == "full":
        return "accept", "policy:full"
    if request.kind == "plan":
        return None
    if mode in ("edits", "auto") and request.kind == "file_change" and request.inside_workspace:
        return "accept", f"policy:{mode}"
    if grant in grants:
        return "accept", f"grant:{grants[grant]}"
    return None


def deadlines(state: ThreadState, limits: Limits, last_frame_at: float) -> list[tuple[float, TimeUp]]:
    """All deadlines of the thread as (unix seconds, what is then asked). `last_frame_at`: when the session's last
    frame came in, 0 if there was none since the engine started."""
    due = _session_deadlines(state, limits)
    for run in state.runs.values():
        due += _run_deadlines(state, run, limits, last_frame_at)
    return due


def _session_deadlines(state: ThreadState, limits: Limits) -> list[tuple[float, TimeUp]]:
    session = state.session
    if session is None or session.stage == "closed":
        return []
    if session.stage in ("opening", "launched"):
        up = TimeUp("handshake", generation=session.generation)
        return [(session.opened_at + limits.handshake_s, up)]
    busy = state.items or any(run.status != "queued" for run in state.runs.values())
    if session.stage == "ready" and limits.idle_s > 0 and not busy:
        return [(session.idle_since + limits.idle_s, TimeUp("idle", generation=session.generation))]
    return []


def _run_deadlines(
    state: ThreadState, run: RunState, limits: Limits, last_frame_at: float
) -> list[tuple[float, TimeUp]]:
    if run.status == "queued":
        return []

    def up(what: str, since: float = 0.0) -> TimeUp:
        return TimeUp(what, run.id, run.attempt, state.generation, since)  # type: ignore[arg-type]

    due: list[tuple[float, TimeUp]] = []
    session = state.session
    open_since = session.idle_since if session is not None and session.stage == "ready" else 0.0
    if run.stopping_at:
        if session is not None and session.stage in ("launched", "ready"):
            due.append((run.stopping_at + limits.interrupt_s, up("interrupt")))
        due.append((run.stopping_at + limits.forced_end_s, up("forced_end")))
        return due
    if run.doubt is not None:
        return [(run.stage_at + limits.history_s, up("history"))]
    if run.dispatch != "seen" and open_since and not _other_turn(state, run):
        due.append((max(run.stage_at, open_since) + limits.prompt_s, up("prompt")))
    if limits.run_s > 0 and run.started_at:
        due.append((run.started_at + limits.run_s, up("run_cap")))
    if run.dispatch == "seen" and not _legitimately_still(state, run):
        since = max(run.active_at, last_frame_at)
        if limits.stall_s > 0 and not run.stalled:
            due.append((since + limits.stall_s, up("stall", since)))
        if limits.silence_s > 0:
            due.append((since + limits.silence_s, up("silence", since)))
    return due


def _other_turn(state: ThreadState, run: RunState) -> bool:
    """The agent is busy with a turn that it began by itself: it takes the prompt up after it."""
    return any(other.turn and other is not run for other in state.runs.values())


def _legitimately_still(state: ThreadState, run: RunState) -> bool:
    """A person is being waited for, or a tool runs: that may take without limit."""
    waiting = any(r.run_id == run.id and r.decision is None for r in state.requests.values())
    return waiting or any(i.run_id == run.id and i.kind in TOOL_ITEMS for i in state.items.values())
