"""The client without `await`, for scripts and the command line.

Owns one private event loop; every method runs there to its end. Not for use inside a running loop, nor from two threads
at once. Ctrl-C reaches whoever called.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from holdfast.client.client import RETRY_S, Client, CreatedThread, Page, StoppedThread, ThreadView
from holdfast.client.events import Event
from holdfast.wire.api import (
    AgentObject,
    ItemObject,
    RequestObject,
    RunnerObject,
    RunObject,
    Snapshot,
    ThreadObject,
)

T = TypeVar("T")


class SyncClient:
    """See `Client` for what each method does."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        retry_s: float = RETRY_S,
        relocate: Callable[[], str | None] | None = None,
    ) -> None:
        self._runner = asyncio.Runner()
        self._client = self._do(_made(url, token, retry_s, relocate))

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._do(self._client.__aexit__(None, None, None))
        self._runner.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def _each(
        self, source: AsyncGenerator[T, None], within: Callable[[], float] | None = None
    ) -> Iterator[T | None]:
        """The items of an asynchronous iterator; None when `within` seconds have brought none."""
        coming: asyncio.Task[T] | None = None

        async def wait() -> bool:
            nonlocal coming
            if coming is None:
                coming = asyncio.get_running_loop().create_task(_next(source))
            done, _ = await asyncio.wait((coming,), timeout=within() if within else None)
            return bool(done)

        async def end() -> None:
            if coming is not None and not coming.done():
                coming.cancel()
                await asyncio.wait((coming,))
            await source.aclose()

        try:
            while True:
                if not self._do(wait()):
                    yield None
                    continue
                assert coming is not None
                try:
                    item, coming = coming.result(), None
                except _Over:
                    return
                yield item
        finally:
            self._do(end())

    def create_thread(self, agent: str, cwd: str, **options: Any) -> CreatedThread:
        return self._do(self._client.create_thread(agent, cwd, **options))

    def send(self, thread_id: str, text: str, **options: Any) -> RunObject:
        return self._do(self._client.send(thread_id, text, **options))

    def threads(self, *, cursor: str = "", limit: int = 100, project: str = "", status: str = "") -> Page:
        return self._do(self._client.threads(cursor=cursor, limit=limit, project=project, status=status))

    def thread(self, thread_id: str) -> ThreadView:
        return self._do(self._client.thread(thread_id))

    def snapshot(self, thread_id: str, *, items: int = 100) -> Snapshot:
        return self._do(self._client.snapshot(thread_id, items=items))

    def items(self, thread_id: str, *, before: str = "", limit: int = 100) -> list[ItemObject]:
        return self._do(self._client.items(thread_id, before=before, limit=limit))

    def stop_thread(self, thread_id: str, *, key: str = "") -> StoppedThread:
        return self._do(self._client.stop_thread(thread_id, key=key))

    def release(self, thread_id: str, *, key: str = "") -> ThreadObject:
        return self._do(self._client.release(thread_id, key=key))

    def transcript(self, thread_id: str) -> Iterator[bytes]:
        return (piece for piece in self._each(self._client.transcript(thread_id)) if piece is not None)

    def run(self, run_id: str, *, wait: float = 0.0) -> RunObject:
        return self._do(self._client.run(run_id, wait=wait))

    def stop_run(self, run_id: str, *, key: str = "") -> RunObject:
        return self._do(self._client.stop_run(run_id, key=key))

    def requests(self, *, thread_id: str = "") -> list[RequestObject]:
        return self._do(self._client.requests(thread_id=thread_id))

    def answer(
        self,
        request_id: str,
        decision: str = "",
        *,
        message: str = "",
        answers: Mapping[str, Sequence[str]] | None = None,
        key: str = "",
    ) -> RequestObject:
        return self._do(self._client.answer(request_id, decision, message=message, answers=answers, key=key))

    def agents(self) -> list[AgentObject]:
        return self._do(self._client.agents())

    def runners(self) -> list[RunnerObject]:
        return self._do(self._client.runners())

    def health(self) -> dict[str, Any]:
        return self._do(self._client.health())

    def ready(self) -> dict[str, Any]:
        return self._do(self._client.ready())

    def follow(
        self, thread_id: str, *, after: int | None = None, within: Callable[[], float] | None = None
    ) -> Iterator[Event | None]:
        """`within` is asked before each wait for the seconds that it may take; then None comes in between."""
        return self._each(self._client.follow(thread_id, after=after), within)


class _Over(Exception):
    """An iterator's end; StopAsyncIteration may not leave a task."""


async def _next(source: AsyncGenerator[T, None]) -> T:
    try:
        return await anext(source)
    except StopAsyncIteration:
        raise _Over from None


async def _made(url: str, token: str, retry_s: float, relocate: Callable[[], str | None] | None) -> Client:
    return Client(url, token, retry_s=retry_s, relocate=relocate)
