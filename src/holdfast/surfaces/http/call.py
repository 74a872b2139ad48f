"""One request on its way through a handler, and the answer to it.

Owns reading: query, key, body within its bound. What a body must look like is in `bodies`. Called by the application
and the handlers.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Mapping
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope, Send

from holdfast.engine.port import Caller, EnginePort
from holdfast.errors import HoldfastError
from holdfast.settings import Bounds

JSON = b"application/json"


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. `body` is bytes already."""

    body: bytes
    status: int = 200
    media_type: bytes = JSON


class Stream(msgspec.Struct, frozen=True):
    """An answer that goes out piece by piece."""

    pieces: AsyncIterator[bytes]
    media_type: bytes


class Sent(msgspec.Struct, frozen=True):
    """The handler has answered by itself."""


class Call:
    """What a handler gets. Public attributes are there before it runs; `body` and `query` read on demand."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        caller: Caller,
        engine: EnginePort,
        bounds: Bounds,
        stopping: asyncio.Event,
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.caller = caller
        self.engine = engine
        self.bounds = bounds
        self.stopping = stopping

    @property
    def id(self) -> str:
        """The {id} of the path."""
        return str(self.scope["path_params"]["id"])

    def header(self, name: bytes) -> str | None:
        found = [value for key, value in self.scope["headers"] if key == name]
        if len(found) > 1:
            raise HoldfastError("invalid", f"cannot read the request: because it has {name.decode()} twice")
        return found[0].decode("latin-1") if found else None

    def key(self) -> str:
        """The caller's Idempotency-Key, or a fresh one."""
        key = self.header(b"idempotency-key")
        if key is None:
            return f"http-{secrets.token_hex(16)}"
        most = self.bounds.key_chars_max
        if not 1 <= len(key) <= most or not all("!" <= c <= "~" for c in key):
            raise HoldfastError(
                "invalid",
                f"cannot use the Idempotency-Key: because it is not 1 to {most} visible characters; "
                "a random UUID does",
            )
        return key

    def query(self, known: Collection[str]) -> Mapping[str, str]:
        """The query's parameters; unknown, repeated and unreadable ones are refused."""
        try:
            text = self.scope["query_string"].decode("ascii")
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=20)
        except ValueError as error:
            raise HoldfastError("invalid", f"cannot read the query: because {error}") from error
        found: dict[str, str] = {}
        for name, value in pairs:
            if name not in known:
                allowed = ", ".join(sorted(known)) or "none"
                raise HoldfastError(
                    "invalid",
                    f"cannot read the query: because {name!r} is no parameter here; known: {allowed}",
                )
            if name in found:
                raise HoldfastError("invalid", f"cannot read the query: because it has {name!r} twice")
            found[name] = value
        return found

    async def body(self, bytes_max: int) -> bytes:
        """The whole body, within `http_body_s`. Raises `too_large` once there is nothing left to read, or far too much."""
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.bounds.http_body_s):
                more = True
                while more and size <= self.bounds.http_discard_bytes_max:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    part = message.get("body", b"")
                    more = message.get("more_body", False)
                    size += len(part)
                    if size <= bytes_max:
                        parts.append(part)
                    else:
                        parts.clear()
        except TimeoutError as error:
            raise HoldfastError(
                "invalid",
                f"cannot read the body: because it did not arrive within {self.bounds.http_body_s:g} seconds",
            ) from error
        if size > bytes_max:
            raise HoldfastError(
                "too_large", f"cannot read the body: because it is above the limit of {bytes_max} bytes"
            )
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Gone(Exception):
    """The client went away before its request was complete: nobody is there to answer."""
