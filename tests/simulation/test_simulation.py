"""The seeded simulation in CI: every seed is a world under faults, in which every promise must hold afterwards.

A failing seed is reproduced by its number alone: `python -m tests.simulation 1234`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest

from holdfast import faults
from tests.simulation.coverage import Collection, Part
from tests.simulation.plan import plan_of
from tests.simulation.world import World, simulate

SEEDS = 2000
CHUNK = 50


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "chunk" not in metafunc.fixturenames:
        return
    alone = metafunc.config.getoption("seed", None)
    seeds = metafunc.config.getoption("seeds", None) or SEEDS
    chunks = [range(first, min(first + CHUNK, seeds)) for first in range(0, seeds, CHUNK)]
    if alone is not None:
        chunks = [range(alone, alone + 1)]
    metafunc.parametrize("chunk", chunks, ids=[f"{chunk.start}-{chunk.stop - 1}" for chunk in chunks])
    metafunc.parametrize("parts", [len(chunks)], ids=[""])


def test_every_promise_holds_in_every_world(
    chunk: range, parts: int, testrun_uid: str, pytestconfig: pytest.Config
) -> None:
    """And a fault point that no seed has reached, or at which nothing crashed, is red as well."""
    done, failed = Part(), list[BaseException]()
    World.loud = pytestconfig.getoption("seed", None) is not None
    began = time.perf_counter()
    for seed in chunk:
        try:
            done.add(simulate(seed))
        except (Exception, faults.Crash) as error:  # noqa: BLE001 - the other seeds of the chunk are simulated too
            error.add_note(f"in seed {seed}; run it alone with: python -m tests.simulation {seed}")
            failed.append(error)
    done.seconds = time.perf_counter() - began
    collection = Collection(Path(tempfile.gettempdir()) / f"hf-simulation-{testrun_uid}", parts)
    together = collection.add(chunk.start, done)
    if failed:
        raise failed[0]
    if together is not None and len(chunk) > 1:
        print(together.summary())
        assert not together.missed(), "\n".join([*together.missed(), together.summary()])


@pytest.mark.parametrize("seed", [3, 14, 27, 71])
def test_the_same_seed_is_the_same_world(seed: int) -> None:
    assert plan_of(seed) == plan_of(seed)
    first, second = simulate(seed), simulate(seed)
    assert first == second
