"""What an event makes necessary: `react(state after the event, event) -> effects`. Pure, and without decisions."""

from __future__ import annotations

from holdfast.core import effects as fx
from holdfast.core import events as e
from holdfast.core.state import RunState, ThreadState


def react(state: ThreadState, event: e.Event) -> list[fx.Effect]:
    """Effects of one event; the same effect may come again and has the same identity then."""
    match event:
        case e.SessionOpening():
            return [fx.OpenSession(event.session_id, event.generation, event.agent)]
        case e.RunStarting() | e.SessionReadied():
            return _prompts(state)
        case e.RequestAnswered():
            return [fx.SendAnswer(event.request_id, state.requests[event.request_id].generation)]
        case e.RunStopping():
            return _interrupt(state, state.runs[event.run_id])
        case e.SessionClosing():
            gentle = event.reason in ("idle", "shutdown", "refused")
            return [fx.StopSession(event.session_id, event.generation, gentle)]
        case e.SessionClosed():
            native = state.session.native_id if state.session else ""
            return [fx.LetGo(event.session_id, native)]
        case e.RunDoubtful():
            session = state.session.id if state.session else ""
            return [fx.AskHistory(event.run_id, event.attempt, session)]
        case _:
            return []


def _prompts(state: ThreadState) -> list[fx.Effect]:
    run = state.runs.get(state.active)
    ready = state.session is not None and state.session.stage == "ready"
    if (
        run is None
        or not ready
        or run.origin == "agent"
        or run.status != "starting"
        or run.dispatch != "unsent"
    ):
        return []
    return [fx.SendPrompt(run.id, run.attempt, state.generation)]


def _interrupt(state: ThreadState, run: RunState) -> list[fx.Effect]:
    if state.session is None or state.session.stage != "ready":
        return []
    return [fx.SendInterrupt(run.id, run.attempt, state.generation)]
