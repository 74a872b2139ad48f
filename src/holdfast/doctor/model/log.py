"""What the scripted model was asked: a bounded log in memory and, where wanted, a file of JSON lines.

Owns the numbering of requests, their outcome and the count of finished turns; `app` reports to it, tests
and `doctor` read it. It never keeps a whole body: texts are cut, old requests leave.
"""

import asyncio
import collections
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import msgspec

from holdfast.doctor.model.conversation import Conversation, Note

KEPT_REQUESTS = 2_000
TEXT_LIMIT = 8_000
TEXTS_LIMIT = 64_000

Outcome = Literal["open", "answered", "called", "refused", "gone"]
"""`answered`: the last word of a turn; `called`: tool calls; `gone`: the client left before the end."""


class Asked(msgspec.Struct):
    """One request. Texts are those of the whole history, each message for itself, oldest first."""

    number: int
    at: float
    path: str
    agent: str = ""
    session: str = ""
    model: str = ""
    stream: bool = False
    script: str = ""
    users: list[str] = []
    results: list[str] = []
    notes: list[str] = []
    systems: int = 0
    tools: list[str] = []
    status: int = 200
    outcome: Outcome = "open"


class RequestLog:
    """The requests so far; `until` waits for one that a test expects."""

    def __init__(self, file: Path | None = None) -> None:
        self.requests: collections.deque[Asked] = collections.deque(maxlen=KEPT_REQUESTS)
        self.turns = 0
        self._file = file
        self._count = 0
        self._changed = asyncio.Event()

    def note_request(self, path: str, user_agent: str) -> Asked:
        self._count += 1
        agent = re.match(r"[A-Za-z0-9]*", user_agent)
        asked = Asked(self._count, time.time(), path, agent=agent[0].lower() if agent else "")
        self.requests.append(asked)
        return asked

    def note_conversation(self, asked: Asked, conversation: Conversation, script: str) -> None:
        asked.session, asked.model, asked.stream = (
            conversation.session,
            conversation.model,
            conversation.stream,
        )
        asked.script = script
        asked.users = _cut(conversation.prompts())
        asked.results = _cut(conversation.results())
        asked.notes = _cut(entry.text for entry in conversation.entries if isinstance(entry, Note))
        asked.systems = len(conversation.systems)
        asked.tools = [tool.name for tool in conversation.tools]
        self._publish(asked)

    def note_outcome(self, asked: Asked, outcome: Outcome, status: int = 200) -> None:
        asked.outcome, asked.status = outcome, status
        if outcome == "answered":
            self.turns += 1
            _record_turn(asked)
        self._publish(asked)

    async def until(self, expected: Callable[[list[Asked]], bool], within: float = 10.0) -> list[Asked]:
        """The requests as soon as they are as expected; TimeoutError says what there was instead."""
        try:
            async with asyncio.timeout(within):
                while not expected(list(self.requests)):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            seen = [(asked.script, asked.outcome, asked.status) for asked in self.requests]
            raise TimeoutError(f"cannot go on: because the model was asked only {seen}") from None
        return list(self.requests)

    def _publish(self, asked: Asked) -> None:
        self._changed.set()
        if self._file is not None:
            with self._file.open("ab") as lines:
                lines.write(msgspec.json.encode(asked) + b"\n")


def _cut(texts: Iterable[str]) -> list[str]:
    """Each text up to a limit, and of all together the newest."""
    kept: list[str] = []
    room = TEXTS_LIMIT
    for text in reversed(list(texts)):
        room -= min(len(text), TEXT_LIMIT)
        if room < 0:
            break
        kept.append(text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}...")
    return kept[::-1]


def _record_turn(asked: Asked) -> None:
    """One line per finished turn, for a test run that proves how many turns real agents really took."""
    folder = os.environ.get("HOLDFAST_TEST_TURNS")
    if folder:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        line = {"agent": asked.agent or "unknown", "test": test}
        with (Path(folder) / f"{os.getpid()}.jsonl").open("ab") as lines:
            lines.write(msgspec.json.encode(line) + b"\n")
