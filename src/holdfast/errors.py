"""Every error that crosses a boundary of Holdfast, with its stable code.

    HoldfastError           code, detail
    ├── Rejected            a command cannot be done: deterministic, its receipt is stored
    ├── Unavailable         a command cannot be done now: transient, its id stays usable
    └── ConfigError         the configuration cannot be used

`STATUS` maps a code to its HTTP status, `EXIT` to the exit code of the command line: the one table for all surfaces.
Texts read "cannot X: because Y; do Z".
"""

from __future__ import annotations

from typing import Final


class HoldfastError(Exception):
    """Root. `detail` is for people, `code` for programs."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Rejected(HoldfastError):
    """The same command on the same history is refused for ever: the refusal is its answer."""


class Unavailable(HoldfastError):
    """Try again with the same command id."""


class ConfigError(HoldfastError):
    """Names the file or variable, the key and the nearest known key."""

    def __init__(self, detail: str) -> None:
        super().__init__("invalid", detail)


_TABLE: Final[dict[str, tuple[int, int]]] = {
    "invalid": (400, 2),
    "unauthenticated": (401, 4),
    "not_allowed": (403, 4),
    "unknown_thread": (404, 2),
    "unknown_run": (404, 2),
    "unknown_request": (404, 2),
    "unknown_agent": (404, 2),
    "not_found": (404, 2),
    "method_not_allowed": (405, 2),
    "already_answered": (409, 4),
    "idempotency_conflict": (409, 4),
    "conflict": (409, 4),
    "expired": (410, 4),
    "too_large": (413, 2),
    "unsupported": (422, 4),
    "internal": (500, 5),
    "busy": (503, 5),
    "agent_unavailable": (503, 5),
    "shutting_down": (503, 5),
    "storage_full": (507, 5),
}

STATUS: Final[dict[str, int]] = {code: status for code, (status, _) in _TABLE.items()}
EXIT: Final[dict[str, int]] = {code: exit_code for code, (_, exit_code) in _TABLE.items()}
