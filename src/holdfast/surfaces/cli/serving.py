"""`serve`: the server in the foreground, in the background, and its end."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from holdfast.surfaces.cli.command import Cli, command


def add_to(app: typer.Typer) -> None:
    command(
        app,
        "serve",
        server=False,
        example="holdfast serve --background\n  holdfast serve --stop --agents",
    )(serve)


def serve(
    cli: Cli,
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "",
    port: Annotated[int | None, typer.Option(help="Port; 0: any free one.", min=0, max=65535)] = None,
    background: Annotated[bool, typer.Option("--background", help="Return when the server answers.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the home's server; its agents go on.")] = False,
    agents: Annotated[bool, typer.Option("--agents", help="With --stop: end runner and agents too.")] = False,
    force: Annotated[bool, typer.Option("--force", help="With --stop: kill what does not end.")] = False,
    restarted: Annotated[bool, typer.Option("--restarted", hidden=True)] = False,
    prefer_port: Annotated[int, typer.Option("--prefer-port", hidden=True)] = 0,
) -> int | None:
    """Run the server of a home; agents live on when it ends."""
    if stop:
        _stop(cli, agents=agents, force=force)
        return None
    if agents or force:
        raise typer.BadParameter("--agents and --force go with --stop")
    if background:
        _background(cli, host, port)
        return None
    import asyncio
    import logging
    import os

    from holdfast.config import load
    from holdfast.home import ServerInfo
    from holdfast.surfaces.serve import Options
    from holdfast.surfaces.serve import serve as run_server

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

    def announce(info: ServerInfo) -> None:
        _announce(cli, info)

    cli.home.prepare()
    config = load(cli.home, os.environ)
    options = Options(host=host, port=port, restarted=restarted, prefer_port=prefer_port)
    asyncio.run(run_server(cli.home, config, options, announce=announce))
    return None


def _background(cli: Cli, host: str, port: int | None) -> None:
    from holdfast.surfaces.cli.server import running, start_in_background

    info = running(cli.home)
    if info is not None:
        cli.say("a server runs already")
    else:
        options = [*(["--host", host] if host else []), *(["--port", str(port)] if port is not None else [])]
        info = start_in_background(cli.home, say=cli.say, options=options)
    _announce(cli, info)


def _announce(cli: Cli, info: Any) -> None:
    if cli.json:
        cli.value({"url": info.url, "pid": info.pid, "home": str(cli.home.path)})
    else:
        print(info.url, flush=True)
        cli.say(f"Holdfast {info.version} listens there (pid {info.pid}, home {cli.home.path})")


def _stop(cli: Cli, *, agents: bool, force: bool) -> None:
    from holdfast.surfaces.cli.server import stop

    pid = stop(cli.home, agents=agents, force=force, say=cli.say)
    if cli.json:
        cli.value({"stopped": pid is not None, "pid": pid, "home": str(cli.home.path)})
    elif pid is None:
        cli.say(f"no server runs for {cli.home.path}")
    else:
        cli.say(
            f"the server (pid {pid}) has ended" + (", and its agents" if agents else "; its agents go on")
        )
