"""`threads`, `show`, `record`, `replay`: what there is, and what was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.surfaces.cli.command import command
from holdfast.surfaces.cli.invocation import USAGE, Cli, Stop, out

if TYPE_CHECKING:
    from holdfast.wire.api import ThreadObject

Thread = Annotated[str, typer.Argument(metavar="THREAD", help="The thread's id.")]


def add_to(app: typer.Typer) -> None:
    command(app, "threads", example="holdfast threads --status waiting")(threads)
    command(app, "show", example="holdfast show THREAD --items 20")(show)
    command(app, "record", example="holdfast record THREAD --output session.jsonl")(record)
    command(app, "replay", server=False, example="holdfast replay session.jsonl --json")(replay)


def threads(
    cli: Cli,
    *,
    project: Annotated[str, typer.Option(help="Only of this project.")] = "",
    status: Annotated[str, typer.Option(help="idle, queued, working, waiting, paused or failed.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
) -> None:
    """List threads, newest activity first."""
    found: list[ThreadObject] = []
    with cli.client() as client:
        cursor = ""
        while len(found) < limit:
            page = client.threads(
                cursor=cursor, limit=min(1000, limit - len(found)), project=project, status=status
            )
            found += page.threads
            if page.cursor is None:
                break
            cursor = page.cursor
    if cli.json:
        cli.value(found)
        return
    from holdfast.surfaces.cli.tables import table

    rows = [[thread.id, thread.status, thread.agent, thread.title, thread.cwd] for thread in found]
    table(["thread", "status", "agent", "title", "folder"], rows, states=1)
    if not rows:
        cli.say("there is no thread yet; `holdfast run` opens one")


def show(
    cli: Cli,
    thread: Thread,
    *,
    items: Annotated[int, typer.Option(min=0, max=1000, help="How many of the newest items.")] = 100,
    before: Annotated[str, typer.Option(metavar="ITEM", help="The items before this one.")] = "",
) -> None:
    """Show a thread: its runs, its timeline, what is pending."""
    with cli.client() as client:
        picture = client.snapshot(thread, items=0 if before else items)
        if before and items:
            picture.items = client.items(thread, before=before, limit=items)
    if cli.json:
        cli.value(picture)
        return
    from holdfast.surfaces.cli.tables import timeline

    timeline(picture)


def record(
    cli: Cli,
    thread: Thread,
    *,
    output: Annotated[str, typer.Option("--output", metavar="PATH", help="Write it there.")] = "",
) -> None:
    """Print the recorded frames of a thread: a test, a demo and a bug report in one file."""
    with cli.client() as client:
        pieces = client.transcript(thread)
        if not output:
            for piece in pieces:
                out(piece)
            return
        try:
            with Path(output).open("xb") as file:
                for piece in pieces:
                    file.write(piece)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise Stop(
                "invalid", f"cannot write {output}: because {why}; choose another path", USAGE
            ) from error
    if cli.json:
        cli.value({"thread": thread, "path": str(Path(output).absolute())})


def replay(
    cli: Cli, file: Annotated[str, typer.Argument(metavar="FILE", help="A recorded transcript.")]
) -> None:
    """Run a recorded transcript through today's translator, and print what it reports."""
    from holdfast.doctor.replay import replayed

    sessions = replayed(Path(file))
    if cli.json:
        cli.value(sessions)
        return
    for session in sessions:
        cli.say(
            f"{session.agent} session {session.session}: {session.records} records, {len(session.reports)} reports"
        )
        for report in session.reports:
            cli.value(report)
