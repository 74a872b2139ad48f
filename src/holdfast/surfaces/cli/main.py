"""`holdfast`: the commands put together, and the way from arguments to an exit code.

Called by `python -m holdfast` and the installed program. Usage errors end with 2 and, with `--json`, are a problem
object on stdout too, like every other error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import Exit, TyperException

from holdfast.surfaces.cli import house, later, requests, runs, serving, threads
from holdfast.surfaces.cli.invocation import INTERRUPTED, USAGE, Stop, complain


def app() -> typer.Typer:
    made = typer.Typer(
        name="holdfast",
        help="The durable control plane for coding agents.",
        epilog='\b\nExample:\n  holdfast run "what is in this folder?"',
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
    )

    @made.callback()
    def common(
        ctx: typer.Context,
        home: str = typer.Option(
            "", "--home", metavar="DIR", help="The home to use; else HOLDFAST_HOME, else the user's."
        ),
    ) -> None:
        ctx.obj = home

    for group in (serving, runs, threads, requests, house, later):
        group.add_to(made)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the contract."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        given = ["version"]
    try:
        code = app()(args=given, prog_name="holdfast", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except Exit as end:
        return end.exit_code
    except TyperException as error:
        return _usage(error, given)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read the output has left; nothing more may be written at the interpreter's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _usage(error: TyperException, given: Sequence[str]) -> int:
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message, file=sys.stderr)
        return USAGE
    words = message[:1].lower() + message[1:].rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "holdfast"
    wrong = Stop("invalid", f"cannot run the command: because {words}; see `{path} --help`", USAGE)
    return complain(wrong, as_json="--json" in given or "--stream-json" in given)
