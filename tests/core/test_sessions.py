"""Sessions: opened, launched, ready, refused, idle, closed; and the binding on the native conversation."""

from holdfast.core import commands as c
from holdfast.core import effects as fx
from holdfast.core import reports as r
from holdfast.core.policies import Limits
from tests.core import words as w
from tests.core.story import Given, Told, event, given

NATIVE_LOST = "native-1 is not there"


def test_a_session_is_ready_in_the_decision_that_stores_its_binding() -> None:
    thread = (
        given(w.create("go"))
        .when(w.launched())
        .then(event("session.launched", native_id="native-1", resumed=False, rebuilt=False))
    )
    thread.when(w.told(r.SessionReady("native-1", "2.1", "opus", {"tools": 3}))).then(
        event("session.ready", native_id="native-1", version="2.1", model="opus", details={"tools": 3}),
        event("binding.stored", native_id="native-1", resumable=False, agent="alpha"),
    )
    thread.when(w.ready(), w.launched()).then_nothing()


def test_the_binding_follows_what_the_agent_says() -> None:
    thread = given(w.create("go"), w.opened())
    thread.when(w.told(r.BindingChanged("native-1", True))).then(
        event("binding.stored", resumable=True, native_bytes=-1)
    )
    thread.when(w.told(r.BindingChanged("native-1", True))).then_nothing()


def test_the_native_history_is_measured_when_the_session_has_ended() -> None:
    thread = given(w.create("go"), w.opened(), w.told(r.BindingChanged("native-1", True)))
    measured = c.BindingMeasured("native-1", 512)
    thread.when(measured).then_nothing()
    thread.when(w.stop(1), c.CloseSession(), w.ended(code=0))
    thread.when(measured).then(event("binding.stored", native_bytes=512, resumable=True))
    thread.when(measured, c.BindingMeasured("native-2", 9)).then_nothing()


def test_a_process_that_does_not_start_fails_the_run_in_its_words() -> None:
    given(w.create("one"), w.send("two")).when(w.launch_failed()).then(
        event(
            "session.closed", cause="not_started", stderr="cannot start alpha: because alpha was not found"
        ),
        event("run.ended", status="failed", failure=w.launch_failed().failure),
        "queue.held",
    )


def test_a_process_that_dies_before_it_is_ready_fails_the_run_with_its_last_words() -> None:
    for before in ([], [w.launched()]):
        failure = (
            given(w.create("go"), before)
            .when(w.ended(code=2, stderr=" bad flag --x\n"))
            .only("run.ended")
            .failure
        )
        assert failure == r.Failure(
            "start_failed",
            "cannot start alpha: because the agent's process exited with code 2 before it was ready; its last words: bad flag --x",
        )


def test_a_runner_that_dies_before_the_agent_is_ready_is_no_failure_of_the_agent() -> None:
    given(w.create("go"), w.launched()).when(w.ended(cause="runner_lost", code=None)).then(
        "session.closed", "run.requeued", "run.starting", event("session.opening", generation=2)
    )


def test_a_late_launch_failure_does_not_touch_a_session_that_runs() -> None:
    given(w.create("go"), w.opened(), w.working()).when(w.launch_failed()).then_nothing()


def test_an_agent_that_does_not_answer_its_handshake_is_ended() -> None:
    before: tuple[Told, ...] = ([], [w.launched()])
    for told in before:
        thread = given(w.create("go"), told)
        assert thread.deadlines() == {"handshake": 120.0}
        failed = thread.when(120.0, c.TimeUp("handshake", generation=1)).then(
            event("session.closing", reason="stalled"), event("run.ended", status="failed")
        )
        failed.asks_for(fx.StopSession(w.session_id(1), 1, gentle=False))
        assert failed.only("run.ended").failure.class_ == "start_failed"
        assert thread.deadlines() == {}


def test_a_deadline_of_another_session_or_before_its_time_changes_nothing() -> None:
    thread = given(w.create("go"), w.launched())
    thread.when(119.0, c.TimeUp("handshake", generation=1)).then_nothing()
    thread.when(1.0, c.TimeUp("handshake", generation=2)).then_nothing()
    thread.when(w.ready(), c.TimeUp("handshake", generation=1)).then_never("session.closing")


# Refused


def test_a_session_that_is_refused_fails_its_run() -> None:
    thread = given(w.create("one"), w.send("two"), w.launched()).when(w.refused())
    thread.then(
        event(
            "run.ended",
            status="failed",
            failure=r.Failure("auth", "cannot start alpha: because it is signed out"),
        ),
        "queue.held",
        event("session.closing", reason="refused"),
    ).asks_for(fx.StopSession(w.session_id(1), 1, gentle=True))
    thread.when(w.refused()).then_nothing()
    thread.when(w.ended(code=1)).then("session.closed")


def with_history() -> Given:
    return given(
        w.create("one"), w.opened(), w.told(r.BindingChanged("native-1", True)), w.working(), w.turn_ended("t1"),
        c.CloseSession(), w.ended(code=0),
    )  # fmt: skip


def test_a_lost_conversation_is_rebuilt_and_said() -> None:
    thread = with_history().when(w.send("two"), w.launched(2, resumed=True), w.refused(2, resume_lost=True))
    thread.then_also(
        event("binding.dropped", native_id="native-1"), event("session.closing", reason="refused")
    )
    thread.then_never("run.ended")
    thread.when(w.ended(2)).then("session.closed", event("session.opening", generation=3))
    thread.when(w.launched(3)).then(
        event("session.launched", resumed=False, rebuilt=True),
        event("item.started", kind="notice", run_id=w.run_id(2)),
        "item.completed",
    )
    notice = thread.only("item.started")
    assert notice.data == {"code": "context_rebuilt"}
    assert "because the agent's own conversation is gone" in notice.text


def test_the_context_is_carried_by_one_prompt_only() -> None:
    thread = with_history().when(w.send("two"), w.launched(2, why="it was deleted"), w.ready(2))
    session = thread.state.session
    assert session is not None
    assert session.rebuild
    thread.when(w.working(2, 2))
    session = thread.state.session
    assert session is not None
    assert not session.rebuild


def test_a_resumed_conversation_needs_no_rebuilding() -> None:
    with_history().when(w.send("two"), w.launched(2, resumed=True)).then_never("item.started")


def test_the_first_conversation_of_a_thread_is_not_rebuilt() -> None:
    given(w.create("go"), w.opened(), w.ended()).when(w.launched(2)).then(
        event("session.launched", rebuilt=False)
    )


def test_a_history_that_has_grown_elsewhere_is_said() -> None:
    thread = with_history().when(w.send("two"), w.launched(2, resumed=True, grown=True))
    assert thread.only("item.started").data == {"code": "history_grown"}


def test_runs_that_the_conversation_lost_with_its_process_are_said_and_told_once() -> None:
    thread = with_history().when(w.send("two"), w.launched(2, resumed=True, missed=["run_1"]))
    said = thread.only("item.started").data
    assert said == {"code": "context_completed", "runs": ["run_1"]}
    assert thread.state.session is not None
    assert thread.state.session.missed == ["run_1"]
    thread.when(w.ready(2), w.working(run=2, g=2))
    assert thread.state.session.missed == []


def test_a_launch_that_is_told_while_the_session_closes_says_nothing() -> None:
    given(w.create("go"), c.CloseSession()).when(w.launched(grown=True)).then_nothing()


# Idle and closed


def test_an_idle_session_is_closed_gently() -> None:
    thread = given(w.create("go"), w.opened(), w.working(), 10.0, w.turn_ended("t1"))
    assert thread.deadlines() == {"idle": 1810.0}
    thread.when(1800.0, c.TimeUp("idle", generation=1)).then(
        event("session.closing", reason="idle")
    ).asks_for(fx.StopSession(w.session_id(1), 1, gentle=True))
    thread.when(w.ended(code=0, stage="close")).then(event("session.closed", code=0)).asks_for(
        fx.LetGo(w.session_id(1), "native-1")
    )


def test_idle_ends_with_work() -> None:
    idle = c.TimeUp("idle", generation=1)
    thread = given(w.create("go"), w.opened(), w.working(), w.turn_ended("t1"), w.send("two"))
    thread.when(1800.0, idle).then_nothing()
    assert "idle" not in thread.deadlines()
    subagent = given(w.create("go"), w.opened(), w.working(), w.item("a", "subagent"), w.turn_ended("t1"))
    assert subagent.deadlines() == {}, "work in the background is work"
    subagent.when(1800.0, idle).then_nothing()
    assert subagent.when(w.item_done("a")).deadlines() == {"idle": 1800.0}


def test_never_idle_is_a_setting() -> None:
    thread = given(w.create("go"), w.opened(), w.working(), w.turn_ended("t1"), limits=Limits(idle_s=0))
    assert thread.deadlines() == {}


def test_a_held_queue_keeps_no_agent_alive() -> None:
    thread = given(w.create("one"), w.send("two"), w.opened(), w.working(), w.turn_ended("t1", "failed"))
    assert thread.deadlines() == {"idle": 1800.0}


def test_a_message_while_the_session_closes_gets_the_next_one() -> None:
    thread = given(
        w.create("one"), w.opened(), w.working(), w.turn_ended("t1"), 1800.0, c.TimeUp("idle", generation=1)
    )
    thread.when(w.send("two")).then("run.queued", event("run.starting", attempt=1)).asks_for()
    thread.when(w.ended(code=0)).then("session.closed", event("session.opening", generation=2))
    thread.when(w.opened(2)).asks_for(fx.SendPrompt(w.run_id(2), 1, 2))


def test_what_is_open_ends_with_its_session() -> None:
    thread = given(w.create("go"), w.opened(), w.working(), w.item("a", "subagent"), w.turn_ended("t1"))
    assert thread.state.items
    thread.when(w.ended()).then(
        event("item.completed", item_id=w.item_id(2), status="interrupted"), "session.closed"
    )


def test_a_request_is_lost_with_its_agent() -> None:
    given(w.create("go"), w.opened(), w.working(), w.asks("q1")).when(w.ended()).then(
        event("request.closed", state="expired", reason="agent_lost"), "session.closed", "run.ended"
    )


def test_grants_end_with_their_session() -> None:
    thread = given(w.create("go"), w.opened(), w.working(), w.asks("q1"), w.answer(1, "accept_for_session"))
    assert thread.when(w.asks("q2")).only("request.answered").by == f"grant:{w.request_id(1)}"
    thread.when(
        w.handed_over("q1"), w.turn_ended("t1"), w.ended(), w.send("two"), w.opened(2), w.working(2, 2)
    )
    thread.when(w.asks("q3", g=2)).then("request.opened")


def test_emptying_the_house_closes_the_session() -> None:
    thread = given(w.create("go"), w.opened(), w.working()).when(c.CloseSession())
    thread.then(event("session.closing", reason="shutdown")).when(c.CloseSession()).then_nothing()
    given(w.create()).when(c.CloseSession()).then_nothing()


# What else is told


def test_context_and_blocked_reading_are_said() -> None:
    thread = given(w.create("go"), w.opened(), w.working())
    thread.when(w.told(r.ContextReported(1000, 200_000))).then(
        event("thread.context", used=1000, window=200_000)
    )
    thread.when(w.told(r.ReadingBlocked(True))).then(
        event("item.started", kind="notice", data={"code": "reading_blocked"}), "item.completed"
    )
    thread.when(w.told(r.ReadingBlocked(False))).then_nothing()


def test_a_launch_of_the_past_is_not_the_one_that_is_awaited() -> None:
    thread = given(w.create("go"), w.opened(), w.ended())
    assert thread.state.generation == 2
    thread.when(w.launched(1), w.launch_failed(1), w.launched(3)).then_nothing()
    thread.when(w.launched(2)).then("session.launched")


def test_a_known_conversation_is_not_bound_again() -> None:
    thread = with_history().when(w.send("two"), w.launched(2, resumed=True))
    thread.when(w.ready(2, "native-1")).then("session.ready").asks_for(fx.SendPrompt(w.run_id(2), 1, 2))


def test_another_conversation_replaces_the_binding() -> None:
    with_history().when(w.send("two"), w.launched(2), w.ready(2)).then_also(
        event("binding.stored", native_id="native-2", resumable=False)
    )


def test_only_a_lost_conversation_is_replaced() -> None:
    auth = with_history().when(w.send("two"), w.launched(2, resumed=True), w.refused(2))
    auth.then_also(event("run.ended", status="failed")).then_never("binding.dropped")
    nothing_to_lose = given(w.create("go"), w.launched()).when(w.refused(resume_lost=True))
    nothing_to_lose.then("run.ended", event("session.closing", reason="refused"))


def test_what_a_closing_session_says_of_itself_does_not_matter() -> None:
    given(w.create("go"), w.launched(), c.CloseSession()).when(w.refused(), w.ready()).then_nothing()


def test_a_binding_that_can_no_longer_be_resumed_is_noted() -> None:
    thread = given(w.create("go"), w.opened(), w.told(r.BindingChanged("native-1", True)))
    thread.when(w.told(r.BindingChanged("native-1", False))).then(event("binding.stored", resumable=False))
    thread.when(w.told(r.BindingChanged("native-9", False))).then(
        event("binding.stored", native_id="native-9")
    )


def test_what_is_told_to_a_thread_without_a_session_is_nothing() -> None:
    thread = given(w.create())
    thread.when(
        w.launched(), w.launch_failed(), w.ready(), w.ended(), c.BindingMeasured("native-1", 1)
    ).then_nothing()
    thread.when(w.launched(0), w.launch_failed(0), w.told(r.BindingChanged("x", True), g=0)).then_nothing()


def test_the_notice_of_a_rebuilt_context_says_why() -> None:
    outcome = with_history().when(w.send("two"), w.launched(2, why="its file was deleted"))
    assert "was started, because its file was deleted." in outcome.only("item.started").text


def test_a_prompt_that_waits_beside_a_stopped_run_goes_to_the_next_session() -> None:
    thread = given(
        w.create("one"), w.opened(), w.working(), w.turn("bg"), w.turn_ended("t1"), w.send("two"), w.stop(2)
    )
    thread.when(5.0, c.TimeUp("interrupt", w.run_id(2), 1, 1), w.ended(stage="terminate")).then(
        event("session.closing", reason="stop"),
        "session.closed",
        event("run.ended", run_id=w.run_id(2), status="interrupted", forced=True),
        event("session.opening", generation=2),
    )
    assert thread.run(3).attempt == 1
