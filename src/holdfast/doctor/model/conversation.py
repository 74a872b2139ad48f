"""What a request to a model says, without its protocol: who said what, and which tools are on offer.

Protocol modules build a `Conversation` from a request; `scripts` decides by it. Pure.
"""

import msgspec


class Prompt(msgspec.Struct, frozen=True):
    """A text that a person (or whoever stands for one) sent."""

    text: str
    steered: bool = False
    """It came while the agent was at work on an earlier prompt, and was folded in there."""


class Note(msgspec.Struct, frozen=True):
    """A text that the agent put in by itself: a reminder, an interruption mark, a task's report."""

    text: str
    wakes: bool = False
    """It may start a turn that nobody prompted: the report of a background task."""


class Said(msgspec.Struct, frozen=True):
    """A text of an earlier answer of ours."""

    text: str


class Called(msgspec.Struct, frozen=True):
    """A tool call of an earlier answer of ours."""

    tool: str


class Result(msgspec.Struct, frozen=True):
    """What came of a tool call."""

    text: str
    is_error: bool = False


Entry = Prompt | Note | Said | Called | Result


class Tool(msgspec.Struct, frozen=True):
    """A tool that the agent offers in this request, with the names of its arguments."""

    name: str
    properties: dict[str, object] = {}
    required: tuple[str, ...] = ()


class Conversation(msgspec.Struct, frozen=True):
    """One request, oldest entry first."""

    entries: tuple[Entry, ...]
    tools: tuple[Tool, ...] = ()
    systems: tuple[str, ...] = ()
    model: str = ""
    session: str = ""
    stream: bool = False

    def prompts(self) -> list[str]:
        return [entry.text for entry in self.entries if isinstance(entry, Prompt)]

    def results(self) -> list[str]:
        return [entry.text for entry in self.entries if isinstance(entry, Result)]
