"""The server's life: home, socket, engine, HTTP, and the way out.

Owns the order of beginning and end, signals, the port rule and the taking over from a server that was restarted in
the background. It decides nothing about threads. Called by `holdfast serve` and by tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

import msgspec
import uvicorn

from holdfast import __version__
from holdfast.config import Config, restart_environment
from holdfast.engine.port import EnginePort
from holdfast.errors import HoldfastError
from holdfast.home import Home, HomeHeld, HomeLock, ServerInfo
from holdfast.surfaces.http.access import LOCAL, WILDCARDS, Access
from holdfast.surfaces.http.app import Application
from holdfast.surfaces.server_program import server_command
from holdfast.wire.link import Restart

log = logging.getLogger("holdfast.serve")

OpenEngine = Callable[[Home, Config, Restart | None], AbstractAsyncContextManager[EnginePort]]
Announce = Callable[[ServerInfo], None]


class Options(msgspec.Struct, frozen=True):
    """What the command line adds to the configuration. `prefer_port`: of a restart, to be found where it was."""

    host: str = ""
    port: int | None = None
    restarted: bool = False
    prefer_port: int = 0


class CannotListen(HoldfastError):
    """The address is not to be had. Exit code 5."""

    def __init__(self, detail: str) -> None:
        super().__init__("cannot_listen", detail)


async def serve(
    home: Home, config: Config, options: Options, *, announce: Announce, open_engine: OpenEngine | None = None
) -> None:
    """Serves until SIGTERM or SIGINT. `announce` is called once, when the server listens and server.json is there."""
    _refuse_what_is_not_built(config)
    asked = Asked()
    with asked.by_signals(), take_home(home, config, restarted=options.restarted):
        home.server_path.unlink(missing_ok=True)  # of a server that died
        token = home.token()
        with contextlib.closing(bind(config, options)) as listener:
            host, port = options.host or config.server.host, listener.getsockname()[1]
            restart = restart_spec(home, config, options, port)
            async with (open_engine or _open_engine)(home, config, restart) as engine:
                walls = Access(host, port, {token: LOCAL})
                app = Application(engine, walls, bounds=config.bounds, stopping=asked.stopping)
                info = _info(host, port, options)

                async def listening() -> None:
                    home.write_server(info)
                    announce(info)

                try:
                    await listen(app, listener, asked, on_listening=listening)
                    if asked.with_agents:
                        log.info("ending all agents, as asked")
                        await engine.stop_agents()
                finally:
                    home.remove_server(info.pid)


def _info(host: str, port: int, options: Options) -> ServerInfo:
    return ServerInfo(
        url=f"http://{_reachable(host)}:{port}",
        pid=os.getpid(),
        version=__version__,
        started_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        restarted=options.restarted,
    )


class Asked:
    """Whether the server is asked to end: from its very beginning on, so that no end is an unclean one.

    SIGTERM and SIGINT end the server, SIGUSR1 its agents too. Whoever asks twice does not want to wait for anybody.
    """

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.with_agents = False
        self.insist: Callable[[], None] = lambda: None

    def _ask(self, number: int) -> None:
        if self.stopping.is_set():
            self.insist()
        self.with_agents = self.with_agents or number == signal.SIGUSR1
        self.stopping.set()

    @contextlib.contextmanager
    def by_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        for number in numbers:
            loop.add_signal_handler(number, self._ask, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def _open_engine(
    home: Home, config: Config, restart: Restart | None
) -> AbstractAsyncContextManager[EnginePort]:
    from holdfast.engine.launch import open_engine

    return open_engine(home, config, restart=restart)


def _refuse_what_is_not_built(config: Config) -> None:
    if sys.platform != "linux":
        raise HoldfastError(
            "unsupported",
            f"cannot serve on {sys.platform}: because the runner ends what agents leave behind by means that only Linux"
            " has so far; use Linux, or Windows through WSL",
        )
    for key, value in (("database", config.server.database), ("bus", config.server.bus)):
        if value:
            raise HoldfastError(
                "unsupported",
                f"cannot use server.{key}: because this version keeps everything in the home; leave it out",
            )


# The home


@contextlib.contextmanager
def take_home(home: Home, config: Config, *, restarted: bool) -> Iterator[HomeLock]:
    """The lock on the home. A server that its runner restarted in the background gives way to one by hand."""
    try:
        lock = home.lock()
    except HomeHeld as held:
        if restarted or held.holder is None or not held.holder.restarted:
            raise
        log.info("taking over from pid %d, which was restarted in the background", held.holder.pid)
        lock = _take_over(home, held.holder, config.bounds.server_stop_s)
    with lock:
        yield lock


def _take_over(home: Home, holder: ServerInfo, within_s: float) -> HomeLock:
    pid = home.holder_pid() or holder.pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + within_s
    while True:
        try:
            return home.lock()
        except HomeHeld:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def restart_spec(home: Home, config: Config, options: Options, port: int) -> Restart:
    """How the runner starts this server again: as it is now, at the same port, and known as restarted."""
    given = _port_is_given(config, options)
    argv = server_command(
        home,
        host=options.host,
        port=port if given else None,
        restarted=True,
        prefer_port=0 if given else port,
    )
    env = restart_environment(os.environ, config)
    return Restart(argv=argv, env=env, cwd=str(home.path), pid=os.getpid())


# The socket


def _port_is_given(config: Config, options: Options) -> bool:
    wanted = options.port if options.port is not None else config.server.port
    return wanted != 0 and (options.port is not None or config.is_set("server.port"))


def bind(config: Config, options: Options) -> socket.socket:
    """A bound socket by the port rule: a given port or none; the default port, or else any free one."""
    host = options.host or config.server.host
    given = _port_is_given(config, options)
    port = options.port if options.port is not None else config.server.port
    wanted = [port] if given or port == 0 else [options.prefer_port or port, 0]
    for number, candidate in enumerate(wanted):
        try:
            return _bound(host, candidate)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and number + 1 < len(wanted):
                continue
            hint = "end who listens there, or choose another port" if given else "check server.host"
            raise CannotListen(
                f"cannot listen on {host}:{candidate}: because {(error.strerror or str(error)).lower()}; {hint}"
            ) from error
    raise AssertionError("there is at least one candidate")


def _bound(host: str, port: int) -> socket.socket:
    name = host.strip("[]")
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # a port in its after-life may be had again at once; one that somebody listens on may not
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener


def _reachable(host: str) -> str:
    if host in WILDCARDS:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


# HTTP


class _Server(uvicorn.Server):
    """uvicorn with our own signals: its way of raising them again would skip our clean end. Ends on `stopping`."""

    def __init__(
        self, config: uvicorn.Config, stopping: asyncio.Event, on_listening: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._on_listening = on_listening

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self._on_listening()

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or self._stopping.is_set()
        return await super().on_tick(counter)


async def listen(
    app: Application, listener: socket.socket, asked: Asked, *, on_listening: Callable[[], Awaitable[None]]
) -> None:
    """Serves the application on the socket until somebody asks it to end; open streams end within `http_drain_s`."""
    server = _Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="websockets-sansio",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=app.bounds.http_idle_s,
            timeout_graceful_shutdown=max(1, round(app.bounds.http_drain_s)),
        ),
        asked.stopping,
        on_listening,
    )

    def insist() -> None:
        server.force_exit = True

    asked.insist = insist
    await server.serve([listener])
