"""Run seeds by hand: `python -m tests.simulation 1234` with its trace, or `python -m tests.simulation 0 2000`."""

from __future__ import annotations

import sys
import time
import traceback
from collections import Counter

from holdfast import faults
from tests.simulation.world import World, simulate


def main() -> None:
    first, *rest = [int(argument) for argument in sys.argv[1:]]
    if not rest:
        World.loud = True
        outcome = simulate(first)
        print(outcome.counts, outcome.struck)
        return
    failed, passed, struck, counts = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    began = time.perf_counter()
    for seed in range(first, rest[0]):
        try:
            outcome = simulate(seed)
            passed.update(outcome.passed)
            struck.update(outcome.struck)
            counts.update(outcome.counts)
        except (Exception, faults.Crash) as error:  # noqa: BLE001 - the other seeds are simulated too
            failed[type(error).__name__] += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(
                seed,
                type(error).__name__,
                str(error)[:300],
                f"{where.filename.rpartition('/')[2]}:{where.lineno}",
                flush=True,
            )
    for point in sorted(passed):
        print(f"{point:<28} passed {passed[point]:>7}  struck {struck[point]:>5}")
    for name, count in sorted(counts.items()):
        print(f"{name:<40} {count:>6}")
    print(f"{rest[0] - first} seeds in {time.perf_counter() - began:.1f} s; failed: {dict(failed)}")


if __name__ == "__main__":
    main()
