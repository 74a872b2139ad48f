"""How the scripted model calls the tools that an agent really offers, by their own names and schemas. Pure.

Agents name the same tool differently, so each wish (run a command, write a file) has the names it goes by;
a wish that no offered tool fits is answered in words by `scripts`.
"""

import re
from collections.abc import Iterable, Sequence

from holdfast.doctor.model.answers import Call
from holdfast.doctor.model.conversation import Conversation, Tool

_SHELL = ("Bash", "bash", "shell", "exec_command", "run_shell_command", "local_shell")
_WRITE = ("Write", "write", "write_file")
_READ = ("Read", "read", "read_file")
_ASK = ("AskUserQuestion", "question", "request_user_input")
_SUBAGENT = ("Agent", "Task", "task")
_PLAN = ("ExitPlanMode", "exit_plan_mode")
_SEARCH = ("ToolSearch",)
_TODO = ("TodoWrite", "todowrite", "update_plan", "write_todos")

_PLAN_FILE = re.compile(r"/\S+/plans/[^\s/]+\.md")
_FOLDER = re.compile(r"[Ww]orking directory: *([^\n]+)")


def shell(conversation: Conversation, command: str, *, background: bool = False) -> Call | None:
    tool = _offered(conversation.tools, _SHELL)
    if tool is None:
        return None
    name = "cmd" if "cmd" in tool.properties else "command"
    schema = tool.properties.get(name)
    wants_list = isinstance(schema, dict) and schema.get("type") == "array"
    value: object = ["bash", "-lc", command] if wants_list else command
    wished = {name: value, "description": "scripted command"}
    if background:
        wished["run_in_background"] = True
    return _fitting(tool, wished)


def write(conversation: Conversation, path: str, body: str) -> Call | None:
    tool = _offered(conversation.tools, _WRITE)
    full = _absolute(conversation, path)
    return (
        None
        if tool is None
        else _fitting(tool, {"file_path": full, "filePath": full, "path": full, "content": body})
    )


def read(conversation: Conversation, path: str) -> Call | None:
    tool = _offered(conversation.tools, _READ)
    full = _absolute(conversation, path)
    return None if tool is None else _fitting(tool, {"file_path": full, "filePath": full, "path": full})


def ask(conversation: Conversation, question: str, labels: Sequence[str]) -> Call | None:
    tool = _offered(conversation.tools, _ASK)
    options = [{"label": label, "description": f"the {label.lower()} one"} for label in labels]
    asked: dict[str, object] = {"question": question, "header": "Choice", "options": options}
    known = {} if tool is None else _item_properties(tool, "questions")
    asked |= {"id": "q1"} if "id" in known else {"multiSelect": False}
    return None if tool is None else _fitting(tool, {"questions": [asked]})


def subagent(conversation: Conversation, prompt: str, *, wait: bool) -> Call | None:
    tool = _offered(conversation.tools, _SUBAGENT)
    wished: dict[str, object] = {
        "description": "scripted subagent",
        "prompt": prompt,
        "subagent_type": "general-purpose",
    }
    if wait:
        wished["run_in_background"] = False
    return None if tool is None else _fitting(tool, wished)


def plan(conversation: Conversation, text: str) -> list[Call]:
    """Presenting a plan: written to the file that the agent names, the tool loaded first where it is deferred."""
    calls: list[Call] = []
    named = _PLAN_FILE.findall("\n".join(conversation.systems))
    if named and (written := write(conversation, named[-1], text)):
        calls.append(written)
    search = _offered(conversation.tools, _SEARCH)
    deferred = next((name for name in _PLAN if name in "\n".join(conversation.systems).split()), None)
    if search and deferred:
        calls.append(_fitting(search, {"query": f"select:{deferred}"}))
    tool = _offered(conversation.tools, _PLAN)
    if tool or deferred:
        name = tool.name if tool else str(deferred)
        calls.append(Call(name, {"plan": text} if tool and "plan" in tool.properties else {}))
    return calls


def todo(conversation: Conversation, points: Sequence[str]) -> Call | None:
    tool = _offered(conversation.tools, _TODO)
    if tool is None:
        return None
    states = ["in_progress"] + ["pending"] * (len(points) - 1)
    if "plan" in tool.properties:
        steps = [{"step": point, "status": state} for point, state in zip(points, states, strict=True)]
        return Call(tool.name, {"plan": steps})
    todos = [
        {"content": point, "status": state, "activeForm": point, "priority": "medium", "id": str(at)}
        for at, (point, state) in enumerate(zip(points, states, strict=True), 1)
    ]
    allowed = _item_properties(tool, "todos")
    return Call(tool.name, {"todos": [{k: v for k, v in item.items() if k in allowed} for item in todos]})


def _offered(tools: Iterable[Tool], names: Sequence[str]) -> Tool | None:
    by_name = {tool.name: tool for tool in tools}
    return next((by_name[name] for name in names if name in by_name), None)


def _fitting(tool: Tool, wished: dict[str, object]) -> Call:
    """Only the arguments that the tool knows; all of them if it does not say."""
    if not tool.properties:
        return Call(tool.name, wished)
    return Call(tool.name, {name: value for name, value in wished.items() if name in tool.properties})


def _item_properties(tool: Tool, name: str) -> dict[str, object]:
    schema = tool.properties.get(name)
    items = schema.get("items") if isinstance(schema, dict) else None
    properties = items.get("properties") if isinstance(items, dict) else None
    return properties if isinstance(properties, dict) else {}


def _absolute(conversation: Conversation, path: str) -> str:
    """File tools want whole paths; the folder stands in what the agent says about its surroundings."""
    if path.startswith("/"):
        return path
    for text in reversed(conversation.systems):
        if found := _FOLDER.search(text):
            return f"{found[1].strip()}/{path}"
    return path
