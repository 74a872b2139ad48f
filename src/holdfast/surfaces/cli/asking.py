"""A request put to the person at the terminal, and the answer sent.

Called while a run is followed on a terminal. Whoever answers first wins: another surface may have been faster.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from holdfast.errors import HoldfastError
from holdfast.surfaces.cli.invocation import Cli
from holdfast.wire.api import QuestionObject, RequestObject

if TYPE_CHECKING:
    from holdfast.client import SyncClient

_DECISIONS = {
    "a": "accept",
    "s": "accept_for_session",
    "d": "decline",
    "c": "cancel",
}
_WORDS = {
    "accept": "[a]ccept",
    "accept_for_session": "accept for this [s]ession",
    "decline": "[d]ecline",
    "cancel": "[c]ancel",
}


def ask(cli: Cli, client: SyncClient, request: RequestObject) -> None:
    """Asks until there is an answer that can be sent. Ctrl-D leaves the request pending."""
    cli.say(f"\n{request.title}")
    if request.detail:
        cli.say("\n".join(f"  {line}" for line in request.detail.splitlines()[:40]))
    try:
        if request.questions:
            answers = {question.id: _choose(cli, question) for question in request.questions}
            answered = client.answer(request.id, answers=answers)
        else:
            decision, message = _decide(request)
            answered = client.answer(request.id, decision, message=message)
    except EOFError:
        cli.say(f"left open: holdfast answer {request.id} ...")
    except HoldfastError as error:
        if error.code not in ("already_answered", "expired", "unknown_request"):
            raise
        cli.say(f"· {error.detail}")
    else:
        cli.say(f"· {answered.decision or 'answered'}")


def _read(prompt: str) -> str:
    """A line of the person's; the prompt goes to stderr, stdout is for the answer."""
    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _decide(request: RequestObject) -> tuple[str, str]:
    options = [option for option in _WORDS if option in request.options] or list(_WORDS)
    words = ", ".join(_WORDS[option] for option in options)
    while True:
        given = _read(f"{words} (a reason may follow): ").strip()
        letter, _, message = given.partition(" ")
        decision = _DECISIONS.get(letter.lower(), letter if letter in options else "")
        if decision in options:
            return decision, message.strip()


def _choose(cli: Cli, question: QuestionObject) -> list[str]:
    cli.say(f"\n{question.header + ': ' if question.header else ''}{question.text}")
    for number, option in enumerate(question.options, 1):
        cli.say(f"  {number}. {option.label}" + (f" - {option.detail}" if option.detail else ""))
    ways = "numbers, with commas" if question.multiple else "a number"
    if question.free:
        ways += ", or your own words" if question.options else ""
    while True:
        given = _read(f"{ways if question.options else 'your answer'}: ").strip()
        parts = [part.strip() for part in given.split(",")] if question.multiple else [given]
        if question.options and all(
            part.isdigit() and 1 <= int(part) <= len(question.options) for part in parts
        ):
            return [question.options[int(part) - 1].label for part in parts]
        if given and (question.free or not question.options):
            return [given]
