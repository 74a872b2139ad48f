"""Where the pinned agent programs are, for tests that drive them; what pins them is tests/agents.lock.json."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def program(agent: str) -> Path:
    """The pinned program of `agent`. Absent, the test fails: it is never skipped."""
    lock = json.loads((ROOT / "tests" / "agents.lock.json").read_text(encoding="utf-8"))
    path: Path = ROOT / ".agents" / lock["agents"][agent]["program"]
    if not path.is_file():
        raise AssertionError(
            f"cannot test with {agent}: because {path} is not there; `make agents` installs it"
        )
    return path
