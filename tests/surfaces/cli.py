"""`holdfast` as a real program in a home of its own, with an environment that holds nothing of this machine's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import holdfast

WITHIN_S = 60
SOURCE = str(Path(holdfast.__file__).parent.parent)


class Done(NamedTuple):
    """How an invocation ended."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on stdout; anything more or less fails."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Program:
    """The program with one home. `end` leaves nothing running."""

    def __init__(self, home: Path, user: Path, **environ: str) -> None:
        self.home = home
        user.mkdir(exist_ok=True)
        self.env = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
            "HOME": str(user),
            "LANG": "C.UTF-8",
            "PYTHONPATH": SOURCE,
            "HOLDFAST_HOME": str(home),
            **environ,
        }

    def argv(self, *arguments: str | bytes) -> list[str | bytes]:
        return [sys.executable, "-m", "holdfast", *arguments]

    def __call__(
        self, *arguments: str | bytes, stdin: bytes = b"", cwd: Path | None = None, **environ: str
    ) -> Done:
        done = subprocess.run(
            self.argv(*arguments),
            input=stdin,
            capture_output=True,
            env={**self.env, **environ},
            cwd=cwd,
            timeout=WITHIN_S,
        )
        return Done(done.returncode, done.stdout, done.stderr.decode())

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.argv(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env,
        )

    def end(self) -> None:
        if self.home.exists():
            ended = self("serve", "--stop", "--agents", "--force")
            assert ended.code == 0, ended.err
