"""The frames that the scripted agent writes, as types. What they mean is described in `scripted.py`, which reads them.

Pure data; a frame that fits none of them is not an error here.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from holdfast.core.reports import ItemStatus, Question, Usage


class Ready(msgspec.Struct, tag="ready"):
    native: str
    version: str = ""
    model: str = ""


class Refused(msgspec.Struct, tag="refused"):
    reason: str
    lost: bool = False


class Seen(msgspec.Struct, tag="prompt.seen"):
    id: str


class Started(msgspec.Struct, tag="turn.started"):
    turn: str
    prompt: str = ""


class Text(msgspec.Struct, tag="text"):
    item: str
    delta: str


class TextDone(msgspec.Struct, tag="text.done"):
    item: str
    text: str | None = None
    status: ItemStatus = "completed"


class Reasoning(msgspec.Struct, tag="reasoning"):
    item: str
    delta: str


class ReasoningDone(msgspec.Struct, tag="reasoning.done"):
    item: str
    text: str | None = None
    status: ItemStatus = "completed"


class ToolStarted(msgspec.Struct, tag="tool.started"):
    item: str
    tool: str
    title: str = ""
    arguments: dict[str, Any] = {}


class ToolOutput(msgspec.Struct, tag="tool.output"):
    item: str
    delta: str


class ToolDone(msgspec.Struct, tag="tool.done"):
    item: str
    status: ItemStatus = "completed"
    exit_code: int | None = None
    text: str = ""


class Ask(msgspec.Struct, tag="ask"):
    request: str
    kind: str
    title: str
    tool: str = ""
    arguments: dict[str, Any] = {}
    item: str = ""
    detail: str = ""
    grant: str = ""


class AskCancelled(msgspec.Struct, tag="ask.cancelled"):
    request: str


class Asked(msgspec.Struct, tag="question"):
    request: str
    title: str
    questions: list[Question]


class Plan(msgspec.Struct, tag="plan"):
    item: str
    text: str


class Todo(msgspec.Struct, tag="todo"):
    item: str
    entries: list[dict[str, str]]


class Notice(msgspec.Struct, tag="notice"):
    code: str
    text: str


class ContextUsed(msgspec.Struct, tag="usage"):
    used: int
    window: int


class Cause(msgspec.Struct, rename={"class_": "class"}):
    class_: str
    message: str = ""
    retry_at: str = ""


class Ended(msgspec.Struct, tag="turn.ended"):
    turn: str
    status: Literal["completed", "failed", "interrupted"]
    failure: Cause | None = None
    usage: Usage | None = None


InTurn = (
    Text | TextDone | Reasoning | ReasoningDone | ToolStarted | ToolOutput | ToolDone | Ask | Asked | Plan | Todo
)  # fmt: skip
Frame = InTurn | Ready | Refused | Seen | Started | AskCancelled | Notice | ContextUsed | Ended


class AnswerSent(msgspec.Struct):
    """What of our own frames changes the translator's state: an answer that has reached the agent."""

    type: str
    request: str = ""
