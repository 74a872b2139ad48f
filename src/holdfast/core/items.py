"""What a run contains: how reported items become rows of the timeline, and text becomes drafts.

Native references are looked up in this session's table; an item that nobody started is started when it completes,
so that nothing an agent shows is dropped.
"""

from __future__ import annotations

from holdfast.core import events as e
from holdfast.core import reports as r
from holdfast.core.deciding import Deciding, Piece
from holdfast.core.ids import inner_id
from holdfast.core.runs import see, settle
from holdfast.core.state import RunState


def run_of(d: Deciding, turn: str) -> RunState | None:
    """The run that owns the turn; for a turn nobody announced, the active one; None for a turn that has ended."""
    s = d.state
    if turn in s.past_turns:
        return None
    return s.runs.get(s.turns.get(turn, "")) or s.runs.get(s.active)


def _place(d: Deciding, turn: str, parent_id: str) -> tuple[str, int]:
    """The run and attempt that an item belongs to. What comes late stays with the run whose turn it names, and what
    is inside an open item (a subagent in the background) with that item's run: never with the one that is next."""
    s = d.state
    if turn not in s.turns and parent_id in s.items:
        return s.items[parent_id].run_id, s.items[parent_id].attempt
    if turn in s.past_turns:
        return s.past_turns[turn]
    run = run_of(d, turn)
    if run is None or (not turn and run.dispatch != "seen"):
        return "", 0
    see(d, run)
    return run.id, run.attempt


def started(d: Deciding, report: r.ItemStarted) -> None:
    if d.state.refs.get(report.ref) in d.state.items:
        return
    _start(d, report)


def _start(d: Deciding, report: r.ItemStarted) -> str:
    parent_id = d.state.refs.get(report.parent_ref, "")
    run_id, attempt = _place(d, report.turn, parent_id)
    ordinal = d.state.last_item + 1
    item_id = inner_id("item", d.state.id, ordinal)
    d.emit(
        e.ItemStarted(
            item_id=item_id,
            ordinal=ordinal,
            kind=report.kind,
            run_id=run_id,
            attempt=attempt,
            ref=report.ref,
            parent_id=parent_id,
            text=report.text,
            data=report.data,
        )
    )
    return item_id


def text(d: Deciding, report: r.ItemText) -> None:
    item_id = d.state.refs.get(report.ref, "")
    if report.text and item_id in d.state.items:
        d.pieces.append(Piece(item_id, report.text))


def completed(d: Deciding, report: r.ItemCompleted) -> None:
    item_id = d.state.refs.get(report.ref, "")
    if item_id not in d.state.items:
        if report.kind is None or item_id:
            return
        item_id = _start(d, r.ItemStarted(report.turn, report.ref, report.kind, parent_ref=report.parent_ref))
    run_id = d.state.items[item_id].run_id
    d.emit(e.ItemCompleted(item_id, report.status, report.text, report.data))
    settle(d, run_id)


def notice(
    d: Deciding, code: str, words: str, data: dict[str, object] | None = None, run_id: str = ""
) -> None:
    """A row of its own that says something to the person."""
    run = d.state.runs.get(run_id)
    ordinal = d.state.last_item + 1
    item_id = inner_id("item", d.state.id, ordinal)
    d.emit(
        e.ItemStarted(
            item_id=item_id,
            ordinal=ordinal,
            kind="notice",
            run_id=run_id,
            attempt=run.attempt if run else 0,
            text=words,
            data={"code": code, **(data or {})},
        )
    )
    d.emit(e.ItemCompleted(item_id, "completed"))
