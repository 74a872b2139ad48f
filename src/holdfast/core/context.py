"""Portable context: what a fresh native conversation is told when the old one is gone.

Pure text made from the log's own rows: structured, newest in full, older shortened, within a budget. Used for the
rebuild after a lost conversation; transfers between agents will use the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

BUDGET_CHARS: Final = 60_000
"""About 15,000 tokens: a small part of any agent's window, and enough for the newest exchanges in full."""

ENTRY_CHARS: Final = 4_000
"""What an older exchange's text is cut to."""

NEWEST_CHARS: Final = 22_000
"""What prompt and text of the newest exchange are each cut to if it is beyond the budget; its tools still fit beside."""


class Exchange(msgspec.Struct, frozen=True):
    """One earlier run. `tools`: one line each about what it did."""

    prompt: str
    text: str
    status: str
    tools: Sequence[str] = ()


_WHOLE: Final = (
    "This conversation was continued in a new session, because the earlier one could not be resumed. "
    "The record of it follows, oldest first. It is context, not a new request."
)
_REST: Final = (
    "The end of this conversation so far is missing from your history, because your process had ended before it was "
    "written down. The record of it follows, oldest first. It is context, not a new request."
)


def portable(exchanges: Sequence[Exchange], prompt: str, *, rest: bool = False) -> str:
    """The prompt with the earlier exchanges before it; the prompt alone if there are none.

    `rest`: the agent knows the conversation but for these exchanges.
    """
    if not exchanges:
        return prompt
    parts: list[str] = []
    left = BUDGET_CHARS
    for number, exchange in reversed(list(enumerate(exchanges, 1))):
        part = _exchange(number, exchange, ENTRY_CHARS if parts else left)
        if not parts and len(part) > left:
            part = _exchange(number, exchange, NEWEST_CHARS)
        if len(part) > left:
            parts.append(f"(exchanges 1 to {number} are left out)")
            break
        parts.append(part)
        left -= len(part)
    history = "\n\n".join(reversed(parts))
    return (
        f"{_REST if rest else _WHOLE}\n\n"
        f"<earlier-conversation>\n{history}\n</earlier-conversation>\n\n"
        f"The request to answer now:\n\n{prompt}"
    )


def _exchange(number: int, exchange: Exchange, limit: int) -> str:
    lines = [f"[{number}] user: {_cut(exchange.prompt, limit)}"]
    lines += [f"[{number}] done: {_cut(tool, 300)}" for tool in exchange.tools[-40:]]
    ending = "" if exchange.status == "completed" else f" ({exchange.status})"
    lines.append(f"[{number}] assistant{ending}: {_cut(exchange.text, limit) or '(no text)'}")
    return "\n".join(lines)


def _cut(text: str, limit: int) -> str:
    text = text.strip()
    if len(text) <= limit:
        return text
    head = max(0, limit - 200)
    return f"{text[:head]} … ({len(text) - head} more characters)"
