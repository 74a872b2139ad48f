"""`requests` and `answer`: what waits for a person, and the person's word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.surfaces.cli.command import command
from holdfast.surfaces.cli.invocation import DONE, USAGE, Cli, Stop

if TYPE_CHECKING:
    from holdfast.client import SyncClient
    from holdfast.wire.api import QuestionObject, RequestObject

DECISIONS = ("accept", "accept_for_session", "decline", "cancel")


def add_to(app: typer.Typer) -> None:
    command(app, "requests", example="holdfast requests --thread THREAD")(requests)
    command(
        app,
        "answer",
        example="holdfast answer REQUEST accept\n  holdfast answer REQUEST decline --message 'use the other file'\n"
        "  holdfast answer REQUEST --choose 'Colour=blue' --wait",
    )(answer)


def requests(
    cli: Cli, *, thread: Annotated[str, typer.Option(metavar="THREAD", help="Only of this thread.")] = ""
) -> None:
    """List what waits for a person."""
    with cli.client() as client:
        pending = client.requests(thread_id=thread)
    if cli.json:
        cli.value(pending)
        return
    from holdfast.surfaces.cli.tables import table

    table(
        ["request", "kind", "live", "thread", "what"],
        [[r.id, r.kind, "yes" if r.live else "no", r.thread_id, r.title] for r in pending],
    )
    if not pending:
        cli.say("nothing waits for a person")


def answer(
    cli: Cli,
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="The request's id.")],
    decision: Annotated[
        str, typer.Argument(metavar="[DECISION]", help="accept, accept_for_session, decline or cancel.")
    ] = "",
    *,
    choose: Annotated[
        list[str] | None,
        typer.Option("--choose", metavar="HEADER=LABEL", help="Answer a question; may be repeated."),
    ] = None,
    message: Annotated[str, typer.Option(help="A word to the agent.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the run afterwards.")] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="S", min=0, help="With --wait.")
    ] = None,
) -> int:
    """Answer a request; the first valid answer wins."""
    if not decision and not choose:
        raise Stop(
            "invalid",
            f"cannot answer: because there is neither a decision nor --choose; give one of {', '.join(DECISIONS)}",
            USAGE,
        )
    if decision and decision not in DECISIONS:
        raise Stop(
            "invalid",
            f"cannot answer: because {decision!r} is no decision; give one of {', '.join(DECISIONS)}",
            USAGE,
        )
    with cli.client() as client:
        answers = _answers(client, request, choose or [])
        answered = client.answer(request, decision, message=message, answers=answers)
        if not wait:
            if cli.json:
                cli.value(answered)
            else:
                cli.say(f"{answered.id}: {answered.decision or 'answered'} ({answered.state})")
            return DONE
        return _wait(cli, client, answered, timeout)


def _wait(cli: Cli, client: SyncClient, answered: RequestObject, timeout: float | None) -> int:
    """Until the run has taken the answer and ended, or waits for a person again."""
    from holdfast.surfaces.cli.following import Deadline, TimeIsUp, carry, exit_code, until_settled
    from holdfast.surfaces.cli.invocation import TIME_UP

    now = client.run(answered.run_id)
    if not cli.json:
        return carry(cli, client, now, None, timeout)
    import msgspec

    try:
        now = until_settled(client, answered.run_id, Deadline(timeout))
        code = exit_code(now)
    except TimeIsUp:
        now, code = client.run(answered.run_id), TIME_UP
    cli.value({**msgspec.to_builtins(answered), "run": now})
    return code


def _answers(client: SyncClient, request_id: str, choices: list[str]) -> dict[str, list[str]]:
    """Question id -> labels or texts, from `HEADER=label`."""
    if not choices:
        return {}
    pending = next((found for found in client.requests() if found.id == request_id), None)
    answers: dict[str, list[str]] = {}
    for choice in choices:
        header, sign, label = choice.partition("=")
        if not sign or not label:
            raise _wrong(f"{choice!r} is not HEADER=label", "write it so")
        if pending is None:  # the server says what has become of it
            answers.setdefault(header, []).append(label)
            continue
        question = _question(pending.questions, header)
        answers.setdefault(question.id, []).append(_label(question, label))
    return answers


def _question(questions: list[QuestionObject], header: str) -> QuestionObject:
    exact = [question for question in questions if header in (question.header, question.id)]
    near = [question for question in questions if question.header.casefold() == header.casefold()]
    if found := exact or near:
        return found[0]
    known = ", ".join(question.header or question.id for question in questions) or "none"
    raise _wrong(f"the request has no question {header!r}", f"its questions are: {known}")


def _label(question: QuestionObject, label: str) -> str:
    labels = [option.label for option in question.options]
    if label in labels:
        return label
    near = [known for known in labels if known.casefold() == label.casefold()]
    if len(near) == 1:
        return near[0]
    if question.free or not labels:
        return label
    raise _wrong(f"{label!r} is no option of {question.header!r}", f"its options are: {', '.join(labels)}")


def _wrong(why: str, hint: str) -> Stop:
    return Stop("invalid", f"cannot answer: because {why}; {hint}", USAGE)
