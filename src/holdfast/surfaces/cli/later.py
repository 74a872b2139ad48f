"""Commands of the contract that this version does not have yet: they exist, and say so (exit 4)."""

from __future__ import annotations

from typing import Final

import typer

from holdfast.errors import HoldfastError
from holdfast.surfaces.cli.invocation import Cli, guarded

LATER: Final = {
    "fork": "Fork a thread.",
    "handoff": "Let another agent go on with a thread.",
    "merge-back": "Bring the work of a fork back.",
    "checkpoint": "List, compare and restore workspace states.",
    "rollback": "Return a thread to a run.",
    "diff": "Show what changed in the workspace.",
    "job": "Runs detached from the command line.",
    "link": "Connect threads and terminals.",
    "attach": "A native terminal on a live thread.",
    "heal": "Repair what the doctor found.",
    "import": "Take over conversations of other programs.",
    "token": "Make and revoke tokens.",
    "mcp": "Serve agents over MCP.",
    "acp": "Serve editors over ACP.",
}

_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True}


def add_to(app: typer.Typer) -> None:
    for name, meaning in LATER.items():
        _add(app, name, meaning)


def _add(app: typer.Typer, name: str, meaning: str) -> None:
    def work(ctx: typer.Context) -> int:
        cli = Cli("", json="--json" in ctx.args)

        def refuse() -> int:
            raise HoldfastError(
                "unsupported",
                f"cannot {name}: because this version of Holdfast cannot do that yet; `holdfast --help` lists what it can",
            )

        return guarded(cli, refuse)

    help_text = f"{meaning} (not in this version)"
    app.command(
        name,
        help=help_text,
        epilog=f"\b\nExample:\n  holdfast {name} --help",
        context_settings=_ANYTHING,
        rich_help_panel=None,
    )(work)
