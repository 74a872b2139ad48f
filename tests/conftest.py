"""What every test stands on: the strict plugin, repeatable Hypothesis runs, and a home that is nobody's."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.plugin_strict"]

# No deadline: two cores are shared with real agent programs. In CI the examples are the same in every run.
settings.register_profile("holdfast", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("holdfast")

# What makes a program reach the person's own accounts, files or servers instead of what the test gave it.
PERSONAL = (
    "ANTHROPIC_", "CLAUDE", "CODEX_", "CURSOR_", "GEMINI_", "GOOGLE_", "HOLDFAST_", "OPENAI_", "OPENCODE_",
)  # fmt: skip
KEPT = frozenset({"HOLDFAST_TEST_TURNS"})


@pytest.fixture(scope="session", autouse=True)
def nobodys_home() -> Iterator[Path]:
    """Takes the person's settings out of this process and gives it a Holdfast home of its own, with a short path."""
    for name in [name for name in os.environ if name.startswith(PERSONAL) and name not in KEPT]:
        del os.environ[name]
    home = Path(tempfile.mkdtemp(prefix="hf-"))
    os.environ["HOLDFAST_HOME"] = str(home)
    os.environ["HOLDFAST_LOCKS"] = str(home / "locks")
    yield home
    shutil.rmtree(home, ignore_errors=True)
