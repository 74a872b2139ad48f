"""The asynchronous client: every route as a method, typed answers, errors with their code.

Owns keys, retries and reconnection. A command gets an Idempotency-Key here and keeps it over its retries, so that it is
done once however often it has to be sent. It knows no files: who has only a home uses the command line's way to it.
"""

from __future__ import annotations

import asyncio
import base64
import random
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final, TypeVar

import httpx2
import msgspec

from holdfast.client.events import CaughtUp, Event, Resync, Splitter, typed
from holdfast.errors import HoldfastError
from holdfast.wire.api import (
    AgentObject,
    EventObject,
    ItemObject,
    NewAnswer,
    NewImage,
    NewMessage,
    NewThread,
    Problem,
    RequestObject,
    RunnerObject,
    RunObject,
    Snapshot,
    ThreadObject,
)

PREFIX: Final = "/api/v1"

ANSWER_S: Final = 30.0
"""Seconds for an answer, besides what the call itself waits for."""

RETRY_S: Final = 20.0
"""Seconds over which a call is repeated while the server is away or busy: a restart takes less."""

PAUSE_S: Final = (0.05, 2.0)
"""Shortest and longest pause between two tries; doubled each time, with jitter."""

SILENCE_S: Final = 45.0
"""Seconds without a byte after which a stream counts as dead: three keep-alives."""

T = TypeVar("T")


class CreatedThread(msgspec.Struct):
    thread: ThreadObject
    run: RunObject | None = None


class ThreadView(msgspec.Struct):
    thread: ThreadObject
    runs: list[RunObject]
    requests: list[RequestObject]
    version: int


class StoppedThread(msgspec.Struct):
    stopped: str | None
    cancelled: list[str]
    thread: ThreadObject


class Page(msgspec.Struct):
    threads: list[ThreadObject]
    cursor: str | None = None


class _Items(msgspec.Struct):
    items: list[ItemObject]
    before: str | None = None


class _Requests(msgspec.Struct):
    requests: list[RequestObject]


class _Agents(msgspec.Struct):
    agents: list[AgentObject]


class _Runners(msgspec.Struct):
    runners: list[RunnerObject]


class Client:
    """A client of one server. Use it as a context manager.

    `relocate` is asked before a repeated try for the server's address, which a restart may have changed.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        retry_s: float = RETRY_S,
        relocate: Callable[[], str | None] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._retry_s = retry_s
        self._relocate = relocate
        self._http = httpx2.AsyncClient(
            headers={"authorization": f"Bearer {token}"},
            timeout=httpx2.Timeout(ANSWER_S, connect=5.0),
            transport=transport,
            trust_env=False,  # a proxy of the person's has no business between us
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    # Threads

    async def create_thread(
        self,
        agent: str,
        cwd: str,
        *,
        message: str | None = None,
        images: Sequence[tuple[str, bytes]] = (),
        mode: str = "",
        plan: bool = False,
        model: str = "",
        effort: str = "",
        title: str = "",
        project: str = "",
        add_dirs: Sequence[str] = (),
        key: str = "",
    ) -> CreatedThread:
        """Opens a thread; with `message` also its first run, in one transaction. `images`: (media type, content)."""
        first = None if message is None else NewMessage(message, images=_images(images))
        body = NewThread(
            agent,
            cwd,
            mode=mode,
            plan=plan,
            model=model,
            effort=effort,
            title=title,
            project=project,
            add_dirs=list(add_dirs),
            message=first,
        )
        return await self._post("/threads", body, CreatedThread, key)

    async def send(
        self,
        thread_id: str,
        text: str,
        *,
        images: Sequence[tuple[str, bytes]] = (),
        delivery: str = "auto",
        agent: str = "",
        key: str = "",
    ) -> RunObject:
        body = NewMessage(text, images=_images(images), delivery=delivery, agent=agent)
        return await self._post(f"/threads/{thread_id}/messages", body, RunObject, key)

    async def threads(
        self, *, cursor: str = "", limit: int = 100, project: str = "", status: str = ""
    ) -> Page:
        query = {"cursor": cursor, "limit": str(limit), "project": project, "status": status}
        return await self._get("/threads", Page, query)

    async def thread(self, thread_id: str) -> ThreadView:
        return await self._get(f"/threads/{thread_id}", ThreadView)

    async def snapshot(self, thread_id: str, *, items: int = 100) -> Snapshot:
        """The thread with its newest items, all from one moment."""
        return await self._get(f"/threads/{thread_id}", Snapshot, {"items": str(items)})

    async def items(self, thread_id: str, *, before: str = "", limit: int = 100) -> list[ItemObject]:
        page = await self._get(f"/threads/{thread_id}/items", _Items, {"before": before, "limit": str(limit)})
        return page.items

    async def stop_thread(self, thread_id: str, *, key: str = "") -> StoppedThread:
        return await self._post(f"/threads/{thread_id}/stop", None, StoppedThread, key)

    async def release(self, thread_id: str, *, key: str = "") -> ThreadObject:
        return await self._post(f"/threads/{thread_id}/release", None, ThreadObject, key)

    async def transcript(self, thread_id: str) -> AsyncGenerator[bytes, None]:
        """The recorded frames, as pieces of a transcript file."""
        async with self._http.stream("GET", self._at(f"/threads/{thread_id}/transcript")) as response:
            await _check(response)
            async for piece in response.aiter_bytes():
                yield piece

    # Runs and requests

    async def run(self, run_id: str, *, wait: float = 0.0) -> RunObject:
        """With `wait`: returns when the run ends, waits for a person, or after that many seconds (at most 60)."""
        query = {"wait": f"{wait:g}"} if wait > 0 else {}
        return await self._get(f"/runs/{run_id}", RunObject, query, extra_s=wait)

    async def stop_run(self, run_id: str, *, key: str = "") -> RunObject:
        return await self._post(f"/runs/{run_id}/stop", None, RunObject, key)

    async def requests(self, *, thread_id: str = "") -> list[RequestObject]:
        """Those pending."""
        return (await self._get("/requests", _Requests, {"thread": thread_id})).requests

    async def answer(
        self,
        request_id: str,
        decision: str = "",
        *,
        message: str = "",
        answers: Mapping[str, Sequence[str]] | None = None,
        key: str = "",
    ) -> RequestObject:
        given = {question: list(texts) for question, texts in (answers or {}).items()}
        body = NewAnswer(decision, message, given)
        return await self._post(f"/requests/{request_id}/answer", body, RequestObject, key)

    # The house

    async def agents(self) -> list[AgentObject]:
        return (await self._get("/agents", _Agents)).agents

    async def runners(self) -> list[RunnerObject]:
        return (await self._get("/runners", _Runners)).runners

    async def health(self) -> dict[str, Any]:
        return await self._get("/health", dict[str, Any])

    async def ready(self) -> dict[str, Any]:
        """What readiness knows, ready or not."""
        response = await self._http.get(self._at("/ready"))
        if response.status_code not in (200, 503):
            await _check(response)
        return msgspec.json.decode(response.content, type=dict[str, Any])

    # Following

    async def follow(self, thread_id: str, *, after: int | None = None) -> AsyncGenerator[Event, None]:
        """Events after `after` (0: from the beginning; None: first a `Snapshot`), then live, for ever.

        Comes back by itself where it was: no event is missing and none comes twice. Pieces of text may come again
        from offset 0. Ends by raising `HoldfastError` when the server stays away, or refuses.
        """
        last, tries, away_since = after, 0, -1.0
        clock = asyncio.get_running_loop().time
        while True:
            try:
                async with aclosing(self._follow_once(thread_id, last)) as stream:
                    async for event in stream:
                        tries, away_since = 0, -1.0
                        if isinstance(event, EventObject):
                            if last is not None and event.version <= last:
                                continue
                            last = event.version
                        elif isinstance(event, Snapshot | CaughtUp):
                            last = event.version
                        yield event
                        if isinstance(event, Resync):
                            break
            except (httpx2.TransportError, OSError) as error:
                away_since = clock() if away_since < 0 else away_since
                if clock() - away_since > self._retry_s:
                    raise _unreachable(self.url, error) from error
            except HoldfastError as error:
                if error.code not in TRANSIENT:
                    raise
                away_since = clock() if away_since < 0 else away_since
                if clock() - away_since > self._retry_s:
                    raise
            await self._pause(tries)
            tries += 1

    async def _follow_once(self, thread_id: str, after: int | None) -> AsyncGenerator[Event, None]:
        headers = {"accept": "text/event-stream"}
        if after is not None:
            headers["last-event-id"] = str(after)
        limits = httpx2.Timeout(ANSWER_S, connect=5.0, read=SILENCE_S)
        async with self._http.stream(
            "GET", self._at(f"/threads/{thread_id}/events"), headers=headers, timeout=limits
        ) as response:
            await _check(response)
            splitter = Splitter()
            async for piece in response.aiter_raw():
                for event in splitter.feed(piece):
                    yield typed(event)

    # The wire

    def _at(self, path: str) -> str:
        return f"{self.url}{PREFIX}{path}"

    async def _get(
        self, path: str, kind: type[T], query: Mapping[str, str] | None = None, extra_s: float = 0.0
    ) -> T:
        params = {name: value for name, value in (query or {}).items() if value != ""}
        return await self._call("GET", path, kind, params=params, extra_s=extra_s)

    async def _post(self, path: str, body: msgspec.Struct | None, kind: type[T], key: str) -> T:
        content = b"{}" if body is None else msgspec.json.encode(body)
        headers = {"idempotency-key": key or secrets.token_hex(16), "content-type": "application/json"}
        return await self._call("POST", path, kind, content=content, headers=headers)

    async def _call(self, method: str, path: str, kind: type[T], *, extra_s: float = 0.0, **rest: Any) -> T:
        """Repeats what may be repeated: reads, and commands under their key."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._retry_s
        limits = httpx2.Timeout(ANSWER_S + extra_s, connect=5.0)
        tries = 0
        while True:
            try:
                response = await self._http.request(method, self._at(path), timeout=limits, **rest)
                await _check(response)
                return msgspec.json.decode(response.content, type=kind)
            except httpx2.TransportError as error:
                if clock() > until:
                    raise _unreachable(self.url, error) from error
            except HoldfastError as error:
                if error.code not in TRANSIENT or clock() > until:
                    raise
            except msgspec.MsgspecError as error:
                raise HoldfastError(
                    "internal", f"cannot read the answer to {method} {path}: because {error}"
                ) from error
            await self._pause(tries)
            tries += 1

    async def _pause(self, tries: int) -> None:
        least, most = PAUSE_S
        await asyncio.sleep(min(most, least * 2 ** min(tries, 10)) * random.uniform(0.7, 1.3))
        if self._relocate is not None and (url := self._relocate()):
            self.url = url.rstrip("/")


TRANSIENT: Final = frozenset({"busy", "shutting_down"})
"""Codes after which the same call may succeed by itself."""


async def _check(response: httpx2.Response) -> None:
    """Raises what a problem document says."""
    if response.is_success:
        return
    await response.aread()
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except msgspec.MsgspecError:
        raise HoldfastError(
            "internal",
            f"cannot read the answer: because it has status {response.status_code} and no problem document",
        ) from None
    raise HoldfastError(problem.code, problem.detail)


def _unreachable(url: str, error: Exception) -> HoldfastError:
    why = str(error) or type(error).__name__
    return HoldfastError(
        "unreachable", f"cannot reach the server at {url}: because {why}; start it with `holdfast serve`"
    )


def _images(images: Sequence[tuple[str, bytes]]) -> list[NewImage]:
    return [NewImage(media_type, base64.b64encode(data).decode()) for media_type, data in images]
