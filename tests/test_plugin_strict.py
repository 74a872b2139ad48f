"""The strict plugin, on small suites of its own: what a strict run refuses, and what it lets pass."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CONFTEST = """
pytest_plugins = ["tests.plugin_strict"]

def pytest_configure(config):
    config.addinivalue_line("markers", "real(agent): drives a real program")
"""

EVASIVE = """
import pytest

@pytest.mark.skip(reason="not today")
def test_skipped(): pass

@pytest.mark.xfail
def test_expected_to_fail(): assert False

@pytest.mark.xfail
def test_expected_to_fail_that_passes(): pass

def test_deselected(): pass

@pytest.mark.real("claude")
def test_that_drove_nothing(): pass
"""

HONEST = """
import json, os, pathlib, pytest

@pytest.mark.skip(reason="platform: needs control groups")
def test_of_another_platform(): pass

@pytest.mark.real("claude")
def test_that_drove_the_program():
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
    line = json.dumps({"agent": "claude", "test": test}) + "\\n"
    (pathlib.Path(os.environ["HOLDFAST_TEST_TURNS"]) / "model.jsonl").write_text(line * 2)
"""


def run(folder: Path, suite: str, *options: str, required: int = 0) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_suite.py").write_text(suite)
    (folder / "lock.json").write_text(json.dumps({"required_turns": {"claude": required}}))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "xdist.plugin",
        "-p",
        "no:cacheprovider",
        "--required-turns",
        "lock.json",
        *options,
    ]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def test_a_strict_run_refuses_every_way_round_a_test(tmp_path: Path) -> None:
    done = run(tmp_path, EVASIVE, "--strict-run", "-n", "2", "--deselect", "test_suite.py::test_deselected")
    assert done.returncode == 1
    assert "skipped: test_suite.py::test_skipped: not today" in done.stdout
    assert "expected to fail: test_suite.py::test_expected_to_fail\n" in done.stdout
    assert "expected to fail: test_suite.py::test_expected_to_fail_that_passes" in done.stdout
    assert done.stdout.count("deselected: test_suite.py::test_deselected") == 1
    assert "FAILED test_suite.py::test_that_drove_nothing" in done.stdout


def test_a_skip_alone_fails_a_strict_run_and_no_other(tmp_path: Path) -> None:
    suite = "import pytest\ndef test_a(): pass\ndef test_b(): pytest.skip('no network')\n"
    assert run(tmp_path, suite, "--strict-run").returncode == 1
    assert run(tmp_path, suite).returncode == 0


def test_a_skipped_file_fails_a_strict_run_in_workers(tmp_path: Path) -> None:
    (tmp_path / "test_good.py").write_text("def test_a(): pass\n")
    done = run(
        tmp_path, "import pytest\npytest.skip('gone', allow_module_level=True)\n", "--strict-run", "-n", "2"
    )
    assert done.returncode == 1
    assert "skipped: test_suite.py: gone" in done.stdout


def test_a_strict_run_counts_the_turns_of_real_programs(tmp_path: Path) -> None:
    enough = run(tmp_path, HONEST, "--strict-run", "-n", "2", required=2)
    assert enough.returncode == 0, enough.stdout + enough.stderr
    assert "claude            2" in enough.stdout
    short = run(tmp_path, HONEST, "--strict-run", required=3)
    assert short.returncode == 1
    assert (
        "claude: the scripted model served 2 turns to the real program, at least 3 are required"
        in short.stdout
    )
