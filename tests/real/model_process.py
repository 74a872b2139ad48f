"""The scripted model as a child process, for callers without an event loop of their own.

The child ends when this side closes its standard input, also when this process is killed.
"""

import contextlib
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from holdfast.doctor.model.log import Asked

_ANSWER_S = 20


class _Address(msgspec.Struct):
    url: str


class _Log(msgspec.Struct):
    requests: list[Asked]


class _Turns(msgspec.Struct):
    turns: int


class ModelProcess:
    """`with ModelProcess() as model`, then point an agent at `model.url`."""

    def __init__(self, port: int = 0, log_file: Path | None = None) -> None:
        self._arguments = ["--port", str(port), "--while-stdin"]
        if log_file is not None:
            self._arguments += ["--log", str(log_file)]
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "holdfast.doctor.model", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"cannot start the scripted model: because it ended with {self._process.wait()}"
            )
        self.url = msgspec.json.decode(line, type=_Address).url
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=5)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def requests(self) -> list[Asked]:
        return msgspec.json.decode(self._get("/_log"), type=_Log).requests

    def turns(self) -> int:
        return msgspec.json.decode(self._get("/_turns"), type=_Turns).turns

    def _get(self, path: str) -> bytes:
        # Straight to loopback, whatever proxy this process's environment names.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url + path, timeout=_ANSWER_S) as response:
            body: bytes = response.read()
            return body
