"""Anthropic Messages: requests into conversations, answers into its server-sent events. Pure but for fresh ids.

Tolerant of what it does not know: unknown block types are passed over, `system` is accepted as a role.
"""

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping

from holdfast.doctor.model.answers import Answer, Call, Pause, Refusal, Say, Silence, Think
from holdfast.doctor.model.conversation import Called, Conversation, Entry, Note, Prompt, Result, Said, Tool
from holdfast.doctor.model.dialect import Dialect, Frame, Json

_NOTES = (
    "<system-reminder>",
    "<task-notification>",
    "<local-command",
    "<command-",
    "[Request interrupted",
    "This session is being continued",
)
_WAKES = ("<task-notification>", "[SYSTEM NOTIFICATION")
_STEERED = re.compile(
    r"The user sent a new message while you were working:\n(.*?)\n\nThis is how ", re.DOTALL
)
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_SIGNATURE = "c2NyaXB0ZWQ="


def read_request(body: Json, headers: Mapping[str, str], _path: str) -> Conversation:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages: at least one message is required")
    entries: list[Entry] = []
    systems = list(_texts(body.get("system")))
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant", "system"):
            raise ValueError("messages: role must be user, assistant or system")
        if message["role"] == "system":
            texts = list(_texts(message.get("content")))
            systems.extend(texts)
            entries.extend(
                Prompt(prompt, steered=True) for text in texts for prompt in _STEERED.findall(text)
            )
        else:
            entries.extend(_entries(message["role"], message.get("content")))
    return Conversation(
        entries=tuple(entries),
        tools=tuple(_tools(body.get("tools"))),
        systems=tuple(systems),
        model=str(body.get("model", "")),
        session=next((value for name, value in headers.items() if name.lower().endswith("session-id")), ""),
        stream=body.get("stream") is True,
    )


def _blocks(content: object) -> Iterator[Json]:
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    elif isinstance(content, list):
        yield from (block for block in content if isinstance(block, dict))


def _texts(content: object) -> Iterator[str]:
    yield from (str(block.get("text", "")) for block in _blocks(content) if block.get("type") == "text")


def _entries(role: str, content: object) -> Iterator[Entry]:
    blocks = list(_blocks(content))
    for block in blocks:
        kind = block.get("type")
        text = str(block.get("text", ""))
        if kind == "text" and role == "assistant":
            yield Said(text)
        elif kind == "text":
            # Prompts that no answer stands between come as one message, each but the last with a line end added.
            yield _user_text(text if block is blocks[-1] else text.removesuffix("\n"))
        elif kind == "tool_use":
            yield Called(str(block.get("name", "")))
        elif kind == "tool_result":
            yield Result("\n".join(_texts(block.get("content"))), block.get("is_error") is True)


def _user_text(text: str) -> Prompt | Note:
    if text.lstrip().startswith(_NOTES):
        return Note(text, wakes=any(mark in text for mark in _WAKES))
    return Prompt(text)


def _tools(offered: object) -> Iterator[Tool]:
    for tool in offered if isinstance(offered, list) else ():
        if isinstance(tool, dict) and isinstance(tool.get("name"), str):
            schema = tool.get("input_schema")
            schema = schema if isinstance(schema, dict) else {}
            required = tuple(schema.get("required", ()))
            yield Tool(tool["name"], dict(schema.get("properties", {})), required)


def stream_answer(answer: Answer, conversation: Conversation) -> Iterator[Frame]:
    """The events of an answer, in the order and shape of the real API."""
    usage = _usage(conversation)
    started = {**_message(conversation), "usage": {**usage, "output_tokens": 1}}
    yield _event("message_start", {"message": started})
    writer = _BlockWriter()
    for step in answer.steps:
        if isinstance(step, Pause | Silence):
            yield step
        else:
            yield from writer.add(step)
    yield from writer.close()
    delta = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
    yield _event("message_delta", {"delta": delta, "usage": {"output_tokens": _output_tokens(answer)}})
    yield _event("message_stop", {})


class _BlockWriter:
    """Which content block is open; pieces of one kind share a block, a tool call has its own."""

    def __init__(self) -> None:
        self._index = -1
        self._kind = ""

    def add(self, step: Say | Think | Call) -> Iterator[bytes]:
        if isinstance(step, Say):
            yield from self._open("text", {"text": ""})
            yield self._delta({"type": "text_delta", "text": step.text})
        elif isinstance(step, Think):
            yield from self._open("thinking", {"thinking": "", "signature": ""})
            yield self._delta({"type": "thinking_delta", "thinking": step.text})
        else:
            yield from self.close()
            yield from self._open("tool_use", {"id": _fresh("toolu"), "name": step.tool, "input": {}})
            arguments = json.dumps(step.arguments)
            half = len(arguments) // 2
            for part in ("", arguments[:half], arguments[half:]):
                yield self._delta({"type": "input_json_delta", "partial_json": part})

    def _open(self, kind: str, fields: Json) -> Iterator[bytes]:
        if self._kind == kind:
            return
        yield from self.close()
        self._index += 1
        self._kind = kind
        block = {"type": kind, **fields}
        yield _event("content_block_start", {"index": self._index, "content_block": block})
        if self._index == 0:
            yield _event("ping", {})

    def _delta(self, delta: Json) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": delta})

    def close(self) -> Iterator[bytes]:
        if not self._kind:
            return
        if self._kind == "thinking":
            yield self._delta({"type": "signature_delta", "signature": _SIGNATURE})
        self._kind = ""
        yield _event("content_block_stop", {"index": self._index})


def whole_answer(answer: Answer, conversation: Conversation) -> Json:
    content: list[Json] = []
    for step in answer.steps:
        last = content[-1] if content else {}
        if isinstance(step, Say) and last.get("type") == "text":
            last["text"] = f"{last['text']}{step.text}"
        elif isinstance(step, Say):
            content.append({"type": "text", "text": step.text})
        elif isinstance(step, Think) and last.get("type") == "thinking":
            last["thinking"] = f"{last['thinking']}{step.text}"
        elif isinstance(step, Think):
            content.append({"type": "thinking", "thinking": step.text, "signature": _SIGNATURE})
        elif isinstance(step, Call):
            call = {"id": _fresh("toolu"), "name": step.tool, "input": dict(step.arguments)}
            content.append({"type": "tool_use", **call})
    usage = {**_usage(conversation), "output_tokens": _output_tokens(answer)}
    ending = {"content": content, "stop_reason": _stop_reason(answer), "usage": usage}
    return {**_message(conversation), **ending}


def refuse(refusal: Refusal) -> Json:
    kind = _ERRORS.get(refusal.status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": refusal.message}}


def count_tokens(conversation: Conversation) -> Json:
    return {"input_tokens": _input_tokens(conversation)}


def _message(conversation: Conversation) -> Json:
    return {
        "id": _fresh("msg"),
        "type": "message",
        "role": "assistant",
        "model": conversation.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _stop_reason(answer: Answer) -> str:
    return "tool_use" if answer.calls_tools else "end_turn"


def _usage(conversation: Conversation) -> Json:
    """Plausible numbers: four characters are a token, and the instructions come from the cache."""
    cached = sum(map(len, conversation.systems)) // 4
    return {
        "input_tokens": _input_tokens(conversation) - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
    }


def _input_tokens(conversation: Conversation) -> int:
    texts = [*conversation.systems, *(getattr(entry, "text", "") for entry in conversation.entries)]
    return 1 + _tokens(texts)


def _output_tokens(answer: Answer) -> int:
    spoken = [step.text for step in answer.steps if isinstance(step, Say | Think)]
    called = [json.dumps(step.arguments) for step in answer.steps if isinstance(step, Call)]
    return 1 + _tokens([*spoken, *called])


def _tokens(texts: Iterable[str]) -> int:
    return sum(map(len, texts)) // 4


def _event(name: str, fields: Json) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()


def _fresh(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:24]}"


MESSAGES = Dialect(
    path="/v1/messages",
    read=read_request,
    stream=stream_answer,
    whole=whole_answer,
    refuse=refuse,
    asides={"/v1/messages/count_tokens": count_tokens},
)
