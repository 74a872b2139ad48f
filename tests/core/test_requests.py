"""Requests: opened, judged by mode and grant, answered once, delivered, or ended without delivery."""

import pytest

from holdfast.core import commands as c
from holdfast.core import effects as fx
from holdfast.core import reports as r
from holdfast.core.ids import fingerprint
from tests.core import words as w
from tests.core.story import Given, Told, event, given

COLOR = r.Question("color", "Color", "Which color?", options=[r.Option("red"), r.Option("blue")])
SIZE = r.Question("size", "Size", "Which sizes?", multiple=True)


def at_work(*before: Told, mode: str = "ask", lanes: dict[str, str] | None = None) -> Given:
    return given(w.create("go", mode), w.opened(), w.working(), before, lanes=lanes)


def test_a_request_is_one_durable_record() -> None:
    thread = at_work(w.item("a"), lanes={"command": "hosted-alive"})
    told = r.RequestOpened(
        "t1", "q1", "command", "Run rm?", "Bash", {"b": 1, "a": "é"}, "in atlas", "a", grant="Bash(rm:*)"
    )
    thread.when(w.told(told)).then(
        event(
            "request.opened",
            request_id=w.request_id(1),
            run_id=w.run_id(1),
            attempt=1,
            generation=1,
            kind="command",
            lane="hosted-alive",
            title="Run rm?",
            detail="in atlas",
            tool="Bash",
            ref="q1",
            item_id=w.item_id(2),
            grant="Bash(rm:*)",
            options=list(r.DECISIONS),
            fingerprint=fingerprint("scripted", "Bash", '{"a":"é","b":1}', w.CWD, w.run_id(1)),
        )
    ).asks_for()


def test_an_unknown_kind_is_shown_and_never_dropped() -> None:
    at_work().when(w.asks(kind="unknown")).then(
        event("request.opened", kind="unknown", lane="none", item_id="")
    )


def test_the_same_request_told_twice_is_one() -> None:
    at_work(w.asks()).when(w.asks()).then_nothing()


# Judged


@pytest.mark.parametrize("mode", ["ask", "edits", "auto", "full"])
@pytest.mark.parametrize(
    "kind", ["command", "file_change", "file_read", "tool", "network", "plan", "unknown"]
)
@pytest.mark.parametrize("inside", [True, False])
def test_the_mode_judges(mode: str, kind: r.RequestKind, inside: bool) -> None:
    outcome = at_work(mode=mode).when(w.asks(kind=kind, inside_workspace=inside))
    passes = mode == "full" or (mode in ("edits", "auto") and kind == "file_change" and inside)
    if passes:
        outcome.then("request.opened", event("request.answered", decision="accept", by=f"policy:{mode}"))
        outcome.asks_for(fx.SendAnswer(w.request_id(1), 1))
    else:
        outcome.then("request.opened").asks_for()


@pytest.mark.parametrize("mode", ["ask", "edits", "auto", "full"])
def test_questions_always_go_to_the_person(mode: str) -> None:
    at_work(mode=mode).when(w.asks(kind="question", questions=[COLOR])).then("request.opened")


def test_policy_never_says_what_the_agent_did_not_offer() -> None:
    at_work(mode="full").when(w.asks(options=["decline", "cancel"])).then("request.opened")


def granted() -> list[Told]:
    return [w.asks("q1", grant="Bash(ls:*)"), w.answer(1, "accept_for_session"), w.handed_over("q1")]


def test_a_grant_passes_what_it_covers_for_the_session() -> None:
    by = f"grant:{w.request_id(1)}"
    at_work(granted()).when(w.asks("q2", grant="Bash(ls:*)")).then(
        "request.opened", event("request.answered", decision="accept", by=by)
    )
    at_work(granted()).when(w.asks("q2", grant="Bash(rm:*)")).then("request.opened")


def test_a_grant_without_a_name_covers_the_very_same_call_only() -> None:
    before: list[Told] = [
        w.asks("q1", tool="Bash", arguments={"x": 1}),
        w.answer(1, "accept_for_session"),
        w.handed_over("q1"),
    ]
    at_work(before).when(w.asks("q2", tool="Bash", arguments={"x": 1})).then(
        "request.opened", "request.answered"
    )
    at_work(before).when(w.asks("q2", tool="Bash", arguments={"x": 2})).then("request.opened")
    at_work(before).when(w.asks("q2", tool="Sh", arguments={"x": 1})).then("request.opened")


def test_only_accepting_for_the_session_grants() -> None:
    decisions: tuple[r.Decision, ...] = ("accept", "decline", "cancel")
    for decision in decisions:
        before: list[Told] = [w.asks("q1", grant="g"), w.answer(1, decision), w.handed_over("q1")]
        at_work(before).when(w.asks("q2", grant="g")).then("request.opened")


def test_a_grant_never_leaves_a_plan_or_answers_a_question() -> None:
    at_work(granted()).when(w.asks("q2", kind="plan", grant="Bash(ls:*)")).then("request.opened")
    at_work(granted()).when(w.asks("q2", kind="question", grant="Bash(ls:*)")).then("request.opened")


# Answered


def test_an_answer_goes_to_the_agent_and_is_delivered_once() -> None:
    thread = at_work(w.asks())
    thread.when(w.answer(1, "decline", message="not here")).then(
        event("request.answered", decision="decline", message="not here", by="person:ada")
    ).asks_for(fx.SendAnswer(w.request_id(1), 1))
    thread.when(w.handed_over()).then(event("request.delivered", request_id=w.request_id(1)))
    thread.when(w.handed_over()).then_nothing()


def test_nothing_is_delivered_that_was_not_answered() -> None:
    at_work(w.asks()).when(w.handed_over(), w.told(r.WriteTaken("answer:q1"))).then_nothing()
    at_work(w.asks(), w.answer(1)).when(w.handed_over("q2"), w.told(r.WriteTaken("answer:q1"))).then_nothing()


@pytest.mark.parametrize("delivered", [False, True])
def test_the_first_answer_wins(delivered: bool) -> None:
    thread = at_work(w.asks(), w.answer(1, "accept"), [w.handed_over()] if delivered else [])
    thread.when(w.answer(1, "accept")).then_nothing().asks_for()
    thread.refuses(w.answer(1, "decline"), "already_answered", "it was answered with accept before")
    thread.refuses(w.answer(1, "accept", message="but careful"), "already_answered")


def test_who_answers_the_same_does_not_matter() -> None:
    thread = at_work(w.asks(), w.answer(1, "accept"))
    thread.when(c.AnswerRequest(w.request_id(1), "accept", "person:bob")).then_nothing()


def test_only_what_is_offered_can_be_decided() -> None:
    at_work(w.asks(options=["accept", "decline"])).refuses(
        w.answer(1, "accept_for_session"), "invalid", "because it takes only accept, decline"
    )


def test_questions_are_answered_in_full_or_declined() -> None:
    thread = at_work(w.asks(kind="question", questions=[COLOR, SIZE]))
    thread.refuses(w.answer(1), "invalid", "question 'color' has no answer")
    thread.refuses(w.answer(1, answers={"color": ["red"]}), "invalid", "question 'size'")
    thread.refuses(w.answer(1, answers={"color": ["red"], "size": []}), "invalid", "question 'size'")
    thread.refuses(
        w.answer(1, answers={"taste": ["sour"]}), "invalid", "it does not ask 'taste'; color, size"
    )
    answers = {"color": ["red"], "size": ["S", "M"]}
    thread.when(w.answer(1, answers=answers)).then(event("request.answered", answers=answers))
    at_work(w.asks(kind="question", questions=[COLOR])).when(w.answer(1, "decline")).then("request.answered")


def test_what_asks_nothing_takes_no_answers() -> None:
    at_work(w.asks()).refuses(
        w.answer(1, answers={"color": ["red"]}), "invalid", "does not ask 'color'; nothing"
    )


# Ended without delivery


def test_the_agent_may_stop_waiting() -> None:
    for answered in (False, True):
        thread = at_work(w.asks(), [w.answer(1)] if answered else [])
        thread.when(w.withdraws()).then(
            event("request.closed", state="withdrawn", reason="withdrawn_by_agent")
        )
        thread.when(w.withdraws(), w.handed_over()).then_nothing()
        thread.refuses(w.answer(1), "expired", "withdrawn: withdrawn_by_agent")


def test_a_run_that_ends_expires_what_it_asked() -> None:
    thread = at_work(w.asks("q1"), w.asks("q2"), w.answer(2)).when(w.turn_ended("t1"))
    thread.then(
        event("request.closed", request_id=w.request_id(1), state="expired", reason="run_ended"),
        event("request.closed", request_id=w.request_id(2), state="expired", reason="run_ended"),
        "run.ended",
    )
    thread.refuses(w.answer(1), "expired", "nobody waits for it any more")
    thread.refuses(w.answer(2), "expired")


def test_a_request_that_never_was_is_unknown() -> None:
    thread = at_work(w.asks()).refuses(w.answer(2), "unknown_request")
    for identity in ("req_00000000000000000000_1", w.run_id(1), "nonsense"):
        thread.refuses(c.AnswerRequest(identity, "accept", "person:ada"), "unknown_request")


def test_a_request_forgotten_long_ago_has_ended() -> None:
    asked = [(w.asks(f"q{n}"), w.answer(n), w.handed_over(f"q{n}")) for n in range(1, 103)]
    thread = at_work(asked)
    assert len(thread.state.closed_requests) == 100
    thread.refuses(w.answer(1), "expired", "it has ended")
    thread.when(w.answer(3)).then_nothing()


def test_an_agent_may_ask_again_after_the_end() -> None:
    at_work(w.asks("q1"), w.withdraws("q1")).when(w.asks("q1")).then(
        event("request.opened", request_id=w.request_id(2))
    )


# Asked outside of every turn


def background() -> list[Told]:
    """The turn has ended and a subagent works on."""
    return [w.item("a", "subagent"), w.turn_ended("t1")]


@pytest.mark.parametrize("turn", ["t1", ""])
def test_work_in_the_background_asks_in_a_run_of_its_own(turn: str) -> None:
    thread = at_work(background(), w.send("two"), w.taken(2), w.written(2))
    thread.when(w.asks("q1", turn=turn, item_ref="a")).then(
        event("run.queued", run_id=w.run_id(3), origin="agent"),
        event("run.starting", run_id=w.run_id(3)),
        event("run.working", run_id=w.run_id(3), turn=""),
        event("request.opened", run_id=w.run_id(3), item_id=w.item_id(2)),
    )
    assert thread.run(2).dispatch == "written"
    assert thread.state.active == w.run_id(2)
    thread.when(w.asks("q2", turn="t1")).then(event("request.opened", run_id=w.run_id(3)))
    thread.when(w.answer(1), w.handed_over("q1")).then("request.answered", "request.delivered")
    thread.when(w.withdraws("q2")).then(
        "request.closed", event("run.ended", run_id=w.run_id(3), status="completed")
    )


def test_a_run_that_only_asks_ends_with_what_it_asked() -> None:
    thread = at_work(background()).when(w.asks("q1", turn="t1"))
    assert thread.state.active == w.run_id(2)
    thread.when(w.send("next"), w.answer(1), w.handed_over()).then(
        "run.queued",
        "request.answered",
        "request.delivered",
        event("run.ended", run_id=w.run_id(2), status="completed"),
        event("run.starting", run_id=w.run_id(3)),
    )


def test_stopping_a_run_that_only_asks_ends_it() -> None:
    thread = at_work(background(), w.asks("q1", turn="t1"), w.asks("q2", turn="t1"), w.answer(1), w.stop(2))
    thread.when(w.handed_over("q1")).then("request.delivered", event("run.ended", status="interrupted"))


def test_a_turn_that_nobody_announced_asks_for_the_run_that_works() -> None:
    at_work().when(w.asks("q1", turn="child-thread-turn")).then(event("request.opened", run_id=w.run_id(1)))
    given(w.create(), w.send("x"), w.opened(), w.working(), w.turn_ended("t1")).when(
        w.asks("q1", turn="t7")
    ).then(
        "run.queued",
        "run.starting",
        event("run.working", turn="t7"),
        event("request.opened", run_id=w.run_id(2)),
    ).when(w.turn_ended("t7")).then("request.closed", event("run.ended", status="completed"))


def test_a_run_with_a_turn_or_a_prompt_does_not_end_with_what_it_asked() -> None:
    at_work(w.turn("bg"), w.asks("q1", turn="bg"), w.answer(1)).when(w.handed_over()).then(
        "request.delivered"
    )
    prompted = given(w.create("go"), w.opened(), w.seen(1), w.asks("q1", turn=""), w.answer(1))
    prompted.when(w.handed_over()).then("request.delivered")


def test_a_run_that_only_asks_does_not_end_while_it_shows_something() -> None:
    thread = at_work(w.turn_ended("t1"), w.asks("q1", turn="t1"), w.answer(1), w.item("a", turn=""))
    thread.when(w.handed_over()).then("request.delivered")
    thread.when(w.item_done("a")).then(
        "item.completed", event("run.ended", run_id=w.run_id(2), status="completed")
    )


def test_stop_withdraws_its_own_runs_requests_only() -> None:
    thread = at_work(w.asks("q1"), w.turn("bg"), w.asks("q2", turn="bg")).when(w.stop(2))
    thread.then("run.stopping", event("request.closed", request_id=w.request_id(2)))
