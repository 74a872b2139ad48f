"""The judgement over all seeds: what no seed has reached is named, and only the last part of a run judges."""

from __future__ import annotations

from pathlib import Path

from tests.simulation.coverage import Collection, Part
from tests.simulation.plan import RUNNER_POINTS, SERVER_POINTS

POINTS = (*SERVER_POINTS, *RUNNER_POINTS)


def everything_once() -> dict[str, int]:
    return dict.fromkeys(POINTS, 1)


def test_a_point_that_no_seed_has_reached_is_named() -> None:
    passed = everything_once()
    del passed["engine.commit.done"]
    part = Part(passed=passed, struck=everything_once())
    assert part.missed() == ["engine.commit.done was never reached"]


def test_a_point_at_which_nothing_crashed_is_named() -> None:
    struck = everything_once()
    del struck["runner.write.half"]
    part = Part(passed=everything_once(), struck=struck)
    assert part.missed() == ["nothing crashed at runner.write.half"]


def test_the_last_part_of_a_run_judges_the_whole(tmp_path: Path) -> None:
    collection = Collection(tmp_path / "parts", 2)
    half = len(POINTS) // 2
    first = Part(seeds=50, passed=dict.fromkeys(POINTS[:half], 1), struck=dict.fromkeys(POINTS[:half], 1))
    second = Part(seeds=50, passed=dict.fromkeys(POINTS[half:], 2), struck=dict.fromkeys(POINTS[half:], 1))
    assert first.missed()
    assert collection.add(0, first) is None
    together = collection.add(50, second)
    assert together is not None
    assert together.seeds == 100
    assert together.missed() == []
    assert not (tmp_path / "parts").exists()
