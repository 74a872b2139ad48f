"""Why a turn failed: a table of results and the class, words and time that a person gets."""

from typing import Any

import pytest

from holdfast.core.reports import Failure, TurnEnded
from tests.agents.claude_frames import Frame, Session, assistant, of, result, text


def ending(*before: Frame, **fields: Any) -> TurnEnded:
    session = Session()
    (end,) = of(TurnEnded, session.out(*before, result(**fields)))
    return end


API = {"is_error": True, "terminal_reason": "api_error"}
BROKE = {"subtype": "error_during_execution", "is_error": True, "result": ""}


@pytest.mark.parametrize(
    ("fields", "class_", "message"),
    [
        ({**API, "api_error_status": 429, "result": "rejected (429)"}, "usage_limit", "rejected (429)"),
        ({**API, "result": "Claude usage limit reached"}, "usage_limit", "Claude usage limit reached"),
        ({**API, "result": "Credit balance is too low"}, "usage_limit", "Credit balance is too low"),
        ({**API, "api_error_status": 401, "result": "no"}, "auth", "no"),
        ({**API, "api_error_status": 403, "result": "no"}, "auth", "no"),
        (
            {**API, "result": "Invalid API key · Please run /login"},
            "auth",
            "Invalid API key · Please run /login",
        ),
        (
            {**API, "api_error_status": 400, "result": "prompt is too long: 9 > 8"},
            "context_full",
            "prompt is too long: 9 > 8",
        ),
        ({**API, "api_error_status": 413, "result": "too large"}, "context_full", "too large"),
        ({**API, "api_error_status": 400, "result": "bad request"}, "agent_error", "bad request"),
        ({**API, "api_error_status": 500, "result": "server"}, "agent_error", "server"),
        ({**API, "api_error_status": 529, "result": "overloaded"}, "agent_error", "overloaded"),
        (
            {**API, "api_error_status": 418, "result": ""},
            "agent_error",
            "the model's server answered with HTTP 418",
        ),
        (
            {"subtype": "error_max_turns", "is_error": False, "result": ""},
            "agent_error",
            "the agent ended its turn with an error: because it reached its limit of turns",
        ),
        (
            {"subtype": "error_max_budget_usd", "is_error": True, "result": ""},
            "agent_error",
            "the agent ended its turn with an error: because it reached its limit of cost",
        ),
        ({**BROKE, "errors": ["out of memory", 7, "and more"]}, "agent_error", "out of memory; and more"),
        (
            {"subtype": "error_never_seen", "is_error": True, "result": ""},
            "agent_error",
            "the agent ended its turn with an error: because it gave no reason",
        ),
    ],
)
def test_a_failed_turn_has_its_class_and_words(fields: Frame, class_: str, message: str) -> None:
    end = ending(**fields)
    assert (end.status, end.failure) == ("failed", Failure(class_, message))  # type: ignore[arg-type]


def test_success_with_the_error_flag_is_a_failure() -> None:
    assert ending(is_error=True, subtype="success").status == "failed"
    assert ending(is_error=False, subtype="success").status == "completed"


@pytest.mark.parametrize(
    ("error", "class_"),
    [
        ("authentication_failed", "auth"),
        ("billing_error", "usage_limit"),
        ("rate_limit", "usage_limit"),
        ("server_error", "agent_error"),
        ("unknown", "agent_error"),
    ],
)
def test_the_code_of_the_last_message_tells_the_class_where_the_result_does_not(
    error: str, class_: str
) -> None:
    end = ending(assistant(text("something"), error=error), is_error=True, result="something")
    assert end.failure is not None
    assert end.failure.class_ == class_


def limit(status: str, resets_at: float) -> Frame:
    return {"type": "rate_limit_event", "rate_limit_info": {"status": status, "resetsAt": resets_at}}


def test_a_usage_limit_says_when_it_resets() -> None:
    end = ending(limit("rejected", 1795262400), is_error=True, api_error_status=429, result="no")
    assert end.failure == Failure("usage_limit", "no", retry_at="2026-11-21T12:00:00Z")
    end = ending(is_error=True, result="Claude AI usage limit reached|1795262400")
    assert end.failure is not None
    assert end.failure.retry_at == "2026-11-21T12:00:00Z"


def test_a_warning_is_no_reset_time_of_a_later_failure() -> None:
    end = ending(limit("allowed_warning", 1795262400), is_error=True, api_error_status=429, result="no")
    assert end.failure == Failure("usage_limit", "no")


@pytest.mark.parametrize("at", [-1.0, 0.0, 1e300])
def test_a_reset_time_that_is_none_is_left_out(at: float) -> None:
    end = ending(limit("rejected", at), is_error=True, api_error_status=429, result="no")
    assert end.failure == Failure("usage_limit", "no")


@pytest.mark.parametrize("reason", ["aborted_streaming", "aborted_tools"])
def test_an_aborted_turn_is_interrupted_however_it_calls_itself(reason: str) -> None:
    assert ending(**BROKE, terminal_reason=reason).status == "interrupted"
    assert ending(terminal_reason=reason).status == "interrupted"
    assert ending(**BROKE, terminal_reason=reason).failure is None


def test_without_a_reason_an_error_after_our_interrupt_is_an_interruption() -> None:
    session = Session()
    session.out(assistant(text("x")))
    session.record("received", id_="interrupt:run.1")
    (end,) = of(TurnEnded, session.out(result(**BROKE)))
    assert end.status == "interrupted"
    assert ending(**BROKE).status == "failed"
