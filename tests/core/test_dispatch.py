"""The prompt on its way to the agent, and what becomes of the run when the session is lost at each step of it."""

import pytest

from holdfast.core import commands as c
from holdfast.core import effects as fx
from holdfast.core import reports as r
from holdfast.core.policies import Limits
from tests.core import words as w
from tests.core.story import Given, Told, event, given


def on_its_way(*before: Told) -> Given:
    return given(w.create("go"), w.opened(), *before)


def test_the_stages_are_noted_in_order() -> None:
    on_its_way().when(w.taken(1), w.written(1), w.seen(1), w.turn("t1", 1)).then(
        event("run.dispatched", stage="taken", attempt=1),
        event("run.dispatched", stage="written"),
        event("run.working", turn=""),
        event("run.working", turn="t1"),
    )


def test_a_stage_is_noted_once_and_never_taken_back() -> None:
    on_its_way(w.taken(1)).when(w.taken(1)).then_nothing()
    on_its_way(w.taken(1), w.written(1)).when(w.written(1), w.taken(1)).then_nothing()
    on_its_way(w.seen(1)).when(w.taken(1), w.written(1), w.seen(1)).then_nothing()
    on_its_way().when(w.written(1)).then(event("run.dispatched", stage="written"))


def test_other_writes_say_nothing_about_the_prompt() -> None:
    reports: list[r.Report] = [
        r.WriteTaken("handshake:1"),
        r.WriteDone("handshake:1"),
        r.WriteDone("interrupt:1"),
        r.WriteTaken(""),
    ]
    on_its_way().when(w.told(*reports)).then_nothing()
    on_its_way().when(w.told(r.WriteTaken(f"prompt:{w.prompt_of(7)}"), r.PromptSeen(""))).then_nothing()


def test_a_queued_prompt_cannot_be_seen() -> None:
    given(w.create("one"), w.send("two"), w.opened()).when(w.taken(2), w.written(2), w.seen(2)).then_nothing()


def test_a_sign_of_work_is_as_good_as_an_acknowledgement() -> None:
    on_its_way(w.written(1)).when(w.item("a", turn="tx")).then(
        event("run.working", turn=""), event("item.started", run_id=w.run_id(1))
    )
    on_its_way(w.written(1)).when(w.asks("q1", turn="tx")).then(
        "run.working", event("request.opened", run_id=w.run_id(1))
    )


def test_what_comes_outside_of_every_turn_is_no_sign_of_the_prompt() -> None:
    on_its_way(w.written(1)).when(w.item("a", turn="")).then(event("item.started", run_id=""))
    thread = on_its_way(w.written(1)).when(w.asks("q1", turn=""))
    thread.then("run.queued", "run.starting", "run.working", event("request.opened", run_id=w.run_id(2)))
    assert thread.run(1).dispatch == "written"


# The session is lost


@pytest.mark.parametrize("cause", ["exit", "runner_lost", "unknown_session"])
def test_lost_before_the_prompt_could_be_written_it_is_tried_again(cause: str) -> None:
    on_its_way().when(w.ended(cause=cause)).then(  # type: ignore[arg-type]
        event("session.closed", cause=cause),
        event("run.requeued", attempt=1),
        event("run.starting", attempt=2, attempt_kind="recovery", item_id="", item_ordinal=0),
        event("session.opening", generation=2),
    )


def test_a_run_that_goes_back_is_the_first_of_the_queue() -> None:
    thread = given(w.create("one"), w.send("two"), w.opened()).when(w.ended())
    assert (thread.state.active, thread.state.queue) == (w.run_id(1), [w.run_id(2)])


def test_trying_again_has_a_bound() -> None:
    thread = on_its_way()
    for g in (1, 2, 3):
        thread.when(w.ended(g)).then_also(event("run.starting", attempt=g + 1))
        thread.when(w.opened(g + 1))
    failure = thread.when(w.send("two"), w.ended(4, signal=9, code=None)).only("run.ended").failure
    assert failure.class_ == "agent_lost"
    assert "by signal 9, 4 times in a row" in failure.message
    assert thread.state.held


def test_the_bound_is_a_setting() -> None:
    given(w.create("go"), w.opened(), limits=Limits(restarts_max=0)).when(w.ended()).then(
        "session.closed", event("run.ended", status="failed")
    )


@pytest.mark.parametrize("cause", ["exit", "runner_lost"])
@pytest.mark.parametrize("steps", [[w.taken(1)], [w.taken(1), w.written(1)]])
def test_lost_with_the_prompt_on_its_way_the_agents_history_is_asked(cause: str, steps: list[Told]) -> None:
    thread = on_its_way(steps).when(w.ended(cause=cause, stderr="out of memory"))  # type: ignore[arg-type]
    failure = thread.only("run.doubtful").failure
    assert failure.class_ == ("agent_lost" if cause == "exit" else "runner_lost")
    assert failure.message.endswith("when it had just got the prompt; its last words: out of memory")
    thread.then("session.closed", "run.doubtful").asks_for(
        fx.LetGo(w.session_id(1), "native-1"), fx.AskHistory(w.run_id(1), 1, w.session_id(1))
    )
    assert thread.deadlines() == {"history": 10.0}
    thread.when(w.send("two")).then("run.queued")


def in_doubt() -> Given:
    return on_its_way(w.taken(1), w.written(1), w.ended(stderr="out of memory"))


def test_absent_from_the_history_it_is_sent_again() -> None:
    in_doubt().when(w.history("absent")).then(
        event("run.requeued", attempt=1),
        event("run.starting", attempt=2, attempt_kind="recovery"),
        event("session.opening", generation=2),
    ).when(w.opened(2)).asks_for(fx.SendPrompt(w.run_id(1), 2, 2))


def test_a_prompt_that_is_absent_again_and_again_is_given_up() -> None:
    thread = in_doubt()
    for attempt in (1, 2, 3):
        thread.when(w.history("absent", attempt=attempt)).then_also(
            event("run.starting", attempt=attempt + 1)
        )
        thread.when(w.opened(attempt + 1), w.taken(1, attempt + 1), w.ended(attempt + 1))
    assert thread.when(w.history("absent", attempt=4)).only("run.ended").failure.class_ == "agent_lost"


def test_present_in_the_history_the_run_fails_with_what_happened() -> None:
    failure = in_doubt().when(w.history("present")).only("run.ended").failure
    assert failure.class_ == "agent_lost"
    assert "out of memory" in failure.message


def test_not_to_be_decided_is_said_and_never_guessed() -> None:
    thread = in_doubt().when(w.history("unknown")).then(event("run.ended", status="failed"))
    failure = thread.only("run.ended").failure
    assert failure.class_ == "unknown_outcome"
    assert "look at the workspace" in failure.message


def test_a_history_that_does_not_answer_is_unknown() -> None:
    failure = in_doubt().when(10.0, c.TimeUp("history", w.run_id(1), 1, 1)).only("run.ended").failure
    assert failure.class_ == "unknown_outcome"


def test_a_late_history_changes_nothing() -> None:
    in_doubt().when(w.history("present", attempt=2), w.history("present", run=2)).then_nothing()
    in_doubt().when(w.history("absent")).when(w.history("present"), w.history("unknown")).then_nothing()
    on_its_way(w.seen(1)).when(w.history("unknown")).then_nothing()


def test_lost_at_work_the_run_fails_and_says_how() -> None:
    thread = on_its_way(w.written(1), w.seen(1), w.send("two")).when(w.ended(code=3, stderr="panic\n"))
    thread.then("session.closed", event("run.ended", status="failed", forced=False), "queue.held")
    assert thread.only("run.ended").failure == r.Failure(
        "agent_lost",
        "cannot finish the run: because the agent's process exited with code 3 while it worked; its last words: panic",
    )


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("runner_lost", "the runner that held the agent died"),
        ("unknown_session", "no runner knows the agent's process"),
    ],
)
def test_lost_with_its_runner_is_another_failure(cause: str, words: str) -> None:
    failure = on_its_way(w.working()).when(w.ended(cause=cause)).only("run.ended").failure  # type: ignore[arg-type]
    assert failure.class_ == "runner_lost"
    assert words in failure.message


def test_what_comes_from_the_lost_session_changes_nothing() -> None:
    thread = on_its_way(w.ended())
    late = [
        w.seen(1),
        w.turn("t1", 1),
        w.item("a"),
        w.asks("q1"),
        w.turn_ended("t1"),
        w.ended(),
        w.ready(),
        w.taken(1),
    ]
    thread.when(late).then_nothing()
    thread.when(w.opened(2)).when(late).then_nothing()
    thread.when(w.launched(1), w.launch_failed(1)).then_nothing()


def test_reports_behind_the_end_of_their_session_change_nothing() -> None:
    on_its_way(w.working()).when(w.told(r.SessionEnded("exit", 0), r.TurnEnded("t1", "completed"))).then(
        "session.closed", event("run.ended", status="failed")
    )


# The prompt does not arrive


def test_a_prompt_that_is_not_acknowledged_ends_the_session() -> None:
    thread = on_its_way(w.taken(1), w.written(1))
    assert thread.deadlines() == {"prompt": 120.0}
    thread.when(120.0, c.TimeUp("prompt", w.run_id(1), 1, 1)).then(event("session.closing", reason="stalled"))
    assert thread.deadlines() == {}, "it fires once"
    thread.when(w.ended(stage="terminate")).then("session.closed", "run.doubtful")


def test_a_prompt_that_is_not_even_taken_is_tried_again() -> None:
    thread = on_its_way()
    assert thread.deadlines() == {"prompt": 120.0}
    thread.when(120.0, c.TimeUp("prompt", w.run_id(1), 1, 1), w.ended(stage="terminate")).then(
        event("session.closing", reason="stalled"),
        "session.closed",
        "run.requeued",
        event("run.starting", attempt=2),
        "session.opening",
    )


def test_a_deadline_for_a_prompt_that_was_seen_meanwhile_changes_nothing() -> None:
    on_its_way(w.taken(1), 119.0, w.seen(1)).when(1.0, c.TimeUp("prompt", w.run_id(1), 1, 1)).then_nothing()


def test_a_closed_input_ends_the_session_and_is_not_tried_for_ever() -> None:
    thread = on_its_way()
    for g in (1, 2, 3, 4):
        thread.when(w.told(r.WriteRefused("prompt:x", "closed"), g=g)).then(
            event("session.closing", reason="stalled")
        )
        thread.when(w.told(r.WriteRefused("prompt:x", "closed"), g=g)).then_nothing()
        thread.when(w.ended(g, code=0, stage="close"))
        if thread.state.runs:
            thread.when(1.0, w.opened(g + 1))
    assert thread.state.runs == {}
    assert thread.state.generation == 4


def test_no_prompt_is_on_its_way_before_the_session_is_ready() -> None:
    given(w.create("go")).when(w.taken(1), w.launched(), w.written(1)).then("session.launched").when(
        w.ready()
    ).asks_for(fx.SendPrompt(w.run_id(1), 1, 1))
