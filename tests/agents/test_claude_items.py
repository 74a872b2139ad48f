"""How blocks of messages become items: streamed or whole, in every order, and never twice."""

import pytest

from holdfast.core.reports import ItemCompleted, ItemStarted, ItemText, NoticeGiven, Report, TurnStarted
from tests.agents.claude_frames import (
    Frame,
    Session,
    assistant,
    call,
    hook,
    of,
    outcome,
    piece,
    result,
    text,
)


def started(id_: str = "msg_1") -> Frame:
    return piece("message_start", message={"id": id_, "usage": {"input_tokens": 1}})


def block(index: int, type_: str = "text") -> Frame:
    return piece("content_block_start", index=index, content_block={"type": type_})


def delta(index: int, words: str) -> Frame:
    return piece("content_block_delta", index=index, delta={"type": "text_delta", "text": words})


def items(reports: list[Report]) -> list[Report]:
    return [report for report in reports if not isinstance(report, TurnStarted)]


def test_a_streamed_block_is_one_item_closed_by_its_finished_frame() -> None:
    said = Session().out(started(), block(0), delta(0, "he"), delta(0, "llo"), assistant(text("hello")))
    assert items(said) == [
        ItemStarted(turn="turn-1", ref="msg_1:0", kind="assistant_message"),
        ItemText(ref="msg_1:0", text="he"),
        ItemText(ref="msg_1:0", text="llo"),
        ItemCompleted(ref="msg_1:0", text="hello"),
    ]


def test_a_block_without_stream_events_is_started_and_completed_at_once() -> None:
    said = Session().out(assistant(text("hello")), assistant(text("and more")))
    assert items(said) == [
        ItemCompleted(ref="msg_1:0", text="hello", turn="turn-1", kind="assistant_message"),
        ItemCompleted(ref="msg_1:1", text="and more", turn="turn-1", kind="assistant_message"),
    ]


def test_a_message_with_all_its_blocks_in_one_frame_works_too() -> None:
    said = Session().out(
        assistant({"type": "thinking", "thinking": "hm"}, text("hello"), call("t1", "Read", file_path="a"))
    )
    kinds = [getattr(report, "kind", None) for report in items(said)]
    assert kinds == ["reasoning", "assistant_message", "tool_call"]


def test_blocks_of_one_message_keep_apart_when_their_finished_frames_come_late() -> None:
    said = Session().out(
        started(),
        block(0, "thinking"),
        piece("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"}),
        piece("content_block_stop", index=0),
        block(1),
        delta(1, "hello"),
        piece("content_block_stop", index=1),
        piece("message_stop"),
        assistant({"type": "thinking", "thinking": "hm"}),
        assistant(text("hello")),
    )
    assert [(one.ref, one.text) for one in of(ItemCompleted, said)] == [
        ("msg_1:0", "hm"),
        ("msg_1:1", "hello"),
    ]
    assert [one.kind for one in of(ItemStarted, said)] == ["reasoning", "assistant_message"]


def test_empty_blocks_show_nothing() -> None:
    said = Session().out(
        started(), block(0), assistant(text("")), assistant({"type": "redacted_thinking", "data": "x"})
    )
    assert items(said) == []


def test_a_message_cut_off_by_another_is_closed_as_interrupted() -> None:
    """The stream broke, and the program asked the model again."""
    said = Session().out(
        started("msg_1"), block(0), delta(0, "hel"), started("msg_2"), block(0), delta(0, "h")
    )
    assert of(ItemCompleted, said) == [ItemCompleted(ref="msg_1:0", status="interrupted")]
    assert [one.ref for one in of(ItemStarted, said)] == ["msg_1:0", "msg_2:0"]


def test_an_error_message_of_the_program_is_an_error() -> None:
    said = Session().out(assistant(text("API Error: 500"), error="server_error"))
    assert [one.kind for one in of(ItemCompleted, said)] == ["error"]


def test_a_block_of_an_unknown_kind_is_shown_as_it_is() -> None:
    strange = {"type": "hologram", "beam": 7}
    (item,) = of(ItemCompleted, Session().out(assistant(strange)))
    assert (item.kind, item.data) == ("tool_call", {"block": strange})


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "data", "changes"),
    [
        ("Bash", {"command": "ls"}, "command", {"command": "ls"}, True),
        ("Write", {"file_path": "/a", "content": ""}, "file_change", {"path": "/a"}, True),
        ("NotebookEdit", {"notebook_path": "/n"}, "file_change", {"path": "/n"}, True),
        ("Read", {"file_path": "/a"}, "tool_call", {"path": "/a"}, False),
        ("Grep", {"pattern": "x", "path": "/a"}, "search", {"path": "/a", "query": "x"}, False),
        ("WebSearch", {"query": "x"}, "search", {"query": "x"}, True),
        (
            "Agent",
            {"prompt": "p", "description": "d"},
            "subagent",
            {"prompt": "p", "description": "d"},
            False,
        ),
        (
            "TodoWrite",
            {"todos": [{"content": "a", "status": "pending"}, 7]},
            "todo_list",
            {"todos": [{"text": "a", "status": "pending"}]},
            False,
        ),
        ("mcp__tracker__create", {"title": "t"}, "tool_call", {}, True),
    ],
)
def test_a_tool_call_becomes_an_item_of_its_kind(
    name: str, arguments: Frame, kind: str, data: Frame, changes: bool
) -> None:
    (item,) = of(ItemStarted, Session().out(assistant(call("t1", name, **arguments))))
    assert (item.ref, item.kind, item.changes_files) == ("t1", kind, changes)
    assert item.data == {"tool": name, "input": arguments, **data}


def test_a_plan_keeps_its_text_when_it_is_approved() -> None:
    said = Session().out(
        assistant(call("t1", "ExitPlanMode", plan="1. Look")), outcome("t1", "User has approved")
    )
    (plan,) = of(ItemStarted, said)
    (end,) = of(ItemCompleted, said)
    assert (plan.kind, plan.text) == ("plan", "1. Look")
    assert (end.text, end.data) == (None, {"outcome": "User has approved"})


def run(session: Session, *frames: Frame) -> ItemCompleted:
    session.out(hook("h1", "Bash", "t1"), assistant(call("t1", "Bash", command="make")))
    (end,) = of(ItemCompleted, session.out(*frames))
    return end


def test_the_exit_code_of_a_command_is_read() -> None:
    assert run(Session(), outcome("t1", "fine", is_error=False)).data == {"exit_code": 0}
    failed = run(Session(), outcome("t1", "Exit code 3\nout", is_error=True))
    assert (failed.status, failed.data, failed.text) == ("failed", {"exit_code": 3}, "Exit code 3\nout")


def test_a_call_that_a_rule_refused_is_declined() -> None:
    frame = outcome("t1", "denied", is_error=True)
    frame["tool_result_meta"] = [{"id": "t1", "non_execution_kind": "permission-rule"}]
    assert run(Session(), frame).status == "declined"


def test_a_call_that_an_interrupt_cut_off_is_interrupted() -> None:
    frame = outcome("t1", "The user doesn't want to proceed", is_error=True)
    frame["tool_result_meta"] = [{"id": "t1", "non_execution_kind": "user-rejected"}]
    assert run(Session(), frame).status == "interrupted"


def test_a_command_in_the_background_has_no_exit_code_yet() -> None:
    frame = outcome("t1", "running")
    frame["tool_use_result"] = {"backgroundTaskId": "b1"}
    assert run(Session(), frame).data == {"background": "b1"}


def test_the_patch_that_the_program_tells_of_becomes_a_diff() -> None:
    session = Session()
    session.out(hook("h1", "Edit", "t1"), assistant(call("t1", "Edit", file_path="/a")))
    frame = outcome("t1")
    hunk = {"oldStart": 1, "oldLines": 1, "newStart": 1, "newLines": 1, "lines": ["-one", "+uno"]}
    frame["tool_use_result"] = {"structuredPatch": [hunk, "rubbish"]}
    (end,) = of(ItemCompleted, session.out(frame))
    assert end.data == {"diff": "@@ -1,1 +1,1 @@\n-one\n+uno"}


def test_a_result_may_be_text_blocks_pictures_or_anything() -> None:
    mixed = [{"type": "text", "text": "a"}, {"type": "image", "source": {}}, {"type": "tool_reference"}, 5]
    assert run(Session(), outcome("t1", mixed)).text == 'a\n[image]\n{"type": "tool_reference"}\n5'
    assert run(Session(), outcome("t1", None)).text == ""


def test_the_result_of_a_call_that_was_never_seen_is_shown() -> None:
    (item,) = of(ItemCompleted, Session().out(outcome("t9", "late")))
    assert (item.ref, item.kind, item.text) == ("t9", "tool_call", "late")


def test_tools_that_the_models_server_runs_are_items_too() -> None:
    search = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": "found"}
    said = Session().out(assistant(search), assistant(found))
    (item,) = of(ItemStarted, said)
    assert (item.kind, item.changes_files) == ("tool_call", False)
    assert of(ItemCompleted, said) == [ItemCompleted(ref="s1", text="found")]


def test_words_of_the_program_to_its_model_begin_no_turn() -> None:
    frame = {
        "type": "user",
        "message": {"role": "user", "content": [{"type": "text", "text": "[Request interrupted by user]"}]},
    }
    assert Session().out(frame) == []


def test_a_local_command_tells_what_it_printed() -> None:
    words = "<local-command-stdout>Total cost: 3</local-command-stdout>"
    frame = {"type": "user", "message": {"content": words}, "uuid": "other", "isReplay": True}
    assert Session().out(frame) == [NoticeGiven("command_output", "Total cost: 3")]


def test_a_retry_is_told_with_its_wait_and_attempt() -> None:
    frame = {
        "type": "system",
        "subtype": "api_retry",
        "attempt": 1,
        "max_retries": 10,
        "retry_delay_ms": 1500,
        "error_status": 529,
        "error": "overloaded",
    }
    (said,) = Session().out(frame)
    assert isinstance(said, NoticeGiven)
    assert said.code == "retry"
    assert said.text == "The model's server refused (HTTP 529, overloaded). Trying again in 1.5 s, 1 of 10."
    assert said.data == {"attempt": 1, "of": 10, "wait_s": 1.5, "status": 529, "error": "overloaded"}


@pytest.mark.parametrize(("utilization", "percent"), [(0.81, 81), (None, 0), (1.0, 100), (0.005, 0)])
def test_a_limit_is_told_in_percent_with_its_reset(utilization: float | None, percent: int) -> None:
    """P62."""
    info = {"status": "allowed_warning", "resetsAt": 1795262400, "rateLimitType": "five_hour"}
    if utilization is not None:
        info["utilization"] = utilization
    (said,) = Session().out({"type": "rate_limit_event", "rate_limit_info": info})
    assert isinstance(said, NoticeGiven)
    assert said.text == f"The five hour limit is used to {percent} %; it resets at 2026-11-21T12:00:00Z."
    assert (said.code, said.data["percent"]) == ("limit", percent)


@pytest.mark.parametrize(
    ("output", "told"),
    [('{"systemMessage":"mind the gap"}', ["mind the gap"]), ("plain", []), ('{"x":1}', [])],
)
def test_a_message_of_a_hook_is_passed_on(output: str, told: list[str]) -> None:
    """P63."""
    frame = {"type": "system", "subtype": "hook_response", "hook_name": "PostToolUse", "output": output}
    assert [one.text for one in of(NoticeGiven, Session().out(frame))] == told


def test_a_compaction_is_an_item() -> None:
    """P64."""
    about = {"trigger": "auto", "pre_tokens": 9, "post_tokens": 4}
    frame = {"type": "system", "subtype": "compact_boundary", "compact_metadata": about}
    (item,) = of(ItemCompleted, Session().out(frame, result()))
    assert item.kind == "compaction"
    assert item.data == {"trigger": "auto", "tokens_before": 9, "tokens_after": 4}


def test_a_refusal_by_the_programs_own_rules_is_told_unless_it_was_ours() -> None:
    frame = {
        "type": "system",
        "subtype": "permission_denied",
        "tool_name": "Bash",
        "tool_use_id": "t1",
        "message": "no",
    }
    (said,) = Session().out(frame)
    assert isinstance(said, NoticeGiven)
    assert (said.code, said.text) == ("permission_denied", "no")
