"""The scripted model as a server on 127.0.0.1, inside this process or as the whole of it.

Owns the socket and the server's life. Installs no signal handlers: who embeds it keeps his own.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn

from holdfast.doctor.model.app import ModelApp
from holdfast.doctor.model.log import Asked, RequestLog

HOST = "127.0.0.1"
_GRACE_S = 1


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ScriptedModel:
    """A running model: `async with ScriptedModel() as model`, then point an agent at `model.url`."""

    def __init__(self, port: int = 0, log_file: Path | None = None) -> None:
        self._port = port
        self._log = RequestLog(log_file)
        self._task: asyncio.Task[None] | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        listener = socket.create_server((HOST, self._port), backlog=2048)
        self.url = f"http://{HOST}:{listener.getsockname()[1]}"
        self._app = ModelApp(self._log)
        config = uvicorn.Config(
            self._app.asgi,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=60,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = _Server(config)
        # The listener accepts from here on; a client that comes before the loop runs waits in the backlog.
        self._task = asyncio.create_task(self._server.serve([listener]), name="scripted-model")
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._app.stopping.set()
            self._server.should_exit = True
            await self._task

    @property
    def requests(self) -> deque[Asked]:
        return self._log.requests

    @property
    def turns(self) -> int:
        """Answers delivered to the end that called no tool."""
        return self._log.turns

    async def until(self, expected: Callable[[list[Asked]], bool], within: float = 10.0) -> list[Asked]:
        """Wait for requests: `await model.until(lambda asked: len(asked) == 2)`."""
        return await self._log.until(expected, within)
