"""What a run contains: how reported items become rows of the timeline, and text becomes drafts.

Native references are looked up in this session's table; an item that nobody started is started when it completes,
so that nothing an agent shows is dropped.
"""

from __future__ import annotations

from holdfast.core import events as e
from holdfast.core import reports as r
from holdfast.core.deciding import Deciding, Piece
from holdfast.core.ids import inner_id
from holdfast.core.runs import see
from holdfast.core.state import RunState


def run_of(d: Deciding, turn: str) -> RunState | None:
    """The run that owns the turn; for a turn nobody announced, the active one."""
    s = d.state
    return s.runs.get(s.turns.get(turn, "")) or s.runs.get(s.active)


def started(d: Deciding, report: r.ItemStarted) -> None:
    if report.ref in d.state.refs and d.state.refs[report.ref] in d.state.items:
        return
    run = run_of(d, report.turn)
    if run is not None and run.status == "starting" and run.dispatch != "seen":
        see(d, run)
    d.emit(
        e.ItemStarted(
            item_id=inner_id("item", d.state.id, d.state.last_item + 1),
            ordinal=d.state.last_item + 1,
            kind=report.kind,
            run_id=run.id if run else "",
            attempt=run.attempt if run else 0,
            ref=report.ref,
            parent_id=d.state.refs.get(report.parent_ref, ""),
            text=report.text,
            data=report.data,
        )
    )


def text(d: Deciding, report: r.ItemText) -> None:
    item_id = d.state.refs.get(report.ref, "")
    if report.text and item_id in d.state.items:
        d.pieces.append(Piece(item_id, report.text))


def completed(d: Deciding, report: r.ItemCompleted) -> None:
    item_id = d.state.refs.get(report.ref, "")
    if item_id not in d.state.items:
        if report.kind is None or item_id:
            return
        started(d, r.ItemStarted(report.turn, report.ref, report.kind, parent_ref=report.parent_ref))
        item_id = d.state.refs[report.ref]
    d.emit(e.ItemCompleted(item_id, report.status, report.text, report.data))


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
