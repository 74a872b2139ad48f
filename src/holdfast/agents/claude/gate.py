"""The gate: what the agent may do unasked, how a call is put to a person, and how the answer is told to the agent.

Owns the verdict on every hook callback, the report of every request and the words of every refusal. It never decides
for the person: permission modes and grants are the core's. Pure; called by the translator.

A hook that is answered with an error lets the tool run (measured), so nothing here ever answers an error to a hook.
"""

from __future__ import annotations

import difflib
import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from holdfast.agents.claude import tools
from holdfast.agents.claude.state import Pending
from holdfast.agents.port import Answer
from holdfast.core.reports import Decision, Option, Question, RequestOpened
from holdfast.wire import stream_json

DETAIL_CHARS = 20_000
SNIPPET_LINES = 60

# Inside a workspace, these are run or obeyed by the agent, git or an editor: changing one is more than an edit.
OBEYED = frozenset({".claude", ".git", ".husky", ".idea", ".mcp.json", ".vscode", ".gitmodules"})

TOOL = "can_use_tool"
ELICITATION = "elicitation"

DECLINED = "The person declined this call."
STOPPED = "The person declined this call and stopped the turn."
SKIPPED = "The person does not answer this question."
ADVICE = "Do not try to get the same effect in another way; go on without it."
ADVICE_ON_QUESTIONS = "Go on with your best judgement, or say what you need."


def hook_verdict(request: Mapping[str, Any]) -> Literal["", "ask", "deny"]:
    """What to answer to a hook callback: "" leaves it to the program's own rules."""
    given = request.get("input")
    if not isinstance(given, dict):
        return "ask"
    if given.get("hook_event_name", "PreToolUse") != "PreToolUse":
        return "deny"  # we asked for no other event
    tool = given.get("tool_name")
    if not isinstance(tool, str) or not tool:
        return "ask"
    if not tools.must_ask(tool):
        return ""
    return "" if _is_own_plan(tool, given) else "ask"


def _is_own_plan(tool: str, given: Mapping[str, Any]) -> bool:
    """The file in which plan mode has the agent draft its plan; the program's rules let it through, and only it."""
    arguments = given.get("tool_input")
    if given.get("permission_mode") != "plan" or tool not in ("Write", "Edit"):
        return False
    if not isinstance(arguments, dict):
        return False
    home, projects, _ = tools.text_at(given, "transcript_path").partition("/projects/")
    folder, name = posixpath.split(posixpath.normpath(tools.path_of(arguments)))
    return bool(home and projects) and folder == f"{home}/plans" and name.endswith(".md")


def opened(pending: Pending, turn: str, cwd: str, add_dirs: Sequence[str]) -> RequestOpened:
    """A request of the agent as a person sees it."""
    request = _request(pending)
    subtype = tools.text_at(request, "subtype")
    if subtype == TOOL:
        return _tool_request(request, pending, turn, cwd, add_dirs)
    title = tools.text_at(request, "message") or f"The agent asks for {subtype or 'something unnamed'}"
    return RequestOpened(
        turn=turn,
        ref=pending.ref,
        kind="unknown",
        title=_line(title),
        tool=subtype,
        arguments={key: value for key, value in request.items() if key != "subtype"},
        detail=_cut(_pretty(request)),
        options=["accept", "decline", "cancel"],
    )


def _request(pending: Pending) -> dict[str, Any]:
    request = stream_json.decode(pending.request)
    return request if isinstance(request, dict) else {}


def _tool_request(
    request: Mapping[str, Any], pending: Pending, turn: str, cwd: str, add_dirs: Sequence[str]
) -> RequestOpened:
    tool = tools.text_at(request, "tool_name") or "(unnamed)"
    arguments = _arguments(request)
    kind = tools.request_kind(tool)
    inside = kind == "file_change" and is_inside(tools.path_of(arguments), cwd, add_dirs)
    options: list[Decision] = ["accept", "accept_for_session", "decline", "cancel"]
    if kind in ("plan", "question"):
        options.remove("accept_for_session")
    return RequestOpened(
        turn=turn,
        ref=pending.ref,
        kind=kind,
        title=_title(tool, arguments, cwd),
        tool=tool,
        arguments=_canonical(tool, arguments),
        detail=_cut(_detail(tool, arguments, request)),
        item_ref=pending.tool_use,
        options=options,
        questions=_questions(arguments) if tool == tools.QUESTION else [],
        grant=_grant(tool, arguments, inside=inside),
        inside_workspace=inside,
    )


def _arguments(request: Mapping[str, Any]) -> dict[str, Any]:
    given = request.get("input")
    return given if isinstance(given, dict) else {}


def _canonical(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Without the words by which the model describes its own call: they differ each time and change nothing."""
    if tool in tools.COMMANDS | tools.SUBAGENTS:
        return {key: value for key, value in arguments.items() if key != "description"}
    return arguments


def _grant(tool: str, arguments: Mapping[str, Any], *, inside: bool) -> str:
    if tool in tools.COMMANDS and (command := tools.text_at(arguments, "command")):
        return f"command:{command}"
    return "file_change:workspace" if inside else ""


def is_inside(path: str, cwd: str, add_dirs: Sequence[str]) -> bool:
    """Whether a change at `path` stays in the thread's folders and touches nothing there that others obey.

    By the text of the path alone: symbolic links cannot be seen from here, whoever needs more must look on the host.
    """
    if not cwd:
        return False
    whole = posixpath.normpath(posixpath.join(cwd, path))
    for folder in (cwd, *add_dirs):
        root = posixpath.normpath(posixpath.join(cwd, folder))
        if whole == root:
            return False  # a change of the folder itself is no change of a file in it
        if whole.startswith(root.rstrip("/") + "/"):
            return OBEYED.isdisjoint(whole[len(root) :].lower().split("/"))
    return False


def _questions(arguments: Mapping[str, Any]) -> list[Question]:
    asked = arguments.get("questions")
    questions: list[Question] = []
    for each in asked if isinstance(asked, list) else []:
        if not isinstance(each, dict):
            continue
        given = each.get("options")
        options = [
            Option(tools.text_at(option, "label"), tools.text_at(option, "description"))
            for option in (given if isinstance(given, list) else [])
            if isinstance(option, dict)
        ]
        questions.append(
            Question(
                id=f"q{len(questions) + 1}",
                header=tools.text_at(each, "header"),
                text=tools.text_at(each, "question"),
                multiple=each.get("multiSelect") is True,
                free=True,
                options=options,
            )
        )
    return questions


# What a person reads


def _title(tool: str, arguments: Mapping[str, Any], cwd: str) -> str:
    path = _shown_path(tools.path_of(arguments), cwd)
    if tool in tools.COMMANDS:
        return _line(f"Run: {tools.text_at(arguments, 'command')}")
    if tool in tools.FILE_CHANGES:
        return _line(f"{'Write' if tool == 'Write' else 'Edit'} {path}")
    if tool == "WebFetch":
        return _line(f"Fetch {tools.text_at(arguments, 'url')}")
    if tool == "WebSearch":
        return _line(f"Search the web: {tools.text_at(arguments, 'query')}")
    if tool in tools.FILE_READS:
        return _line(f"Read {path or cwd}")
    if tool == tools.PLAN:
        return "Approve the plan"
    if tool == tools.QUESTION:
        questions = _questions(arguments)
        return _line(questions[0].text) if questions else "The agent has a question"
    if tool.startswith(tools.MCP_PREFIX):
        server, _, name = tool.removeprefix(tools.MCP_PREFIX).partition("__")
        return _line(f"Use {name or tool} of {server}")
    return _line(f"Use {tool}")


def _detail(tool: str, arguments: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    if tool in tools.COMMANDS:
        lines = [tools.text_at(arguments, "command")]
        if arguments.get("run_in_background") is True:
            lines.append("(keeps running in the background)")
        if description := tools.text_at(arguments, "description"):
            lines.append(f"# {description}")
        return "\n".join(lines)
    if tool in tools.FILE_CHANGES:
        return _change(tool, arguments)
    if tool == tools.PLAN:
        return tools.text_at(arguments, "plan")
    if tool == tools.QUESTION:
        return "\n".join(question.text for question in _questions(arguments))
    reason = tools.text_at(request, "decision_reason")
    return "\n".join(part for part in (_pretty(arguments), reason) if part)


def _change(tool: str, arguments: Mapping[str, Any]) -> str:
    """A short unified diff, or the head of what is written."""
    path = tools.path_of(arguments)
    if tool == "Write":
        return f"{path}\n{_head(tools.text_at(arguments, 'content'))}"
    if tool == "NotebookEdit":
        return f"{path}\n{_head(tools.text_at(arguments, 'new_source'))}"
    edits = arguments.get("edits") if tool == "MultiEdit" else [arguments]
    parts = [path]
    for edit in edits if isinstance(edits, list) else []:
        if isinstance(edit, dict):
            old, new = tools.text_at(edit, "old_string"), tools.text_at(edit, "new_string")
            lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=3)
            parts.append(_head("\n".join(list(lines)[2:])))
            if edit.get("replace_all") is True:
                parts.append("(everywhere in the file)")
    return "\n".join(parts)


def _head(text: str) -> str:
    lines = text.splitlines()
    more = len(lines) - SNIPPET_LINES
    return "\n".join([*lines[:SNIPPET_LINES], f"... {more} more lines"]) if more > 0 else text


def _shown_path(path: str, cwd: str) -> str:
    inside = cwd.rstrip("/") + "/"
    return path[len(inside) :] if cwd and path.startswith(inside) else path


def _line(text: str, width: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _cut(text: str) -> str:
    if len(text) <= DETAIL_CHARS:
        return text
    return f"{text[:DETAIL_CHARS]}\n... {len(text) - DETAIL_CHARS} more characters"


def _pretty(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) if value else ""


# What the agent is told


def answer_frame(request_id: str, pending: Pending, answer: Answer) -> bytes:
    """The frame that carries a decision to the agent."""
    request = _request(pending)
    subtype, tool = tools.text_at(request, "subtype"), tools.text_at(request, "tool_name")
    accepted = answer.decision in ("accept", "accept_for_session")
    if subtype == TOOL:
        if not accepted:
            stop = answer.decision == "cancel"
            return stream_json.deny_tool(request_id, refusal(tool, answer), stop=stop)
        answers = _answers(_arguments(request), answer) if tool == tools.QUESTION else None
        return stream_json.allow_tool(request_id, stream_json.input_text(pending.request), answers)
    if subtype == ELICITATION:
        action = "accept" if accepted else ("cancel" if answer.decision == "cancel" else "decline")
        content: dict[str, Any] = {"content": {}} if accepted else {}
        return stream_json.control_success(request_id, {"action": action, **content})
    if accepted:
        return stream_json.control_success(request_id, {})
    return stream_json.control_error(request_id, refusal(tool, answer))


def refusal(tool: str, answer: Answer) -> str:
    """Words of a refusal: that a person refused, and what they said or, without words of theirs, what to do."""
    if answer.decision == "cancel":
        words, advice = STOPPED, ""
    elif tool == tools.QUESTION:
        words, advice = SKIPPED, ADVICE_ON_QUESTIONS
    else:
        words, advice = DECLINED, ADVICE
    return f"{words} They say: {answer.message}" if answer.message else f"{words} {advice}".rstrip()


def _answers(arguments: Mapping[str, Any], answer: Answer) -> dict[str, str]:
    """By the text of the question, as the program wants it; several labels joined by commas."""
    return {
        question.text: ", ".join(given)
        for question in _questions(arguments)
        if (given := answer.answers.get(question.id))
    }
