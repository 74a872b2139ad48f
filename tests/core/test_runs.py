"""Runs: queued, started, carried to an end; what holds the queue; what the agent begins by itself."""

from typing import Literal

from holdfast.core import commands as c
from holdfast.core import effects as fx
from holdfast.core import reports as r
from holdfast.core.policies import Limits
from tests.core import words as w
from tests.core.story import Told, event, given


def test_a_first_message_starts_its_run_and_opens_a_session() -> None:
    given().when(w.create("Fix the build\nplease")).then(
        event("thread.created", title="Fix the build", agent="alpha", mode="ask"),
        event("run.queued", run_id=w.run_id(1), text="Fix the build\nplease", prompt_ref=w.prompt_of(1)),
        event("run.starting", attempt=1, attempt_kind="initial", item_id=w.item_id(1), item_ordinal=1),
        event("session.opening", session_id=w.session_id(1), generation=1, agent="alpha", kind="scripted"),
    ).asks_for(fx.OpenSession(w.session_id(1), 1, "alpha"))


def test_a_thread_without_a_message_opens_nothing() -> None:
    given().when(w.create()).then("thread.created").asks_for()


def test_a_thread_is_created_once() -> None:
    given(w.create()).refuses(w.create(), "conflict", "it exists")


def test_the_first_prompt_names_an_untitled_thread_once() -> None:
    given(w.create()).when(w.send("\n  " + "word " * 40)).then_also(
        event("thread.titled", title=("word " * 16)[:79] + "…")
    )
    given(w.create(), w.send("one")).when(w.send("two")).then("run.queued")
    given(w.create()).when(w.send(" \n ")).then_never("thread.titled")


def test_a_message_behind_a_run_waits_for_it() -> None:
    given(w.create("one"), w.opened(), w.working()).when(w.send("two")).then(
        event("run.queued", run_id=w.run_id(2))
    ).when(w.turn_ended("t1")).then(
        event("run.ended", run_id=w.run_id(1), status="completed"),
        event("run.starting", run_id=w.run_id(2), attempt=1),
    ).asks_for(fx.SendPrompt(w.run_id(2), 1, 1))


def test_the_queue_keeps_its_order() -> None:
    thread = given(w.create("one"), w.send("two"), w.send("three"))
    assert thread.state.queue == [w.run_id(2), w.run_id(3)]
    assert thread.when(w.stop(1)).state.active == w.run_id(2)


def test_the_prompt_goes_out_when_the_session_is_ready() -> None:
    given(w.create("go"), w.launched()).when(w.ready()).then("session.ready", "binding.stored").asks_for(
        fx.SendPrompt(w.run_id(1), 1, 1)
    )


def test_steering_and_other_agents_are_refused_in_words() -> None:
    thread = given(w.create("go"))
    command = w.send()
    deliveries: tuple[c.Delivery, ...] = ("steer", "restart")
    for delivery in deliveries:
        thread.refuses(c.SendMessage("x", delivery=delivery), "unsupported", "use auto or queue")
    thread.refuses(c.SendMessage("x", agent="beta"), "unsupported", "open a thread with that agent")
    thread.when(c.SendMessage("x", agent="alpha", delivery="queue"), command).then("run.queued", "run.queued")


def test_only_the_root_turns_end_ends_a_run() -> None:
    thread = given(w.create("go"), w.opened(), w.taken(1), w.written(1), w.seen(1))
    thread.when(w.turn("t1", 1)).then(event("run.working", turn="t1"))
    thread.when(w.turn_ended("t9")).then_nothing()
    usage = r.Usage(input=3, output=4)
    thread.when(w.told(r.TurnEnded("t1", "completed", usage=usage))).then(
        event("run.ended", status="completed", usage=usage, failure=None, forced=False, attempt=1)
    )


def test_late_reports_of_an_ended_turn_change_nothing() -> None:
    thread = given(w.create("go"), w.opened(), w.working(), w.turn_ended("t1"))
    thread.when(
        w.turn_ended("t1"), w.turn("t1", 1), w.turn("t1"), w.seen(1), w.taken(1), w.written(1)
    ).then_nothing()


def test_a_turn_that_is_announced_twice_is_one_turn() -> None:
    given(w.create("go"), w.opened(), w.working()).when(
        w.turn("t1", 1), w.turn("t1"), w.seen(1)
    ).then_nothing()


def test_a_run_may_go_on_in_a_further_turn() -> None:
    thread = given(w.create("go"), w.opened(), w.working())
    thread.when(w.turn("t2", 1)).then(event("run.working", turn="t2"))
    assert thread.state.turns == {"t1": w.run_id(1), "t2": w.run_id(1)}
    thread.when(w.turn_ended("t2")).then(event("run.ended", status="completed"))


def test_finalising_closes_text_items_and_requests_before_the_end() -> None:
    given(
        w.create("go"), w.opened(), w.working(), w.item("a", "assistant_message"), w.item("b"), w.asks("q1")
    ).when(w.turn_ended("t1")).then(
        event("item.completed", item_id=w.item_id(2), status="completed", text=None),
        event("item.completed", item_id=w.item_id(3), status="interrupted"),
        event("request.closed", request_id=w.request_id(1), state="expired", reason="run_ended"),
        event("run.ended", status="completed"),
    )


def test_text_of_a_failed_run_is_interrupted() -> None:
    given(w.create("go"), w.opened(), w.working(), w.item("a", "assistant_message")).when(
        w.turn_ended("t1", "failed")
    ).then(
        event("item.completed", status="interrupted"),
        event("run.ended", status="failed", failure=r.Failure("agent_error", "the model refused")),
    )


# What holds the queue


def failed_with_a_queue() -> list[Told]:
    return [
        w.create("one"),
        w.send("two"),
        w.send("three"),
        w.opened(),
        w.working(),
        w.turn_ended("t1", "failed"),
    ]


def test_a_failure_holds_the_queue() -> None:
    given(failed_with_a_queue()[:-1]).when(w.turn_ended("t1", "failed")).then(
        "run.ended", event("queue.held", run_id=w.run_id(1))
    )


def test_a_failure_without_a_queue_holds_nothing() -> None:
    given(w.create("one"), w.opened(), w.working()).when(w.turn_ended("t1", "failed")).then("run.ended")


def test_a_failure_of_what_the_agent_began_by_itself_holds_nothing() -> None:
    given(w.create("one"), w.opened(), w.working(), w.turn_ended("t1"), w.turn("t2"), w.send("two")).when(
        w.turn_ended("t2", "failed")
    ).then(event("run.ended", status="failed"), event("run.starting", run_id=w.run_id(3)))


def test_an_interruption_holds_nothing() -> None:
    given(w.create("one"), w.send("two"), w.opened(), w.working()).when(
        w.turn_ended("t1", "interrupted")
    ).then(event("run.ended", status="interrupted"), event("run.starting", run_id=w.run_id(2)))


def test_a_message_releases_the_queue_and_goes_behind_it() -> None:
    thread = given(failed_with_a_queue()).when(w.send("four"))
    thread.then(
        "run.queued", event("queue.released", by="message"), event("run.starting", run_id=w.run_id(2))
    )
    assert thread.state.queue == [w.run_id(3), w.run_id(4)]


def test_release_lets_the_queue_go() -> None:
    given(failed_with_a_queue()).when(w.release()).then(
        event("queue.released", by="person:ada"), event("run.starting", run_id=w.run_id(2))
    )
    given(w.create("one")).when(w.release()).then_nothing()


def test_cancelling_the_last_held_run_releases_the_queue() -> None:
    given(failed_with_a_queue()).when(w.stop(3)).then(event("run.ended", status="cancelled")).when(
        w.stop(2)
    ).then(event("run.ended", status="cancelled"), event("queue.released", by="person:ada"))


def test_a_queue_is_held_once() -> None:
    given(failed_with_a_queue(), w.turn("bg")).when(w.turn_ended("bg", "failed")).then("run.ended")


def test_a_held_queue_survives_its_session() -> None:
    given(failed_with_a_queue()).when(w.ended()).then("session.closed").when(w.release()).then(
        "queue.released", "run.starting", event("session.opening", generation=2)
    )


# What the agent begins by itself


def test_an_unprompted_turn_is_a_run_of_the_agent() -> None:
    thread = given(w.create("go"), w.opened(), w.working(), w.turn_ended("t1")).when(w.turn("t2"))
    thread.then(
        event("run.queued", run_id=w.run_id(2), origin="agent", text="", prompt_ref=""),
        event("run.starting", run_id=w.run_id(2), item_id=""),
        event("run.working", run_id=w.run_id(2), turn="t2"),
    ).asks_for()
    assert thread.state.active == w.run_id(2)
    thread.when(w.item("a", turn="t2")).then(event("item.started", run_id=w.run_id(2)))
    thread.when(w.item_done("a"), w.turn_ended("t2")).then(
        "item.completed", event("run.ended", run_id=w.run_id(2), status="completed")
    )


def test_a_message_waits_for_an_unprompted_run() -> None:
    given(w.create(), w.send("one"), w.opened(), w.working(), w.turn_ended("t1"), w.turn("t2")).when(
        w.send("two")
    ).then("run.queued").when(w.turn_ended("t2")).then(
        "run.ended", event("run.starting", run_id=w.run_id(2 + 1))
    )


def test_an_unprompted_turn_beside_a_prompt_on_its_way_is_not_charged_to_it() -> None:
    thread = given(w.create("go"), w.opened(), w.taken(1), w.written(1)).when(
        w.turn("bg"), w.item("a", turn="bg")
    )
    thread.then_also(event("item.started", run_id=w.run_id(2)))
    assert thread.state.active == w.run_id(1)
    assert thread.run(1).dispatch == "written"
    thread.when(w.turn_ended("bg")).then("item.completed", event("run.ended", run_id=w.run_id(2)))
    thread.when(w.turn("t1", 1)).then(event("run.working", run_id=w.run_id(1)))


def test_the_next_run_starts_beside_an_unprompted_one() -> None:
    thread = given(w.create("one"), w.send("two"), w.opened(), w.working(), w.turn("bg")).when(
        w.turn_ended("t1")
    )
    thread.then("run.ended", event("run.starting", run_id=w.run_id(2)))
    assert thread.state.active == w.run_id(2)


def test_a_turn_without_a_name_is_no_run() -> None:
    given(w.create("go"), w.opened()).when(w.turn("")).then_nothing()


# Stop


def test_stopping_a_queued_run_drops_it() -> None:
    given(w.create("one"), w.send("two")).when(w.stop(2)).then(
        event("run.ended", run_id=w.run_id(2), status="cancelled", attempt=0, forced=False)
    )


def test_stopping_before_the_session_is_ready_ends_the_run_at_once() -> None:
    for before in ([], [w.launched()]):
        given(w.create("one"), before).when(w.stop(1)).then(
            event("run.stopping", by="person:ada", failure=None),
            event("run.ended", status="interrupted", failure=None, forced=False),
        ).asks_for()


def test_the_opening_session_serves_the_next_run() -> None:
    given(w.create("one"), w.send("two")).when(w.stop(1)).then(
        "run.stopping", "run.ended", event("run.starting", run_id=w.run_id(2))
    ).when(w.opened()).asks_for(fx.SendPrompt(w.run_id(2), 1, 1))


def test_stopping_asks_the_agent_to_end() -> None:
    stages: tuple[Told, ...] = ([], [w.taken(1)], [w.taken(1), w.written(1)], w.working())
    for before in stages:
        thread = given(w.create("one"), w.opened(), before).when(w.stop(1))
        thread.then("run.stopping").asks_for(fx.SendInterrupt(w.run_id(1), 1, 1))
        thread.when(w.stop(1)).then_nothing()
        assert thread.deadlines() == {"interrupt": 5.0, "forced_end": 20.0}


def test_a_stopped_turn_that_ends_is_interrupted_and_not_failed() -> None:
    statuses: tuple[Literal["failed", "interrupted"], ...] = ("failed", "interrupted")
    for status in statuses:
        given(w.create("one"), w.send("two"), w.opened(), w.working(), w.stop(1)).when(
            w.turn_ended("t1", status)
        ).then(event("run.ended", status="interrupted", failure=None, forced=False), "run.starting")


def test_a_turn_that_completes_before_the_stop_arrives_is_completed() -> None:
    given(w.create("one"), w.opened(), w.working(), w.stop(1)).when(w.turn_ended("t1")).then(
        event("run.ended", status="completed")
    )


def test_stop_withdraws_what_waits_for_a_person() -> None:
    thread = given(w.create("one"), w.opened(), w.working(), w.asks("q1"), w.asks("q2"), w.answer(2)).when(
        w.stop(1)
    )
    thread.then(
        "run.stopping",
        event("request.closed", request_id=w.request_id(1), state="withdrawn", reason="run_ended"),
    )
    thread.when(w.asks("q3")).then(
        "request.opened", event("request.closed", request_id=w.request_id(3), state="withdrawn")
    )
    thread.when(w.ended(stage="kill")).then_also(
        event("request.closed", state="expired", reason="agent_lost")
    )


def test_a_stop_that_is_ignored_climbs_the_ladder() -> None:
    thread = given(w.create("one"), w.send("two"), w.opened(), w.working(), w.stop(1))
    thread.when(5.0, c.TimeUp("interrupt", w.run_id(1), 1, 1)).then(
        event("session.closing", reason="stop")
    ).asks_for(fx.StopSession(w.session_id(1), 1, gentle=False))
    assert thread.deadlines() == {"forced_end": 20.0}, "the interrupt fires once"
    thread.when(w.ended(signal=15, code=None, stage="terminate")).then(
        "session.closed",
        event("run.ended", status="interrupted", forced=True, failure=None),
        event("run.starting", run_id=w.run_id(2)),
        event("session.opening", generation=2),
    )


def test_a_stop_that_nobody_confirms_ends_all_the_same() -> None:
    thread = given(w.create("one"), w.opened(), w.working(), w.stop(1))
    thread.when(20.0, c.TimeUp("forced_end", w.run_id(1), 1, 1)).then(
        event("session.closing", reason="stop"), event("run.ended", status="interrupted", forced=True)
    )
    thread.when(w.turn_ended("t1"), w.item("late")).then_never("run.ended", "run.working", "run.queued")


def test_stopping_while_the_session_closes_waits_for_its_end() -> None:
    thread = (
        given(w.create("one"), w.opened(), w.working(), c.CloseSession()).when(w.stop(1)).then("run.stopping")
    )
    thread.asks_for()
    assert thread.deadlines() == {"forced_end": 20.0}
    thread.when(w.ended(stage="close")).then(
        "session.closed", event("run.ended", status="interrupted", forced=False)
    )


def test_stopping_an_unsent_run_while_the_session_closes_ends_it_at_once() -> None:
    given(w.create("one"), w.opened(), c.CloseSession()).when(w.stop(1)).then(
        "run.stopping", event("run.ended", status="interrupted")
    )


def test_stopping_a_run_in_doubt_ends_it() -> None:
    given(w.create("one"), w.opened(), w.taken(1), w.ended()).when(w.stop(1)).then(
        "run.stopping", event("run.ended", status="interrupted", failure=None)
    ).when(w.history("present")).then_nothing()


def test_a_turn_that_completes_while_it_is_forced_to_end_is_completed() -> None:
    given(
        w.create("one"), w.opened(), w.working(), w.stop(1), 5.0, c.TimeUp("interrupt", w.run_id(1), 1, 1)
    ).when(w.turn_ended("t1")).then(event("run.ended", status="completed", forced=False))


def test_a_stopped_process_that_had_to_be_ended_is_said_to_be_forced() -> None:
    """Also where it was already closing for another reason."""
    before: list[Told] = [w.create("one"), w.opened(), w.working(), c.CloseSession(), w.stop(1)]
    given(before).when(w.ended(stage="kill")).then_also(event("run.ended", status="interrupted", forced=True))


def test_an_announcement_without_news_is_nothing() -> None:
    given(w.create("one"), w.opened(), w.working()).when(w.seen(1)).then_nothing()


def test_stopping_what_has_ended_changes_nothing() -> None:
    given(w.create("one"), w.stop(1)).when(w.stop(1)).then_nothing()


def test_stopping_what_never_was_is_refused() -> None:
    thread = given(w.create("one")).refuses(w.stop(2), "unknown_run")
    for identity in ("run_00000000000000000000_1", w.item_id(1), "nonsense"):
        thread.refuses(c.StopRun(identity, "person:ada"), "unknown_run")


def test_stopping_the_thread_stops_everything() -> None:
    given(w.create("one"), w.opened(), w.working(), w.turn("bg"), w.send("two"), w.send("three")).when(
        w.stop_thread()
    ).then(
        event("run.ended", run_id=w.run_id(3), status="cancelled"),
        event("run.ended", run_id=w.run_id(4), status="cancelled"),
        event("run.stopping", run_id=w.run_id(1)),
        event("run.stopping", run_id=w.run_id(2)),
    )


def test_stopping_a_held_thread_releases_it() -> None:
    thread = given(failed_with_a_queue()).when(w.stop_thread())
    thread.then("run.ended", "run.ended", event("queue.released", by="person:ada"))
    thread.when(w.stop_thread()).then_nothing()


def test_a_stopped_run_takes_nobody_with_it_as_failed() -> None:
    """The agent had to be ended: what it began beside the stopped run is interrupted, and the queue goes on."""
    given(
        w.create("one"), w.send("two"), w.opened(), w.working(), w.turn("bg"), w.stop(1),
        5.0, c.TimeUp("interrupt", w.run_id(1), 1, 1),
    ).when(w.ended(signal=15, stage="terminate")).then(
        "session.closed",
        event("run.ended", run_id=w.run_id(1), status="interrupted"),
        "run.starting",
        "session.opening",
        event("run.ended", run_id=w.run_id(3), status="interrupted", failure=None),
    )  # fmt: skip


# Limits of a run


def test_a_run_over_its_cap_is_stopped_and_failed() -> None:
    limits = Limits(run_s=60)
    thread = given(w.create("one"), w.opened(), w.working(), limits=limits).when(
        60.0, c.TimeUp("run_cap", w.run_id(1), 1, 1)
    )
    stopping = thread.only("run.stopping")
    assert (stopping.by, stopping.failure.class_) == ("limit:run_s", "stalled")
    assert "limits.run_s = 60 s" in stopping.failure.message
    thread.when(w.turn_ended("t1", "interrupted")).then(
        event("run.ended", status="failed", failure=stopping.failure)
    )


def test_the_cap_counts_from_the_first_attempt() -> None:
    thread = given(w.create("one"), w.opened(), 50.0, w.ended(), limits=Limits(run_s=60))
    assert thread.run(1).attempt == 2
    assert thread.deadlines()["run_cap"] == 60.0
