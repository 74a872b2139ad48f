"""Which turn belongs to which prompt, for the real order of frames and for orders that no recording has."""

from holdfast.agents.port import Answer, Interrupt
from holdfast.core.reports import (
    BindingChanged,
    ContextReported,
    ItemCompleted,
    ItemStarted,
    NoticeGiven,
    PromptSeen,
    RequestOpened,
    RequestWithdrawn,
    SessionReady,
    SessionRefused,
    TurnEnded,
    TurnStarted,
)
from tests.agents.claude_frames import (
    Session,
    asks,
    assistant,
    call,
    hook,
    init,
    life,
    of,
    outcome,
    replay,
    requesting,
    result,
    text,
)


def turns(reports: list) -> list:  # type: ignore[type-arg]
    """What the reports say of turns and prompts, shortened."""
    said = []
    for report in reports:
        match report:
            case PromptSeen(prompt):
                said.append(f"seen {prompt}")
            case TurnStarted(turn, prompt):
                said.append(f"{turn} begins for {prompt or 'nobody'}")
            case TurnEnded(turn, status):
                said.append(f"{turn} {status}")
            case _:
                pass
    return said


def test_a_turn_begins_when_its_prompt_is_started_and_ends_with_its_result() -> None:
    session = Session()
    session.prompt("p")
    said = session.out(
        life("p", "queued"),
        life("p", "started"),
        init("p"),
        requesting("p"),
        replay("p"),
        assistant(text("hello")),
        result("p"),
        life("p", "completed"),
    )
    assert turns(said) == ["seen p", "turn-1 begins for p", "turn-1 completed"]


def test_a_message_folded_into_a_running_turn_is_seen_and_begins_none() -> None:
    """P20, the other way round: the program takes what it can into the running turn, and one result ends both."""
    session = Session()
    session.prompt("a")
    session.out(life("a", "queued"), life("a", "started"), init("a"))
    session.prompt("b")
    said = session.out(life("b", "queued"), replay("b"), life("b", "started"), result("a", "b"))
    assert turns(said) == ["seen b", "turn-1 completed"]
    assert turns(session.out(life("b", "completed"), life("a", "completed"))) == []


def test_a_message_that_waits_for_the_end_of_the_turn_gets_a_turn_of_its_own() -> None:
    session = Session()
    session.prompt("a")
    session.out(life("a", "started"), init("a"))
    session.prompt("b")
    said = session.out(
        life("b", "queued"), result("a"), life("a", "completed"), life("b", "started"), init("b"), result("b")
    )
    assert turns(said) == ["turn-1 completed", "seen b", "turn-2 begins for b", "turn-2 completed"]


def test_several_messages_taken_up_together_are_one_turn() -> None:
    session = Session()
    session.prompt("a")
    session.prompt("b")
    said = session.out(life("a", "started"), life("b", "started"), init("a", "b"), result("a", "b"))
    assert turns(said) == ["seen a", "turn-1 begins for a", "seen b", "turn-1 completed"]


def test_a_result_that_nobody_asked_for_is_a_turn_of_its_own() -> None:
    """P25 and P65: it is neither dropped nor charged to the prompt that happens to wait."""
    session = Session()
    session.prompt("a")
    said = session.out(life("a", "queued"), init(), requesting(), assistant(text("a task ended")), result())
    assert turns(said) == ["turn-1 begins for nobody", "turn-1 completed"]
    assert turns(session.out(life("a", "started"), init("a"), result("a"))) == [
        "seen a",
        "turn-2 begins for a",
        "turn-2 completed",
    ]


def test_a_bare_result_begins_and_ends_a_turn() -> None:
    assert turns(Session().out(result())) == ["turn-1 begins for nobody", "turn-1 completed"]


def test_a_program_without_life_frames_still_has_its_prompts_attributed() -> None:
    """Older versions replay the prompt after init and before the first piece of the answer."""
    session = Session()
    session.prompt("p")
    said = session.out(init(), requesting(), replay("p"), assistant(text("x")), result())
    assert turns(said) == ["seen p", "turn-1 begins for p", "turn-1 completed"]


def test_the_agent_answering_nothing_for_a_prompt_it_knows_ends_the_run() -> None:
    session = Session(resumed=True)
    session.prompt("p")
    said = session.out(replay("p"), life("p", "completed"))
    assert turns(said) == ["seen p", "turn-1 begins for p", "turn-1 completed"]
    assert [notice.code for notice in of(NoticeGiven, said)] == ["prompt_not_run"]


def test_a_prompt_that_the_agent_drops_ends_as_interrupted() -> None:
    session = Session()
    session.prompt("p")
    said = session.out(life("p", "queued"), life("p", "cancelled"))
    assert turns(said) == ["seen p", "turn-1 begins for p", "turn-1 interrupted"]


def test_a_prompt_that_could_not_be_written_is_forgotten() -> None:
    """P21: nothing is in flight before it was written."""
    session = Session()
    session.prompt("p")
    session.record("refused", b"closed", "prompt:p")
    assert turns(session.out(replay("p"), life("p", "started"))) == []


def test_a_late_note_of_the_writing_does_not_revive_a_prompt() -> None:
    """The agent may answer before the runner has noted that the write was done."""
    session = Session()
    session.prompt("p")
    session.out(life("p", "started"), init("p"))
    session.record("in", b"{}", "prompt:p")
    assert turns(session.out(result("p"))) == ["turn-1 completed"]


def test_the_end_of_a_subagent_does_not_end_the_turn() -> None:
    session = Session()
    session.prompt("p")
    said = session.out(
        life("p", "started"),
        init("p"),
        assistant(call("t1", "Agent", prompt="look")),
        assistant(text("found it"), id_="msg_2", parent="t1"),
        outcome("t1", "found it"),
    )
    assert turns(said) == ["seen p", "turn-1 begins for p"]
    (inner,) = [item for item in of(ItemCompleted, said) if item.text == "found it" and item.kind]
    assert (inner.kind, inner.parent_ref, inner.turn) == ("assistant_message", "t1", "turn-1")


def background(session: Session) -> None:
    """A turn that started a subagent in the background, and has ended."""
    session.prompt("p")
    session.out(
        life("p", "started"),
        init("p"),
        assistant(call("t1", "Agent", prompt="look")),
        {
            "type": "system",
            "subtype": "task_started",
            "task_id": "a1",
            "tool_use_id": "t1",
            "task_type": "local_agent",
            "is_backgrounded": True,
        },
        outcome("t1", "launched"),
        result("p"),
    )


TASK_DONE = {
    "type": "system",
    "subtype": "task_notification",
    "task_id": "a1",
    "tool_use_id": "t1",
    "status": "completed",
    "summary": "all done",
}


def test_work_in_the_background_is_a_turn_of_its_own_that_the_next_root_turn_takes_over() -> None:
    session = Session()
    background(session)
    said = session.out(assistant(text("still looking"), id_="msg_9", parent="t1"))
    assert turns(said) == ["turn-2 begins for nobody"]
    said = session.out(TASK_DONE, init(), requesting(), assistant(text("it is done")), result())
    assert turns(said) == ["turn-2 completed"]
    assert [notice.text for notice in of(NoticeGiven, said)] == ["all done"]


def test_a_turn_of_background_work_that_nothing_follows_ends_by_itself() -> None:
    """P4 of the design: every run ends."""
    session = Session()
    background(session)
    session.out(assistant(text("still looking"), id_="msg_9", parent="t1"))
    assert session.wake_at is None
    session.out(TASK_DONE)
    assert session.wake_at is not None
    assert turns(session.tick(session.wake_at - 0.01)) == []
    assert turns(session.tick(session.wake_at)) == ["turn-2 completed"]
    assert session.wake_at is None


def test_the_same_journal_ends_a_quiet_turn_without_a_tick() -> None:
    session = Session()
    background(session)
    session.out(assistant(text("still looking"), id_="msg_9", parent="t1"), TASK_DONE)
    session.at += 60
    assert turns(session.record("unblocked")) == ["turn-2 completed"]


def test_a_prompt_ends_the_turn_of_background_work_and_is_not_charged_for_it() -> None:
    session = Session()
    background(session)
    session.out(assistant(text("still looking"), id_="msg_9", parent="t1"))
    session.prompt("q")
    said = session.out(life("q", "queued"), life("q", "started"), init("q"))
    assert turns(said) == ["seen q", "turn-2 completed", "turn-3 begins for q"]


def test_a_request_that_outlives_its_turn_is_asked_again_in_the_next_one() -> None:
    """P5 of the design: blocked is visible. The run that ended expired the request, and somebody still waits."""
    session = Session()
    session.prompt("p")
    session.out(
        life("p", "started"),
        init("p"),
        {
            "type": "system",
            "subtype": "task_started",
            "task_id": "a1",
            "tool_use_id": "t1",
            "task_type": "local_agent",
            "is_backgrounded": True,
        },
        asks("r1", "Bash", {"command": "ls"}, "t2", agent_id="a1"),
    )
    said = session.out(result("p"))
    assert turns(said) == ["turn-1 completed", "turn-2 begins for nobody"]
    assert of(RequestWithdrawn, said) == [RequestWithdrawn("r1")]
    (again,) = of(RequestOpened, said)
    assert again.ref != "r1"
    assert again.turn == "turn-2"

    assert session.send(Answer("r1", "accept")) == []
    assert all(id_ != "answer:r1" for id_, _ in session.writes), "the old reference is gone"
    session.send(Answer(again.ref, "accept"))
    id_, frame = session.writes[-1]
    assert id_ == f"answer:{again.ref}"
    assert frame["response"]["request_id"] == "r1"


def test_an_answer_on_its_way_when_the_turn_ends_is_not_asked_for_again() -> None:
    session = Session()
    session.prompt("p")
    session.out(life("p", "started"), init("p"), asks("r1", "Bash", {"command": "ls"}, "t2"))
    session.record("received", id_="answer:r1")
    said = session.out(result("p"))
    assert of(RequestOpened, said) == []
    assert turns(said) == ["turn-1 completed"]


def test_a_request_outside_of_every_turn_opens_one() -> None:
    said = Session().out(asks("r1", "Bash", {"command": "ls"}))
    assert turns(said) == ["turn-1 begins for nobody"]
    assert of(RequestOpened, said)[0].turn == "turn-1"


def test_stopping_work_in_the_background_stops_its_tasks() -> None:
    session = Session()
    background(session)
    session.out(assistant(text("still looking"), id_="msg_9", parent="t1"))
    session.send(Interrupt("run_2.1"))
    assert [frame["request"] for _, frame in session.writes[-2:]] == [
        {"subtype": "interrupt"},
        {"subtype": "stop_task", "task_id": "a1"},
    ]
    said = session.out({**TASK_DONE, "status": "stopped"})
    assert turns(said) == ["turn-2 interrupted"]


def test_an_interrupt_in_a_root_turn_leaves_background_tasks_alone() -> None:
    session = Session()
    background(session)
    session.prompt("q")
    session.out(life("q", "started"), init("q"))
    session.writes.clear()
    session.send(Interrupt("x"))
    assert [frame["request"] for _, frame in session.writes] == [{"subtype": "interrupt"}]


def test_the_result_of_a_call_whose_turn_has_ended_is_an_item_of_its_own() -> None:
    session = Session()
    session.prompt("p")
    session.out(
        life("p", "started"),
        init("p"),
        {
            "type": "system",
            "subtype": "task_started",
            "task_id": "a1",
            "tool_use_id": "t1",
            "task_type": "local_agent",
            "is_backgrounded": True,
        },
        hook("h1", "Bash", "t2"),
        assistant(call("t2", "Bash", command="make"), id_="msg_5", parent="t1"),
        result("p"),
    )
    said = session.out(outcome("t2", "built", parent="t1"))
    (item,) = of(ItemCompleted, said)
    assert (item.kind, item.turn, item.text, item.parent_ref) == ("command", "turn-2", "built", "t1")
    assert item.data["about"] == "make"
    assert item.ref != "t2"


# The handshake and the end


def test_ready_comes_before_any_turn_and_once() -> None:
    session = Session(ready=False)
    reply = {
        "type": "control_response",
        "response": {
            "subtype": "success",
            "request_id": "begin",
            "response": {
                "claude_code_version": "2.1.328",
                "commands": [{"name": "compact", "description": "long"}],
                "models": [{"value": "default"}],
                "account": {"apiProvider": "firstParty", "email": "someone@example.org"},
            },
        },
    }
    assert session.out(init(), assistant(text("too early"))) == []
    (ready,) = session.out(reply)
    assert isinstance(ready, SessionReady)
    assert (ready.native_id, ready.version) == (session.scene.native_id, "2.1.328")
    assert ready.details == {
        "commands": ["compact"],
        "models": ["default"],
        "account": {"apiProvider": "firstParty"},
    }
    assert session.out(reply) == []


def test_another_session_id_in_init_changes_no_binding() -> None:
    """P80: on a resume it may be a tag of the invocation."""
    said = Session(resumed=True).out({**init(), "session_id": "other"}, requesting(), result())
    assert of(BindingChanged, said) == []


def test_the_binding_can_be_resumed_once_the_first_turn_has_ended() -> None:
    session = Session()
    said = session.out(result())
    assert of(BindingChanged, said) == [BindingChanged(session.scene.native_id, resumable=True)]
    assert of(BindingChanged, session.out(result())) == []


def test_a_cleared_conversation_has_another_id_and_its_costs_begin_anew() -> None:
    session = Session()
    session.out(result(total_cost_usd=3.0))
    said = session.out({"type": "conversation_reset", "new_conversation_id": "new"})
    assert said == [BindingChanged("new", resumable=False)]
    said = session.out(result(total_cost_usd=0.5))
    assert of(BindingChanged, said) == [BindingChanged("new", resumable=True)]
    assert of(TurnEnded, said)[0].usage.cost_usd == 0.5  # type: ignore[union-attr]


def test_a_lost_conversation_is_told_from_other_refusals() -> None:
    words = "No conversation found with session ID: x"
    session = Session(ready=False)
    (said,) = session.out(result(subtype="error_during_execution", is_error=True, result="", errors=[words]))
    assert isinstance(said, SessionRefused)
    assert said.resume_lost
    assert words in said.failure.message
    assert session.record("exit", b'{"code":1,"stderr":"whatever"}') == []


def test_an_end_before_the_handshake_refuses_the_session_with_what_was_said() -> None:
    """P83: the tail of stderr accompanies the failure."""
    data = b'{"code":1,"signal":null,"stderr":"Error: Session ID x is already in use.","stage":""}'
    (said,) = Session(ready=False).record("exit", data)
    assert isinstance(said, SessionRefused)
    assert (said.failure.class_, said.resume_lost) == ("start_failed", False)
    assert "Session ID x is already in use" in said.failure.message


def test_a_refused_handshake_refuses_the_session() -> None:
    reply = {"subtype": "error", "request_id": "begin", "error": "Invalid API key · Please run /login"}
    (said,) = Session(ready=False).out({"type": "control_response", "response": reply})
    assert isinstance(said, SessionRefused)
    assert said.failure.class_ == "auth"


def test_the_end_of_a_session_that_was_ready_says_nothing() -> None:
    """What is open is closed by the decider."""
    session = Session()
    session.prompt("p")
    session.out(life("p", "started"), init("p"))
    assert session.record("exit", b'{"code":137}') == []


# Bounds and rubbish


def test_a_frame_above_the_bound_fails_the_turn_and_stops_the_agent() -> None:
    """P13."""
    session = Session()
    session.prompt("p")
    session.out(life("p", "started"), init("p"))
    said = session.record("oversize", b'{"bytes":40000000,"prefix":"{"}')
    (end,) = of(TurnEnded, said)
    assert end.failure is not None
    assert (end.status, end.failure.class_) == ("failed", "frame_too_large")
    assert session.writes[-1][1]["request"] == {"subtype": "interrupt"}
    assert turns(session.out(result("p"))) == ["turn-2 begins for nobody", "turn-2 completed"]


def test_a_frame_above_the_bound_before_the_handshake_refuses_the_session() -> None:
    (said,) = Session(ready=False).record("oversize", b'{"bytes":40000000,"prefix":"{"}')
    assert isinstance(said, SessionRefused)
    assert said.failure.class_ == "frame_too_large"


def test_lines_that_are_no_frames_are_never_fatal() -> None:
    """P14."""
    session = Session()
    assert session.record("out", b"Welcome to the program!") == []
    (broken,) = session.record("out", b'{"type":"assis')
    assert isinstance(broken, NoticeGiven)
    assert broken.code == "protocol"
    assert session.record("out", b'{"type":"again') == []


def test_an_unknown_type_of_frame_is_told_of_once() -> None:
    session = Session()
    (said,) = session.out({"type": "brand_new", "x": 1})
    assert isinstance(said, NoticeGiven)
    assert (said.code, said.data) == ("unknown_frame", {"type": "brand_new"})
    assert session.out({"type": "brand_new", "x": 2}) == []
    assert len(session.out({"type": "brand_newer"})) == 1


def test_noise_of_the_system_is_dropped() -> None:
    """P64."""
    assert Session().out({"type": "system", "subtype": "never_seen_before"}, {"type": "keep_alive"}) == []


# Accounting


def test_costs_and_times_that_run_on_are_told_per_turn() -> None:
    """P66: the program's totals run on over its life; usage is per turn."""
    session = Session()
    first = of(
        TurnEnded,
        session.out(
            result(
                total_cost_usd=0.25,
                duration_ms=10,
                duration_api_ms=7,
                usage={"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 1},
            )
        ),
    )[0].usage
    second = of(TurnEnded, session.out(result(total_cost_usd=0.75, duration_ms=20, duration_api_ms=19)))[
        0
    ].usage
    assert first is not None
    assert second is not None
    assert (first.cost_usd, first.duration_ms, first.api_duration_ms) == (0.25, 10, 7)
    assert (first.input, first.output, first.cache_read, first.cache_write) == (3, 2, 1, 0)
    assert (second.cost_usd, second.duration_ms, second.api_duration_ms) == (0.5, 20, 12)
    assert second.input is None


def test_the_context_is_what_the_last_message_of_the_root_was_asked_with_and_comes_before_the_end() -> None:
    """P66: the budget before the end of the turn."""
    session = Session()
    message = assistant(text("x"))
    message["message"]["usage"] = {
        "input_tokens": 100,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 3,
    }
    inner = assistant(text("y"), id_="msg_2", parent="t1")
    inner["message"]["usage"] = {"input_tokens": 9999}
    said = session.out(message, inner, result(modelUsage={"m": {"contextWindow": 200000}}))
    assert of(ContextReported, said) == [ContextReported(123, 200000)]
    assert isinstance(said[-1], TurnEnded)


def test_a_tool_call_is_started_once_however_often_it_is_told() -> None:
    session = Session()
    said = session.out(
        assistant(call("t1", "Bash", command="ls")), assistant(call("t1", "Bash", command="ls"))
    )
    assert len(of(ItemStarted, said)) == 1
