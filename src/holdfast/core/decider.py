"""The one entrance to the core: `decide(state, command, context)`. Merges the nouns' rules into two tables.

Pure: the same state, command and context give the same outcome. It raises `Rejected` for a person's command that
cannot be done, and then nothing has happened; reports and deadlines are never rejected. The state that is given is
not changed. Called by the engine's thread workers and by the simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from holdfast.core import commands as c
from holdfast.core import events as e
from holdfast.core import items, requests, runs, sessions
from holdfast.core import reports as r
from holdfast.core.deciding import Context, Decided, Deciding
from holdfast.core.ids import kind_of, thread_of
from holdfast.core.policies import deadlines
from holdfast.core.reports import Failure
from holdfast.core.state import RunState, ThreadState, copy
from holdfast.errors import Rejected


def decide(state: ThreadState, command: c.Command, context: Context) -> Decided:
    """What the command leads to. Nothing emitted means: it changes nothing."""
    deciding = Deciding(copy(state), context)
    COMMANDS[type(command)](deciding, command)
    return deciding.outcome()


def _create_thread(d: Deciding, command: c.CreateThread) -> None:
    if d.state.id:
        raise Rejected("conflict", f"cannot create thread {command.thread_id}: because it exists")
    message = command.message
    title = command.title or (runs.title_of(message.text) if message else "")
    d.emit(
        e.ThreadCreated(
            thread_id=command.thread_id,
            owner=command.owner,
            cwd=command.cwd,
            agent=command.agent,
            kind=command.kind,
            mode=command.mode,
            title=title,
            project=command.project,
            add_dirs=command.add_dirs,
            model=command.model,
            effort=command.effort,
            plan=command.plan,
        )
    )
    if message is not None:
        runs.queue_message(d, message)


def _send_message(d: Deciding, command: c.SendMessage) -> None:
    if command.agent and command.agent != d.state.agent:
        raise Rejected(
            "unsupported",
            f"cannot send to {command.agent}: because this thread is with {d.state.agent}, and a handoff to another"
            " agent is not built yet; open a thread with that agent",
        )
    if command.delivery in ("steer", "restart"):
        raise Rejected(
            "unsupported",
            f"cannot deliver with {command.delivery!r}: because it is not built yet; use auto or queue",
        )
    runs.queue_message(d, command)


def _stop_run(d: Deciding, command: c.StopRun) -> None:
    run = d.state.runs.get(command.run_id)
    if run is not None:
        runs.stop(d, run, command.by)
        return
    ours = kind_of(command.run_id) == "run" and thread_of(command.run_id) == d.state.id
    if not ours or int(command.run_id.rsplit("_", 1)[1]) > d.state.last_run:
        raise Rejected("unknown_run", f"cannot stop {command.run_id}: because there is no such run")


def _stop_thread(d: Deciding, command: c.StopThread) -> None:
    for run_id in list(d.state.queue):
        runs.stop(d, d.state.runs[run_id], command.by)
    if d.state.held:
        d.emit(e.QueueReleased(command.by))
    for run in sorted(d.state.runs.values(), key=lambda x: x.ordinal):
        if run.id in d.state.runs:
            runs.stop(d, run, command.by)


def _release_queue(d: Deciding, command: c.ReleaseQueue) -> None:
    if d.state.held:
        d.emit(e.QueueReleased(command.by))
    runs.start_next(d)


def _observe(d: Deciding, command: c.Observe) -> None:
    for report in command.reports:
        session = d.state.session
        if session is None or session.generation != command.generation or session.stage == "closed":
            return
        REPORTS[type(report)](d, report)


def _prompt_seen(d: Deciding, report: r.PromptSeen) -> None:
    run = _prompted(d, report.prompt)
    if run is not None:
        runs.see(d, run)


def _turn_started(d: Deciding, report: r.TurnStarted) -> None:
    if report.turn in d.state.turns or report.turn in d.state.past_turns:
        return
    run = _prompted(d, report.prompt) if report.prompt else None
    if run is not None:
        runs.see(d, run, report.turn)
    elif report.turn:
        runs.start_unprompted(d, report.turn)


def _prompted(d: Deciding, prompt: str) -> RunState | None:
    return next(
        (x for x in d.state.runs.values() if prompt and x.prompt_ref == prompt and x.status != "queued"), None
    )


def _turn_ended(d: Deciding, report: r.TurnEnded) -> None:
    run = d.state.runs.get(d.state.turns.get(report.turn, ""))
    if run is None:
        return
    runs.finish(d, run, report.status, report.failure if report.status == "failed" else None, report.usage)


def _notice(d: Deciding, report: r.NoticeGiven) -> None:
    run = items.run_of(d, report.turn)
    items.notice(d, report.code, report.text, report.data, run.id if run else "")


def _context(d: Deciding, report: r.ContextReported) -> None:
    d.emit(e.ContextMeasured(report.used, report.window))


def _write_taken(d: Deciding, report: r.WriteTaken) -> None:
    _dispatched(d, report.write, "taken")


def _write_done(d: Deciding, report: r.WriteDone) -> None:
    """Write ids are fixed by `agents.port`: `prompt:<reference>` and `answer:<reference of the request>`."""
    kind, _, ref = report.write.partition(":")
    if kind == "answer":
        requests.delivered(d, ref)
    else:
        _dispatched(d, report.write, "written")


def _dispatched(d: Deciding, write: str, stage: Any) -> None:
    kind, _, ref = write.partition(":")
    run = _prompted(d, ref) if kind == "prompt" else None
    session = d.state.session
    sent = session is not None and session.stage not in ("opening", "launched")
    onward = {"unsent": ("taken", "written"), "taken": ("written",)}
    if run is not None and sent and stage in onward.get(run.dispatch, ()):
        d.emit(e.RunDispatched(run.id, run.attempt, stage))


def _write_refused(d: Deciding, report: r.WriteRefused) -> None:
    """The agent's input is closed. If its process lives on, it is ended: nothing can reach it any more."""
    session = d.state.session
    if session is not None and session.stage in ("launched", "ready"):
        d.emit(e.SessionClosing(session.id, session.generation, "stalled"))


def _reading(d: Deciding, report: r.ReadingBlocked) -> None:
    if report.blocked:
        words = "The agent writes faster than its output can be stored: it is held back, and nothing is lost."
        items.notice(d, "reading_blocked", words, run_id=d.state.active)


def _note_activity(d: Deciding, command: c.NoteActivity) -> None:
    for run in list(d.state.runs.values()):
        if run.status == "working" and d.now - run.active_at >= d.limits.activity_s:
            d.emit(e.RunActive(run.id))


def _close_session(d: Deciding, command: c.CloseSession) -> None:
    sessions.close(d, command.reason)


def _time_up(d: Deciding, command: c.TimeUp) -> None:
    """Decided again: what the deadline was for may be gone, or has moved since it was set."""
    if not any(up == command and at <= d.now for at, up in deadlines(d.state, d.limits, command.since)):
        return
    if command.what in ("handshake", "idle"):
        _session_time_up(d, command.what)
    else:
        _run_time_up(d, d.state.runs[command.run_id], command)


def _session_time_up(d: Deciding, what: str) -> None:
    session = d.state.session
    if session is None:
        return
    if what == "idle":
        sessions.close(d, "idle")
    else:
        words = f"cannot start {d.state.agent}: because it did not answer its handshake within"
        failure = Failure("start_failed", f"{words} {d.limits.handshake_s:g} s")
        d.emit(e.SessionClosing(session.id, session.generation, "stalled"))
        for run in [x for x in d.state.runs.values() if x.status != "queued"]:
            runs.finish(d, run, "failed", failure)


def _run_time_up(d: Deciding, run: RunState, command: c.TimeUp) -> None:
    still = f"nothing has come from the agent for {max(0.0, d.now - command.since):.0f} s"
    match command.what:
        case "interrupt" | "prompt":
            sessions.close(d, "stop" if command.what == "interrupt" else "stalled")
        case "forced_end":
            sessions.close(d, "stop")
            runs.finish(d, run, "interrupted", forced=True)
        case "history":
            sessions.history_read(d, c.HistoryRead(run.id, run.attempt, "unknown"))
        case "stall":
            d.emit(e.RunStalled(run.id, command.since))
            items.notice(
                d,
                "stalled",
                f"Since then {still}. It may still be working.",
                {"since": command.since},
                run.id,
            )
        case "silence":
            runs.stop(
                d, run, "limit:silence_s", Failure("stalled", f"cannot finish the run: because {still}")
            )
        case "run_cap":
            words = f"cannot finish the run: because it took longer than limits.run_s = {d.limits.run_s:g} s"
            runs.stop(d, run, "limit:run_s", Failure("stalled", words))
        case _:
            return


COMMANDS: Final[dict[type, Callable[[Deciding, Any], None]]] = {
    c.CreateThread: _create_thread,
    c.SendMessage: _send_message,
    c.StopRun: _stop_run,
    c.StopThread: _stop_thread,
    c.ReleaseQueue: _release_queue,
    c.AnswerRequest: requests.answer,
    c.Observe: _observe,
    c.LaunchDone: sessions.launched,
    c.LaunchFailed: sessions.launch_failed,
    c.HistoryRead: sessions.history_read,
    c.BindingMeasured: sessions.measured,
    c.TimeUp: _time_up,
    c.NoteActivity: _note_activity,
    c.CloseSession: _close_session,
}

REPORTS: Final[dict[type, Callable[[Deciding, Any], None]]] = {
    r.SessionReady: sessions.ready,
    r.SessionRefused: sessions.refused,
    r.BindingChanged: sessions.binding_changed,
    r.PromptSeen: _prompt_seen,
    r.TurnStarted: _turn_started,
    r.TurnEnded: _turn_ended,
    r.ItemStarted: items.started,
    r.ItemText: items.text,
    r.ItemCompleted: items.completed,
    r.RequestOpened: requests.opened,
    r.RequestWithdrawn: requests.withdrawn,
    r.NoticeGiven: _notice,
    r.ContextReported: _context,
    r.WriteTaken: _write_taken,
    r.WriteDone: _write_done,
    r.WriteRefused: _write_refused,
    r.ReadingBlocked: _reading,
    r.SessionEnded: sessions.ended,
}
