"""Problem documents (RFC 9457): the one form in which HTTP says that something did not work.

Owns codes to titles and headers. Which status a code has is in `errors`. Called by the application and its walls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from holdfast.errors import STATUS, HoldfastError
from holdfast.wire.api import Problem

MEDIA_TYPE: Final = b"application/problem+json"
TYPE: Final = "urn:holdfast:problem:"

_TITLES: Final[Mapping[str, str]] = {
    "invalid": "The request is not valid",
    "unauthenticated": "A valid token is needed",
    "not_allowed": "That is not allowed",
    "unknown_thread": "There is no such thread",
    "unknown_run": "There is no such run",
    "unknown_request": "There is no such request",
    "unknown_agent": "There is no such agent",
    "not_found": "There is nothing here",
    "method_not_allowed": "The path does not know this method",
    "already_answered": "The request has been answered",
    "idempotency_conflict": "The key was used for something else",
    "conflict": "That contradicts the present state",
    "expired": "Nobody waits for this any more",
    "too_large": "That is too large",
    "unsupported": "That cannot be done here",
    "internal": "Holdfast has a fault",
    "busy": "Too busy right now",
    "agent_unavailable": "The agent is not available",
    "shutting_down": "The server is stopping",
    "storage_full": "There is no room left",
}

#: seconds after which trying again makes sense
_RETRY_AFTER: Final = b"1"


def problem(code: str, detail: str) -> Problem:
    return Problem(
        title=_TITLES.get(code, "That did not work"),
        status=STATUS.get(code, 500),
        code=code,
        detail=detail,
        type=TYPE + code,
    )


def of(error: HoldfastError) -> Problem:
    return problem(error.code, error.detail)


def encode(document: Problem) -> bytes:
    return msgspec.json.encode(document)


def headers(document: Problem) -> list[tuple[bytes, bytes]]:
    """Besides type and length."""
    if document.status == 401:
        return [(b"www-authenticate", b'Bearer realm="holdfast"')]
    if document.status == 503:
        return [(b"retry-after", _RETRY_AFTER)]
    if document.status == 413:
        return [(b"connection", b"close")]  # there may be more of the body than is worth reading
    return []
