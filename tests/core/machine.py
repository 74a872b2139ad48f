"""A machine that plays everybody around one thread: people, sessions, agents that obey and agents that do not, time.

Every step goes through `laws.step`. At the end the same state is left to its fate in several ways, and every run
must come to an end.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from holdfast.core import commands as c
from holdfast.core import effects as fx
from holdfast.core import events as e
from holdfast.core import reports as r
from holdfast.core.deciding import Context, Decided
from holdfast.core.evolve import evolve
from holdfast.core.policies import Limits
from holdfast.core.state import RunState, SessionState, ThreadState, copy
from holdfast.errors import Rejected
from tests.core import laws
from tests.core import words as w
from tests.core.fates import FATES, all_goes_well

TURNS = st.sampled_from(["t1", "t2", "t3", "t4", "child", ""])
REFS = st.sampled_from(["a", "b", "c", "d", ""])
ASKED = st.sampled_from(["q1", "q2", "q3"])
ENDS = st.sampled_from(["completed", "failed", "interrupted"])
KINDS = st.sampled_from(["command", "assistant_message", "subagent", "reasoning", "notice"])
NUMBERS = st.integers(1, 6)
STEPS_S = st.sampled_from([0.0, 0.1, 1.0, 6.0, 30.0, 130.0, 400.0, 2000.0])

FAILURE = r.Failure("agent_error", "it broke")
QUESTION = r.Question("color", "Color", "Which color?")

any_report: st.SearchStrategy[r.Report] = st.one_of(
    st.builds(r.SessionReady, native_id=st.sampled_from(["native-1", "native-2", "elsewhere"])),
    st.builds(r.SessionRefused, st.just(FAILURE), st.booleans()),
    st.builds(r.BindingChanged, st.sampled_from(["native-1", "elsewhere"]), st.booleans()),
    st.builds(r.PromptSeen, NUMBERS.map(w.prompt_of) | st.just("")),
    st.builds(r.TurnStarted, TURNS, NUMBERS.map(w.prompt_of) | st.just("")),
    st.builds(r.TurnEnded, TURNS, ENDS, st.none() | st.just(FAILURE), st.none()),
    st.builds(r.ItemStarted, TURNS, REFS, KINDS, parent_ref=REFS),
    st.builds(r.ItemText, REFS, st.sampled_from(["", "piece"])),
    st.builds(r.ItemCompleted, REFS, turn=TURNS, kind=st.none() | KINDS, parent_ref=REFS),
    st.builds(
        r.RequestOpened,
        TURNS,
        ASKED,
        st.sampled_from(["command", "file_change", "question", "plan"]),
        st.just("May I?"),
        item_ref=REFS,
        questions=st.sampled_from([[], [QUESTION]]),
        options=st.sampled_from([list(r.DECISIONS), ["accept", "decline"], ["decline"]]),
        inside_workspace=st.booleans(),
    ),
    st.builds(r.RequestWithdrawn, ASKED),
    st.builds(r.NoticeGiven, st.just("retry"), st.just("retrying"), turn=TURNS),
    st.builds(r.ContextReported, st.just(1000), st.just(200_000)),
    st.builds(r.WriteTaken, NUMBERS.map(lambda n: f"prompt:{w.prompt_of(n)}") | st.just("answer:q1")),
    st.builds(r.WriteDone, NUMBERS.map(lambda n: f"prompt:{w.prompt_of(n)}") | ASKED.map("answer:{}".format)),
    st.builds(r.WriteRefused, st.just("prompt:x"), st.just("the input is closed")),
    st.builds(r.ReadingBlocked, st.booleans()),
)
session_ends = st.builds(
    r.SessionEnded,
    st.sampled_from(["exit", "runner_lost", "unknown_session"]),
    st.sampled_from([0, 1, None]),
    st.sampled_from([None, 9]),
    st.sampled_from(["", "no licence"]),
    st.sampled_from(["", "close", "terminate", "kill"]),
)
limits = st.builds(
    Limits,
    stall_s=st.sampled_from([0.0, 300.0]),
    silence_s=st.sampled_from([0.0, 900.0]),
    run_s=st.sampled_from([0.0, 3600.0]),
    idle_s=st.sampled_from([0.0, 1800.0]),
)

FOUND = st.sampled_from(["present", "absent", "unknown"])
stale_commands: st.SearchStrategy[c.Command] = st.one_of(
    st.builds(w.launched, st.integers(0, 3), resumed=st.booleans()),
    st.builds(w.launch_failed, st.integers(0, 3)),
    st.builds(w.history, FOUND, NUMBERS, st.integers(1, 4)),
    st.builds(c.BindingMeasured, st.sampled_from(["native-1", "elsewhere"]), st.integers(0, 2)),
)
any_deadline = st.builds(
    c.TimeUp,
    st.sampled_from(
        ["interrupt", "forced_end", "handshake", "prompt", "history", "idle", "stall", "silence", "run_cap"]
    ),
    NUMBERS.map(w.run_id),
    st.integers(1, 2),
    st.integers(1, 3),
    st.sampled_from([0.0, 1000.0]),
)


class ThreadMachine(RuleBasedStateMachine):
    """One thread in an unreliable world."""

    def __init__(self) -> None:
        super().__init__()
        self.state = ThreadState()
        self.log: list[tuple[e.Event, float]] = []
        self.now = 1000.0
        self.last_frame_at = 0.0
        self.limits = Limits()
        self.passed: set[laws.Pair] = set()
        self.effects: dict[str, fx.Effect] = {}
        self.turn = 1
        self.broken = False

    @initialize(
        limits=limits,
        mode=st.sampled_from(["ask", "edits", "auto", "full"]),
        begun=st.sampled_from(["empty", "sent", "ready", "working"]),
    )
    def create(self, limits: Limits, mode: str, begun: str) -> None:
        self.limits = limits
        self.do(w.create(None if begun == "empty" else "go", mode))
        if begun in ("ready", "working"):
            for command in w.opened():
                self.do(command)
        if begun == "working":
            for command in w.working():
                self.do(command)

    def do(self, command: c.Command) -> Decided:
        self.broken = True
        try:
            decided = laws.step(self.state, command, Context(self.now, self.limits))
        except Rejected:
            self.broken = False
            raise
        self.broken = False
        self.effects.update({fx.identity(effect): effect for effect in decided.effects})
        self.passed.update(laws.walked(self.state, decided.events, self.now))
        self.log += [(event, self.now) for event in decided.events]
        self.state = decided.state
        return decided

    def refuses(self, command: c.Command, *codes: str) -> None:
        """Refused with one of the codes, or ("") accepted without changing anything."""
        try:
            events = self.do(command).events
        except Rejected as refusal:
            code = refusal.code
        else:
            code = ""
            assert events == []
        assert code in codes

    @property
    def session(self) -> SessionState | None:
        session = self.state.session
        return None if session is None or session.stage == "closed" else session

    @property
    def active(self) -> RunState | None:
        return self.state.runs.get(self.state.active)

    @property
    def prompted(self) -> RunState | None:
        """The run whose prompt may be on its way."""
        ready = self.session is not None and self.session.stage == "ready"
        return self.active if ready and self.active is not None and self.active.origin != "agent" else None

    # People

    @precondition(lambda self: self.state.last_run < 8)
    @rule()
    def send(self) -> None:
        self.do(w.send())

    @rule(what=st.sampled_from(["active", "any", "thread", "release", "house"]), n=NUMBERS)
    def intervene(self, what: str, n: int) -> None:
        if what == "active" and self.state.active:
            self.do(c.StopRun(self.state.active, "person:ada"))
        elif what == "any" and n <= self.state.last_run:
            self.do(w.stop(n))
        elif what == "any":
            self.refuses(w.stop(n), "unknown_run")
        elif what == "thread":
            self.do(w.stop_thread())
            assert not self.state.queue
            assert all(run.stopping_at for run in self.state.runs.values())
        elif what == "release":
            self.do(w.release())
            assert not self.state.held
        elif what == "house":
            self.do(c.CloseSession())

    @precondition(lambda self: bool(self.state.last_request))
    @rule(
        back=st.integers(0, 2),
        decision=st.sampled_from(r.DECISIONS),
        answers=st.sampled_from([{}, {"color": ["red"]}]),
    )
    def answer(self, back: int, decision: r.Decision, answers: dict[str, list[str]]) -> None:
        command = w.answer(max(1, self.state.last_request - back), decision, answers=answers)
        request = self.state.requests.get(command.request_id)
        if request is None or request.decision is not None or decision not in request.options:
            self.refuses(command, "already_answered", "expired", "invalid", "")
        elif (answers and not request.question_ids) or (
            not answers and request.question_ids and decision.startswith("accept")
        ):
            self.refuses(command, "invalid")
        else:
            assert [type(event) for event in self.do(command).events] == [e.RequestAnswered]

    # A session and an agent that do as they should

    @precondition(lambda self: self.session is not None and self.session.stage in ("opening", "launched"))
    @rule(resumed=st.booleans(), grown=st.booleans())
    def session_goes_on(self, resumed: bool, grown: bool) -> None:
        assert self.session is not None
        generation = self.session.generation
        if self.session.stage == "opening":
            self.do(w.launched(generation, resumed=resumed and self.state.binding is not None, grown=grown))
        else:
            self.do(w.ready(generation, self.session.native_id))

    @precondition(lambda self: self.prompted is not None)
    @rule(shortcut=st.booleans())
    def prompt_goes_on(self, shortcut: bool) -> None:
        run, generation = self.prompted, self.state.generation
        assert run is not None
        if run.dispatch == "unsent":
            self.do(w.taken(run.ordinal, generation))
        elif run.dispatch == "taken":
            self.do(w.written(run.ordinal, generation))
        elif run.dispatch == "written" and not shortcut:
            self.do(w.seen(run.ordinal, generation))
        else:
            self.turn += 1
            self.do(w.turn(f"t{self.turn}", run.ordinal, generation))

    @precondition(lambda self: bool(self.state.turns))
    @rule(data=st.data(), status=ENDS)
    def turn_ends(self, data: st.DataObject, status: Any) -> None:
        turn = data.draw(st.sampled_from(sorted(self.state.turns)))
        run_id = self.state.turns[turn]
        self.do(w.turn_ended(turn, status, self.state.generation))
        assert run_id not in self.state.runs

    @precondition(lambda self: bool(self.state.turns))
    @rule(data=st.data(), ref=REFS, kind=KINDS, asked=ASKED, asks=st.booleans())
    def turn_shows_something(self, data: st.DataObject, ref: str, kind: Any, asked: str, asks: bool) -> None:
        turn = data.draw(st.sampled_from(sorted(self.state.turns)))
        run_id, g = self.state.turns[turn], self.state.generation
        decided = self.do(w.asks(asked, "command", turn, g) if asks else w.item(ref, kind, turn, g))
        shown = [x for x in decided.events if isinstance(x, e.RequestOpened | e.ItemStarted)]
        assert all(x.run_id == run_id for x in shown)

    @precondition(lambda self: any(q.decision for q in self.state.requests.values()))
    @rule()
    def answer_arrives(self) -> None:
        answered = next(q for q in self.state.requests.values() if q.decision)
        self.do(w.handed_over(answered.ref, self.state.generation))
        assert answered.id not in self.state.requests

    # Anything

    @precondition(lambda self: self.session is not None)
    @rule(reports=st.lists(any_report, min_size=1, max_size=3))
    def report_anything(self, reports: list[r.Report]) -> None:
        self.last_frame_at = self.now
        self.do(w.told(*reports, g=self.state.generation))

    @precondition(lambda self: self.session is not None)
    @rule(report=session_ends)
    def session_is_lost(self, report: r.SessionEnded) -> None:
        self.do(w.told(report, g=self.state.generation))

    @precondition(lambda self: self.state.generation > 1 or self.session is None)
    @rule(report=any_report | session_ends, back=st.integers(0, 2))
    def report_of_the_past(self, report: r.Report, back: int) -> None:
        """An older generation, or a session that has closed, changes nothing at all."""
        generation = self.state.generation - back - (self.session is not None)
        assert self.do(w.told(report, g=generation)).events == []

    @rule(command=stale_commands)
    def late_or_never(self, command: c.Command) -> None:
        self.do(command)

    @precondition(lambda self: self.active is not None and self.active.doubt is not None)
    @rule(found=FOUND)
    def history_answers(self, found: Any) -> None:
        run = self.active
        assert run is not None
        self.do(w.history(found, run.ordinal, run.attempt))
        assert run.id not in self.state.runs or found == "absent"

    # Time

    @rule(seconds=STEPS_S, frames=st.booleans())
    def time_passes(self, seconds: float, frames: bool) -> None:
        self.now += seconds
        if frames:
            self.last_frame_at = self.now
            self.do(c.NoteActivity())

    @precondition(lambda self: bool(self.due()))
    @rule(data=st.data())
    def a_deadline_passes(self, data: st.DataObject) -> None:
        """In any order; a deadline that has fired is not due any more."""
        at, up = data.draw(st.sampled_from(self.due()))
        self.now = max(self.now, at)
        self.do(up)
        assert (at, up) not in self.due(), "it would fire for ever"

    @rule(up=any_deadline)
    def a_stale_deadline_passes(self, up: c.TimeUp) -> None:
        """What is not due now changes nothing."""
        now_due = [x.what for at, x in laws.due(self.state, self.limits, up.since) if at <= self.now]
        decided = self.do(up)
        assert not decided.events or up.what in now_due

    def due(self) -> list[tuple[float, c.TimeUp]]:
        return laws.due(self.state, self.limits, self.last_frame_at)

    def teardown(self) -> None:
        if self.broken:
            return
        state = ThreadState()
        for event, at in self.log:
            evolve(state, event, at)
        assert state == self.state, "the log alone gives another state"
        endings = [event.run_id for event, _ in self.log if isinstance(event, e.RunEnded)]
        assert len(endings) == len(set(endings)), "a run ended twice"
        for fate in FATES:
            fate(copy(self.state), self.limits, self.now, self.last_frame_at)
        alive = (0, self.state.generation if self.session else 0)
        asked = [effect for effect in self.effects.values() if fx.bound_to(effect) in alive]
        all_goes_well(copy(self.state), self.limits, self.now, self.last_frame_at, asked)
