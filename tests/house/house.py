"""A Holdfast home of its own with its server, runner and agents as real processes, for one test.

Owns the folder, the configuration, the environments (all scrubbed) and the end of everything that was started.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from holdfast.client import Client
from holdfast.doctor.model import ScriptedModel
from holdfast.engine.link_socket import SocketLink
from holdfast.home import Home, ServerInfo
from holdfast.runner.home import RunnerHome
from holdfast.wire.link import OLDEST, VERSION, Hello
from tests.house import processes
from tests.house.processes import eventually, until
from tests.house.talk import Talk
from tests.real import claude_program

END_S = 10.0


class House:
    """`async with House(model) as house`, then `configure` if need be, and `start`."""

    def __init__(self, model: ScriptedModel) -> None:
        self.model = model
        self.root = Path(tempfile.mkdtemp(prefix="hfh-"))
        self.path = self.root / "h"
        self.workspace = self.root / "ws"
        self.user = self.root / "u"
        self.logs = self.root / "logs"
        for folder in (self.workspace, self.user, self.logs, self.root / "tmp"):
            folder.mkdir()
        self.home = Home(self.path)
        self.server: subprocess.Popen[bytes] | None = None
        self._client: Client | None = None
        self._starts = 0
        self.configure()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        left = await self._end_all()
        print(f"--- the server said:\n{self.server_log()[-6000:]}")  # pytest shows it where a test failed
        shutil.rmtree(self.root, ignore_errors=True)
        assert not left, f"these processes outlived their runner: {left}"

    # Configuration

    def configure(
        self,
        *,
        limits: Mapping[str, int | float] | None = None,
        claude: Mapping[str, Any] | None = None,
        claude_env: Mapping[str, str] | None = None,
        scripted: Mapping[str, Any] | None = None,
        scripted_env: Mapping[str, str] | None = None,
    ) -> None:
        """Writes config.toml; a server that runs does not notice."""
        agent = {"command": [str(claude_program.program())], "model": claude_program.MODEL, **(claude or {})}
        env = claude_program.environment(self.user, self.model.url, claude_env)
        ours = {"HOME": str(self.user), **(scripted_env or {})}
        sections = {
            "limits": dict(limits or {}),
            "agents.claude": agent,
            "agents.claude.env": env,
            "agents.scripted": {"kind": "scripted", **(scripted or {})},
            "agents.scripted.env": ours,
        }
        self.write_config(
            "\n".join(
                f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
                for name, values in sections.items()
            )
        )

    def write_config(self, text: str) -> None:
        self.path.mkdir(mode=0o700, exist_ok=True)
        (self.path / "config.toml").write_text(text, encoding="utf-8")

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What the server and the command line get to see."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self.user),
            "TMPDIR": str(self.root / "tmp"),
            "HOLDFAST_HOME": str(self.path),
            "HOLDFAST_LOCKS": str(self.root / "locks"),
            "HOLDFAST_NO_RESTART": "1",
            **(more or {}),
        }

    # Server and runner

    async def start(
        self, *, fault: str = "", source: Path | None = None, env: Mapping[str, str] | None = None
    ) -> int:
        """Starts a server, waits until it listens, and returns its pid. `source`: run that copy of the code."""
        process = self.spawn(fault=fault, source=source, env=env)
        log = self._log(self._starts)
        await until(lambda: b"\n" in log.read_bytes() or process.poll() is not None, said="server started")
        if (code := process.poll()) is not None:
            raise AssertionError(f"the server ended with {code}: {self.server_log()}")
        self.server = process
        if self._client is not None:
            self._client.url = self.info().url
        return process.pid

    def spawn(
        self, *, fault: str = "", source: Path | None = None, env: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """Starts a server and does not wait for it; its first line of output goes to its log's beginning."""
        self._starts += 1
        more = {"HOLDFAST_FAULT": fault} if fault else {}
        if source is not None:
            more["PYTHONPATH"] = str(source)
        with self._log(self._starts).open("wb") as out, self._errors(self._starts).open("wb") as err:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "holdfast",
                    "serve",
                    "--home",
                    str(self.path),
                    "--port",
                    "0",
                    "--json",
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self.environment({**more, **(env or {})}),
                cwd=self.root,
                start_new_session=True,
            )

    async def kill_server(self) -> None:
        """`kill -9`, and waits until it is gone."""
        assert self.server is not None
        self.server.send_signal(signal.SIGKILL)
        await self.server_ended()

    async def server_ended(self, within: float = 20.0) -> int:
        server = self.server
        assert server is not None
        code = await until(lambda: (server.poll(),) if server.poll() is not None else None, within)
        return code[0] or 0

    async def stop_server(self) -> None:
        """`serve --stop`: the server says goodbye, the agents go on."""
        code, _, err = await self.cli("serve", "--stop")
        assert code == 0, err
        await self.server_ended()

    async def restart(self) -> None:
        await self.kill_server()
        await self.start()

    async def ready(self) -> dict[str, Any]:
        """Recovery is done."""

        async def state() -> dict[str, Any] | None:
            found = await self.client.ready()
            return found if found["ready"] else None

        return await eventually(state)

    @property
    def client(self) -> Client:
        if self._client is None:
            info = self.info()
            self._client = Client(info.url, self.home.read_token(), relocate=self._where)
        return self._client

    def impatient(self) -> Client:
        """A client of its own that does not try again; to be used as a context manager."""
        return Client(self.info().url, self.home.read_token(), retry_s=0.0)

    def info(self) -> ServerInfo:
        info = self.home.server()
        assert info is not None, "no server.json"
        return info

    def _where(self) -> str | None:
        info = self.home.server()
        return info.url if info else None

    async def cli(
        self, *words: str, env: Mapping[str, str] | None = None, within: float = 60.0
    ) -> tuple[int, bytes, str]:
        """`holdfast WORDS`: exit code, stdout, stderr."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "holdfast",
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment(env),
            cwd=self.workspace,
        )
        async with asyncio.timeout(within):
            out, err = await process.communicate()
        return process.returncode or 0, out, err.decode()

    def servers(self) -> list[int]:
        """All servers of this house that live, whoever started them."""
        found = processes.belonging_to(self.root)
        return [pid for pid, line in found.items() if "server_program" in line or " serve " in f"{line} "]

    def runner_pid(self) -> int:
        """By the runner's own file; the test looks at whether it lives."""
        return int(json.loads((self.path / "runner" / "runner.json").read_bytes())["pid"])

    async def runner_sessions(self) -> list[dict[str, Any]]:
        """What the runner says of its sessions, asked without a server."""
        socket = RunnerHome(self.path).socket()
        link = await SocketLink.connect(socket, Hello(VERSION, OLDEST, "a test"))
        try:
            status: dict[str, Any] = dict(await link.status())
        finally:
            await link.aclose()
        return list(status["sessions"])

    def server_log(self) -> str:
        texts = [f"[{n}] {self._errors(n).read_text()}" for n in range(1, self._starts + 1)]
        restarted = self.path / "logs" / "server.log"
        return "\n".join(texts) + (restarted.read_text() if restarted.exists() else "")

    def _log(self, number: int) -> Path:
        return self.logs / f"{number}.out"

    def _errors(self, number: int) -> Path:
        return self.logs / f"{number}.err"

    # Threads and runs

    async def open(self, agent: str, text: str, **more: Any) -> Talk:
        """A thread with its first run."""
        created = await self.client.create_thread(agent, str(self.workspace), message=text, **more)
        assert created.run is not None
        return Talk(self, created.thread.id, created.run.id)

    async def sessions(self) -> list[dict[str, Any]]:
        found = await self.client.runners()
        return [session for runner in found for session in runner.sessions]

    def journals(self) -> list[Path]:
        return sorted((self.path / "runner" / "journals").rglob("*"))

    # The end

    async def _forget_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.__aexit__(None, None, None)

    async def _end_all(self) -> dict[int, str]:
        """Ends server and runner; what does not end with them is returned, and ended as well."""
        await self._forget_client()
        if self.server is not None and self.server.poll() is None:
            self.server.kill()
        for pid in self.servers():
            processes.kill(pid)
        for pid, line in processes.belonging_to(self.root).items():
            if "-m holdfast.runner" in line:
                processes.kill(pid)
        with contextlib.suppress(AssertionError):
            await until(lambda: not processes.belonging_to(self.root), END_S)
        if self.server is not None:
            self.server.wait()
        left = processes.belonging_to(self.root)
        for pid in left:
            processes.kill(pid)
        return left
