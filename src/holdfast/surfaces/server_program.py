"""The server as a program of its own: what `holdfast serve` becomes, and what is started in the background.

Owns its few arguments, checked already by whoever starts it. It is lean: a server holds nothing of the command line in
its memory, and is back soon when its runner starts it again.
"""

from __future__ import annotations

import argparse
import functools
import sys

from holdfast.home import Home, ServerInfo
from holdfast.surfaces.cli.invocation import Cli, guarded


def server_command(
    home: Home,
    *,
    json: bool = False,
    host: str = "",
    port: int | None = None,
    restarted: bool = False,
    prefer_port: int = 0,
) -> list[str]:
    """The command line of a server; the first word is the interpreter's path."""
    argv = [sys.executable, "-m", "holdfast.surfaces.server_program", "--home", str(home.path)]
    argv += ["--json"] if json else []
    argv += ["--host", host] if host else []
    argv += ["--port", str(port)] if port is not None else []
    argv += ["--restarted"] if restarted else []
    argv += ["--prefer-port", str(prefer_port)] if prefer_port else []
    return argv


def announce(cli: Cli, info: ServerInfo) -> None:
    """The first line of `serve`: where the server listens."""
    if cli.json:
        cli.value({"url": info.url, "pid": info.pid, "home": str(cli.home.path)})
    else:
        print(info.url, flush=True)
        cli.say(f"Holdfast {info.version} listens there (pid {info.pid}, home {cli.home.path})")


def main() -> int:
    parser = argparse.ArgumentParser(prog="holdfast serve")
    parser.add_argument("--home", required=True)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--host", default="")
    parser.add_argument("--port", type=int)
    parser.add_argument("--restarted", action="store_true", help="by a runner, in the background")
    parser.add_argument("--prefer-port", type=int, default=0, help="where it listened before")
    given = parser.parse_args()
    cli = Cli(given.home, json=given.json)
    return guarded(cli, functools.partial(_serve, cli, given))


def _serve(cli: Cli, given: argparse.Namespace) -> None:
    import asyncio
    import logging
    import os

    from holdfast.config import load
    from holdfast.surfaces.serve import Options, serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    cli.home.prepare()
    config = load(cli.home, os.environ)
    options = Options(
        host=given.host, port=given.port, restarted=given.restarted, prefer_port=given.prefer_port
    )
    asyncio.run(serve(cli.home, config, options, announce=functools.partial(announce, cli)))


if __name__ == "__main__":
    sys.exit(main())
