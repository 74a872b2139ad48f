"""Fault points: declared once, free when unarmed, deadly when armed, and a hook for simulations."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import faults


@pytest.fixture(autouse=True)
def no_hook() -> Iterator[None]:
    yield
    faults.set_hook(None)
    faults.arm("")
    faults.POINTS.pop("test.point", None)


def run(code: str, **env: str) -> int:
    source = str(Path(faults.__file__).parent.parent)
    text = f"from holdfast import faults\nfaults.declare('test.point', 'a test')\n{code}"
    return subprocess.run([sys.executable, "-c", text], env={"PYTHONPATH": source, **env}).returncode


def test_an_unarmed_point_does_nothing() -> None:
    assert run("faults.point('test.point')") == 0
    assert run("faults.point('test.point')", HOLDFAST_FAULT="another.point") == 0


def test_an_armed_point_kills_at_its_passage() -> None:
    passages = "\nfor n in range(2): faults.point('test.point')"
    assert run(passages, HOLDFAST_FAULT="test.point") == -9
    assert run(passages, HOLDFAST_FAULT="test.point:2") == -9
    assert run(passages, HOLDFAST_FAULT="test.point:3") == 0


def test_once_means_once_over_all_processes(tmp_path: Path) -> None:
    env = {"HOLDFAST_FAULT": "test.point", "HOLDFAST_FAULT_ONCE": str(tmp_path / "struck")}
    assert [run("faults.point('test.point')", **env) for _ in range(3)] == [-9, 0, 0]
    assert os.path.exists(tmp_path / "struck")


def test_the_hook_hears_every_passage_and_may_crash() -> None:
    faults.declare("test.point", "a test")
    heard: list[str] = []
    faults.set_hook(heard.append)
    assert faults.armed("test.point")
    faults.point("test.point")
    assert heard == ["test.point"]

    def crash(name: str) -> None:
        raise faults.Crash(name)

    faults.set_hook(crash)
    with pytest.raises(faults.Crash):
        faults.point("test.point")


def test_a_point_that_nobody_declared_is_an_error_where_it_matters() -> None:
    faults.set_hook(lambda name: None)
    with pytest.raises(LookupError, match="nobody declared"):
        faults.point("test.undeclared")


def test_a_name_has_one_meaning() -> None:
    faults.declare("test.point", "a test")
    assert faults.declare("test.point", "a test") == "test.point"
    with pytest.raises(ValueError, match="another meaning"):
        faults.declare("test.point", "something else")
