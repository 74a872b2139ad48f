"""Text in flight of one thread: state, not history.

Owns the pieces of open items until they complete; then their text is stored once, in `item.completed`. A piece that
completes in the same commit never becomes a draft. Used by the thread's worker alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from holdfast.core import events as e
from holdfast.core.deciding import Piece
from holdfast.core.state import ThreadState
from holdfast.engine.port import Text
from holdfast.store.port import Draft


class Settled(msgspec.Struct, frozen=True):
    """What a commit writes and publishes. `closed`: items whose drafts go with it."""

    events: Sequence[e.Event]
    rows: Sequence[Draft]
    texts: Sequence[Text]
    closed: Sequence[str]


class Drafts:
    def __init__(self) -> None:
        self._pieces: dict[str, list[str]] = {}
        self._lengths: dict[str, int] = {}

    def load(self, texts: Mapping[str, str]) -> None:
        """What the store has of open items."""
        self._pieces = {item: [text] for item, text in texts.items()}
        self._lengths = {item: len(text) for item, text in texts.items()}

    def settle(self, events: Sequence[e.Event], pieces: Sequence[Piece], after: ThreadState) -> Settled:
        """Put the text into completions that have none of their own. Changes nothing until `commit`."""
        new: dict[str, list[str]] = {}
        for piece in pieces:
            new.setdefault(piece.item_id, []).append(piece.text)
        settled: list[e.Event] = []
        closed: list[str] = []
        for event in events:
            if isinstance(event, e.ItemCompleted):
                closed.append(event.item_id)
                event = self._completed(event, new.get(event.item_id, []))
            settled.append(event)
        rows: list[Draft] = []
        for item, parts in new.items():
            if item in after.items:
                rows.append(Draft(item, self._lengths.get(item, 0), "".join(parts)))
        return Settled(settled, rows, [Text(d.item_id, d.offset, d.text) for d in rows], closed)

    def _completed(self, event: e.ItemCompleted, new: Sequence[str]) -> e.ItemCompleted:
        parts = [*self._pieces.get(event.item_id, ()), *new]
        if event.text is not None or not parts:
            return event
        return msgspec.structs.replace(event, text="".join(parts))

    def commit(self, settled: Settled) -> None:
        """The settled commit is on disk."""
        for row in settled.rows:
            self._pieces.setdefault(row.item_id, []).append(row.text)
            self._lengths[row.item_id] = row.offset + len(row.text)
        for item in settled.closed:
            self._pieces.pop(item, None)
            self._lengths.pop(item, None)
