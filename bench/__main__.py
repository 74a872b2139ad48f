"""`python -m bench`: measure, print the table, and say with the exit status whether what is promised holds.

Owns the command line and the list of measurements.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bench import table
from bench.figures import Row
from bench.rows import append, memory, recovery, starts, streaming, turns

Measure = Callable[[bool], Iterator[Row]]

ROWS: dict[str, Measure] = {
    "turns": turns.measure,
    "starts": starts.measure,
    "append": append.measure,
    "memory": memory.measure,
    "streaming": streaming.measure,
    "recovery": recovery.measure,
}
NUMBERS = Path(__file__).resolve().parent.parent / "docs" / "numbers.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=sorted(ROWS), metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="few samples, and nothing is judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON too")
    parser.add_argument("--write", action="store_true", help=f"write docs/{NUMBERS.name}")
    chosen = parser.parse_args()
    if chosen.write and (chosen.only or chosen.quick):
        parser.error("--write wants all measurements in full: leave out --only and --quick")

    load = os.getloadavg()[0]
    if load >= 1:
        print(f"the machine is busy (load average {load:.2f}): trust the ratios less", file=sys.stderr)
    rows: list[Row] = []
    for name in chosen.only or ROWS:
        began = time.monotonic()
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        rows += ROWS[name](chosen.quick)
        print(f"measured {name} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(table.plain(rows))
    if chosen.json:
        chosen.json.write_bytes(
            msgspec.json.format(msgspec.json.encode([_told(row) for row in rows])) + b"\n"
        )
    if chosen.write:
        NUMBERS.parent.mkdir(exist_ok=True)
        NUMBERS.write_text(table.markdown(rows, "python -m bench --write", load), encoding="utf-8")
    missed = [row.name for row in rows if row.holds is False]
    if missed:
        print(f"does not hold: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed and not chosen.quick else 0


def _told(row: Row) -> dict[str, object]:
    return {**msgspec.to_builtins(row), "ratio": row.ratio, "holds": row.holds}


if __name__ == "__main__":
    sys.exit(main())
