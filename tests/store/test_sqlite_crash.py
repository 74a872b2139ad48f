"""kill -9 of a process that writes: what it acknowledged is there, and what is there is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from holdfast.store.sqlite import SqliteStore
from tests.pinned import ROOT

ROUNDS = 4
LINES = 300


def killed_writer(database: Path) -> dict[str, int]:
    """Stream -> the last version that was acknowledged before the kill."""
    acknowledged: dict[str, int] = {}
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.store.writer_child", str(database)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    with child, child.stdout as lines:
        for _ in range(LINES):
            line = lines.readline()
            if not line:
                break
            stream, version = line.split()
            acknowledged[stream] = int(version)
        child.kill()
        for line in lines:
            if line.endswith("\n"):
                stream, version = line.split()
                acknowledged[stream] = int(version)
    assert child.returncode == -9
    return acknowledged


async def test_acknowledged_commits_outlive_the_writer(tmp_path: Path) -> None:
    database = tmp_path / "holdfast.db"
    for _ in range(ROUNDS):
        acknowledged = killed_writer(database)
        assert len(acknowledged) == 8
        store = await SqliteStore.open(database)
        try:
            for stream, version in acknowledged.items():
                head = (await store.load(stream)).version
                assert version <= head <= version + 2, "one more commit may have been under way"
            assert await store.check() == []
        finally:
            await store.close()
