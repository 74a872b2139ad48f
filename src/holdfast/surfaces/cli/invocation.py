"""One invocation of the program: what a command gets, how it ends, and how it says that something went wrong.

Owns exit codes and the rule of the two outputs: stdout carries the answer, with `--json` exactly one JSON value;
progress, prose and errors go to stderr. It knows no command and no parser. Nothing heavy is imported here:
`holdfast --help` has 150 ms.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast.errors import EXIT, STATUS, HoldfastError

if TYPE_CHECKING:
    from holdfast.client import SyncClient
    from holdfast.home import Home

DONE, FAILED, USAGE, WAITING, REFUSED, UNAVAILABLE, TIME_UP, STOPPED = range(8)
INTERRUPTED = 130


class Stop(HoldfastError):
    """An error with an exit code of its own."""

    def __init__(self, code: str, detail: str, exit_code: int) -> None:
        super().__init__(code, detail)
        self.exit_code = exit_code


class Cli:
    """One invocation. `client` finds the server, and starts one unless `--no-start` forbids it."""

    def __init__(
        self, home: str, *, json: bool = False, stream_json: bool = False, start: bool = True
    ) -> None:
        self.json = json
        self.stream_json = stream_json
        self.may_start = start
        self._given_home = home
        self._home: Home | None = None

    @property
    def home(self) -> Home:
        if self._home is None:
            from holdfast.home import Home

            self._home = Home.locate(self._given_home)
        return self._home

    @property
    def machine(self) -> bool:
        """Whether a program reads the output."""
        return self.json or self.stream_json

    @property
    def terminal(self) -> bool:
        """Whether a person can be asked right here."""
        return not self.machine and sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()

    def client(self) -> SyncClient:
        from holdfast.surfaces.cli.server import connected

        return connected(self.home, start=self.may_start, say=self.say)

    def value(self, value: Any) -> None:
        """The one JSON value of `--json`; a line of `--stream-json`."""
        import msgspec

        out(msgspec.json.encode(value) + b"\n")

    def say(self, text: str) -> None:
        """Prose, for the person."""
        print(text, file=sys.stderr, flush=True)


def out(data: bytes) -> None:
    """Bytes for stdout, as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def guarded(cli: Cli, work: Callable[[], int | None]) -> int:
    """Runs the work to an exit code."""
    try:
        return work() or DONE
    except HoldfastError as error:
        return complain(error, as_json=cli.machine)
    except KeyboardInterrupt:
        return INTERRUPTED


def complain(error: HoldfastError, *, as_json: bool) -> int:
    """Says what went wrong in three parts on stderr; with `--json` also as a problem object on stdout."""
    what, why, hint = parts(error)
    lines = [f"error: {what}", *([f"  because: {why}"] if why else []), *([f"  do: {hint}"] if hint else [])]
    print("\n".join(lines), file=sys.stderr, flush=True)
    if as_json:
        import msgspec

        document = {
            "type": f"urn:holdfast:problem:{error.code}",
            "title": what,
            "status": STATUS.get(error.code, 503),
            "code": error.code,
            "detail": error.detail,
        }
        out(msgspec.json.encode(document) + b"\n")
    return error.exit_code if isinstance(error, Stop) else EXIT.get(error.code, UNAVAILABLE)


_PARTS = re.compile(r"\A(?P<what>cannot .*?): because (?P<why>.*?)(?:; (?P<hint>.*))?\Z", re.DOTALL)
_HINTS = {
    "unauthenticated": "check that HOLDFAST_HOME is the server's home",
    "unknown_thread": "`holdfast threads` lists what there is",
    "unknown_run": "`holdfast show THREAD` lists a thread's runs",
    "unknown_request": "`holdfast requests` lists what is pending",
    "unknown_agent": "`holdfast agents` lists what there is",
    "already_answered": "`holdfast requests` lists what is still pending",
    "shutting_down": "try again in a moment",
    "busy": "try again in a moment",
    "storage_full": "make room on the disk, and try again",
}


def parts(error: HoldfastError) -> tuple[str, str, str]:
    """What, why, and what to do."""
    hint = _HINTS.get(error.code, "")
    if found := _PARTS.match(error.detail):
        return found["what"], found["why"], found["hint"] or hint
    return error.detail, "", hint
