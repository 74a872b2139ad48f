"""The house stays in order: every file keeps every rule of tests/tidy.py, and every rule is able to object."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import tidy
from tests.tidy import Module

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("src", "tests", "bench", "tools")

Rule = Callable[[Module], Iterator[str]]


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    return [Module.read(ROOT, file) for file in files]


def test_the_files_are_found(modules: list[Module]) -> None:
    paths = {module.path for module in modules}
    assert {"src/holdfast/__init__.py", "tests/test_tidy.py", "tools/agents.py"} <= paths


@pytest.mark.parametrize("rule", tidy.RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Rule, modules: list[Module]) -> None:
    findings = list(dict.fromkeys(finding for module in modules for finding in rule(module)))
    assert not findings, "\n" + "\n".join(findings)


def test_every_package_of_holdfast_has_a_docstring_file() -> None:
    folders = {file.parent for file in (ROOT / "src" / "holdfast").rglob("*.py")}
    bare = sorted(
        str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()
    )
    assert not bare, f"give each of these an __init__.py with a docstring: {bare}"


LONG = "def f():\n" + "    x = 1\n" * tidy.FUNCTION_LINES
HUGE = "x = 1\n" * (tidy.MODULE_LINES + 1)


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (tidy.purity, "src/holdfast/core/runs.py", "import time"),
        (tidy.purity, "src/holdfast/core/runs.py", "import os.path"),
        (tidy.purity, "src/holdfast/wire/jsonl.py", "from asyncio import StreamReader"),
        (tidy.purity, "src/holdfast/agents/acp.py", "from pathlib import Path"),
        (tidy.purity, "src/holdfast/agents/acp.py", "def f():\n    import random"),
        (tidy.purity, "src/holdfast/core/runs.py", "from datetime import datetime\nx = datetime.now()"),
        (tidy.purity, "src/holdfast/core/runs.py", "import datetime\nx = datetime.datetime.now()"),
        (tidy.purity, "src/holdfast/core/runs.py", "print('here')"),
        (tidy.agent_names, "src/holdfast/engine/sessions.py", "if kind == 'claude': pass"),
        (tidy.agent_names, "src/holdfast/engine/sessions.py", "from holdfast.agents import codex"),
        (tidy.agent_names, "src/holdfast/runner/spawn.py", "OPENCODE_PORT = 1"),
        (tidy.agent_names, "src/holdfast/settings.py", "x = f'{y}/gemini'"),
        (tidy.agent_names, "src/holdfast/core/runs.py", "def for_cursor_agent(): pass"),
        (tidy.directions, "src/holdfast/core/runs.py", "from holdfast.engine import feed"),
        (tidy.directions, "src/holdfast/core/runs.py", "from holdfast import store"),
        (tidy.directions, "src/holdfast/core/runs.py", "from ..store import port"),
        (tidy.directions, "src/holdfast/runner/shim.py", "import holdfast.core.runs"),
        (tidy.directions, "src/holdfast/client/__init__.py", "from ..surfaces import http"),
        (tidy.directions, "src/holdfast/attic.py", ""),
        (tidy.sizes, "src/holdfast/core/runs.py", LONG),
        (tidy.sizes, "tests/test_runs.py", HUGE),
        (tidy.module_names, "src/holdfast/core/utils.py", ""),
        (tidy.module_names, "src/holdfast/engine/session_manager.py", ""),
        (tidy.one_sqlite, "bench/store.py", "import sqlite3"),
        (tidy.one_sqlite, "bench/store.py", "from sqlite3 import dbapi2"),
        (tidy.processes, "src/holdfast/engine/sessions.py", "asyncio.create_subprocess_exec('true')"),
        (tidy.described, "src/holdfast/engine/__init__.py", ""),
        (tidy.described, "tests/test_runs.py", "x = 1"),
        (tidy.honest_tests, "tests/test_runs.py", "def test_a():\n    if x:\n        return\n    assert y"),
        (tidy.honest_tests, "tests/test_runs.py", "import time\ntime.sleep(1)"),
        (tidy.honest_tests, "tests/test_runs.py", "from time import sleep"),
    ],
)
def test_the_rule_objects(rule: Rule, path: str, text: str) -> None:
    findings = list(rule(Module.parsed(path, text)))
    assert findings
    assert all(finding.startswith(f"{path}:") for finding in findings)


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (tidy.purity, "src/holdfast/core/runs.py", "from pathlib import PurePosixPath"),
        (
            tidy.purity,
            "src/holdfast/agents/acp.py",
            "import hashlib, json, re\nx = datetime.fromtimestamp(now)",
        ),
        (tidy.purity, "src/holdfast/agents/scripted_program.py", "import os, sys, time\nprint()"),
        (tidy.purity, "src/holdfast/engine/timers.py", "import time"),
        (
            tidy.agent_names,
            "src/holdfast/engine/sessions.py",
            '"""Speaks to Claude."""\n# codex too\ncursor = 1',
        ),
        (tidy.agent_names, "src/holdfast/agents/claude.py", "KIND = 'claude'"),
        (tidy.agent_names, "tests/test_runs.py", "KIND = 'claude'"),
        (
            tidy.directions,
            "src/holdfast/core/runs.py",
            "from . import items\nfrom holdfast.errors import Refused",
        ),
        (tidy.directions, "src/holdfast/core/runs.py", "from holdfast import __version__"),
        (tidy.directions, "src/holdfast/__main__.py", "from holdfast.surfaces.cli import app"),
        (
            tidy.honest_tests,
            "tests/test_runs.py",
            "def test_a():\n    def f():\n        return 1\n    assert f()",
        ),
    ],
)
def test_the_rule_lets_pass(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Module.parsed(path, text))) == []
