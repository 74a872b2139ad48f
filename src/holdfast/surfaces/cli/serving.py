"""`serve`: the server in the foreground, in the background, and its end."""

from __future__ import annotations

from typing import Annotated

import typer

from holdfast.surfaces.cli.command import command
from holdfast.surfaces.cli.invocation import Cli


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
    import os
    import sys

    from holdfast.surfaces.server_program import server_command

    argv = server_command(cli.home, json=cli.json, host=host, port=port)
    # from here on the process is the server, and holds nothing of the command line
    sys.stdout.flush()
    os.execv(argv[0], argv)


def _background(cli: Cli, host: str, port: int | None) -> None:
    from holdfast.surfaces.cli.server import running, start_in_background
    from holdfast.surfaces.server_program import announce

    info = running(cli.home)
    if info is not None:
        cli.say("a server runs already")
    else:
        info = start_in_background(cli.home, say=cli.say, host=host, port=port)
    announce(cli, info)


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
