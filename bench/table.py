"""The table of rows: for the terminal, and as Markdown for docs/numbers.md.

Owns words and columns. It judges nothing: a row knows whether it holds.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import apsw

import holdfast
from bench.figures import Row

COLUMNS = ("what", "Holdfast", "reference", "ratio", "hold", "holds")


def cells(row: Row) -> tuple[str, ...]:
    reference = ""
    if row.reference is not None:
        reference = f"{_value(row.reference, row.unit, row.reference_spread)} {row.reference_name}"
    ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
    hold = ""
    if row.target is not None:
        limit = f"{row.target.limit:g} {row.target.unit}".strip()
        hold = f"{'≤' if row.target.relation == '<=' else '≥'} {limit}"
    holds = {True: "yes", False: "NO", None: ""}[row.holds]
    return row.name, _value(row.measured, row.unit, row.spread), reference, ratio, hold, holds


def _value(value: float, unit: str, spread: tuple[float, float] | None) -> str:
    around = f" ({_number(spread[0])}–{_number(spread[1])})" if spread else ""
    return f"{_number(value)}{around} {unit}".strip()


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def plain(rows: Sequence[Row]) -> str:
    lines = [COLUMNS, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(rows: Sequence[Row], command: str, load: float) -> str:
    lines = [
        "# Numbers",
        "",
        "Each number is a ratio against a named reference in the same run, or an absolute bound. Trust the ratios: the",
        "absolute values are those of one machine. In brackets are the quartiles; `n` is the number of samples. A line",
        "without a bound is there to be read and promises nothing. This page is written by",
        f"`{command}`.",
        "",
        f"- Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load average before it {load:.2f}",
        f"- Machine: {machine()}",
        f"- Versions: {versions()}",
        "",
        "| What | Holdfast | Reference | Ratio | Hold | Holds | n |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += ["| " + " | ".join([*cells(row), str(row.samples)]) + " |" for row in rows]
    return "\n".join(lines) + "\n" + EXPLAINED


EXPLAINED = """
How they are measured:

- **Turns.** From the first byte of the POST to `run.ended` at a reader of the event stream, decoded. The bare pipe is
  the same program with the arguments, the environment, the handshake and the prompt's frame that Holdfast gives it,
  read by a loop over `os.read` that decodes every frame, up to the agent's own end of the turn. The scripted model
  answers without delay. The two take turns, and the next round begins with the other one.
- **First message.** A new thread with its first message on a running server, against the start of the bare program with
  its handshake and the prompt at once.
- **Append.** 64 producers that each wait for their commit, against a loop that executes the same statements with the
  same values on a database of the same schema, 64 commits in a transaction, in one thread, with `synchronous=FULL`.
- **Memory.** Resident memory of the processes, after sessions have been opened and used. Growth is that of server and
  runner together between few and many idle sessions, without the agents' own processes.
- **Streaming.** Size of database and write-ahead log before and after a run that says 1 MB in 10,000 pieces.
- **Recovery.** From the start of a new server after `kill -9` until its recovery is done, and until the runner has it
  attached to every session.
"""


def machine() -> str:
    model = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} × {model}, {memory:.0f} GB, {platform.system()} {platform.release()}"


def versions() -> str:
    return (
        f"Holdfast {holdfast.__version__}, Python {platform.python_version()}, "
        f"SQLite {apsw.sqlite_lib_version()}"
    )
