"""A pytest plugin that lets no test pass without testing.

With `--strict-run` (which `make test` gives) or CI set, a run fails that skipped, deselected or expected the failure of
anything, or in which the real agent programs asked the scripted model for fewer turns than tests/agents.lock.json
requires. A skip whose reason starts with "platform:" is allowed. Always, a test marked `real("claude")` fails when the
program of that agent asked for no turn in it. Loaded by tests/conftest.py, in the controller and in every xdist worker.

The turns are counted by the scripted model that serves them (`holdfast.doctor.model`): one JSON line per turn, with the
agent and the test, in one file per process, in the folder that HOLDFAST_TEST_TURNS names.
"""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

TURNS = "HOLDFAST_TEST_TURNS"
ALLOWED = "platform:"
LOCK = Path(__file__).with_name("agents.lock.json")


class Turn(NamedTuple):
    agent: str
    test: str


def turns_in(folder: Path) -> Iterator[Turn]:
    """Every turn counted so far, by any process."""
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield Turn(row["agent"], row["test"])


def is_true(value: str) -> bool:
    return value.lower() not in ("", "0", "false", "no")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("holdfast")
    group.addoption(
        "--strict-run",
        action="store_true",
        default=False,
        help="fail on any skip, deselection or expected failure, and below the required turns of real programs",
    )
    group.addoption(
        "--required-turns",
        type=Path,
        default=LOCK,
        metavar="FILE",
        help="the JSON file whose `required_turns` says how many turns each real program must ask for",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Strictness(config), "holdfast-strictness")


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a report says skipped: pytest keeps it as (file, line, "Skipped: reason")."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)


def objection(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """What a strict run has against this report, if anything."""
    if hasattr(report, "wasxfail"):
        return f"expected to fail: {report.nodeid}"
    if report.skipped and not reason_of(report).startswith(ALLOWED):
        return f"skipped: {report.nodeid}: {reason_of(report)}"
    return None


def shortfalls(served: Counter[str], required: dict[str, int]) -> list[str]:
    return [
        f"{agent}: the scripted model served {served[agent]} turns to the real program, at least {least} are required"
        for agent, least in required.items()
        if served[agent] < least
    ]


class Strictness:
    """What one process of the run has seen. A worker hands its part to the controller at its end."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.is_worker = hasattr(config, "workerinput")
        self.strict = bool(config.getoption("--strict-run")) or is_true(os.environ.get("CI", ""))
        self.objections: dict[str, None] = {}  # an ordered set: both workers report the same deselection
        self.failures: list[str] = []
        self.made_folder = False
        if not self.is_worker and not os.environ.get(TURNS):
            os.environ[TURNS] = tempfile.mkdtemp(prefix="holdfast-turns-")
            self.made_folder = True
        self.folder = Path(os.environ[TURNS])

    # in every process

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" and report.passed:
            wanted = {str(marker.args[0]) for marker in item.iter_markers("real")}
            if wanted:
                wanted -= {turn.agent for turn in turns_in(self.folder) if turn.test == item.nodeid}
            if wanted:
                report.outcome = "failed"
                report.longrepr = (
                    f"this test is marked real({', '.join(sorted(wanted))}), but the scripted model served no turn to "
                    "that program in it: it returned early, or drove something else"
                )
        return report

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        for item in items:
            self.objections[f"deselected: {item.nodeid}"] = None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.note(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.note(report)

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if text := objection(report):
            self.objections[text] = None

    # in the controller

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        for text in getattr(node, "workeroutput", {}).get("holdfast_objections", ()):
            self.objections[text] = None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.is_worker:
            self.config.workeroutput["holdfast_objections"] = list(self.objections)  # type: ignore[attr-defined]
            return
        if not self.strict or self.config.option.collectonly:
            return
        lock: Path = self.config.getoption("--required-turns")
        required: dict[str, int] = json.loads(lock.read_text(encoding="utf-8"))["required_turns"]
        self.failures = [*self.objections, *shortfalls(self.count(), required)]
        if self.failures and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def count(self) -> Counter[str]:
        return Counter(turn.agent for turn in turns_in(self.folder))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        served = self.count()
        if served:
            terminalreporter.section("turns served by the scripted model to real programs")
            for agent, count in sorted(served.items()):
                terminalreporter.write_line(f"{agent:<12} {count:>6}")
        if self.failures:
            terminalreporter.section("a strict run fails because of", red=True)
            for text in self.failures:
                terminalreporter.write_line(text)

    def pytest_unconfigure(self) -> None:
        if self.made_folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.environ.pop(TURNS, None)
