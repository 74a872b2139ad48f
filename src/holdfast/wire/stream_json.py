"""Claude Code's stream-json and control protocol: the frames that are read, and the frames that are written.

Owns how a line becomes a typed frame and how an intent becomes a line; it knows nothing of runs, items or requests.
There is no published schema, and the program changes weekly, so reading is tolerant: unknown fields are ignored, a
field of an unexpected shape counts as absent, and an unknown type of frame is `Other`. Writing is exact. Pure; called
by the translator in `agents.claude`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

import msgspec

# What the program writes. Every field has a default: absent and misshapen are the same.


class Tokens(msgspec.Struct, frozen=True):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0

    @property
    def context(self) -> int:
        """The tokens of the prompt, however they were billed."""
        return self.input_tokens + self.cache_read_input_tokens + self.cache_creation_input_tokens


class Message(msgspec.Struct, frozen=True):
    """A model's or user's message. `content` is a text or a list of blocks (objects with a `type`)."""

    id: str = ""
    model: str = ""
    content: str | list[Any] = ""
    usage: Tokens | None = None

    def blocks(self) -> list[dict[str, Any]]:
        """The blocks; a plain text is one block of text."""
        if isinstance(self.content, str):
            return [{"type": "text", "text": self.content}]
        return [block for block in self.content if isinstance(block, dict)]


class Assistant(msgspec.Struct, frozen=True):
    """One finished block of a model's message; several frames may share `message.id`."""

    message: Message = Message()
    parent_tool_use_id: str | None = None
    error: str | None = None
    is_api_error_message: bool = False
    uuid: str = ""


class User(msgspec.Struct, frozen=True, rename={"is_replay": "isReplay", "is_synthetic": "isSynthetic"}):
    """Results of tools, an echo of a message that was taken up (`is_replay`), or the program's own words."""

    message: Message = Message()
    parent_tool_use_id: str | None = None
    uuid: str = ""
    is_replay: bool = False
    is_synthetic: bool = False
    tool_use_result: Any = None
    tool_result_meta: list[Any] = []


class StreamEvent(msgspec.Struct, frozen=True):
    """A piece of a message in the making: `event` is what the model's server sent."""

    event: dict[str, Any] = {}
    parent_tool_use_id: str | None = None
    api_message_id: str = ""


class Result(msgspec.Struct, frozen=True, rename={"model_usage": "modelUsage"}):
    """A root turn has ended. `total_cost_usd` and `duration_api_ms` run on over the process's life."""

    subtype: str = ""
    is_error: bool = False
    result: str = ""
    errors: list[Any] = []
    terminal_reason: str = ""
    api_error_status: int | None = None
    usage: Tokens | None = None
    model_usage: dict[str, Any] = {}
    total_cost_usd: float | None = None
    duration_ms: int | None = None
    duration_api_ms: int | None = None
    user_message_uuids: list[str] = []


class ControlRequest(msgspec.Struct, frozen=True):
    """The program asks us. `raw` is the JSON text of `request`, of which parts are handed back unchanged."""

    request_id: str = ""
    request: dict[str, Any] = {}
    raw: str = ""


class ControlReply(msgspec.Struct, frozen=True):
    subtype: str = ""
    request_id: str = ""
    response: dict[str, Any] = {}
    error: str = ""


class ControlResponse(msgspec.Struct, frozen=True):
    """The answer to a request of ours; with replays on, also an echo of our own answers."""

    response: ControlReply = ControlReply()


class ControlCancel(msgspec.Struct, frozen=True):
    request_id: str = ""


class Lifecycle(msgspec.Struct, frozen=True):
    """What became of a message that was sent with a uuid: queued, started, completed, cancelled, discarded."""

    command_uuid: str = ""
    state: str = ""


class RateLimit(msgspec.Struct, frozen=True, rename="camel"):
    status: str = ""
    resets_at: float | None = None
    rate_limit_type: str = ""
    utilization: float | None = None


class RateLimitEvent(msgspec.Struct, frozen=True):
    rate_limit_info: RateLimit = RateLimit()


class ConversationReset(msgspec.Struct, frozen=True):
    new_conversation_id: str = ""


class Init(msgspec.Struct, frozen=True):
    """Written at the start of every turn."""

    model: str = ""
    claude_code_version: str = ""
    user_message_uuids: list[str] = []


class Status(msgspec.Struct, frozen=True):
    status: str | None = None
    user_message_uuids: list[str] = []


class ApiRetry(msgspec.Struct, frozen=True):
    attempt: int = 0
    max_retries: int = 0
    retry_delay_ms: float = 0
    error_status: int | None = None
    error: str = ""


class CompactMetadata(msgspec.Struct, frozen=True):
    trigger: str = ""
    pre_tokens: int = 0
    post_tokens: int = 0


class CompactBoundary(msgspec.Struct, frozen=True):
    compact_metadata: CompactMetadata = CompactMetadata()


class TaskStarted(msgspec.Struct, frozen=True):
    """A subagent or a command that may outlive its turn began."""

    task_id: str = ""
    task_type: str = ""
    is_backgrounded: bool = False


class TaskNotification(msgspec.Struct, frozen=True):
    task_id: str = ""
    tool_use_id: str | None = None
    status: str = ""
    summary: str = ""


class BackgroundTasks(msgspec.Struct, frozen=True):
    """All tasks that are in the background now."""

    tasks: list[Any] = []


class PermissionDenied(msgspec.Struct, frozen=True):
    tool_name: str = ""
    tool_use_id: str = ""
    message: str = ""


class HookResponse(msgspec.Struct, frozen=True):
    hook_name: str = ""
    output: str = ""


class Other(msgspec.Struct, frozen=True):
    """A frame of a type, or of a subtype of `system`, that is not in this file."""

    type: str


class Noise(msgspec.Struct, frozen=True):
    """A line that is no JSON object: a banner, a warning. `broken`: it began like one."""

    broken: bool


Frame = (
    Assistant
    | User
    | StreamEvent
    | Result
    | ControlRequest
    | ControlResponse
    | ControlCancel
    | Lifecycle
    | RateLimitEvent
    | ConversationReset
    | Init
    | Status
    | ApiRetry
    | CompactBoundary
    | TaskStarted
    | TaskNotification
    | BackgroundTasks
    | PermissionDenied
    | HookResponse
    | Other
    | Noise
)

_TYPES: dict[str, type[Any]] = {
    "assistant": Assistant,
    "user": User,
    "stream_event": StreamEvent,
    "result": Result,
    "control_request": ControlRequest,
    "control_response": ControlResponse,
    "control_cancel_request": ControlCancel,
    "command_lifecycle": Lifecycle,
    "rate_limit_event": RateLimitEvent,
    "conversation_reset": ConversationReset,
}

_SYSTEM: dict[str, type[Any]] = {
    "init": Init,
    "status": Status,
    "api_retry": ApiRetry,
    "compact_boundary": CompactBoundary,
    "task_started": TaskStarted,
    "task_notification": TaskNotification,
    "background_tasks_changed": BackgroundTasks,
    "permission_denied": PermissionDenied,
    "hook_response": HookResponse,
}

_LARGE_NUMBER = re.compile(rb"\d{19}")

S = TypeVar("S", bound=msgspec.Struct)


def parse(line: bytes) -> Frame:
    """The frame on one line. Never raises."""
    if line.lstrip()[:1] != b"{":
        return Noise(broken=False)
    value = decode(line)
    if not isinstance(value, dict):
        return Noise(broken=True)
    name = value.get("type")
    if name == "system":
        subtype = value.get("subtype")
        kind = _SYSTEM.get(subtype) if isinstance(subtype, str) else None
        return cast("Frame", read(kind, value)) if kind else Other(f"system/{subtype}")
    kind = _TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        return Other(str(name)[:100])
    frame = read(kind, value)
    if isinstance(frame, ControlRequest):
        return msgspec.structs.replace(frame, raw=_raw_request(line, frame))
    return cast("Frame", frame)


def decode(data: bytes | str) -> Any:
    """The JSON value in `data`, or None if there is none.

    JavaScript writes halves of characters (a text cut inside an emoji) and numbers of any size. Both are made
    storable here: half a character becomes U+FFFD, a number that fits no 64 bits becomes a text.
    """
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
    try:
        value = msgspec.json.decode(raw)
        return _storable(value) if _LARGE_NUMBER.search(raw) else value
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    except RecursionError:
        return None
    try:
        return _storable(json.loads(raw.decode("utf-8", "replace"), parse_constant=str))
    except (ValueError, RecursionError):
        return None


def _storable(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case bool():
            return value
        case int() if not -(2**63) <= value < 2**63:
            return str(value)
        case float() if value - value != 0:  # infinite
            return str(value)
        case list():
            return [_storable(each) for each in value]
        case dict():
            return {_storable(key): _storable(each) for key, each in value.items()}
        case _:
            return value


def read(kind: type[S], value: Mapping[str, Any]) -> S:
    """`value` as a `kind`; fields that do not fit are left at their defaults."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        pass
    fitting: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.encode_name not in value:
            continue
        inner = value[field.encode_name]
        if (
            isinstance(field.type, type)
            and issubclass(field.type, msgspec.Struct)
            and isinstance(inner, dict)
        ):
            fitting[field.name] = read(field.type, inner)
            continue
        try:
            fitting[field.name] = msgspec.convert(inner, field.type)
        except msgspec.ValidationError:
            continue
    return kind(**fitting)


class _Line(msgspec.Struct):
    request: msgspec.Raw


class _Request(msgspec.Struct):
    input: msgspec.Raw = msgspec.Raw(b"{}")


def _raw_request(line: bytes, frame: ControlRequest) -> str:
    try:
        return bytes(msgspec.json.decode(line, type=_Line).request).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _again(line, "request") or json.dumps(frame.request)


def input_text(raw: str) -> str:
    """The text of a request's `input`: numbers and the order of keys as the model wrote them."""
    try:
        text = bytes(msgspec.json.decode(raw, type=_Request).input).decode()
    except msgspec.MsgspecError:
        text = _again(raw, "input")
    return text if text.lstrip()[:1] == "{" else "{}"


def _again(data: bytes | str, key: str) -> str:
    """A part of a text that msgspec does not read (it has half a character), equal in value."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    return json.dumps(value[key]) if isinstance(value, dict) and key in value else ""


# What we write: one JSON object each, without the newline.

Behaviour = Literal["allow", "deny"]


def encode(frame: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(frame)


def control_request(request_id: str, request: Mapping[str, Any]) -> bytes:
    return encode({"type": "control_request", "request_id": request_id, "request": request})


def initialize(request_id: str, hook: str) -> bytes:
    """The handshake; every tool call is shown to the hook with that id first, for as long as it takes to answer."""
    hooks = {"PreToolUse": [{"matcher": "*", "hookCallbackIds": [hook]}]}
    return control_request(request_id, {"subtype": "initialize", "hooks": hooks})


def interrupt(request_id: str) -> bytes:
    """Ends the running root turn; the process and its background tasks stay."""
    return control_request(request_id, {"subtype": "interrupt"})


def stop_task(request_id: str, task_id: str) -> bytes:
    return control_request(request_id, {"subtype": "stop_task", "task_id": task_id})


def user_message(uuid: str, text: str, images: Sequence[tuple[str, str]] = ()) -> bytes:
    """A prompt; `images` are (media type, base64). The uuid is kept in the program's own history."""
    content: str | list[dict[str, Any]] = text
    if images:
        content = [
            {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
            for media_type, data in images
        ]
        if text:
            content.append({"type": "text", "text": text})
    message = {"role": "user", "content": content}
    frame = {"type": "user", "message": message, "parent_tool_use_id": None, "session_id": "", "uuid": uuid}
    return encode(frame)


def control_success(request_id: str, response: Mapping[str, Any]) -> bytes:
    reply = {"subtype": "success", "request_id": request_id, "response": response}
    return encode({"type": "control_response", "response": reply})


def control_error(request_id: str, error: str) -> bytes:
    reply = {"subtype": "error", "request_id": request_id, "error": error}
    return encode({"type": "control_response", "response": reply})


def hook_decision(request_id: str, decision: Literal["", "ask", "deny"], reason: str = "") -> bytes:
    """Answer to a PreToolUse hook; "" leaves the call to the program's own rules."""
    if not decision:
        return control_success(request_id, {})
    specific = {"hookEventName": "PreToolUse", "permissionDecision": decision}
    if reason:
        specific["permissionDecisionReason"] = reason
    return control_success(request_id, {"hookSpecificOutput": specific})


def allow_tool(request_id: str, input_: str, answers: Mapping[str, str] | None = None) -> bytes:
    """Let the tool run with its own input, word for word. Never with new rules: nothing of the user's is written."""
    updated: Any = msgspec.Raw(input_.encode())
    if answers is not None:
        given = decode(input_)
        updated = {**(given if isinstance(given, dict) else {}), "answers": answers}
    return control_success(request_id, {"behavior": "allow", "updatedInput": updated})


def deny_tool(request_id: str, message: str, *, stop: bool = False) -> bytes:
    """Refuse the call; `stop` ends the turn as well."""
    response: dict[str, Any] = {"behavior": "deny", "message": message}
    if stop:
        response["interrupt"] = True
    return control_success(request_id, response)


def text_of(content: object) -> str:
    """The text of a tool result: plain, or blocks of which those without text are named."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Iterable) or isinstance(content, Mapping):
        return "" if content is None else _shown(content)
    parts = []
    for block in content:
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            parts.append(block["text"])
        elif isinstance(block, dict) and block.get("type") == "image":
            parts.append("[image]")
        else:
            parts.append(_shown(block))
    return "\n".join(parts)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
