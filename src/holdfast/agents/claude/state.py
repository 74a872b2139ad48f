"""What the translator remembers of a session: a plain value, small, dumped after every record.

Owns the shape alone. Whatever a person was shown is in the log, not here: only what later frames refer to is kept.
"""

from __future__ import annotations

from typing import Literal

import msgspec

PromptStage = Literal["written", "queued", "seen"]
"""A prompt on its way: handed to the agent, acknowledged by its queue, seen without a turn of its own so far."""


class Block(msgspec.Struct):
    """A block of text or thinking of a message. `shown`: its item was started; `done`: and completed."""

    index: int
    type: str
    shown: bool = False
    done: bool = False


class Message(msgspec.Struct):
    """The newest message of the root (parent "") or of a subagent (parent: the tool call that started it)."""

    id: str
    blocks: list[Block] = []


class Tool(msgspec.Struct):
    """A tool call without its result so far. `turn`: in which its item was started. `about`: its command or path, cut.

    `gated`: it was put to our hook. `declined`: we denied it.
    """

    name: str
    turn: str = ""
    about: str = ""
    gated: bool = False
    declined: bool = False


class Pending(msgspec.Struct):
    """A request of the agent that waits for an answer of ours, kept by the agent's id of it.

    `request` is its JSON text: its input is handed back word for word. `ref` is under which it was reported last: that
    changes when the request outlives the turn that it was reported in. `answering`: the runner has taken on our answer.
    """

    ref: str
    request: str
    tool_use: str = ""
    answering: bool = False


class Turn(msgspec.Struct):
    """The open turn. `root`: the root agent works in it; else only work in the background does, between two turns."""

    ref: str
    prompt: str = ""
    root: bool = True
    interrupted: bool = False


class State(msgspec.Struct):
    """See the module. Fields that run on over the process's life: `cost_usd`, `api_ms`."""

    native_id: str
    resumable: bool
    phase: Literal["opening", "ready", "refused"] = "opening"
    count: int = 0  # for references of ours
    turn: Turn | None = None
    announced: bool = False  # `init` was read, and whose turn it begins is not known yet
    lifecycles: bool = False  # this program tells the life of its prompts
    prompts: dict[str, PromptStage] = {}
    taken: list[str] = []  # the last prompts that need no more attention
    messages: dict[str, Message] = {}
    tools: dict[str, Tool] = {}
    pending: dict[str, Pending] = {}
    tasks: list[str] = []  # subagents at work in the background
    settle_at: float | None = None  # when a turn of background work ends if no root turn takes it over
    cost_usd: float = 0.0
    api_ms: int = 0
    model: str = ""
    context_used: int = 0
    reset_at: float | None = None  # when the usage limit that rejected us resets
    said_error: str = ""  # the error that the agent put into words in this turn
    noticed: list[str] = []  # what is only said once
