"""Hand-made frames of Claude Code for tests that no recording gives, and a session that is fed with them."""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from holdfast.agents.catalog import KINDS
from holdfast.agents.port import Intent, Step, TranslatorContext
from holdfast.core.reports import Report
from holdfast.wire.link import Record, RecordKind

KIND = KINDS["claude"]
CWD = "/home/user/workspace"
Frame = dict[str, Any]
R = TypeVar("R", bound=Report)


def scene(**changes: Any) -> TranslatorContext:
    fields: dict[str, Any] = {
        "session": "ses_1",
        "native_id": "6b2f0a52-57a8-8c3e-9d1e-2f4c5a6b7c8d",
        "resumed": False,
        "cwd": CWD,
        "mode": "ask",
        "plan": False,
        "model": "m",
    }
    return TranslatorContext(**fields | changes)


def init(*uuids: str) -> Frame:
    return {"type": "system", "subtype": "init", "model": "m", "user_message_uuids": list(uuids)}


def requesting(*uuids: str) -> Frame:
    named = {"user_message_uuids": list(uuids)} if uuids else {}
    return {"type": "system", "subtype": "status", "status": "requesting", **named}


def life(uuid: str, state: str) -> Frame:
    return {"type": "command_lifecycle", "command_uuid": uuid, "state": state}


def replay(uuid: str) -> Frame:
    message = {"role": "user", "content": "hi"}
    return {
        "type": "user",
        "message": message,
        "uuid": uuid,
        "isReplay": True,
        "parent_tool_use_id": None,
    }


def assistant(*blocks: Frame, id_: str = "msg_1", parent: str | None = None, **fields: Any) -> Frame:
    message = {
        "id": id_,
        "role": "assistant",
        "content": list(blocks),
        "usage": {"input_tokens": 5, "output_tokens": 1},
    }
    return {"type": "assistant", "message": message, "parent_tool_use_id": parent, **fields}


def text(words: str) -> Frame:
    return {"type": "text", "text": words}


def call(id_: str, name: str, **input_: Any) -> Frame:
    return {"type": "tool_use", "id": id_, "name": name, "input": input_}


def outcome(id_: str, content: Any = "done", parent: str | None = None, **fields: Any) -> Frame:
    block = {"type": "tool_result", "tool_use_id": id_, "content": content, **fields}
    message = {"role": "user", "content": [block]}
    return {"type": "user", "message": message, "parent_tool_use_id": parent}


def piece(type_: str, parent: str | None = None, **event: Any) -> Frame:
    return {
        "type": "stream_event",
        "event": {"type": type_, **event},
        "parent_tool_use_id": parent,
    }


def result(*uuids: str, **fields: Any) -> Frame:
    frame = {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "result": "ok",
        "total_cost_usd": 0.0,
        "user_message_uuids": list(uuids),
    }
    return frame | fields


def hook(id_: str, tool: str, use: str = "", **fields: Any) -> Frame:
    given = {"hook_event_name": "PreToolUse", "tool_name": tool, "tool_input": {}, **fields}
    request = {"subtype": "hook_callback", "callback_id": "gate", "input": given, "tool_use_id": use}
    return {"type": "control_request", "request_id": id_, "request": request}


def asks(id_: str, tool: str, input_: Frame, use: str = "", **fields: Any) -> Frame:
    request = {
        "subtype": "can_use_tool",
        "tool_name": tool,
        "input": input_,
        "tool_use_id": use,
        **fields,
    }
    return {"type": "control_request", "request_id": id_, "request": request}


class Session:
    """A translator that is thrown away and restored from its dump at every record; `ready` unless told otherwise."""

    def __init__(self, *, ready: bool = True, **changes: Any) -> None:
        self.scene = scene(**changes)
        self.state: bytes | None = None
        self.no = 0
        self.at = 100.0
        self.wake_at: float | None = None
        self.writes: list[tuple[str, Any]] = []
        if ready:
            reply = {
                "subtype": "success",
                "request_id": "begin",
                "response": {"claude_code_version": "9.9.9"},
            }
            self.out({"type": "control_response", "response": reply})

    def _keep(self, step: Step) -> list[Report]:
        self.wake_at = step.wake_at
        self.writes += [(write.id, json.loads(write.data)) for write in step.writes]
        return list(step.reports)

    def record(self, kind: RecordKind, data: bytes = b"", id_: str = "") -> list[Report]:
        self.no += 1
        self.at += 0.1
        translator = KIND.translator(self.scene, self.state)
        step = translator.receive(Record(self.no, self.at, kind, data, id_), self.at)
        self.state = translator.dump()
        return self._keep(step)

    def out(self, *frames: Frame) -> list[Report]:
        return [report for frame in frames for report in self.record("out", json.dumps(frame).encode())]

    def tick(self, at: float) -> list[Report]:
        translator = KIND.translator(self.scene, self.state)
        step = translator.tick(at)
        self.state = translator.dump()
        self.at = max(self.at, at)
        return self._keep(step)

    def send(self, intent: Intent) -> list[Report]:
        """Hands the frames of an intent over: the runner notes `received`, then `in`."""
        said = []
        for write in KIND.translator(self.scene, self.state).send(intent, self.at):
            self.writes.append((write.id, json.loads(write.data)))
            said += self.record("received", id_=write.id)
            said += self.record("in", write.data, write.id)
        return said

    def prompt(self, uuid: str) -> list[Report]:
        """A prompt with nothing but its id, as the journal has it."""
        return self.record("received", id_=f"prompt:{uuid}")


def of(kind: type[R], reports: Sequence[Report]) -> list[R]:
    return [report for report in reports if isinstance(report, kind)]
