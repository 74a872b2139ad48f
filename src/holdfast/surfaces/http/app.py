"""The ASGI application: walls, routing, one place where errors become problem documents.

Owns the order of checks: source (Host, Origin), path and method, token, scope, then the handler. It never knows what
a route does. Made by `serve` around an engine; tests put any `EnginePort` behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import defaultdict
from collections.abc import Mapping

from starlette.routing import Route as StarletteRoute
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from holdfast.engine.port import Caller, EnginePort
from holdfast.errors import HoldfastError
from holdfast.settings import BOUNDS, Bounds
from holdfast.surfaces.http import access, problems
from holdfast.surfaces.http.access import Access
from holdfast.surfaces.http.call import Answer, Call, Gone, Stream
from holdfast.surfaces.http.routes import PREFIX, ROUTES, Route
from holdfast.wire.api import Problem

log = logging.getLogger("holdfast.http")

NOBODY = Caller(owner="", scopes=frozenset())


class Application:
    """The whole of `/api/v1` over one engine.

    `stopping` is set once the server is asked to end: streams end, waits return, commands are refused.
    """

    def __init__(
        self,
        engine: EnginePort,
        walls: Access,
        *,
        bounds: Bounds = BOUNDS,
        stopping: asyncio.Event | None = None,
    ) -> None:
        self.engine = engine
        self.walls = walls
        self.bounds = bounds
        self.stopping = stopping or asyncio.Event()
        self._under_way = 0
        self._router = Router(routes=self._routes(), redirect_slashes=False, default=_nothing_here)

    def _routes(self) -> list[StarletteRoute]:
        by_path: dict[str, dict[str, Route]] = defaultdict(dict)
        for route in ROUTES:
            by_path[route.path][route.method] = route
        return [
            StarletteRoute(PREFIX + path, _Place(self, methods), include_in_schema=False)
            for path, methods in by_path.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._refuse_websocket(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Nothing leaves as an exception: after the first byte the connection is all that can be ended."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        self._under_way += 1
        try:
            if self._under_way > self.bounds.http_connections_max:
                raise HoldfastError(
                    "busy", "cannot answer: because too many requests are under way; try again"
                )
            self.walls.check_source(scope["headers"])
            await self._router(scope, receive, watched)
        except Gone:
            return
        except HoldfastError as error:
            if begun:
                raise
            await _send_problem(send, problems.of(error), _allow(scope, error))
        except Exception:
            fault = secrets.token_hex(4)
            log.exception("fault %s: cannot answer %s %s", fault, scope["method"], scope["path"])
            if begun:
                raise
            detail = f"cannot answer: because of a fault in Holdfast; the server's log has it under {fault}"
            await _send_problem(send, problems.problem("internal", detail))
        finally:
            self._under_way -= 1

    async def _refuse_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The handshake is answered like the request that it is."""
        try:
            self.walls.check_source(scope["headers"])
            if scope["path"] != f"{PREFIX}/stream":
                raise _not_found(scope)
            self.walls.caller(scope["headers"])
            raise HoldfastError(
                "unsupported",
                "cannot open a WebSocket: because this version has none; use /threads/{id}/events",
            )
        except HoldfastError as error:
            document = problems.of(error)
        await receive()
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        head = [(b"content-type", problems.MEDIA_TYPE), *problems.headers(document)]
        await send({"type": "websocket.http.response.start", "status": document.status, "headers": head})
        await send({"type": "websocket.http.response.body", "body": problems.encode(document)})


class _Place:
    """One path with its methods. An instance, so that Starlette hands it the raw connection."""

    def __init__(self, app: Application, methods: Mapping[str, Route]) -> None:
        self._app = app
        self._methods = dict(methods)
        if "GET" in methods and not methods["GET"].path.endswith("/events"):
            self._methods["HEAD"] = methods["GET"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        route = self._methods.get(scope["method"])
        if route is None:
            scope["holdfast.allow"] = ", ".join(self._methods)
            raise HoldfastError(
                "method_not_allowed",
                f"cannot {scope['method']} {scope['path']}: because it knows only {', '.join(self._methods)}",
            )
        caller = NOBODY
        if route.scope:
            caller = app.walls.caller(scope["headers"])
            access.require(caller, route.scope)
        else:
            with contextlib.suppress(HoldfastError):
                caller = app.walls.caller(scope["headers"])
        call = Call(
            scope, receive, send, caller=caller, engine=app.engine, bounds=app.bounds, stopping=app.stopping
        )
        if route.method == "POST" and app.stopping.is_set():
            raise HoldfastError("shutting_down", "cannot take commands: because the server stops; try again")
        answer = await route.handler(call)
        if isinstance(answer, Answer):
            await _send_whole(send, answer)
        elif isinstance(answer, Stream):
            await _send_pieces(send, answer)


_ALWAYS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


async def _send_whole(send: Send, answer: Answer, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    head = [
        (b"content-type", answer.media_type),
        (b"content-length", b"%d" % len(answer.body)),
        *_ALWAYS,
        *(headers or ()),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": head})
    await send({"type": "http.response.body", "body": answer.body})


async def _send_pieces(send: Send, answer: Stream) -> None:
    head = [(b"content-type", answer.media_type), *_ALWAYS]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    async for piece in answer.pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _send_problem(
    send: Send, document: Problem, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    answer = Answer(problems.encode(document), document.status, problems.MEDIA_TYPE)
    await _send_whole(send, answer, [*problems.headers(document), *(headers or ())])


def _allow(scope: Scope, error: HoldfastError) -> list[tuple[bytes, bytes]]:
    if error.code != "method_not_allowed":
        return []
    return [(b"allow", str(scope.get("holdfast.allow", "")).encode())]


def _not_found(scope: Scope) -> HoldfastError:
    return HoldfastError(
        "not_found", f"cannot find {scope['path']}: because there is no such path; see {PREFIX}"
    )


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    raise _not_found(scope)
