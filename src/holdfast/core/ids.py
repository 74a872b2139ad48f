"""Identities and their text form.

A thread's id is fresh; everything inside a thread is numbered, and carries the thread's key in its id. So an id
leads to its thread without a look-up, and a replayed command gives the same ids. Native ids of agents are evidence
and never appear here.
"""

from __future__ import annotations

import hashlib
import re

_KEY = re.compile(r"^[0-9a-z]{16,32}\Z")
_THREAD = re.compile(r"^th_([0-9a-z]{16,32})\Z")
_INNER = re.compile(r"^(run|item|req|ses)_([0-9a-z]{16,32})_([1-9][0-9]{0,11})\Z")


def thread_id(key: str) -> str:
    """`key`: 16 to 32 characters of [0-9a-z], fresh, sortable by time."""
    if not _KEY.match(key):
        raise ValueError(f"cannot make a thread id: key {key!r} is not 16 to 32 of [0-9a-z]")
    return f"th_{key}"


def inner_id(prefix: str, thread: str, number: int) -> str:
    """The id of the thread's `number`-th run, item, req(uest) or ses(sion). Numbers start at 1."""
    return f"{prefix}_{thread.removeprefix('th_')}_{number}"


def thread_of(identity: str) -> str | None:
    """The thread that a run, item, request or session belongs to; a thread's own id; None for anything else."""
    if _THREAD.match(identity):
        return identity
    found = _INNER.match(identity)
    return f"th_{found.group(2)}" if found else None


def kind_of(identity: str) -> str | None:
    """`th`, `run`, `item`, `req` or `ses`; None if it is no id of ours."""
    if _THREAD.match(identity):
        return "th"
    found = _INNER.match(identity)
    return found.group(1) if found else None


def number_of(identity: str) -> int:
    """The number in an inner id: a run's or item's ordinal. Raises ValueError for what has none."""
    return int(identity.rpartition("_")[2])


def stream_of(thread: str) -> str:
    """The stream that holds the thread's events."""
    return f"thread:{thread}"


def reference(*parts: object) -> str:
    """A text id in the form of RFC 4122 (version 8), the same for the same parts: what agents that want a UUID get."""
    digest = bytearray(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:16])
    digest[6] = (digest[6] & 0x0F) | 0x80
    digest[8] = (digest[8] & 0x3F) | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def fingerprint(*parts: str) -> str:
    """Identity of what a request asks about: 32 hex characters over kind, tool, canonical arguments, folder, run."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
