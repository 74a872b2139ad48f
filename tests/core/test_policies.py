"""Deadlines: which a thread has, and when stillness is told, and when not."""

from holdfast.core import commands as c
from holdfast.core import reports as r
from holdfast.core.policies import Limits
from tests.core import words as w
from tests.core.story import START, Given, Told, event, given


def at_work(*before: Told, limits: Limits | None = None) -> Given:
    return given(w.create("go"), w.opened(), w.working(), before, limits=limits)


def stall(since: float, run: int = 1) -> c.TimeUp:
    return c.TimeUp("stall", w.run_id(run), 1, 1, START + since)


def silence(since: float) -> c.TimeUp:
    return c.TimeUp("silence", w.run_id(1), 1, 1, START + since)


def test_a_thread_at_rest_has_no_deadlines() -> None:
    assert given(w.create()).deadlines() == {}
    assert given(w.create("go"), w.stop(1), w.ended()).deadlines() == {}


def test_stillness_is_said_once() -> None:
    thread = at_work()
    assert thread.deadlines() == {"stall": 300.0}
    outcome = thread.when(300.0, stall(0)).then(
        event("run.stalled", since=START),
        event("item.started", kind="notice", run_id=w.run_id(1), data={"code": "stalled", "since": START}),
        "item.completed",
    )
    assert "nothing has come from the agent for 300 s" in outcome.only("item.started").text
    assert thread.run(1).stalled, "our own notice is no sign of life"
    assert thread.deadlines() == {}
    thread.when(stall(0)).then_nothing()


def test_a_sign_of_life_ends_stillness() -> None:
    signs: tuple[Told, ...] = (
        w.item("a", "assistant_message"),
        w.turn("t2", 1),
        c.NoteActivity(),
    )
    for sign in signs:
        thread = at_work(300.0, stall(0), 10.0).when(sign)
        assert not thread.run(1).stalled
        assert thread.deadlines() == {"stall": 610.0}


def test_frames_without_events_count_as_life() -> None:
    thread = at_work(100.0)
    assert thread.deadlines(last_frame_at=START + 90) == {"stall": 390.0}
    thread.when(210.0, c.TimeUp("stall", w.run_id(1), 1, 1, START + 90)).then_nothing()
    thread.when(80.0, c.TimeUp("stall", w.run_id(1), 1, 1, START + 90)).then_also(
        event("run.stalled", since=START + 90)
    )


def test_a_deadline_that_something_has_overtaken_changes_nothing() -> None:
    at_work(299.0, w.item("a", "reasoning")).when(1.0, stall(0)).then_nothing()


def test_waiting_for_a_person_and_running_a_tool_are_no_stillness() -> None:
    tools: tuple[r.ItemKind, ...] = ("command", "tool_call", "file_change", "search", "subagent")
    texts: tuple[r.ItemKind, ...] = ("assistant_message", "reasoning", "todo_list")
    for kind in tools:
        assert at_work(w.item("a", kind)).deadlines() == {}
    for kind in texts:
        assert at_work(w.item("a", kind)).deadlines() == {"stall": 300.0}
    thread = at_work(w.asks())
    assert thread.deadlines() == {}
    thread.when(400.0, stall(0)).then_nothing()
    assert thread.when(w.answer(1)).deadlines() == {"stall": 700.0}


def test_silence_fails_the_run_where_it_is_bounded() -> None:
    thread = at_work(limits=Limits(silence_s=900))
    assert thread.deadlines() == {"stall": 300.0, "silence": 900.0}
    thread.when(300.0, stall(0))
    assert thread.deadlines() == {"silence": 900.0}, "the notice of stillness does not put it off"
    outcome = thread.when(600.0, silence(0)).then(event("run.stopping", by="limit:silence_s"))
    failure = outcome.only("run.stopping").failure
    assert failure == r.Failure(
        "stalled", "cannot finish the run: because nothing has come from the agent for 900 s"
    )
    thread.when(5.0, c.TimeUp("interrupt", w.run_id(1), 1, 1), w.ended(stage="kill", signal=9)).then_also(
        event("run.ended", status="failed", failure=failure, forced=True)
    )


def test_never_is_a_setting() -> None:
    assert at_work(limits=Limits(stall_s=0)).deadlines() == {}


def test_activity_is_noted_at_most_every_fifteen_seconds() -> None:
    thread = at_work(14.9)
    thread.when(c.NoteActivity()).then_nothing()
    thread.when(0.1, c.NoteActivity()).then(event("run.active", run_id=w.run_id(1)))
    thread.when(c.NoteActivity()).then_nothing()


def test_activity_is_of_runs_that_work() -> None:
    given(w.create("go"), w.opened(), 60.0).when(c.NoteActivity()).then_nothing()
    at_work(w.turn_ended("t1"), 60.0).when(c.NoteActivity()).then_nothing()
    at_work(w.turn("bg"), 60.0).when(c.NoteActivity()).then(
        event("run.active", run_id=w.run_id(1)), event("run.active", run_id=w.run_id(2))
    )


def test_an_unprompted_run_can_be_still_too() -> None:
    at_work(w.turn_ended("t1"), w.turn("bg")).when(300.0, stall(0, run=2)).then_also(
        event("run.stalled", run_id=w.run_id(2))
    )


def test_deadlines_of_queued_runs_do_not_exist() -> None:
    thread = at_work(w.send("two"), limits=Limits(run_s=60))
    assert thread.deadlines() == {"stall": 300.0, "run_cap": 60.0}
    thread.when(
        60.0, c.TimeUp("run_cap", w.run_id(2), 0, 1), c.TimeUp("forced_end", w.run_id(1), 1, 1)
    ).then_nothing()
