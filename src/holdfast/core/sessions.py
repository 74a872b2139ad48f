"""Our link to one native conversation: launched, ready, refused, lost, closed, and what each means for the runs.

What belongs to an older generation changes nothing (the decider drops it before it comes here).

    opening -> launched -> ready -> closing -> closed        opening | launched | ready -> closed
"""

from __future__ import annotations

import msgspec

from holdfast.core import commands as c
from holdfast.core import events as e
from holdfast.core import reports as r
from holdfast.core.deciding import Deciding
from holdfast.core.items import notice
from holdfast.core.reports import Failure
from holdfast.core.runs import ensure_session, finish, requeue
from holdfast.core.state import RunState, SessionState


def launched(d: Deciding, command: c.LaunchDone) -> None:
    session = d.state.session
    if session is None or session.generation != command.generation or session.stage != "opening":
        return
    rebuilt = not command.resumed and d.state.has_history
    d.emit(
        e.SessionLaunched(
            session.id,
            session.generation,
            command.native_id,
            command.resumed,
            rebuilt,
            command.why,
            command.grown,
            command.missed,
        )
    )
    if rebuilt:
        why = command.why or "the agent's own conversation is gone"
        words = f"A new conversation was started, because {why}. The context was rebuilt from Holdfast's log."
        notice(d, "context_rebuilt", words, run_id=d.state.active)
    if command.missed:
        words = "The agent's process had ended before it had written down the last messages. They are told to it again"
        notice(
            d, "context_completed", words + " from Holdfast's log.", {"runs": command.missed}, d.state.active
        )
    if command.grown:
        words = "The agent's own history has grown outside Holdfast since this thread last used it; what was added is"
        notice(
            d, "history_grown", words + " known to the agent, but not in this thread.", run_id=d.state.active
        )


def launch_failed(d: Deciding, command: c.LaunchFailed) -> None:
    session = d.state.session
    if session is None or session.generation != command.generation:
        return
    if session.stage not in ("opening", "closing"):
        return
    carried = _carried(d)
    words = command.failure.message
    _closed(d, e.SessionClosed(session.id, session.generation, "not_started", stderr=words))
    for run in carried:
        finish(d, run, "failed", command.failure)


def _carried(d: Deciding) -> list[RunState]:
    """The runs that the session carries, oldest first."""
    return sorted((x for x in d.state.runs.values() if x.status != "queued"), key=lambda x: x.ordinal)


def _closed(d: Deciding, event: e.SessionClosed) -> None:
    """What was open in the session and in no run of it ends with it; its requests expire."""
    for item in [i for i in d.state.items.values() if i.run_id not in d.state.runs]:
        d.emit(e.ItemCompleted(item.id, "interrupted"))
    for request in list(d.state.requests.values()):
        d.emit(e.RequestClosed(request.id, "expired", "agent_lost"))
    d.emit(event)


def ready(d: Deciding, report: r.SessionReady) -> None:
    session = d.state.session
    if session is None or session.stage != "launched":
        return
    resumed = session.resumed
    d.emit(
        e.SessionReadied(
            session.id, session.generation, report.native_id, report.version, report.model, report.details
        )
    )
    if d.state.binding is None or d.state.binding.native_id != report.native_id:
        d.emit(e.BindingStored(d.state.agent, report.native_id, resumed))


def refused(d: Deciding, report: r.SessionRefused) -> None:
    """The agent will not serve this session. A lost conversation is followed by a fresh one, and said."""
    session = d.state.session
    if session is None or session.stage in ("closing", "closed"):
        return
    if report.resume_lost and d.state.binding is not None:
        d.emit(e.BindingDropped(d.state.binding.native_id, report.failure.message))
    else:
        for run in _carried(d):
            finish(d, run, "failed", report.failure)
    if d.state.session is session:
        d.emit(e.SessionClosing(session.id, session.generation, "refused"))


def binding_changed(d: Deciding, report: r.BindingChanged) -> None:
    known = d.state.binding
    if known is None or (known.native_id, known.resumable) != (report.native_id, report.resumable):
        d.emit(e.BindingStored(d.state.agent, report.native_id, report.resumable))


def measured(d: Deciding, command: c.BindingMeasured) -> None:
    known = d.state.binding
    session_open = d.state.session is not None and d.state.session.stage != "closed"
    if known is None or session_open or known.native_id != command.native_id:
        return
    if known.native_bytes != command.native_bytes:
        d.emit(e.BindingStored(d.state.agent, known.native_id, known.resumable, command.native_bytes))


def ended(d: Deciding, report: r.SessionEnded) -> None:
    """The process is gone. Every run that it carried ends, is tried again, or is put in doubt; nothing stays open."""
    session = d.state.session
    if session is None or session.stage == "closed":
        return
    before = msgspec.structs.replace(session)
    carried = _carried(d)
    _closed(
        d,
        e.SessionClosed(
            session.id,
            session.generation,
            report.cause,
            report.code,
            report.signal,
            report.stderr,
            report.stage,
        ),
    )
    for run in carried:
        _lost(d, run, before, report)


def _lost(d: Deciding, run: RunState, session: SessionState, report: r.SessionEnded) -> None:
    """`session` as it was before it ended."""
    forced = report.stage in ("terminate", "kill")
    if run.stopping_at or (run.dispatch == "seen" and session.closing_for == "stop"):
        finish(d, run, "interrupted", forced=forced)
        return
    how = _how(report)
    cls: r.FailureClass = "agent_lost" if report.cause == "exit" else "runner_lost"
    if run.dispatch == "seen":
        finish(
            d,
            run,
            "failed",
            Failure(cls, f"cannot finish the run: because {how} while it worked{_tail(report)}"),
        )
    elif run.dispatch in ("taken", "written"):
        words = f"cannot finish the run: because {how} when it had just got the prompt{_tail(report)}"
        d.emit(e.RunDoubtful(run.id, run.attempt, Failure(cls, words)))
    elif session.closing_for == "stalled" and run.stage_at <= session.closing_at:
        requeue(d, run, "the agent did not take the prompt", "agent_lost")
    elif session.stage == "closing":
        ensure_session(d)
    elif session.stage in ("opening", "launched") and report.cause == "exit":
        words = f"cannot start {d.state.agent}: because {how} before it was ready{_tail(report)}"
        finish(d, run, "failed", Failure("start_failed", words))
    else:
        requeue(d, run, how, cls)


def _how(report: r.SessionEnded) -> str:
    if report.cause == "runner_lost":
        return "the runner that held the agent died"
    if report.cause == "unknown_session":
        return "no runner knows the agent's process any more"
    if report.signal is not None:
        return f"the agent's process was ended by signal {report.signal}"
    return f"the agent's process exited with code {report.code}"


def _tail(report: r.SessionEnded) -> str:
    text = report.stderr.strip()
    return f"; its last words: {text[-2000:]}" if text else ""


def history_read(d: Deciding, command: c.HistoryRead) -> None:
    """The agent's own history has been asked about a prompt in doubt."""
    run = d.state.runs.get(command.run_id)
    if run is None or run.doubt is None or run.attempt != command.attempt:
        return
    if command.found == "absent":
        requeue(d, run, "the agent ended before it took the prompt up", run.doubt.class_)
    elif command.found == "present":
        finish(d, run, "failed", run.doubt)
    else:
        words = "cannot tell whether the agent has acted on the prompt: because it ended while the prompt was on its way"
        words += (
            ", and its own history does not say; look at the workspace, then send the prompt again if need be"
        )
        finish(d, run, "failed", Failure("unknown_outcome", words))


def close(d: Deciding, reason: str) -> None:
    """End the session with its process, gently."""
    session = d.state.session
    if session is not None and session.stage in ("opening", "launched", "ready"):
        d.emit(e.SessionClosing(session.id, session.generation, reason))  # type: ignore[arg-type]
