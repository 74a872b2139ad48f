"""What agents ask of people: opened, judged by our gate, answered once, delivered, or ended without delivery.

    pending -> answered -> delivered        pending | answered -> expired | withdrawn

A decision belongs to one request and its fingerprint; the first valid answer wins and the others learn which.
"""

from __future__ import annotations

import json

from holdfast.core import events as e
from holdfast.core import reports as r
from holdfast.core.commands import AnswerRequest
from holdfast.core.deciding import Deciding
from holdfast.core.ids import fingerprint, inner_id, kind_of, thread_of
from holdfast.core.items import run_of
from holdfast.core.policies import judge
from holdfast.core.runs import see, settle, start_unprompted
from holdfast.core.state import ClosedRequest, RequestState, RunState
from holdfast.errors import Rejected


def opened(d: Deciding, report: r.RequestOpened) -> None:
    s = d.state
    if s.session is None or any(q.ref == report.ref for q in s.requests.values()):
        return
    run = _asking(d, report.turn)
    arguments = json.dumps(report.arguments, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    grant = report.grant or f"call:{report.tool}:{fingerprint(arguments, s.cwd)}"
    request_id = inner_id("req", s.id, s.last_request + 1)
    d.emit(
        e.RequestOpened(
            request_id=request_id,
            run_id=run.id,
            attempt=run.attempt,
            generation=s.generation,
            kind=report.kind,
            lane=d.context.lanes.get(report.kind, "none"),
            title=report.title,
            fingerprint=fingerprint(s.kind, report.tool, arguments, s.cwd, run.id),
            ref=report.ref,
            grant=grant,
            item_id=s.refs.get(report.item_ref, ""),
            detail=report.detail,
            tool=report.tool,
            options=list(report.options),
            questions=list(report.questions),
        )
    )
    if run.stopping_at:
        d.emit(e.RequestClosed(request_id, "withdrawn", "run_ended"))
        return
    judged = judge(report, s.mode, grant, s.grants)
    if judged is not None and judged[0] in report.options:
        d.emit(e.RequestAnswered(request_id, judged[0], judged[1]))


def _asking(d: Deciding, turn: str) -> RunState:
    """The run that asks. What is asked outside of every turn (by work in the background, whose turn has ended) is a
    run of its own: never charged to the run whose prompt is on its way."""
    s = d.state
    run = run_of(d, turn)
    if run is not None and (turn or run.dispatch == "seen"):
        see(d, run)
        return run
    if turn in s.past_turns:
        turn = ""
    alone = next((x for x in s.runs.values() if not turn and x.origin == "agent" and not x.turn), None)
    return alone or start_unprompted(d, turn)


def withdrawn(d: Deciding, report: r.RequestWithdrawn) -> None:
    for request in [q for q in d.state.requests.values() if q.ref == report.ref]:
        d.emit(e.RequestClosed(request.id, "withdrawn", "withdrawn_by_agent"))
        settle(d, request.run_id)


def delivered(d: Deciding, ref: str) -> None:
    """The runner has handed the answer to the agent."""
    for request in [q for q in d.state.requests.values() if q.ref == ref and q.decision is not None]:
        d.emit(e.RequestDelivered(request.id))
        settle(d, request.run_id)


def answer(d: Deciding, command: AnswerRequest) -> None:
    """Raises Rejected: `unknown_request`, `invalid`, `already_answered`, `expired`."""
    s = d.state
    request = s.requests.get(command.request_id)
    if request is None:
        if not _existed(d, command.request_id):
            raise Rejected(
                "unknown_request", f"cannot answer {command.request_id}: because there is no such request"
            )
        closed = next((c for c in s.closed_requests if c.id == command.request_id), None)
        _refuse_closed(command, closed)
        return
    if request.decision is not None:
        _same_or_refuse(command, request.decision, request.message, request.answers)
        return
    _check(command, request)
    d.emit(e.RequestAnswered(request.id, command.decision, command.by, command.message, command.answers))


def _existed(d: Deciding, identity: str) -> bool:
    ours = kind_of(identity) == "req" and thread_of(identity) == d.state.id
    return ours and int(identity.rsplit("_", 1)[1]) <= d.state.last_request


def _refuse_closed(command: AnswerRequest, closed: ClosedRequest | None) -> None:
    if closed is not None and closed.state in ("delivered", "answered") and closed.decision is not None:
        _same_or_refuse(command, closed.decision, closed.message, closed.answers)
        return
    why = f"it has ended ({closed.state}: {closed.reason})" if closed else "it has ended"
    raise Rejected(
        "expired", f"cannot answer {command.request_id}: because {why}; nobody waits for it any more"
    )


def _same_or_refuse(
    command: AnswerRequest, decision: str, message: str, answers: dict[str, list[str]]
) -> None:
    if (command.decision, command.message, command.answers) == (decision, message, answers):
        return
    said = f"it was answered with {decision} before"
    raise Rejected(
        "already_answered", f"cannot answer {command.request_id}: because {said}; the first answer counts"
    )


def _check(command: AnswerRequest, request: RequestState) -> None:
    if command.decision not in request.options:
        allowed = ", ".join(request.options)
        raise Rejected(
            "invalid",
            f"cannot answer {command.request_id} with {command.decision}: because it takes only {allowed}",
        )
    unknown = sorted(set(command.answers) - set(request.question_ids))
    if unknown:
        asked = ", ".join(request.question_ids) or "nothing"
        raise Rejected(
            "invalid", f"cannot answer {command.request_id}: because it does not ask {unknown[0]!r}; {asked}"
        )
    missing = [q for q in request.question_ids if not command.answers.get(q)]
    if missing and command.decision in ("accept", "accept_for_session"):
        raise Rejected(
            "invalid",
            f"cannot answer {command.request_id}: because question {missing[0]!r} has no answer; choose one",
        )
