"""The HTTP application over the engine in memory, and a real server around it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from holdfast.settings import BOUNDS, Bounds
from holdfast.surfaces.http.access import LOCAL, Access
from holdfast.surfaces.http.app import Application
from holdfast.surfaces.serve import Asked, listen
from tests.surfaces.cli import Program
from tests.surfaces.memory_engine import MemoryEngine

TOKEN = "hf_a-token-that-only-tests-know"
PORT = 4770
URL = f"http://127.0.0.1:{PORT}"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def engine() -> MemoryEngine:
    return MemoryEngine()


@pytest.fixture
async def app(engine: MemoryEngine) -> Application:
    return Application(engine, Access("127.0.0.1", PORT, {TOKEN: LOCAL}), bounds=BOUNDS)


@pytest.fixture
async def bare(app: Application) -> AsyncIterator[httpx2.AsyncClient]:
    """No token, no Origin."""
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=URL) as client:
        yield client


@pytest.fixture
async def http(app: Application) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url=URL, headers=BEARER) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path)


@contextlib.asynccontextmanager
async def served(engine: MemoryEngine, bounds: Bounds = BOUNDS) -> AsyncIterator[tuple[str, Application]]:
    """A real uvicorn on a free port; its address, and the application to stop it by."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    asked = Asked()
    walls = Access("127.0.0.1", port, {TOKEN: LOCAL})
    app = Application(engine, walls, bounds=bounds, stopping=asked.stopping)
    up = asyncio.Event()

    async def listening() -> None:
        up.set()

    with asked.by_signals():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(listen(app, listener, asked, on_listening=listening))
            await up.wait()
            try:
                yield f"http://127.0.0.1:{port}", app
            finally:
                app.stopping.set()
                await task


@pytest.fixture
def fresh() -> Iterator[Program]:
    """A home that nobody has used."""
    place = Path(tempfile.mkdtemp(prefix="hf-e2e-"))
    program = Program(place / "home", place / "user")
    yield program
    program.end()
    shutil.rmtree(place, ignore_errors=True)
