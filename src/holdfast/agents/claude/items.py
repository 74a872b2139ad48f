"""From blocks of messages to items: text and thinking as they are streamed, tool calls and their results.

Owns the identity of items (`<message id>:<index>` for text, the tool call's own id for tools) and which fields of a
call an item carries. It starts no turn and ends none. Pure; called by the translator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.agents.claude import tools
from holdfast.agents.claude.state import Block, Message, State, Tool
from holdfast.core.reports import ItemCompleted, ItemKind, ItemStarted, ItemStatus, ItemText, Report
from holdfast.wire import stream_json
from holdfast.wire.stream_json import Assistant, StreamEvent, User

_EXIT_CODE = re.compile(r"Exit code (-?\d{1,5})\b")

_TEXT_KINDS: dict[str, ItemKind] = {"text": "assistant_message", "thinking": "reasoning"}
ABOUT_CHARS = 200

_WORDLESS = frozenset({"redacted_thinking"})
_CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


def streamed(state: State, frame: StreamEvent, turn: str) -> Iterator[Report]:
    """A piece of a message in the making."""
    event, parent = frame.event, frame.parent_tool_use_id or ""
    match event.get("type"):
        case "message_start":
            started = event.get("message")
            id_ = started.get("id") if isinstance(started, dict) else None
            yield from _message(state, parent, str(id_ or frame.api_message_id), turn)
        case "content_block_start":
            block = event.get("content_block")
            type_ = block.get("type") if isinstance(block, dict) else None
            index = _index(event)
            message = state.messages.get(parent)
            if message and type_ in _TEXT_KINDS and all(each.index != index for each in message.blocks):
                message.blocks.append(Block(index=index, type=str(type_)))
        case "content_block_delta":
            yield from _delta(state, parent, event, turn)
        case _:
            pass


def _delta(state: State, parent: str, event: Mapping[str, Any], turn: str) -> Iterator[Report]:
    message = state.messages.get(parent)
    delta = event.get("delta")
    if not message or not isinstance(delta, dict):
        return
    block = next((each for each in message.blocks if each.index == _index(event)), None)
    if not block or block.done:
        return
    piece = delta.get({"text": "text", "thinking": "thinking"}[block.type])
    if not isinstance(piece, str) or not piece:
        return
    ref = f"{message.id}:{block.index}"
    if not block.shown:
        block.shown = True
        yield ItemStarted(turn=turn, ref=ref, kind=_TEXT_KINDS[block.type], parent_ref=parent)
    yield ItemText(ref=ref, text=piece)


def _index(event: Mapping[str, Any]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) and 0 <= index < 1_000_000 else 0


def _message(state: State, parent: str, id_: str, turn: str) -> Iterator[Report]:
    """The message with that id becomes the newest of its author; one cut off before it is closed."""
    current = state.messages.get(parent)
    if current and current.id == id_:
        return
    if current:
        yield from _cut_off(current)
    state.messages[parent] = Message(id=id_)


def _cut_off(message: Message) -> Iterator[Report]:
    for block in message.blocks:
        if block.shown and not block.done:
            block.done = True
            yield ItemCompleted(ref=f"{message.id}:{block.index}", status="interrupted")


def finished(state: State, frame: Assistant, turn: str) -> Iterator[Report]:
    """Finished blocks of a message of the model."""
    parent = frame.parent_tool_use_id or ""
    yield from _message(state, parent, frame.message.id or frame.uuid, turn)
    message = state.messages[parent]
    for content in frame.message.blocks():
        type_ = content.get("type")
        if type_ in _TEXT_KINDS:
            text = tools.text_at(content, "text" if type_ == "text" else "thinking")
            failed = bool(frame.error) or frame.is_api_error_message
            yield from _text(message, str(type_), text, parent, turn, failed=failed)
        elif type_ in _CALLS:
            yield from _call(state, content, parent, turn)
        elif isinstance(type_, str) and type_.endswith("tool_result"):
            yield from _result(state, content, "", None, turn)
        elif type_ not in _WORDLESS:
            yield from _unknown(message, content, parent, turn)


def _text(
    message: Message, type_: str, text: str, parent: str, turn: str, *, failed: bool
) -> Iterator[Report]:
    block = next((each for each in message.blocks if each.type == type_ and not each.done), None)
    if block is None:
        block = Block(index=max((each.index for each in message.blocks), default=-1) + 1, type=type_)
        message.blocks.append(block)
    block.done = True
    ref = f"{message.id}:{block.index}"
    if block.shown:
        yield ItemCompleted(ref=ref, text=text)
    elif text:
        kind: ItemKind = "error" if failed else _TEXT_KINDS[type_]
        yield ItemCompleted(ref=ref, text=text, turn=turn, kind=kind, parent_ref=parent)


def _call(state: State, content: Mapping[str, Any], parent: str, turn: str) -> Iterator[Report]:
    id_ = tools.text_at(content, "id")
    name = tools.text_at(content, "name") or "(unnamed)"
    known = state.tools.get(id_)
    if not id_ or (known and known.name):
        return
    # The hook may have asked about the call before the message that holds it was finished.
    given = content.get("input")
    arguments: dict[str, Any] = given if isinstance(given, dict) else {}
    about = tools.text_at(arguments, "command") or tools.path_of(arguments)
    gated = bool(known and known.gated)
    state.tools[id_] = Tool(name=name, turn=turn, about=about[:ABOUT_CHARS], gated=gated)
    text = tools.text_at(arguments, "plan") if name == tools.PLAN else ""
    yield ItemStarted(
        turn=turn,
        ref=id_,
        kind=tools.item_kind(name),
        text=text,
        data={"tool": name, "input": arguments, **_particulars(name, arguments)},
        parent_ref=parent,
        changes_files=content.get("type") == "tool_use" and name not in tools.HARMLESS,
    )


def _particulars(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a screen shows of a call, under names that do not depend on the agent."""
    shown: dict[str, Any] = {}
    if name in tools.COMMANDS:
        shown["command"] = tools.text_at(arguments, "command")
    elif name in tools.SUBAGENTS:
        shown["prompt"] = tools.text_at(arguments, "prompt")
        shown["description"] = tools.text_at(arguments, "description")
    elif name in tools.TODO_LISTS:
        shown["todos"] = _todos(arguments)
    elif path := tools.path_of(arguments):
        shown["path"] = path
    for key in ("query", "pattern"):
        if value := tools.text_at(arguments, key):
            shown["query"] = value
    return shown


def _todos(arguments: Mapping[str, Any]) -> list[dict[str, str]]:
    todos = arguments.get("todos")
    return [
        {"text": tools.text_at(todo, "content"), "status": tools.text_at(todo, "status")}
        for todo in (todos if isinstance(todos, list) else [])
        if isinstance(todo, dict)
    ]


def results(state: State, frame: User, turn: str) -> Iterator[Report]:
    """The results of tools in a user frame."""
    metas = {
        meta["id"]: meta
        for meta in frame.tool_result_meta
        if isinstance(meta, dict) and isinstance(meta.get("id"), str)
    }
    for block in frame.message.blocks():
        if block.get("type") == "tool_result":
            meta = metas.get(tools.text_at(block, "tool_use_id"), {})
            yield from _result(state, block, tools.text_at(meta, "non_execution_kind"), frame, turn)


def _result(
    state: State, block: Mapping[str, Any], unexecuted: str, frame: User | None, turn: str
) -> Iterator[Report]:
    id_ = tools.text_at(block, "tool_use_id")
    tool = state.tools.pop(id_, None)
    if not id_:
        return
    text = stream_json.text_of(block.get("content"))
    outcome = frame.tool_use_result if frame else None
    data = _outcome(outcome) if isinstance(outcome, dict) else {}
    status: ItemStatus = "completed"
    if block.get("is_error") is True:
        status = "failed"
        if (tool and tool.declined) or unexecuted == "permission-rule":
            status = "declined"
        elif unexecuted == "user-rejected":  # its words for a call that an interrupt cut off
            status = "interrupted"
        elif tool and tool.name in tools.COMMANDS and (found := _EXIT_CODE.match(text)):
            data["exit_code"] = int(found[1])
    elif tool and tool.name in tools.COMMANDS and "background" not in data:
        data["exit_code"] = 0
    if tool and tool.name == tools.PLAN and tool.turn == turn:
        yield ItemCompleted(ref=id_, status=status, data={**data, "outcome": text})  # its text is the plan
        return
    if tool and tool.name and tool.turn == turn:
        yield ItemCompleted(ref=id_, status=status, text=text, data=data)
        return
    # Its item is not open: a subagent in the background outlived the turn of its call, whose items were closed then;
    # or the call was never seen. An item of its own shows what came of it.
    parent = (frame.parent_tool_use_id or "") if frame else ""
    kind: ItemKind = "tool_call"
    ref = id_
    if tool and tool.name:
        kind, ref = tools.item_kind(tool.name), f"{id_}:result"
        data = {"tool": tool.name, "call": id_, "about": tool.about, **data}
    yield ItemCompleted(ref=ref, status=status, text=text, data=data, turn=turn, kind=kind, parent_ref=parent)


def _outcome(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What the program tells of a result beside its text."""
    data: dict[str, Any] = {}
    if isinstance(task := outcome.get("backgroundTaskId"), str) and task:
        data["background"] = task
    if outcome.get("isAsync") is True:
        data["background"] = tools.text_at(outcome, "agentId")
    if isinstance(patch := outcome.get("structuredPatch"), list) and (diff := _diff(patch)):
        data["diff"] = diff
    return data


def _diff(patch: list[Any]) -> str:
    lines = []
    for hunk in patch:
        if not isinstance(hunk, dict) or not isinstance(hunk.get("lines"), list):
            continue
        at = [hunk.get(key) for key in ("oldStart", "oldLines", "newStart", "newLines")]
        lines.append(f"@@ -{at[0]},{at[1]} +{at[2]},{at[3]} @@")
        lines += [line for line in hunk["lines"] if isinstance(line, str)]
    return "\n".join(lines)


def _unknown(message: Message, content: dict[str, Any], parent: str, turn: str) -> Iterator[Report]:
    """A block of a kind that is not known: shown as it is, never dropped."""
    index = max((each.index for each in message.blocks), default=-1) + 1
    message.blocks.append(Block(index=index, type="", done=True))
    yield ItemCompleted(
        ref=f"{message.id}:{index}",
        text=stream_json.text_of(content.get("content") or content.get("text")),
        data={"block": content},
        turn=turn,
        kind="tool_call",
        parent_ref=parent,
    )
