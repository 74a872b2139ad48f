"""`run`, `send`, `wait`, `stop`: requests on their way, and their ends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.surfaces.cli.command import command
from holdfast.surfaces.cli.invocation import DONE, TIME_UP, UNAVAILABLE, Cli, Stop

if TYPE_CHECKING:
    from holdfast.client import SyncClient

Text = Annotated[str, typer.Argument(metavar="[TEXT]", help="The text, byte for byte; - reads stdin.")]
File = Annotated[str, typer.Option("--file", metavar="PATH", help="Take the text from this file instead.")]
Image = Annotated[
    list[str] | None, typer.Option("--image", metavar="PATH", help="An image; may be repeated.")
]
Background = Annotated[bool, typer.Option("--background", help="Return once it is accepted.")]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="S", min=0, help="Seconds to wait; the work goes on (exit 6)."),
]


def add_to(app: typer.Typer) -> None:
    command(app, "run", streams=True, example='holdfast run "what is in this folder?" --cwd ~/project')(run)
    command(app, "send", streams=True, example='holdfast send THREAD "and now the tests"')(send)
    command(app, "wait", streams=True, example="holdfast wait RUN --timeout 60")(wait)
    command(app, "stop", example="holdfast stop RUN\n  holdfast stop THREAD")(stop)


def run(
    cli: Cli,
    text: Text = "",
    *,
    file: File = "",
    agent: Annotated[str, typer.Option(help="Which agent; by default the first that is ready.")] = "",
    cwd: Annotated[str, typer.Option(metavar="DIR", help="The workspace folder; by default this one.")] = "",
    add_dir: Annotated[
        list[str] | None, typer.Option("--add-dir", metavar="DIR", help="A further folder; may be repeated.")
    ] = None,
    mode: Annotated[str, typer.Option(help="ask, edits, auto or full: who approves what.")] = "",
    plan: Annotated[bool, typer.Option("--plan", help="Plan only.")] = False,
    model: Annotated[str, typer.Option(help="The agent's model.")] = "",
    effort: Annotated[str, typer.Option(help="How hard the agent shall think.")] = "",
    title: Annotated[str, typer.Option(help="A title for the thread.")] = "",
    project: Annotated[str, typer.Option(help="The project it belongs to.")] = "",
    image: Image = None,
    background: Background = False,
    timeout: Timeout = None,
) -> int:
    """Open a thread with a first message, and follow its run."""
    from holdfast.surfaces.cli.following import carry, report
    from holdfast.surfaces.cli.text import images, message_text

    message = message_text(text, file)
    pictures = images(image or [])
    with cli.client() as client:
        created = client.create_thread(
            agent or _default_agent(client),
            os.path.abspath(os.path.expanduser(cwd or os.getcwd())),
            message=message,
            images=pictures,
            mode=mode,
            plan=plan,
            model=model,
            effort=effort,
            title=title,
            project=project,
            add_dirs=[os.path.abspath(os.path.expanduser(folder)) for folder in add_dir or []],
        )
        assert created.run is not None
        if background:
            report(cli, created.run)
            _name(cli, created.run.id)
            return DONE
        cli.say(f"thread {created.thread.id}")
        return carry(cli, client, created.run, 0, timeout)


def send(
    cli: Cli,
    thread: Annotated[str, typer.Argument(metavar="THREAD", help="The thread's id.")],
    text: Text = "",
    *,
    file: File = "",
    delivery: Annotated[
        str, typer.Option(help="auto, queue, steer or restart: what to do when a run is under way.")
    ] = "auto",
    agent: Annotated[str, typer.Option(help="Go on with another agent.")] = "",
    image: Image = None,
    background: Background = False,
    timeout: Timeout = None,
) -> int:
    """Send a message to a thread, and follow its run."""
    from holdfast.surfaces.cli.following import carry, report
    from holdfast.surfaces.cli.text import images, message_text

    message = message_text(text, file)
    pictures = images(image or [])
    with cli.client() as client:
        after = client.thread(thread).version
        started = client.send(thread, message, images=pictures, delivery=delivery, agent=agent)
        if background:
            report(cli, started)
            _name(cli, started.id)
            return DONE
        return carry(cli, client, started, after, timeout)


def wait(
    cli: Cli,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    *,
    timeout: Timeout = None,
) -> int:
    """Wait until a run ends or needs a person."""
    from holdfast.surfaces.cli.following import carry

    with cli.client() as client:
        now = client.run(run)
        return carry(cli, client, now, None, timeout)


def stop(cli: Cli, target: Annotated[str, typer.Argument(metavar="RUN|THREAD")]) -> int:
    """End a run; of a thread the active run and all queued ones."""
    with cli.client() as client:
        if target.startswith("th_"):
            return _stop_thread(cli, client, target)
        run_id = client.stop_run(target).id
        return _until_ended(cli, client, run_id, {})


def _stop_thread(cli: Cli, client: SyncClient, thread: str) -> int:
    done = client.stop_thread(thread)
    names: dict[str, object] = {"stopped": done.stopped, "cancelled": done.cancelled}
    if not cli.json:
        cli.say("cancelled: " + (", ".join(done.cancelled) or "none was queued"))
    if done.stopped is not None:
        return _until_ended(cli, client, done.stopped, names)
    if cli.json:
        cli.value({**names, "thread": done.thread})
    else:
        cli.say("no run was under way")
    return DONE


def _until_ended(cli: Cli, client: SyncClient, run_id: str, names: dict[str, object]) -> int:
    """The run once it has ended; a stop that takes longer goes on without us."""
    from time import monotonic

    import msgspec

    from holdfast.settings import BOUNDS
    from holdfast.surfaces.cli.following import ENDED

    until = monotonic() + BOUNDS.stop_wait_s
    while True:
        now = client.run(run_id, wait=max(0.05, min(1.0, until - monotonic())))
        if now.status in ENDED or monotonic() >= until:
            break
    if cli.json:
        cli.value({**msgspec.to_builtins(now), **names})
    else:
        cli.say(f"{now.id} is {now.status}" + (" (its agent had to be ended)" if now.forced else ""))
    return DONE if now.status in ENDED else TIME_UP


def _name(cli: Cli, run_id: str) -> None:
    if not cli.machine:
        print(run_id, flush=True)


def _default_agent(client: SyncClient) -> str:
    """The first agent that may be used; a built-in one only if there is no other."""
    from holdfast.config import is_built_in

    agents = client.agents()
    usable = [agent for agent in agents if agent.status in ("ready", "unchecked", "checking")]
    if not usable:
        raise Stop(
            "agent_unavailable",
            "cannot choose an agent: because none is ready; install one, or name one with --agent",
            UNAVAILABLE,
        )
    return min(usable, key=lambda agent: is_built_in(agent.kind)).id
