"""The HTTP side of the scripted model: reads requests, delivers answers in their time, keeps the log.

Owns the limits and what a client sees of errors; which answer it is, `scripts` decides, and how it is
spelled, a dialect. Run by `server`.
"""

import asyncio
import collections
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from holdfast.doctor.model.answers import Answer, Pause, Refusal, Silence
from holdfast.doctor.model.conversation import Conversation
from holdfast.doctor.model.dialect import Dialect, Frame, Json
from holdfast.doctor.model.log import Asked, Outcome, RequestLog
from holdfast.doctor.model.messages import MESSAGES
from holdfast.doctor.model.scripts import choose_answer

DIALECTS: tuple[Dialect, ...] = (MESSAGES,)
BODY_LIMIT = 64 * 1024 * 1024

Endpoint = Callable[[Request], Awaitable[Response]]


class ModelApp:
    """The application and what it remembers between requests."""

    def __init__(self, log: RequestLog) -> None:
        self.log = log
        self.stopping = asyncio.Event()
        self._refusals: collections.Counter[tuple[str, int, int]] = collections.Counter()
        self.asgi = Starlette(routes=list(self._routes()))

    def _routes(self) -> Iterator[Route]:
        for dialect in DIALECTS:
            yield Route(dialect.path, self._answering(dialect), methods=["POST"])
            for path, aside in dialect.asides.items():
                yield Route(path, self._aside(dialect, aside), methods=["POST"])
        yield Route("/_log", self._show_log)
        yield Route("/_turns", self._show_turns)
        yield Route("/{path:path}", self._unknown, methods=["GET", "POST", "HEAD", "PUT", "DELETE"])

    def _answering(self, dialect: Dialect) -> Endpoint:
        async def answer(request: Request) -> Response:
            asked = self._note(request)
            read = await self._read(dialect, request)
            if isinstance(read, Refusal):
                return self._refuse(dialect, asked, read)
            session = read.session or (request.client.host if request.client else "")
            prompts = read.prompts()
            key = (session, len(prompts), hash(prompts[-1]) if prompts else 0)
            chosen = choose_answer(read, self._refusals[key])
            self.log.note_conversation(asked, read, chosen.script)
            if isinstance(chosen, Refusal):
                self._refusals[key] += 1
                return self._refuse(dialect, asked, chosen)
            return self._deliver(dialect, asked, read, chosen)

        return answer

    def _aside(self, dialect: Dialect, aside: Callable[[Conversation], Json]) -> Endpoint:
        async def answer(request: Request) -> Response:
            asked = self._note(request)
            read = await self._read(dialect, request)
            if isinstance(read, Refusal):
                return self._refuse(dialect, asked, read)
            self.log.note_conversation(asked, read, "aside")
            self.log.note_outcome(asked, "called")
            return JSONResponse(aside(read))

        return answer

    def _deliver(
        self, dialect: Dialect, asked: Asked, conversation: Conversation, answer: Answer
    ) -> StreamingResponse:
        if conversation.stream:
            frames, media_type = dialect.stream(answer, conversation), "text/event-stream"
        else:
            frames, media_type = _whole_frames(dialect, conversation, answer), "application/json"
        headers = {"request-id": f"req_{asked.number:012d}", "cache-control": "no-cache"}
        body = self._timed(frames, asked, "called" if answer.calls_tools else "answered")
        return StreamingResponse(body, media_type=media_type, headers=headers)

    async def _timed(self, frames: Iterator[Frame], asked: Asked, outcome: Outcome) -> AsyncIterator[bytes]:
        """The bytes in their time; the outcome is noted before the last ones, so that no client knows it first."""
        ready: bytes | None = None
        try:
            for frame in frames:
                if ready is not None:
                    yield ready
                ready = frame if isinstance(frame, bytes) else None
                if not isinstance(frame, bytes):
                    await self._wait(frame)
            self.log.note_outcome(asked, outcome)
            if ready is not None:
                yield ready
        finally:
            if asked.outcome == "open":
                self.log.note_outcome(asked, "gone")

    async def _wait(self, frame: Pause | Silence) -> None:
        """Waits out a pause; a model that is stopping ends all its answers where they are."""
        seconds = frame.seconds if isinstance(frame, Pause) else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
                raise asyncio.CancelledError("the model is stopping")

    async def _read(self, dialect: Dialect, request: Request) -> Conversation | Refusal:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_LIMIT:
                return Refusal(
                    "too_large", 413, f"cannot read the request: because it is over {BODY_LIMIT} bytes"
                )
        try:
            decoded = msgspec.json.decode(bytes(body))
            if not isinstance(decoded, dict):
                raise ValueError("the body is not an object")
            return dialect.read(decoded, request.headers, request.url.path)
        except ValueError as error:
            return Refusal("invalid", 400, f"cannot read the request: because {error}")

    def _note(self, request: Request) -> Asked:
        return self.log.note_request(request.url.path, request.headers.get("user-agent", ""))

    def _refuse(self, dialect: Dialect, asked: Asked, refusal: Refusal) -> JSONResponse:
        asked.script = refusal.script
        self.log.note_outcome(asked, "refused", refusal.status)
        headers = {"request-id": f"req_{asked.number:012d}"}
        return JSONResponse(dialect.refuse(refusal), refusal.status, headers)

    async def _show_log(self, _request: Request) -> Response:
        return Response(
            msgspec.json.encode({"requests": list(self.log.requests)}), media_type="application/json"
        )

    async def _show_turns(self, _request: Request) -> Response:
        return JSONResponse({"turns": self.log.turns})

    async def _unknown(self, request: Request) -> Response:
        message = f"cannot answer {request.method} {request.url.path}: because no protocol has it"
        return self._refuse(DIALECTS[0], self._note(request), Refusal("unknown", 404, message))


def _whole_frames(dialect: Dialect, conversation: Conversation, answer: Answer) -> Iterator[Frame]:
    yield from (step for step in answer.steps if isinstance(step, Pause | Silence))
    yield json.dumps(dialect.whole(answer, conversation)).encode()
