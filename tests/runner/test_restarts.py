"""How often a server is started again: by a real core in this process, with programs that die at once."""

import asyncio
import os
from pathlib import Path

import pytest

from holdfast.engine.link import LocalLink
from holdfast.runner.restarts import Restarts
from holdfast.wire.link import OLDEST, VERSION, Hello, Restart
from tests.runner.harness import eventually, real_core


async def test_a_server_that_keeps_dying_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.runner.restarts.BACK_OFF_S", (0.0,) * 5)
    started: list[int] = []
    async with real_core(tmp_path) as core:
        Restarts(core, tmp_path / "logs" / "server.log", grace_s=0.01, started=started.append)
        restart = Restart(["sh", "-c", "echo began"], {"PATH": "/usr/bin:/bin"}, "/", 0)
        for _ in range(7):
            before = len(started)
            link = await LocalLink.connect(core, Hello(VERSION, OLDEST, "server", restart))
            await link.aclose(goodbye=False)
            await eventually(lambda: not core._tasks)
            if len(started) > before:
                await asyncio.to_thread(os.waitpid, started[-1], 0)

    assert len(started) == 5
    assert (tmp_path / "logs" / "server.log").read_text() == "began\n" * 5


async def test_a_server_that_cannot_be_started_is_an_error_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with real_core(tmp_path) as core:
        Restarts(core, tmp_path / "server.log", grace_s=0.01)
        restart = Restart(["/no/such/server"], {}, "/", 0)
        link = await LocalLink.connect(core, Hello(VERSION, OLDEST, "server", restart))
        await link.aclose(goodbye=False)
        await eventually(lambda: "cannot start the server again" in caplog.text)
