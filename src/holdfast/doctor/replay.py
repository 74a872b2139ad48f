"""A recorded transcript through today's translators.

Reads a file; starts nothing and sends nothing. Called by `holdfast replay`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from holdfast.agents.catalog import KINDS
from holdfast.agents.transcripts import TranscriptError, decode, replay
from holdfast.errors import HoldfastError


class ReplayedSession(msgspec.Struct, frozen=True):
    """What one recorded session means today."""

    agent: str
    session: str
    records: int
    reports: list[Any]


def replayed(path: Path) -> list[ReplayedSession]:
    """Each session of the file. Raises `invalid` for what is no transcript."""
    try:
        data = path.read_bytes()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise HoldfastError("invalid", f"cannot read {path}: because {why}; check the path") from error
    return [_session(part) for part in _sessions(data)]


def _sessions(data: bytes) -> list[bytes]:
    """A file may hold several sessions; each begins with its header."""
    parts: list[list[bytes]] = []
    for line in data.splitlines(keepends=True):
        if not parts or line.startswith(b'{"holdfast_transcript"'):
            parts.append([])
        parts[-1].append(line)
    return [b"".join(part) for part in parts] or [b""]


def _session(data: bytes) -> ReplayedSession:
    try:
        transcript = decode(data)
    except TranscriptError as error:
        raise HoldfastError("invalid", str(error)) from error
    header = transcript.header
    if header.agent not in KINDS:
        raise HoldfastError(
            "unknown_agent", f"cannot replay: because this version has no kind {header.agent!r} of agent"
        )
    return ReplayedSession(
        agent=header.agent,
        session=header.session,
        records=len(transcript.records),
        reports=list(replay(transcript, KINDS[header.agent])),
    )
