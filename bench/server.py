"""A Holdfast of its own for a measurement: home, server, runner and agents, all ended with it.

Owns the folder, the configuration and the scrubbed environment. It measures nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from bench.http import Requests
from holdfast.home import Home
from tests.house import processes
from tests.real import claude_program

T = TypeVar("T")

PATIENCE_S = 60.0
LOOK_EVERY_S = 0.005
CLAUDE_IDLE_S = 0.5


def until(fact: Callable[[], T], said: str, within: float = PATIENCE_S, every: float = LOOK_EVERY_S) -> T:
    """The first true value of `fact`."""
    deadline = time.monotonic() + within
    while True:
        value = fact()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"cannot go on measuring: because within {within:g} s there was no {said}")
        time.sleep(every)


class Server:
    """`with Server(model_url) as server`: it listens and its recovery is done. "" leaves the real agent out."""

    def __init__(self, model_url: str = "") -> None:
        self.root = Path(tempfile.mkdtemp(prefix="hfb-"))
        self.workspace = self.root / "ws"
        self.user = self.root / "u"
        for folder in (self.workspace, self.user, self.root / "tmp"):
            folder.mkdir()
        self.home = Home(self.root / "h")
        self.home.prepare()
        self._model_url = model_url
        self._process: subprocess.Popen[bytes] | None = None
        self._configure()

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(f"the server said:\n{self.log()}")
        self._end()

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self.user),
            "TMPDIR": str(self.root / "tmp"),
            "HOLDFAST_HOME": str(self.home.path),
            "HOLDFAST_LOCKS": str(self.root / "locks"),
            "HOLDFAST_NO_RESTART": "1",
        }

    def start(self) -> None:
        """Returns at once."""
        with (self.root / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "holdfast", "serve", "--home", str(self.home.path), "--port", "0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                cwd=self.root,
                start_new_session=True,
            )

    def wait_ready(self) -> dict[str, Any]:
        """Recovery is done; what it found."""

        def ready() -> dict[str, Any] | None:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"cannot measure: because the server ended: {self.log()}")
            info = self.home.server()
            if info is None or info.pid != self._process.pid:
                return None
            with contextlib.suppress(OSError):
                with Requests(info.url, self.home.read_token()) as requests:
                    state: dict[str, Any] = requests.get("/ready", expected=(200, 503))
                return state if state["ready"] else None
            return None

        found = until(ready, "ready server")
        assert found is not None
        return found

    def kill(self) -> None:
        """`kill -9`; the runner and the agents go on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runner_pid(self) -> int:
        return int(json.loads((self.home.path / "runner" / "runner.json").read_bytes())["pid"])

    @property
    def url(self) -> str:
        info = self.home.server()
        assert info is not None
        return info.url

    @property
    def token(self) -> str:
        return self.home.read_token()

    def requests(self) -> Requests:
        return Requests(self.url, self.token)

    def stored_bytes(self) -> int:
        """Database and write-ahead log."""
        files = self.home.db_path.parent.glob(self.home.db_path.name + "*")
        return sum(path.stat().st_size for path in files if path.suffix != ".reserve")

    def log(self) -> str:
        return (self.root / "server.log").read_text(errors="replace")[-4000:]

    def _configure(self) -> None:
        sections: dict[str, Mapping[str, Any]] = {
            "agents.scripted": {"kind": "scripted"},
            "agents.scripted.env": {"HOME": str(self.user)},
        }
        if self._model_url:
            agent = {
                "command": [str(claude_program.program())],
                "model": claude_program.MODEL,
                "kind": "claude",
            }
            env = claude_program.environment(self.user, self._model_url)
            sections |= {
                "agents.claude": agent,
                "agents.claude.env": env,
                "agents.brief": {**agent, "idle_timeout_s": CLAUDE_IDLE_S},
                "agents.brief.env": env,
            }
        text = "\n".join(
            f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
            for name, values in sections.items()
        )
        (self.home.path / "config.toml").write_text(text, encoding="utf-8")

    def _end(self) -> None:
        """Server, runner, and whatever still carries this folder in its environment."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pid, line in processes.belonging_to(self.root).items():
            if "holdfast.runner" in line:
                processes.kill(pid)
        with contextlib.suppress(TimeoutError):
            until(lambda: not processes.belonging_to(self.root), "end of all agents", within=10.0)
        for pid in processes.belonging_to(self.root):
            processes.kill(pid)
        shutil.rmtree(self.root, ignore_errors=True)
