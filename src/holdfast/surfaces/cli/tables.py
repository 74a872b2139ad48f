"""How lists and timelines look on a terminal and in a pipe: aligned columns, colour only for a person.

Called by commands without `--json`. rich is imported only where stdout is a terminal.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from holdfast.wire.api import ItemObject, Snapshot

_COLOURS = {
    "working": "cyan", "starting": "cyan", "waiting": "yellow", "paused": "yellow", "failed": "red",
    "completed": "green", "ready": "green", "ok": "green", "warning": "yellow", "missing": "red", "invalid": "red",
}  # fmt: skip
_SIGNS = {"user_message": ">", "assistant_message": "<", "reasoning": "~", "notice": "!", "error": "!"}


def is_coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, states: int = -1) -> None:
    """`states`: the column whose words are coloured."""
    if not rows:
        return
    if is_coloured():
        _rich(head, rows, states)
        return
    cells = [[_flat(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich(head: Sequence[str], rows: Sequence[Sequence[str]], states: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        drawn.add_column(name, overflow="fold")
    for row in rows:
        drawn.add_row(
            *(
                Text(_flat(cell), style=_COLOURS.get(cell, "") if column == states else "")
                for column, cell in enumerate(row)
            )
        )
    Console().print(drawn)


def timeline(picture: Snapshot) -> None:
    """A thread for reading."""
    thread = picture.thread
    print(f"{thread.id}  {thread.status}  {thread.agent}  {thread.mode}  {thread.cwd}")
    if thread.title:
        print(_flat(thread.title))
    if thread.queue_held:
        print("the queue is held until somebody sends, releases or cancels")
    for item in picture.items:
        _item(item)
    for run in picture.runs:
        if run.status not in ("completed", "cancelled"):
            print(f"{run.id}  {run.status}" + (f"  {_flat(run.failure.message)}" if run.failure else ""))
    for request in picture.requests:
        print(f"? {request.id}  {request.kind}  {_flat(request.title)}")


def _item(item: ItemObject) -> None:
    sign = _SIGNS.get(item.kind, "·")
    name = "" if sign in "<>" else f"{item.kind.replace('_', ' ')}: "
    state = "" if item.status == "completed" else f" [{item.status}]"
    text = item.text or str(item.data.get("title") or item.data.get("command") or item.data.get("tool") or "")
    if item.kind in ("user_message", "assistant_message"):
        print(f"{sign} {_printable(text)}{state}")
        return
    width = max(40, shutil.get_terminal_size().columns - len(name) - 4)
    line = _flat(text)
    print(f"{sign} {name}{line if len(line) <= width else line[: width - 1] + '…'}{state}")


def _flat(text: str) -> str:
    """One line, and nothing that would move a terminal's cursor."""
    return _printable(" ".join(text.split()))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
