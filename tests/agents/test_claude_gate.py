"""The gate: which calls ask, how they are put to a person, and how the decision is told to the agent."""

import json
from typing import Any

import pytest
from inline_snapshot import snapshot

from holdfast.agents.claude import gate, tools
from holdfast.agents.port import Answer
from holdfast.core.reports import (
    Decision,
    ItemCompleted,
    NoticeGiven,
    Option,
    Question,
    RequestKind,
    RequestOpened,
    RequestWithdrawn,
)
from tests.agents.claude_frames import CWD, KIND, Session, asks, assistant, call, hook, of, outcome


def opened(tool: str, input_: dict[str, Any], **context: Any) -> RequestOpened:
    (request,) = of(RequestOpened, Session(**context).out(asks("r1", tool, input_, "t1")))
    return request


# The hook


@pytest.mark.parametrize("tool", sorted(tools.HARMLESS))
def test_a_tool_that_changes_nothing_is_left_to_the_programs_own_rules(tool: str) -> None:
    session = Session()
    session.out(hook("h1", tool))
    assert session.writes[-1] == ("hook:h1", reply("h1", {}))


ASKING = [
    "Bash",
    "PowerShell",
    "Monitor",
    "Write",
    "Edit",
    "MultiEdit",
    "NotebookEdit",
    "WebFetch",
    "WebSearch",
    "Skill",
    "Workflow",
    "SendMessage",
    "CronCreate",
    "ScheduleWakeup",
    "EnterWorktree",
    "mcp__tracker__create",
    "SomethingNew",
]


@pytest.mark.parametrize("tool", ASKING)
def test_every_other_tool_asks_unknown_ones_too(tool: str) -> None:
    session = Session()
    session.out(hook("h1", tool))
    specific = {"hookEventName": "PreToolUse", "permissionDecision": "ask"}
    assert session.writes[-1] == ("hook:h1", reply("h1", {"hookSpecificOutput": specific}))


def reply(request_id: str, response: dict[str, Any]) -> dict[str, Any]:
    body = {"subtype": "success", "request_id": request_id, "response": response}
    return {"type": "control_response", "response": body}


@pytest.mark.parametrize(
    ("request_", "verdict"),
    [
        ({}, "ask"),
        ({"input": 7}, "ask"),
        ({"input": {}}, "ask"),
        ({"input": {"tool_name": None}}, "ask"),
        ({"input": {"tool_name": ["Read"]}}, "ask"),
        ({"input": {"hook_event_name": "Stop"}}, "deny"),
        ({"input": {"hook_event_name": 7, "tool_name": "Read"}}, "deny"),
    ],
)
def test_a_hook_callback_that_makes_no_sense_is_never_answered_with_an_error(
    request_: dict[str, Any], verdict: str
) -> None:
    """An error lets the tool run (measured)."""
    assert gate.hook_verdict(request_) == verdict
    session = Session()
    frame = {"subtype": "hook_callback", "callback_id": "gate", **request_}
    session.out({"type": "control_request", "request_id": "h1", "request": frame})
    assert session.writes[-1][1]["response"]["subtype"] == "success"


@pytest.mark.parametrize(
    ("tool", "path", "mode", "verdict"),
    [
        ("Write", "/home/user/.claude/plans/calm-hopper.md", "plan", ""),
        ("Edit", "/home/user/.claude/plans/calm-hopper.md", "plan", ""),
        ("Write", "/home/user/.claude/plans/calm-hopper.md", "default", "ask"),
        ("Write", "/home/user/.claude/plans/../settings.json", "plan", "ask"),
        ("Write", "/home/user/.claude/plans/deep/x.md", "plan", "ask"),
        ("Write", "/home/user/.claude/plans/x.sh", "plan", "ask"),
        ("Write", "/home/user/workspace/plans/x.md", "plan", "ask"),
        ("Bash", "/home/user/.claude/plans/x.md", "plan", "ask"),
    ],
)
def test_only_the_file_of_the_plan_itself_is_written_unasked_in_plan_mode(
    tool: str, path: str, mode: str, verdict: str
) -> None:
    given = {
        "tool_name": tool,
        "tool_input": {"file_path": path},
        "permission_mode": mode,
        "transcript_path": "/home/user/.claude/projects/-home-user-workspace/x.jsonl",
    }
    assert gate.hook_verdict({"input": given}) == verdict


def test_a_call_that_ran_past_the_gate_is_told_of_and_stops_the_agent() -> None:
    session = Session()
    said = session.out(assistant(call("t1", "Bash", command="ls")), outcome("t1", "ran", is_error=False))
    (notice,) = of(NoticeGiven, said)
    assert notice.code == "gate_bypassed"
    assert session.writes[-1][1]["request"] == {"subtype": "interrupt"}


def test_a_call_that_asked_or_failed_or_is_harmless_is_no_hole() -> None:
    session = Session()
    said = session.out(
        hook("h1", "Bash", "t1"),
        assistant(call("t1", "Bash", command="ls")),
        outcome("t1"),
        assistant(call("t2", "Bash", command="ls")),
        outcome("t2", "No such tool available", is_error=True),
        assistant(call("t3", "Read", file_path="a")),
        outcome("t3"),
    )
    assert of(NoticeGiven, said) == []


# What is asked


@pytest.mark.parametrize(
    ("tool", "input_", "kind", "title"),
    [
        ("Bash", {"command": "git  push\norigin"}, "command", "Run: git push origin"),
        ("Write", {"file_path": f"{CWD}/src/a.py", "content": "x"}, "file_change", "Write src/a.py"),
        ("Edit", {"file_path": "/etc/hosts"}, "file_change", "Edit /etc/hosts"),
        ("WebFetch", {"url": "https://example.org"}, "network", "Fetch https://example.org"),
        ("WebSearch", {"query": "holdfast"}, "network", "Search the web: holdfast"),
        ("Read", {"file_path": "/etc/passwd"}, "file_read", "Read /etc/passwd"),
        ("Glob", {"pattern": "*"}, "file_read", f"Read {CWD}"),
        ("ExitPlanMode", {"plan": "1. Look"}, "plan", "Approve the plan"),
        ("mcp__tracker__create", {"title": "t"}, "tool", "Use create of tracker"),
        ("SomethingNew", {}, "tool", "Use SomethingNew"),
    ],
)
def test_a_request_says_what_it_is_about(
    tool: str, input_: dict[str, Any], kind: RequestKind, title: str
) -> None:
    request = opened(tool, input_)
    assert (request.kind, request.title, request.tool, request.item_ref) == (kind, title, tool, "t1")


def test_the_models_words_about_its_own_command_are_no_part_of_the_fingerprint() -> None:
    request = opened("Bash", {"command": "ls", "description": "Lists", "timeout": 5})
    assert request.arguments == {"command": "ls", "timeout": 5}
    assert opened("mcp__a__b", {"description": "d"}).arguments == {"description": "d"}
    assert request.detail == "ls\n# Lists"


def test_an_edit_shows_a_diff() -> None:
    request = opened(
        "Edit", {"file_path": "/a", "old_string": "one\ntwo", "new_string": "uno\ntwo", "replace_all": True}
    )
    assert request.detail == snapshot("""\
/a
@@ -1,2 +1,2 @@
-one
+uno
 two
(everywhere in the file)\
""")


def test_a_write_shows_the_head_of_what_is_written() -> None:
    request = opened("Write", {"file_path": "/a", "content": "\n".join(str(n) for n in range(100))})
    assert request.detail.splitlines()[:2] == ["/a", "0"]
    assert request.detail.endswith("... 40 more lines")


def test_a_detail_is_bounded_and_says_so() -> None:
    request = opened("Bash", {"command": "x" * 50_000})
    assert request.detail.endswith("... 30000 more characters")
    assert len(request.title) <= 160


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        (f"{CWD}/a.txt", True),
        ("a.txt", True),
        ("./deep/../a.txt", True),
        ("../other/a.txt", False),
        (f"{CWD}/../other/a.txt", False),
        (f"{CWD}-other/a.txt", False),
        ("/etc/passwd", False),
        (f"{CWD}", False),
        ("", False),
        ("/home/user/shared/x", True),
        ("/home/user/shared/../x", False),
        (f"{CWD}/.git/hooks/pre-commit", False),
        (f"{CWD}/.claude/settings.json", False),
        (f"{CWD}/sub/.GIT/config", False),
        (f"{CWD}/.mcp.json", False),
        (f"{CWD}/.gitignore", True),
    ],
)
def test_inside_the_workspace_is_decided_on_the_normalised_path(path: str, inside: bool) -> None:
    request = opened("Write", {"file_path": path, "content": "x"}, add_dirs=["/home/user/shared"])
    assert request.inside_workspace is inside
    assert request.grant == ("file_change:workspace" if inside else "")


def test_a_grant_covers_the_very_command_and_nothing_else() -> None:
    assert opened("Bash", {"command": "git push"}).grant == "command:git push"
    assert opened("mcp__a__b", {"x": 1}).grant == ""
    assert opened("WebFetch", {"url": "https://example.org"}).grant == ""


def test_a_question_is_asked_with_its_options() -> None:
    given = {
        "questions": [
            {
                "question": "Which colour?",
                "header": "Colour",
                "multiSelect": True,
                "options": [{"label": "Red", "description": "warm"}, {"label": "Blue"}, "rubbish"],
            },
            "rubbish",
            {"question": "How many?"},
        ]
    }
    request = opened("AskUserQuestion", given)
    assert request.kind == "question"
    assert request.title == "Which colour?"
    assert request.options == ["accept", "decline", "cancel"]
    assert request.questions == snapshot(
        [
            Question(
                id="q1",
                header="Colour",
                text="Which colour?",
                multiple=True,
                free=True,
                options=[Option(label="Red", detail="warm"), Option(label="Blue")],
            ),
            Question(id="q2", header="", text="How many?", free=True),
        ]
    )


def test_a_request_of_an_unknown_kind_is_shown_and_can_be_answered() -> None:
    """P5 of the design: never dropped."""
    session = Session()
    frame = {"subtype": "teleport", "message": "May I go?", "to": "the moon"}
    (request,) = of(
        RequestOpened,
        session.out({"type": "control_request", "request_id": "r1", "request": frame}),
    )
    assert (request.kind, request.title, request.tool) == ("unknown", "May I go?", "teleport")
    assert request.arguments == {"message": "May I go?", "to": "the moon"}
    session.send(Answer("r1", "accept"))
    assert session.writes[-1] == ("answer:r1", reply("r1", {}))


def test_a_message_for_a_server_that_we_do_not_offer_is_refused() -> None:
    session = Session()
    frame = {"subtype": "mcp_message", "server_name": "x", "message": {}}
    session.out({"type": "control_request", "request_id": "r1", "request": frame})
    assert session.writes[-1][1]["response"]["subtype"] == "error"


def test_a_request_that_the_agent_takes_back_is_withdrawn() -> None:
    session = Session()
    session.out(asks("r1", "Bash", {"command": "ls"}))
    said = session.out({"type": "control_cancel_request", "request_id": "r1"})
    assert said == [RequestWithdrawn("r1")]
    assert session.send(Answer("r1", "accept")) == []
    assert session.out({"type": "control_cancel_request", "request_id": "h1"}) == []


# What is answered


def answered(tool: str, input_: dict[str, Any], decision: Decision, **fields: Any) -> Any:
    session = Session()
    session.out(asks("r1", tool, input_, "t1"))
    session.send(Answer("r1", decision, **fields))
    id_, frame = session.writes[-1]
    assert id_ == "answer:r1"
    assert frame["response"]["request_id"] == "r1"
    return frame["response"]["response"]


def test_a_call_is_accepted_with_its_own_input_and_without_new_rules() -> None:
    for decision in ("accept", "accept_for_session"):
        given = {"command": "ls", "description": "d"}
        assert answered("Bash", given, decision) == {"behavior": "allow", "updatedInput": given}


@pytest.mark.parametrize(
    "input_",
    [
        '{"z":1.0,"a":12345678901234567890123, "deep":{"y":1e2,"x":[]}}',
        '{"half": "\\ud83d", "large": 12345678901234567890123}',
    ],
)
def test_the_input_is_handed_back_as_it_came(input_: str) -> None:
    """Also numbers and halves of characters that JavaScript writes and we cannot store."""
    session = Session()
    line = (
        '{"type":"control_request","request_id":"r1","request":{"subtype":"can_use_tool","tool_name":"mcp__a__b",'
        f'"input":{input_},"tool_use_id":"t1"}}}}'
    )
    (request,) = of(RequestOpened, session.record("out", line.encode()))
    assert "12345678901234567890123" in request.arguments.values()
    (write,) = KIND.translator(session.scene, session.state).send(Answer("r1", "accept"), 0.0)
    assert input_.encode() in write.data


def test_a_question_is_answered_by_its_text() -> None:
    given = {"questions": [{"question": "Which?", "options": []}, {"question": "Why?"}]}
    got = answered("AskUserQuestion", given, "accept", answers={"q1": ["Red", "Blue"], "q2": ["because"]})
    assert got["updatedInput"] == {**given, "answers": {"Which?": "Red, Blue", "Why?": "because"}}


@pytest.mark.parametrize(
    ("tool", "decision", "message", "words"),
    [
        ("Bash", "decline", "", f"{gate.DECLINED} {gate.ADVICE}"),
        ("Bash", "decline", "use rg", f"{gate.DECLINED} They say: use rg"),
        ("Bash", "cancel", "", gate.STOPPED),
        ("AskUserQuestion", "decline", "", f"{gate.SKIPPED} {gate.ADVICE_ON_QUESTIONS}"),
    ],
)
def test_a_refusal_says_who_refused_and_what_to_do(
    tool: str, decision: Decision, message: str, words: str
) -> None:
    got = answered(tool, {}, decision, message=message)
    assert (got["behavior"], got["message"]) == ("deny", words)
    assert got.get("interrupt", False) is (decision == "cancel")


@pytest.mark.parametrize(
    ("decision", "response"),
    [
        ("accept", {"action": "accept", "content": {}}),
        ("decline", {"action": "decline"}),
        ("cancel", {"action": "cancel"}),
    ],
)
def test_an_elicitation_is_answered_in_its_own_words(decision: Decision, response: dict[str, Any]) -> None:
    session = Session()
    frame = {"subtype": "elicitation", "message": "Your name?", "requestedSchema": {}}
    session.out({"type": "control_request", "request_id": "r1", "request": frame})
    session.send(Answer("r1", decision))
    assert session.writes[-1][1] == reply("r1", response)


def test_an_unknown_request_that_is_declined_gets_an_error() -> None:
    session = Session()
    session.out({"type": "control_request", "request_id": "r1", "request": {"subtype": "teleport"}})
    session.send(Answer("r1", "decline"))
    assert session.writes[-1][1]["response"]["subtype"] == "error"


def test_nothing_waits_after_an_answer() -> None:
    """P58."""
    session = Session()
    session.out(asks("r1", "Bash", {"command": "ls"}, "t1"))
    session.send(Answer("r1", "decline"))
    count = len(session.writes)
    session.send(Answer("r1", "accept"))
    assert len(session.writes) == count, "the second answer gives no frame"


def test_an_answer_that_could_not_be_written_can_be_given_again() -> None:
    session = Session()
    session.out(asks("r1", "Bash", {"command": "ls"}, "t1"))
    session.record("received", id_="answer:r1")
    session.record("refused", b"closed", "answer:r1")
    session.send(Answer("r1", "accept"))
    assert session.writes[-1][0] == "answer:r1"


def test_a_call_that_we_declined_ends_as_declined() -> None:
    session = Session()
    session.out(hook("h1", "Bash", "t1"), assistant(call("t1", "Bash", command="ls")))
    session.out(asks("r1", "Bash", {"command": "ls"}, "t1"))
    session.send(Answer("r1", "decline"))
    (end,) = of(ItemCompleted, session.out(outcome("t1", "no", is_error=True)))
    assert end.status == "declined"


def test_what_waits_is_small_in_the_state_and_survives_it() -> None:
    session = Session()
    session.out(asks("r1", "Write", {"file_path": "a", "content": "x" * 1000}, "t1"))
    assert session.state is not None
    assert len(session.state) < 3000
    assert json.dumps(session.writes) == "[]"
