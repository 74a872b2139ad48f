"""Why a turn failed: from the words and numbers of a `result` to a failure class.

Owns the table of causes; pure. Called by the translator at the end of a turn and when a session cannot be opened.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from holdfast.core.reports import Failure, FailureClass
from holdfast.wire.stream_json import Result

ABORTED = "aborted"
"""How the terminal reasons of an interrupted turn begin."""

_BY_STATUS: dict[int, FailureClass] = {
    401: "auth",
    402: "usage_limit",
    403: "auth",
    413: "context_full",
    429: "usage_limit",
}

_BY_ERROR: dict[str, FailureClass] = {
    "authentication_failed": "auth",
    "oauth_org_not_allowed": "auth",
    "billing_error": "usage_limit",
    "rate_limit": "usage_limit",
}

_BY_WORDS: list[tuple[re.Pattern[str], FailureClass]] = [
    (
        re.compile(r"prompt is too long|context (window|length|limit)|conversation too long", re.I),
        "context_full",
    ),
    (re.compile(r"usage limit|rate limit|hit your .*limit|credit balance is too low", re.I), "usage_limit"),
    (re.compile(r"invalid api key|/login|not logged in|oauth token|failed to authenticate", re.I), "auth"),
]

_BY_SUBTYPE = {
    "error_max_turns": "it reached its limit of turns",
    "error_max_budget_usd": "it reached its limit of cost",
    "error_max_structured_output_retries": "its answer never had the required form",
    "error_during_execution": "it broke off",
}

_LIMIT_WITH_TIME = re.compile(r"limit reached\|(\d{9,11})\b")


def of_result(result: Result, said_error: str, reset_at: float | None) -> Failure:
    """The failure of a turn whose result says error. `said_error` is the code that came with the last message."""
    message = words_of(result)
    class_ = (
        _BY_STATUS.get(result.api_error_status or 0)
        or _BY_ERROR.get(said_error)
        or next((class_ for pattern, class_ in _BY_WORDS if pattern.search(message)), None)
        or "agent_error"
    )
    if class_ != "usage_limit":
        return Failure(class_, message)
    if found := _LIMIT_WITH_TIME.search(message):
        reset_at = float(found[1])
    return Failure(class_, message, retry_at=time_text(reset_at))


def words_of(result: Result) -> str:
    """What to tell a person, in the order of how much it says."""
    errors = "; ".join(text for text in result.errors if isinstance(text, str) and text)
    if result.result:
        return result.result
    if errors:
        return errors
    if result.api_error_status is not None:
        return f"the model's server answered with HTTP {result.api_error_status}"
    return f"the agent ended its turn with an error: because {_BY_SUBTYPE.get(result.subtype, 'it gave no reason')}"


def time_text(at: float | None) -> str:
    """Unix seconds as an RFC 3339 time, "" if there is none."""
    if at is None or not 0 < at < 32503680000:  # the year 3000: beyond it, it was never a time in seconds
        return ""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
