"""`agents`, `config`, `runner`, `doctor`, `version`: the house itself."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from holdfast.errors import HoldfastError
from holdfast.surfaces.cli.command import command
from holdfast.surfaces.cli.invocation import DONE, FAILED, Cli


def add_to(app: typer.Typer) -> None:
    command(app, "agents", example="holdfast agents --json")(agents)
    command(app, "config", server=False, example="holdfast config --json")(config)
    command(app, "doctor", server=False, example="holdfast doctor --verbose")(doctor)
    command(app, "version", server=False, example="holdfast version")(version)
    runner = typer.Typer(
        help="The process that holds the agents.",
        rich_markup_mode=None,
        no_args_is_help=True,
        add_completion=False,
    )
    command(runner, "status", server=False, example="holdfast runner status --json")(runner_status)
    command(runner, "stop", server=False, example="holdfast runner stop")(runner_stop)
    app.add_typer(runner, name="runner")


def agents(
    cli: Cli, *, check: Annotated[bool, typer.Option("--check", help="Prove that each works.")] = False
) -> None:
    """List the agents that are configured or found."""
    if check:
        raise HoldfastError(
            "unsupported",
            "cannot check agents: because this version has no probe yet; `holdfast agents` lists them",
        )
    with cli.client() as client:
        found = client.agents()
    if cli.json:
        cli.value(found)
        return
    from holdfast.surfaces.cli.tables import table

    table(
        ["agent", "kind", "version", "status", "proof", ""],
        [[a.id, a.kind, a.version, a.status, a.proof, a.detail] for a in found],
        states=3,
    )


def config(cli: Cli) -> None:
    """Show each setting and where it came from; secrets are masked."""
    from holdfast.config import load

    values = load(cli.home, os.environ).shown()
    if cli.json:
        shown = {row["key"]: {"value": row["value"], "origin": row["origin"]} for row in values}
        cli.value({"home": str(cli.home.path), "file": str(cli.home.config_path), "values": shown})
        return
    import json

    from holdfast.surfaces.cli.tables import table

    cli.say(f"home {cli.home.path}")
    table(
        ["key", "value", "from"],
        [[row["key"], json.dumps(row["value"], ensure_ascii=False), row["origin"]] for row in values],
    )


def runner_status(cli: Cli) -> None:
    """Tell whether a runner lives, and what it holds."""
    from holdfast.runner.home import RunnerHome
    from holdfast.surfaces.cli.server import running

    place = RunnerHome(cli.home.path)
    info = place.info()
    alive = place.is_held()
    state: dict[str, Any] = {
        "alive": alive,
        "id": info.id if alive and info else None,
        "pid": info.pid if alive and info else None,
        "version": info.version if alive and info else None,
        "started_at": _rfc3339(info.started_at) if alive and info else None,
        "sessions": None,
    }
    if alive and running(cli.home) is not None:
        with cli.client() as client:
            for found in client.runners():
                state["sessions"] = found.sessions
    if cli.json:
        cli.value(state)
    elif not alive:
        cli.say("no runner lives; one is started with the first agent")
    else:
        held = state["sessions"]
        print(f"runner {state['id']} (pid {state['pid']}, since {state['started_at']})")
        for session in held or []:
            print("  " + "  ".join(f"{key}={value}" for key, value in session.items()))
        if held is None:
            cli.say("no server runs that could tell what it holds")


def runner_stop(cli: Cli) -> None:
    """End the runner and all agents that it holds."""
    from holdfast.surfaces.cli.server import stop_runner

    stopped = stop_runner(cli.home)
    if cli.json:
        cli.value({"stopped": stopped})
    else:
        cli.say("the runner and its agents have ended" if stopped else "no runner lives")


def doctor(
    cli: Cli,
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be repaired.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Check the whole log too.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what is well, too.")] = False,
) -> int:
    """Check the installation and say what to do about what is wrong."""
    if fix or deep:
        asked = "--fix" if fix else "--deep"
        raise HoldfastError(
            "unsupported", f"cannot use {asked}: because this version cannot do that yet; leave it out"
        )
    from holdfast.doctor.checks import examine

    report = examine(cli.home, dict(os.environ))
    if cli.json:
        cli.value(report)
    else:
        for check in report.checks:
            if check.status != "ok" or verbose:
                print(
                    f"{check.status:8} {check.name}: {check.detail}"
                    + (f"\n         {check.hint}" if check.hint else "")
                )
        print(report.summary)
    return FAILED if any(check.status == "failed" for check in report.checks) else DONE


def version(cli: Cli) -> None:
    """Print the version."""
    from holdfast import __version__

    if cli.json:
        cli.value({"version": __version__})
    else:
        print(__version__)


def _rfc3339(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
