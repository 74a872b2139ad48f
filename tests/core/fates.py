"""What becomes of a thread that is left alone, in each way that the world can leave it alone.

A fate takes any reachable state and plays it to its end; it fails where a run does not come to one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from holdfast.core import commands as c
from holdfast.core import effects as fx
from holdfast.core import reports as r
from holdfast.core.deciding import Context, Decided
from holdfast.core.policies import Limits
from holdfast.core.state import ThreadState
from tests.core import laws
from tests.core import words as w

STEPS_MAX: Final = 200
"""Far more than any state of the machine needs: a thread that goes on longer goes on for ever."""

END_S: Final = 30.0
"""Promise: after Stop a run ends within this time, whatever the agent does."""


class Fate:
    """A copy of a thread with its own clock."""

    def __init__(self, state: ThreadState, limits: Limits, now: float, last_frame_at: float) -> None:
        self.state, self.limits, self.now, self.last_frame_at = state, limits, now, last_frame_at

    def do(self, command: c.Command) -> Decided:
        decided = laws.step(self.state, command, Context(self.now, self.limits))
        self.state = decided.state
        return decided

    def next_deadline(self) -> Decided | None:
        """Move the clock to the next deadline and let it fire; None if there is none."""
        waiting = laws.due(self.state, self.limits, self.last_frame_at)
        if not waiting:
            return None
        at, up = waiting[0]
        self.now = max(self.now, at)
        decided = self.do(up)
        assert (at, up) not in laws.due(self.state, self.limits, self.last_frame_at), f"{up} fires for ever"
        return decided

    def live(self) -> bool:
        return self.state.session is not None and self.state.session.stage != "closed"

    def moving(self) -> bool:
        """A run is not at its end, and no person's hold is the reason."""
        return any(run.status != "queued" for run in self.state.runs.values()) or (
            bool(self.state.queue) and not self.state.held
        )


def every_session_dies(state: ThreadState, limits: Limits, now: float, last_frame_at: float) -> None:
    """Whatever is started dies at once, by the agent's or the runner's fault; histories say that nothing arrived."""
    causes: tuple[Literal["exit", "runner_lost"], ...] = ("exit", "runner_lost")
    for cause in causes:
        fate = Fate(state, limits, now, last_frame_at)
        for _ in range(STEPS_MAX):
            if not fate.moving() and not fate.live():
                break
            if fate.live():
                fate.do(w.told(r.SessionEnded(cause, 1), g=fate.state.generation))
            for run in [x for x in fate.state.runs.values() if x.doubt is not None]:
                fate.do(c.HistoryRead(run.id, run.attempt, "absent"))
        assert not fate.moving(), f"runs go on for ever: {fate.state}"


def every_session_dies_when_ready(
    state: ThreadState, limits: Limits, now: float, last_frame_at: float
) -> None:
    """Agents start well and then close their input: the prompt never reaches them."""
    fate = Fate(state, limits, now, last_frame_at)
    for _ in range(STEPS_MAX):
        if not fate.moving() and not fate.live():
            break
        g = fate.state.generation
        if fate.live():
            fate.do(w.launched(g))
            fate.do(w.ready(g))
            fate.now += 1
            fate.do(w.told(r.WriteRefused("prompt:x", "the input is closed"), g=g))
            fate.now += 1
            fate.do(w.ended(g))
        for run in [x for x in fate.state.runs.values() if x.doubt is not None]:
            fate.do(c.HistoryRead(run.id, run.attempt, "absent"))
    assert not fate.moving(), f"runs go on for ever: {fate.state}"


def silence(state: ThreadState, limits: Limits, now: float, last_frame_at: float) -> None:
    """Nothing comes any more but time and the ends that we ask for: no run stays in starting."""
    fate = Fate(state, limits, now, last_frame_at)
    for _ in range(STEPS_MAX):
        session = fate.state.session
        if session is not None and session.stage == "closing":
            fate.do(w.ended(session.generation, stage="terminate"))
        elif fate.next_deadline() is None:
            break
    else:
        raise AssertionError(f"deadlines go on for ever: {fate.state}")
    for run in fate.state.runs.values():
        assert run.status in ("queued", "working"), f"{run.id} is left in {run.status}: {fate.state}"
    limited = limits.run_s > 0
    assert not limited or not fate.moving(), f"the cap on runs did not end them: {fate.state}"


def stopped_and_ignored(state: ThreadState, limits: Limits, now: float, last_frame_at: float) -> None:
    """Stop, and nobody obeys: agent and runner say nothing at all. All runs end in time all the same."""
    fate = Fate(state, limits, now, last_frame_at)
    fate.do(w.stop_thread())
    began = fate.now
    stopping = max([began, *(run.stopping_at for run in fate.state.runs.values())])
    for _ in range(STEPS_MAX):
        if not fate.state.runs:
            break
        assert fate.next_deadline() is not None, f"nothing will end it: {fate.state}"
    assert not fate.state.runs, f"Stop did not end {list(fate.state.runs)}: {fate.state}"
    assert fate.now - stopping <= END_S


def each_stopped_and_obeyed(state: ThreadState, limits: Limits, now: float, last_frame_at: float) -> None:
    """Every run is stopped by itself, sessions end when asked to: queue and runs come to their end."""
    fate = Fate(state, limits, now, last_frame_at)
    for _ in range(STEPS_MAX):
        if not fate.state.runs:
            break
        run_id = max(fate.state.runs, key=laws.number)
        fate.do(c.StopRun(run_id, "person:ada"))
        while run_id in fate.state.runs:
            decided = fate.next_deadline()
            assert decided is not None, f"nothing will end {run_id}: {fate.state}"
            for effect in decided.effects:
                if isinstance(effect, fx.StopSession):
                    fate.do(w.ended(effect.generation, stage="kill"))
    assert not fate.state.runs
    assert not fate.state.held


def all_goes_well(
    state: ThreadState, limits: Limits, now: float, last_frame_at: float, effects: Iterable[fx.Effect]
) -> None:
    """Everything that was asked for is done, once and nothing else: every prompt reaches its end."""
    fate = Fate(state, limits, now, last_frame_at)
    known = {fx.identity(effect): effect for effect in effects}
    waiting = list(known.values())

    def told(commands: Iterable[c.Command]) -> None:
        for command in commands:
            for effect in fate.do(command).effects:
                if fx.identity(effect) not in known:
                    known[fx.identity(effect)] = effect
                    waiting.append(effect)

    for _ in range(STEPS_MAX * 5):
        turns, stopping = sorted(fate.state.turns), any(run.stopping_at for run in fate.state.runs.values())
        if waiting:
            told(_done(fate.state, waiting.pop(0)))
        elif turns:
            told([w.turn_ended(turns[0], g=fate.state.generation)])
        elif stopping:
            at, up = laws.due(fate.state, limits, last_frame_at)[0]
            fate.now = max(fate.now, at)
            told([up])
        else:
            break
    else:
        raise AssertionError(f"it goes on for ever: {fate.state}")
    under_way = [run for run in fate.state.runs.values() if run.status != "queued"]
    assert all(run.status == "working" and not run.turn for run in under_way), f"left: {under_way}"
    assert under_way or not fate.moving(), f"nothing starts the queue: {fate.state}"


def _done(state: ThreadState, effect: fx.Effect) -> Sequence[c.Command]:
    """What the world says when an effect was performed, as it should be."""
    g = state.generation
    match effect:
        case fx.OpenSession():
            return w.opened(effect.generation)
        case fx.SendPrompt():
            run = laws.number(effect.run_id)
            return w.working(run, effect.generation, f"turn of {run} in {effect.generation}")
        case fx.SendAnswer():
            refs = [q.ref for q in state.requests.values() if q.id == effect.request_id]
            return [w.handed_over(ref, g) for ref in refs]
        case fx.SendInterrupt():
            turns = [turn for turn, run_id in state.turns.items() if run_id == effect.run_id]
            return [w.turn_ended(turn, "interrupted", g) for turn in turns[:1]]
        case fx.StopSession():
            return [w.ended(effect.generation, code=0, stage="close")]
        case fx.AskHistory():
            return [c.HistoryRead(effect.run_id, effect.attempt, "absent")]
        case fx.LetGo():
            return [c.BindingMeasured(effect.native_id, 512)]


FATES: Final[tuple[Callable[[ThreadState, Limits, float, float], None], ...]] = (
    every_session_dies,
    every_session_dies_when_ready,
    silence,
    stopped_and_ignored,
    each_stopped_and_obeyed,
)
