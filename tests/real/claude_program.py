"""The pinned Claude Code program: where it is, its scrubbed environment, its arguments.

Every test that starts the real program takes these from here, so that none gives it this machine's own
environment, home or keys.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import pinned

# Read at import: the suite takes HOLDFAST_* out of its own environment before the first test.
_OVERRIDE = os.environ.get("HOLDFAST_TEST_CLAUDE", "")

KEY = "test-key"
MODEL = "scripted-1"

ARGUMENTS = (
    "--print",
    "--input-format", "stream-json",
    "--output-format", "stream-json",
    "--verbose",
    "--model", MODEL,
    "--permission-prompt-tool", "stdio",
    "--include-partial-messages",
    "--replay-user-messages",
)  # fmt: skip
"""The arguments of a bare pipe; `--session-id` or `--resume` are put behind them."""


def program() -> Path:
    """The program; absent, the test fails with what to do."""
    if not _OVERRIDE:
        return pinned.program("claude")
    path = Path(_OVERRIDE)
    if not path.is_file():
        pytest.fail(f"cannot test with claude: because HOLDFAST_TEST_CLAUDE names {path}, which is not there")
    return path


def environment(home: Path, url: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """All that the program gets to see: a home of its own, the scripted model, a dummy key, nothing else."""
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "2",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_BUG_COMMAND": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_TELEMETRY": "1",
        **(more or {}),
    }
