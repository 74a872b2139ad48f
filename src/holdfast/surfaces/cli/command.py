"""How a command is registered: the options that all commands share, and the way from them to an invocation.

It knows no command. Called by the modules of the groups.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from holdfast.surfaces.cli.invocation import Cli, guarded

Work = Callable[..., int | None]

HomeOption = Annotated[
    str, typer.Option("--home", metavar="DIR", help="The home to use; else HOLDFAST_HOME, else the user's.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Exactly one JSON value on stdout.")]
StreamOption = Annotated[bool, typer.Option("--stream-json", help="One JSON object a line, as they happen.")]
NoStartOption = Annotated[bool, typer.Option("--no-start", help="Do not start a server if none runs.")]

_SHARED: dict[str, tuple[Any, Any]] = {
    "home": (HomeOption, ""),
    "json": (JsonOption, False),
    "no_start": (NoStartOption, False),
    "stream_json": (StreamOption, False),
}


def command(
    app: typer.Typer,
    name: str,
    *,
    example: str,
    server: bool = True,
    streams: bool = False,
    hidden: bool = False,
) -> Callable[[Work], Work]:
    """Registers `work(cli, ...)` under `name`; its docstring is the help. `server`: it talks to one.

    The answer of `work` is the exit code, None is 0. `HoldfastError`s end with the code that they have in `errors`.
    """

    def register(work: Work) -> Work:
        hints = get_type_hints(work, include_extras=True)
        own = list(inspect.signature(work).parameters.values())[1:]
        taken = {parameter.name for parameter in own}
        wanted = ["home", "json", *(["no_start"] if server else []), *(["stream_json"] if streams else [])]
        shared = [shared_name for shared_name in wanted if shared_name not in taken]

        @functools.wraps(work)
        def run(ctx: typer.Context, **given: Any) -> int:
            options = {
                key: given.pop(key, default) for key, (_, default) in _SHARED.items() if key not in taken
            }
            cli = Cli(
                options.get("home") or given.get("home") or ctx.obj or "",
                json=options.get("json", False),
                stream_json=options.get("stream_json", False),
                start=not options.get("no_start", False),
            )
            return guarded(cli, functools.partial(work, cli, **given))

        parameters = [
            inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        ]
        for parameter in own:
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(kind=kind, annotation=hints[parameter.name]))
        for shared_name in shared:
            annotation, default = _SHARED[shared_name]
            parameters.append(
                inspect.Parameter(
                    shared_name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
                )
            )
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del run.__wrapped__
        app.command(name, epilog=f"\b\nExample:\n  {example}", hidden=hidden)(run)
        return work

    return register
