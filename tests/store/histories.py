"""Commits for tests: short ones by hand, and whole plausible histories of a thread by Hypothesis.

A history does what the engine could do with a thread, without asking the decider: so the views are tried with orders of
events that are rare in life.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from holdfast.core import events as e
from holdfast.core.ids import inner_id, stream_of
from holdfast.core.reports import Failure, ItemKind, Option, Question, Usage
from holdfast.store.port import Commit, Draft

KEY = "0123456789abcdefghjk"
THREAD = f"th_{KEY}"
STREAM = stream_of(THREAD)


def thread_named(number: int) -> str:
    return f"th_0123456789abcdef{number:04d}"


def created(
    thread: str = THREAD, *, owner: str = "ada", project: str = "", title: str = ""
) -> e.ThreadCreated:
    return e.ThreadCreated(
        thread, owner, "/w", "ship", "scripted", "ask", title, project, ["/more"], "m1", "high"
    )


def queued(thread: str = THREAD, number: int = 1, text: str = "do it", command: str = "") -> e.RunQueued:
    run = inner_id("run", thread, number)
    return e.RunQueued(run, number, "user", text, "ref", "ship", "m1", "ask", "", command)


def item(
    number: int, kind: ItemKind = "assistant_message", thread: str = THREAD, text: str = ""
) -> e.ItemStarted:
    run = inner_id("run", thread, 1)
    return e.ItemStarted(inner_id("item", thread, number), number, kind, run, 1, text=text)


def begin(thread: str = THREAD, **more: str) -> Commit:
    """The first commit of a thread, with a run."""
    return Commit(
        stream=stream_of(thread), expected=0, at=1.0, events=[created(thread, **more), queued(thread)]
    )


def then(version: int, *events: e.Event, thread: str = THREAD, at: float = 2.0) -> Commit:
    return Commit(stream=stream_of(thread), expected=version, at=at, events=events)


class History:
    """The commits so far and what may come next."""

    def __init__(self, draw: Callable[[st.SearchStrategy[object]], object]) -> None:
        self.commits: list[Commit] = []
        self._draw = draw
        self._at = 1.0
        self._version = 0
        self._runs: dict[str, str] = {}
        self._made = dict.fromkeys(("run", "item", "req"), 0)
        self._open: dict[str, int] = {}  # item -> length of its pieces
        self._requests: dict[str, str] = {}
        self._generation = 0
        self._connected = False
        self.commit(created())

    def commit(self, *events: e.Event, drafts: Sequence[Draft] = ()) -> None:
        commit = Commit(stream=STREAM, expected=self._version, at=self._at, events=events, drafts=drafts)
        self.commits.append(commit)
        self._version += len(events)
        self._at += 1.0

    def pick(self, *choices: Any) -> Any:
        return self._draw(st.sampled_from(choices))

    def _new(self, prefix: str) -> tuple[str, int]:
        self._made[prefix] += 1
        return inner_id(prefix, THREAD, self._made[prefix]), self._made[prefix]

    def _where(self, *statuses: str) -> list[str]:
        return [run for run, status in self._runs.items() if status in statuses]

    def steps(self) -> dict[str, Callable[[], None]]:
        """What could happen now."""
        able: dict[str, Callable[[], None]] = {
            "queue": self.queue,
            "words": self.words,
            "item": self.start_item,
        }
        conditions: list[tuple[bool, str, Callable[[], None]]] = [
            (bool(self._where("queued")), "start", self.start),
            (bool(self._where("active")), "move", self.move),
            (bool(self._where("active")), "requeue", self.requeue),
            (bool(self._where("queued", "active")), "end", self.end),
            (bool(self._open), "piece", self.piece),
            (bool(self._open), "complete", self.complete),
            (bool(self._where("active")) and self._connected, "ask", self.ask),
            ("pending" in self._requests.values(), "answer", self.answer),
            (bool(self._requests), "finish", self.finish),
            (True, "session", self.session),
        ]
        return able | {name: step for possible, name, step in conditions if possible}

    def words(self) -> None:
        some = self.pick("title", "context", "held", "released")
        match some:
            case "title":
                self.commit(e.ThreadTitled(self.pick("", "ein Titel", "snow \u2603 \U0001f600")))
            case "context":
                self.commit(e.ContextMeasured(self.pick(0, 1000), 200_000))
            case "held":
                self.commit(e.QueueHeld(inner_id("run", THREAD, 1)))
            case _:
                self.commit(e.QueueReleased("person:ada"))

    def queue(self) -> None:
        run, number = self._new("run")
        self._runs[run] = "queued"
        origin = self.pick("user", "agent")
        text, command = self.pick("", "do\0it", "x" * 300), self.pick("", "c1")
        self.commit(e.RunQueued(run, number, origin, text, "ref", "ship", "m", "ask", "", command))

    def start(self) -> None:
        run = self.pick(*self._where("queued"))
        self._runs[run] = "active"
        place, number = self._new("item") if self.pick(True, False) else ("", 0)
        self.commit(e.RunStarting(run, self.pick(1, 2), "initial", place, number))

    def move(self) -> None:
        run = self.pick(*self._where("active"))
        failure = Failure("agent_lost", "gone")
        moves: list[e.Event] = [
            e.RunWorking(run, 1, "t"),
            e.RunDispatched(run, 1, "taken"),
            e.RunActive(run),
            e.RunStalled(run, self._at - 1),
            e.RunDoubtful(run, 1, failure),
            e.RunStopping(run, "person:ada"),
        ]
        self.commit(self.pick(*moves))

    def requeue(self) -> None:
        run = self.pick(*self._where("active"))
        self._runs[run] = "queued"
        self.commit(e.RunRequeued(run, 1, "not started"))

    def end(self) -> None:
        run = self.pick(*self._where("queued", "active"))
        self._runs[run] = "ended"
        status = self.pick("completed", "failed", "interrupted", "cancelled")
        failure = Failure("usage_limit", "no more", "1970-01-02T00:00:00Z") if status == "failed" else None
        usage = self.pick(None, Usage(), Usage(10, 5, None, 0, 0.25, 100, 90), Usage(input=3, cost_usd=0.5))
        self.commit(e.RunEnded(run, 1, status, failure, usage, self.pick(True, False)))

    def start_item(self) -> None:
        place, number = self._new("item")
        run = self.pick("", *self._runs)
        kind = self.pick("assistant_message", "command", "notice")
        text, data = (
            self.pick("", "begin "),
            self.pick(dict[str, object](), {"command": ["ls"], "exit": None}),
        )
        self._open[place] = 0
        parent, command = self.pick("", inner_id("item", THREAD, 1)), self.pick("", "c2")
        self.commit(
            e.ItemStarted(place, number, kind, run, 1 if run else 0, "r", parent, command, text, data)
        )

    def piece(self) -> None:
        place = self.pick(*self._open)
        text = self.pick("a", "\u2603 two", "nul \0 inside")
        draft = Draft(place, self._open[place], text)
        self._open[place] += len(text)
        if self.pick(True, False):
            self.commit(drafts=[draft])
        else:
            self.commit(e.ContextMeasured(7, 9), drafts=[draft])

    def complete(self) -> None:
        place = self.pick(*self._open)
        length = self._open.pop(place)
        text = "the whole" if length else self.pick(None, "", "all of it")
        status = self.pick("completed", "failed", "interrupted", "declined")
        self.commit(e.ItemCompleted(place, status, text, self.pick(dict[str, object](), {"exit": 0})))

    def ask(self) -> None:
        request, _ = self._new("req")
        self._requests[request] = "pending"
        question = Question("q1", "Which", "Which one?", True, False, [Option("left"), Option("right", "r")])
        run = self.pick(*self._where("active"))
        asked = e.RequestOpened(
            request, run, 1, self._generation, "question", "hosted-alive", "Pick", "f" * 32,
            item_id=self.pick("", inner_id("item", THREAD, 1)), detail="more", options=["accept", "decline"],
            questions=[question],
        )  # fmt: skip
        self.commit(asked)

    def answer(self) -> None:
        request = self.pick(*[r for r, state in self._requests.items() if state == "pending"])
        self._requests[request] = "answered"
        self.commit(e.RequestAnswered(request, self.pick("accept", "decline"), "person:ada"))

    def finish(self) -> None:
        request = self.pick(*self._requests)
        if self._requests.pop(request) == "answered" and self.pick(True, False):
            self.commit(e.RequestDelivered(request))
        else:
            self.commit(e.RequestClosed(request, self.pick("expired", "withdrawn"), "agent_lost"))

    def session(self) -> None:
        if self._connected:
            self._connected = False
            self.commit(e.SessionClosed(f"ses_{KEY}_{self._generation}", self._generation, "exit", 0))
        else:
            self._generation += 1
            self._connected = True
            session = f"ses_{KEY}_{self._generation}"
            self.commit(
                e.SessionOpening(session, self._generation, "ship", "scripted", "m", "", "ask", False)
            )


@st.composite
def histories(draw: st.DrawFn, steps: int = 30) -> list[Commit]:
    """The commits of one thread, in order; some of them carry two steps' events."""
    history = History(draw)
    for _ in range(draw(st.integers(1, steps))):
        able = history.steps()
        able[draw(st.sampled_from(sorted(able)))]()
    return _joined(draw, history.commits)


def _joined(draw: st.DrawFn, commits: Sequence[Commit]) -> list[Commit]:
    """Neighbours put into one transaction now and then, as finalising does."""
    joined: list[Commit] = []
    for commit in commits:
        last = joined[-1] if joined else None
        ends = [x for c in (last, commit) if c for x in c.events if isinstance(x, e.RunEnded)]
        touched = {x.item_id for x in commit.events if isinstance(x, e.ItemCompleted)}
        if (
            last is None
            or len(ends) > 1
            or any(d.item_id in touched for d in last.drafts)
            or not draw(st.booleans())
        ):
            joined.append(commit)
            continue
        joined[-1] = msgspec.structs.replace(
            last,
            at=commit.at,
            events=[*last.events, *commit.events],
            drafts=[*last.drafts, *commit.drafts],
        )
    return joined
