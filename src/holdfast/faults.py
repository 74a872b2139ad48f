"""Fault points: named steps at which a test may end this process or crash a simulated part.

Owns the table of points, their arming by environment, and the hook of the simulator. It never decides where a point
belongs: the code that performs the step declares it and passes it. Unarmed, a passage costs one comparison.

`HOLDFAST_FAULT=name` ends the process by SIGKILL at the first passage, `name:3` at the third. With
`HOLDFAST_FAULT_ONCE=FILE` it does so only if it can create that file: a process started again lives on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

POINTS: dict[str, str] = {}
"""Every declared point and what has happened when it is passed."""


class Crash(BaseException):
    """Raised by the simulator's hook: the part that passed the point is dead from here on."""


_hook: Callable[[str], None] | None = None
_armed_name = ""
_passages_left = 0


def declare(name: str, meaning: str) -> str:
    """Called at import by the module that passes the point; returns the name."""
    if POINTS.setdefault(name, meaning) != meaning:
        raise ValueError(f"cannot declare fault point {name}: because it is declared with another meaning")
    return name


def point(name: str) -> None:
    """The step that `name` describes has just been done."""
    if _hook is not None:
        _check(name)
        _hook(name)
    elif name == _armed_name:
        _pass()


def armed(name: str) -> bool:
    """Whether a passage of this point matters: the caller may then take its step in two halves."""
    return _hook is not None or name == _armed_name


def set_hook(hook: Callable[[str], None] | None) -> None:
    """The simulator's hook, called at every passage; it may raise `Crash`. None takes it away."""
    global _hook
    _hook = hook


def arm(text: str) -> None:
    """`name` or `name:passage`; "" disarms."""
    global _armed_name, _passages_left
    name, _, passage = text.partition(":")
    _armed_name, _passages_left = name, int(passage or 1)


def _check(name: str) -> None:
    if name not in POINTS:
        raise LookupError(f"cannot pass fault point {name}: because nobody declared it")


def _pass() -> None:
    global _passages_left
    _check(_armed_name)
    _passages_left -= 1
    if _passages_left == 0 and _may_fire():
        os.kill(os.getpid(), signal.SIGKILL)


def _may_fire() -> bool:
    once = os.environ.get("HOLDFAST_FAULT_ONCE", "")
    if not once:
        return True
    try:
        os.close(os.open(once, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


arm(os.environ.get("HOLDFAST_FAULT", ""))
