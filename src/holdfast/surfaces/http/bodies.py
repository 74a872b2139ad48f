"""Bodies and parameters made into values, or refused with the name of what is wrong.

Owns shape, types and bounds. What depends on the state of a thread is the engine's to refuse. A field that is not
known is refused: a typing error is never dropped in silence. Texts stay as they are, byte for byte.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from holdfast.core.ids import kind_of
from holdfast.errors import HoldfastError
from holdfast.settings import Bounds
from holdfast.wire.api import NewAnswer, NewImage, NewMessage, NewThread

DELIVERIES = ("auto", "queue", "steer", "restart")
MODES = ("ask", "edits", "auto", "full")
DECISIONS = ("accept", "accept_for_session", "decline", "cancel")
STATUSES = ("idle", "queued", "working", "waiting", "paused", "failed")
IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")

_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_AT = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<where>.*)`$")
_MISSING = re.compile(r"missing required field `(?P<field>[^`]*)`")

T = TypeVar("T", bound=msgspec.Struct)


def invalid(detail: str) -> HoldfastError:
    return HoldfastError("invalid", detail)


def parse_object(data: bytes) -> dict[str, Any]:
    """The body as a JSON object; an empty body is an empty object."""
    if not data:
        return {}
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = str(error)
        if "surrogate" in why or ("truncated" in why and _ESCAPED_SURROGATE.search(data)):
            why = "a text in it has half a surrogate pair, which is no character"
        raise invalid(f"cannot read the body: because it is no valid JSON: {why}") from error
    if not isinstance(value, dict):
        raise invalid("cannot read the body: because it is not a JSON object; send {...}")
    return value


def _known_fields(body: Mapping[str, Any], shape: type[msgspec.Struct], where: str = "") -> None:
    known = shape.__struct_fields__
    for name in body:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {where}{near[0]}?" if near else f"known are {', '.join(known)}"
            raise invalid(f"cannot use the body: because it has the unknown field {where}{name}; {hint}")


def _convert(body: dict[str, Any], shape: type[T]) -> T:
    try:
        return msgspec.convert(body, shape)
    except msgspec.ValidationError as error:
        text = str(error)
        where = ""
        if at := _AT.match(text):
            text, where = at["what"], at["where"]
        if missing := _MISSING.search(text):
            name = f"{where}.{missing['field']}" if where else missing["field"]
            raise invalid(f"cannot use the body: because the field {name} is missing") from error
        raise invalid(
            f"cannot use the body: because the field {where} is wrong: {text[:1].lower()}{text[1:]}"
        ) from error


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value and value not in allowed:
        raise invalid(
            f"cannot use the body: because the field {name} is {value[:60]!r}; allowed is one of {', '.join(allowed)}"
        )


def _short(name: str, value: str, chars_max: int) -> None:
    if len(value) > chars_max:
        raise HoldfastError(
            "too_large",
            f"cannot use the body: because the field {name} is above its limit of {chars_max} characters",
        )
    if any(ord(c) < 32 for c in value):
        raise invalid(f"cannot use the body: because the field {name} has control characters")


def _text(name: str, value: str, bounds: Bounds) -> None:
    size = len(value) if value.isascii() else len(value.encode())
    if size > bounds.text_bytes_max:
        raise HoldfastError(
            "too_large",
            f"cannot use the body: because the field {name} has {size} bytes, the limit is {bounds.text_bytes_max}; "
            "put it into a file of the workspace, and name the file",
        )


def _folder(name: str, value: str, bounds: Bounds) -> None:
    _short(name, value, bounds.path_chars_max)
    if not os.path.isabs(value):
        raise invalid(
            f"cannot use the body: because the field {name} is {value!r} and must be an absolute path"
        )


def _images(where: str, images: list[NewImage], bounds: Bounds) -> None:
    if len(images) > bounds.images_max:
        raise HoldfastError(
            "too_large",
            f"cannot use the body: because it has {len(images)} images, the limit is {bounds.images_max}",
        )
    for number, image in enumerate(images):
        name = f"{where}images[{number}]"
        if image.media_type not in IMAGE_TYPES:
            raise invalid(
                f"cannot use the body: because {name}.media_type is {image.media_type[:60]!r}; "
                f"allowed is one of {', '.join(IMAGE_TYPES)}"
            )
        if len(image.data) // 4 * 3 - 2 > bounds.image_bytes_max:
            raise _image_too_large(name, bounds)
        try:
            decoded = base64.b64decode(image.data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise invalid(f"cannot use the body: because {name}.data is no base64: {error}") from error
        if not decoded:
            raise invalid(f"cannot use the body: because {name}.data is empty")
        if len(decoded) > bounds.image_bytes_max:
            raise _image_too_large(name, bounds)


def _image_too_large(name: str, bounds: Bounds) -> HoldfastError:
    return HoldfastError(
        "too_large",
        f"cannot use the body: because {name} is above the limit of {bounds.image_bytes_max} bytes for one image",
    )


def _known_in_message(body: dict[str, Any], where: str = "") -> None:
    _known_fields(body, NewMessage, where)
    images = body.get("images")
    for number, image in enumerate(images if isinstance(images, list) else []):
        if isinstance(image, dict):
            _known_fields(image, NewImage, f"{where}images[{number}].")


def _check_message(message: NewMessage, bounds: Bounds, where: str = "") -> None:
    _text(f"{where}text", message.text, bounds)
    if not message.text and not message.images:
        raise invalid(f"cannot use the body: because the field {where}text is empty")
    _one_of(f"{where}delivery", message.delivery, DELIVERIES)
    if not message.delivery:
        raise invalid(
            f"cannot use the body: because the field {where}delivery is empty; leave it out for auto"
        )
    _short(f"{where}agent", message.agent, bounds.name_chars_max)
    _images(where, message.images, bounds)


def new_message(data: bytes, bounds: Bounds) -> NewMessage:
    body = parse_object(data)
    _known_in_message(body)
    message = _convert(body, NewMessage)
    _check_message(message, bounds)
    return message


def new_thread(data: bytes, bounds: Bounds) -> NewThread:
    body = parse_object(data)
    _known_fields(body, NewThread)
    if isinstance(inner := body.get("message"), dict):
        _known_in_message(inner, "message.")
    thread = _convert(body, NewThread)
    for name in ("agent", "model", "effort", "title", "project"):
        _short(name, getattr(thread, name), bounds.name_chars_max)
    if not thread.agent:
        raise invalid("cannot use the body: because the field agent is empty")
    _one_of("mode", thread.mode, MODES)
    _folder("cwd", thread.cwd, bounds)
    if len(thread.add_dirs) > bounds.add_dirs_max:
        raise HoldfastError(
            "too_large",
            f"cannot use the body: because add_dirs has {len(thread.add_dirs)} folders, the limit is {bounds.add_dirs_max}",
        )
    for number, folder in enumerate(thread.add_dirs):
        _folder(f"add_dirs[{number}]", folder, bounds)
    if thread.message is not None:
        _check_message(thread.message, bounds, "message.")
    return thread


def new_answer(data: bytes, bounds: Bounds) -> NewAnswer:
    body = parse_object(data)
    if body.pop("amended", None) is not None:
        raise HoldfastError(
            "unsupported",
            "cannot answer with amended arguments: because that is not built yet; decline with a message",
        )
    _known_fields(body, NewAnswer)
    answer = _convert(body, NewAnswer)
    _one_of("decision", answer.decision, DECISIONS)
    if not answer.decision and not answer.answers:
        raise invalid(
            f"cannot use the body: because the field decision is missing; allowed is one of {', '.join(DECISIONS)}, "
            "or give answers"
        )
    _text("message", answer.message, bounds)
    for question, texts in answer.answers.items():
        _text(f"answers.{question[:60]}", "".join(texts), bounds)
    return answer


def no_fields(data: bytes) -> None:
    """For commands that are wholly said by their path."""
    for name in parse_object(data):
        raise invalid(f"cannot use the body: because it has the unknown field {name}; none is known here")


def place(query: Mapping[str, str], name: str, kind: str) -> str:
    """Where a page begins: an id as an earlier page gave it, "" for the first page."""
    text = query.get(name, "")
    if text and kind_of(text) != kind:
        raise invalid(f"cannot read the query: because {name} is {text[:60]!r}, which no page has given")
    return text


def one_of(query: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    text = query.get(name, "")
    if text and text not in allowed:
        raise invalid(
            f"cannot read the query: because {name} is {text[:60]!r}; allowed is one of {', '.join(allowed)}"
        )
    return text


def whole(query: Mapping[str, str], name: str, *, default: int, least: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18 or not least <= int(text) <= most:
        raise invalid(
            f"cannot read the query: because {name} is {text[:40]!r}; allowed is a whole number from {least} to {most}"
        )
    return int(text)


def seconds(query: Mapping[str, str], name: str, *, most: float) -> float:
    text = query.get(name, "0")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise invalid(
            f"cannot read the query: because {name} is {text[:40]!r}; allowed is a number of seconds from 0 to {most:g}"
        )
    return value
