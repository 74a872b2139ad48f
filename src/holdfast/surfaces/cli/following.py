"""A run as it happens: its text on stdout, what else happens on stderr, requests put to the person right there.

Owns the loop from a version of the thread to the run's end, and how events read. Called by `run`, `send` and `wait`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.client.events import CaughtUp, Text
from holdfast.surfaces.cli.invocation import DONE, FAILED, STOPPED, TIME_UP, WAITING, Cli, out
from holdfast.wire.api import EventObject, RequestObject, RunObject, Snapshot

if TYPE_CHECKING:
    from holdfast.client import SyncClient

ENDED = frozenset({"completed", "failed", "interrupted", "cancelled"})
WAIT_S = 30.0
_SPOKEN = "assistant_message"
_TELLING = frozenset({"run.ended", "request.opened", "request.answered", "request.closed", "run.queued"})


class TimeIsUp(Exception):
    """`--timeout` has passed."""


class Deadline:
    """What is left of `--timeout`; without one there is always time."""

    def __init__(self, timeout: float | None) -> None:
        self._at = None if timeout is None else time.monotonic() + timeout

    def left(self, most: float) -> float:
        """Seconds to wait now, at most `most`. Raises `TimeIsUp` when none are left."""
        if self._at is None:
            return most
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeIsUp
        return min(left, most)


def until_settled(client: SyncClient, run_id: str, deadline: Deadline) -> RunObject:
    """The run once it has ended or waits for a person."""
    while True:
        run = client.run(run_id, wait=max(deadline.left(WAIT_S), 0.01))
        if run.status in ENDED or run.requests:
            return run


def exit_code(run: RunObject) -> int:
    """What the state of a run means for a script."""
    match run.status:
        case "completed":
            return DONE
        case "failed":
            return FAILED
        case "interrupted" | "cancelled":
            return STOPPED
        case _:
            return WAITING if run.requests else TIME_UP


def carry(cli: Cli, client: SyncClient, run: RunObject, after: int | None, timeout: float | None) -> int:
    """Follows the run to its end, to a request that nobody here can answer, or to the time's end; says which."""
    deadline = Deadline(timeout)
    show = Show(cli, run)
    last = run
    try:
        if run.status in ENDED or (cli.json and not cli.stream_json):
            last = until_settled(client, run.id, deadline)
        else:
            last = _follow(cli, client, run, after, deadline, show)
    except TimeIsUp:
        last = client.run(run.id)
        if last.status not in ENDED:
            show.end()
            report(cli, last)
            cli.say(f"the time is over, the work goes on: holdfast wait {run.id}")
            return TIME_UP
    except KeyboardInterrupt:
        show.end()
        cli.say(
            f"\nthe work goes on: {run.id}\n  see it again: holdfast wait {run.id}\n  end it: holdfast stop {run.id}"
        )
        raise
    show.end()
    report(cli, last, spoken=show.spoken)
    return exit_code(last)


def report(cli: Cli, run: RunObject, *, spoken: bool = False) -> None:
    """The run as the answer. `spoken`: its text has been on stdout already."""
    if cli.stream_json:
        cli.value({"type": "run", "thread": run.thread_id, "data": run})
        return
    if cli.json:
        cli.value(run)
        return
    if run.text and not spoken and run.status in ENDED:
        out(run.text.encode() + (b"" if run.text.endswith("\n") else b"\n"))
    if run.failure is not None:
        retry = f"; it may go on at {run.failure.retry_at}" if run.failure.retry_at else ""
        cli.say(f"{run.id} failed ({run.failure.class_}): {run.failure.message}{retry}")
    elif run.status != "completed":
        cli.say(f"{run.id} is {run.status}")
    if run.requests and run.status not in ENDED:
        cli.say("it waits for a person: " + ", ".join(run.requests))
        for request in run.requests:
            cli.say(f"  holdfast answer {request} accept|accept_for_session|decline|cancel")


def _follow(
    cli: Cli, client: SyncClient, run: RunObject, after: int | None, deadline: Deadline, show: Show
) -> RunObject:
    """Events, one after the other. A run that is queued behind one that waits is waiting too."""
    asked: set[str] = set()
    for event in client.follow(run.thread_id, after=after, within=lambda: deadline.left(WAIT_S)):
        if event is None:
            continue
        show.event(event)
        if isinstance(event, CaughtUp) or (isinstance(event, EventObject) and event.type in _TELLING):
            now = client.run(run.id)
            if now.status in ENDED:
                if isinstance(event, EventObject) and event.type == "run.ended" and show.is_mine(event):
                    return now
                if isinstance(event, CaughtUp):
                    return now
                continue
            if now.requests and not cli.terminal:
                return now
            if now.requests:
                show.end()
                _put_to_person(cli, client, now, asked)
    return client.run(run.id)


def _put_to_person(cli: Cli, client: SyncClient, run: RunObject, asked: set[str]) -> None:
    from holdfast.surfaces.cli.asking import ask

    pending: dict[str, RequestObject] = {
        request.id: request for request in client.requests(thread_id=run.thread_id)
    }
    for request_id in run.requests:
        if request_id in pending and request_id not in asked:
            asked.add(request_id)
            ask(cli, client, pending[request_id])


class Show:
    """What the person sees of the events: the agent's words on stdout, a line on stderr for everything else."""

    def __init__(self, cli: Cli, run: RunObject) -> None:
        self._cli = cli
        self._run = run.id
        self._kinds: dict[str, str] = {}
        self._shown: dict[str, int] = {}
        self._mid_line = False
        self.spoken = False

    def is_mine(self, event: EventObject) -> bool:
        return self._fields(event).get("run_id") == self._run

    def event(self, event: Any) -> None:
        if self._cli.stream_json:
            self._cli.value(_as_json(event))
        elif self._cli.json:
            return
        elif isinstance(event, Text):
            self._speak(event.item, event.offset, event.text)
        elif isinstance(event, EventObject):
            self._tell(event.type, self._fields(event))
        elif isinstance(event, Snapshot):
            for item in event.items:
                if item.run_id == self._run and item.kind == _SPOKEN:
                    self.end()
                    self._kinds[item.id] = item.kind
                    self._speak(item.id, 0, item.text)

    def end(self) -> None:
        """Ends a line that has begun."""
        if self._mid_line:
            out(b"\n")
            self._mid_line = False

    def _fields(self, event: EventObject) -> dict[str, Any]:
        return msgspec.json.decode(event.data, type=dict[str, Any])

    def _speak(self, item: str, offset: int, text: str) -> None:
        """The part of a piece that has not been shown; pieces come again after a reconnect."""
        if self._kinds.get(item) != _SPOKEN:
            return
        shown = self._shown.get(item, 0)
        fresh = text[shown - offset :] if offset < shown else text
        if offset > shown or not fresh:
            return
        self._shown[item] = shown + len(fresh)
        out(fresh.encode())
        self._mid_line = not fresh.endswith("\n")
        self.spoken = True

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "item.started" and data.get("run_id") == self._run:
            item = str(data["item_id"])
            self._kinds[item] = str(data["kind"])
            if data["kind"] == _SPOKEN:
                self.end()
                self._speak(item, 0, str(data.get("text", "")))
            elif data["kind"] not in ("user_message", "reasoning", "request"):
                self._note(f"· {data['kind'].replace('_', ' ')}: {_line(data.get('text') or _title(data))}")
        elif kind == "item.completed":
            item = str(data["item_id"])
            if self._kinds.get(item) == _SPOKEN and data.get("text") is not None:
                self._speak(item, 0, str(data["text"]))
            self.end()
        elif kind == "request.opened" and data.get("run_id") == self._run:
            self._note(f"? {data.get('title', '')}")
        elif kind == "run.stalled" and data.get("run_id") == self._run:
            self._note("· nothing has moved for a while; `holdfast stop` ends it")

    def _note(self, text: str) -> None:
        self.end()
        self._cli.say(text)


def _title(data: dict[str, Any]) -> str:
    inner = data.get("data")
    return (
        str(inner.get("title") or inner.get("tool") or inner.get("command") or "")
        if isinstance(inner, dict)
        else ""
    )


def _line(text: str) -> str:
    first = text.strip().split("\n", 1)[0]
    return first if len(first) <= 100 else first[:99] + "…"


def _as_json(event: Any) -> Any:
    match event:
        case EventObject():
            return event
        case Snapshot():
            return {"type": "snapshot", "thread": event.thread.id, "version": event.version, "data": event}
        case Text():
            return {"type": "text", "data": event}
        case CaughtUp():
            return {"type": "caught_up", "version": event.version, "data": {}}
        case _:
            return {"type": "resync", "version": event.version, "data": {}}
