"""What the scripted model does in one answer, without a protocol: a list of steps. Pure.

`scripts` writes the steps, each protocol module turns them into its own frames.
"""

from collections.abc import Mapping

import msgspec


class Say(msgspec.Struct, frozen=True):
    """A piece of text."""

    text: str


class Think(msgspec.Struct, frozen=True):
    """A piece of reasoning."""

    text: str


class Pause(msgspec.Struct, frozen=True):
    """Nothing for so many seconds."""

    seconds: float


class Call(msgspec.Struct, frozen=True):
    """A tool call."""

    tool: str
    arguments: Mapping[str, object]


class Silence(msgspec.Struct, frozen=True):
    """Nothing more until the client goes away."""


Step = Say | Think | Pause | Call | Silence


class Answer(msgspec.Struct, frozen=True):
    """An answer: its script's name, for the log, and its steps."""

    script: str
    steps: tuple[Step, ...]

    @property
    def calls_tools(self) -> bool:
        return any(isinstance(step, Call) for step in self.steps)


class Refusal(msgspec.Struct, frozen=True):
    """A request that is answered with an error status instead."""

    script: str
    status: int
    message: str
