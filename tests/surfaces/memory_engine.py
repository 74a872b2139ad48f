"""A small engine that works, in memory: threads, runs, one kind of request, and a log that can be followed.

It keeps the promises that surfaces rely on (receipts, versions without gaps, first answer wins) and nothing else. What
a run does is said by its text: `ask ...` waits for a person, `hang ...` works until it is stopped, anything else is
answered word by word. `say` adds a piece of text to a run that hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from holdfast.engine.port import Caller, CaughtUp, FeedEvent, Resync, Text
from holdfast.errors import HoldfastError, Rejected
from holdfast.wire.api import (
    AgentObject,
    Context,
    EventObject,
    ItemObject,
    NewAnswer,
    NewMessage,
    NewThread,
    RequestObject,
    RunnerObject,
    RunObject,
    Snapshot,
    ThreadObject,
    UsageObject,
)

AT = "2026-01-01T00:00:00.000Z"
ENDED = ("completed", "failed", "interrupted", "cancelled")


class Kept:
    """One thread with everything in it."""

    def __init__(self, thread: ThreadObject) -> None:
        self.thread = thread
        self.runs: list[RunObject] = []
        self.items: list[ItemObject] = []
        self.requests: list[RequestObject] = []
        self.log: list[EventObject] = []
        self.readers: list[asyncio.Queue[FeedEvent | None]] = []

    def add(self, kind: str, /, **data: Any) -> None:
        event = EventObject(
            kind,
            self.thread.id,
            len(self.log) + 1,
            AT,
            msgspec.Raw(msgspec.json.encode({"type": kind, **data})),
        )
        self.log.append(event)
        self.tell(event)

    def tell(self, event: FeedEvent | None) -> None:
        for reader in self.readers:
            reader.put_nowait(event)

    def snapshot(self, items: int = 100) -> Snapshot:
        pending = [request for request in self.requests if request.state == "pending"]
        shown = self.items[-items:] if items else []
        return Snapshot(self.thread, self.runs, shown, pending, len(self.log), "log-1")


class MemoryEngine:
    """See `holdfast.engine.port.EnginePort`. `fault` is raised by the next call, once."""

    def __init__(self) -> None:
        self.kept: dict[str, Kept] = {}
        self.receipts: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.fault: Exception | None = None
        self.is_ready = True
        self.calls = 0
        self._changed = asyncio.Event()

    # Commands

    def _once(self, caller: Caller, key: str, content: Any, work: Callable[[], Any]) -> bytes:
        self._meet()
        digest = hashlib.sha256(msgspec.json.encode(content)).hexdigest()
        known = self.receipts.get((caller.owner, key))
        if known is not None:
            if known[0] != digest:
                raise Rejected(
                    "idempotency_conflict", "cannot take the command: because its key was used before"
                )
            return known[1]
        self.calls += 1
        answer = msgspec.json.encode(work())
        self.receipts[caller.owner, key] = (digest, answer)
        self._changed.set()
        self._changed = asyncio.Event()
        return answer

    def _meet(self) -> None:
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault

    async def create_thread(self, caller: Caller, key: str, body: NewThread) -> bytes:
        return self._once(caller, key, ["create", body], lambda: self._create(caller, body))

    def _create(self, caller: Caller, body: NewThread) -> dict[str, Any]:
        if body.agent != "scripted":
            raise Rejected("unknown_agent", f"cannot open a thread: because there is no agent {body.agent!r}")
        identity = f"th_{len(self.kept) + 1:016d}"
        thread = ThreadObject(
            identity, body.title or "untitled", body.project, body.cwd, body.add_dirs, body.agent, body.model,
            body.effort, body.mode or "ask", body.plan, "idle", None, Context(), UsageObject(), False, caller.owner,
            AT, AT,
        )  # fmt: skip
        kept = self.kept[identity] = Kept(thread)
        kept.add("thread.created", thread_id=identity)
        answer: dict[str, Any] = {"thread": thread}
        if body.message is not None:
            answer["run"] = self._start(kept, body.message)
        return answer

    async def send_message(self, caller: Caller, key: str, thread_id: str, body: NewMessage) -> bytes:
        return self._once(
            caller, key, ["send", thread_id, body], lambda: self._start(self._of(thread_id), body)
        )

    def _start(self, kept: Kept, message: NewMessage) -> RunObject:
        number = len(kept.runs) + 1
        thread = kept.thread
        run = RunObject(
            f"run_{thread.id[3:]}_{number}", thread.id, number, "working", "user", None, thread.agent, thread.model,
            thread.mode, thread.effort, message.text, "", [], None, None, 1, False, AT, AT, None, None, AT,
        )  # fmt: skip
        kept.runs.append(run)
        kept.add("run.queued", run_id=run.id, text=message.text)
        item = ItemObject(
            f"item_{thread.id[3:]}_{len(kept.items) + 1}", run.id, 1, len(kept.items) + 1, None, None,
            "assistant_message", "open", "", {}, AT,
        )  # fmt: skip
        kept.items.append(item)
        kept.add("item.started", item_id=item.id, kind=item.kind, run_id=run.id, text="")
        if message.text.startswith("ask"):
            self._ask(kept, run)
        elif not message.text.startswith("hang"):
            for word in message.text.split(" "):
                self.say(run.id, word)
            self._end(kept, run, "completed")
        return run

    def _ask(self, kept: Kept, run: RunObject) -> None:
        identity = f"req_{kept.thread.id[3:]}_{len(kept.requests) + 1}"
        kept.requests.append(
            RequestObject(
                identity,
                1,
                kept.thread.id,
                run.id,
                None,
                "command",
                "pending",
                True,
                "hosted-alive",
                None,
                run.prompt,
                "",
                ["accept", "decline"],
                [],
                None,
                None,
                AT,
                None,
            )
        )
        run.status, run.requests = "waiting", [identity]
        kept.add("request.opened", request_id=identity, run_id=run.id, title=run.prompt)

    def say(self, run_id: str, piece: str) -> None:
        kept, run = self._run_of(run_id)
        item = next(item for item in kept.items if item.run_id == run.id)
        offset, item.text = len(item.text), item.text + piece
        kept.tell(Text(item.id, offset, piece))

    def _end(self, kept: Kept, run: RunObject, status: str) -> None:
        for item in kept.items:
            if item.run_id == run.id and item.status == "open":
                item.status = "completed" if status == "completed" else "interrupted"
                run.text = item.text
                kept.add("item.completed", item_id=item.id, status=item.status, text=item.text)
        run.status, run.requests, run.ended_at = status, [], AT
        kept.add("run.ended", run_id=run.id, status=status)

    async def stop_run(self, caller: Caller, key: str, run_id: str) -> bytes:
        return self._once(caller, key, ["stop", run_id], lambda: self._stop(run_id))

    def _stop(self, run_id: str) -> RunObject:
        kept, run = self._run_of(run_id)
        if run.status not in ENDED:
            self._end(kept, run, "interrupted")
        return run

    async def stop_thread(self, caller: Caller, key: str, thread_id: str) -> bytes:
        def work() -> dict[str, Any]:
            kept = self._of(thread_id)
            active = [run for run in kept.runs if run.status not in ENDED]
            for run in active:
                self._end(kept, run, "interrupted")
            return {"stopped": active[0].id if active else None, "cancelled": [], "thread": kept.thread}

        return self._once(caller, key, ["stop", thread_id], work)

    async def release_queue(self, caller: Caller, key: str, thread_id: str) -> bytes:
        return self._once(caller, key, ["release", thread_id], lambda: self._of(thread_id).thread)

    async def answer(self, caller: Caller, key: str, request_id: str, body: NewAnswer) -> bytes:
        return self._once(caller, key, ["answer", request_id, body], lambda: self._decide(request_id, body))

    def _decide(self, request_id: str, body: NewAnswer) -> RequestObject:
        for kept in self.kept.values():
            for request in kept.requests:
                if request.id == request_id:
                    if request.state != "pending":
                        raise Rejected("already_answered", "cannot answer: because it is answered")
                    request.state, request.decision = "answered", body.decision
                    kept.add("request.answered", request_id=request_id, decision=body.decision)
                    _, run = self._run_of(request.run_id)
                    self.say(run.id, f"decided: {body.decision}")
                    self._end(kept, run, "completed")
                    return request
        raise Rejected("unknown_request", f"cannot answer {request_id}: because there is no such request")

    # Reads

    def _of(self, thread_id: str) -> Kept:
        if thread_id not in self.kept:
            raise Rejected("unknown_thread", f"cannot find {thread_id}: because there is no such thread")
        return self.kept[thread_id]

    def _run_of(self, run_id: str) -> tuple[Kept, RunObject]:
        for kept in self.kept.values():
            for run in kept.runs:
                if run.id == run_id:
                    return kept, run
        raise Rejected("unknown_run", f"cannot find {run_id}: because there is no such run")

    async def threads(
        self, caller: Caller, *, before: str = "", limit: int = 100, project: str = "", status: str = ""
    ) -> list[ThreadObject]:
        self._meet()
        found = [kept.thread for kept in reversed(self.kept.values())]
        found = [t for t in found if project in ("", t.project) and status in ("", t.status)]
        if before:
            found = found[[t.id for t in found].index(before) + 1 :]
        return found[:limit]

    async def thread(self, caller: Caller, thread_id: str) -> dict[str, Any]:
        self._meet()
        picture = self._of(thread_id).snapshot()
        return {
            "thread": picture.thread,
            "runs": picture.runs,
            "requests": picture.requests,
            "version": picture.version,
        }

    async def snapshot(self, caller: Caller, thread_id: str, *, items: int = 100) -> Snapshot:
        return self._of(thread_id).snapshot(items)

    async def items(
        self, caller: Caller, thread_id: str, *, before: str = "", limit: int = 100
    ) -> list[ItemObject]:
        found = self._of(thread_id).items
        if before:
            found = found[: [item.id for item in found].index(before)]
        return found[-limit:]

    async def run(self, caller: Caller, run_id: str, *, wait: float = 0.0) -> RunObject:
        self._meet()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                while True:
                    _, run = self._run_of(run_id)
                    if wait <= 0 or run.status in ENDED or run.requests:
                        return run
                    await self._changed.wait()
        return self._run_of(run_id)[1]

    async def requests(self, caller: Caller, *, thread_id: str = "") -> list[RequestObject]:
        return [
            request
            for kept in self.kept.values()
            for request in kept.requests
            if request.state == "pending" and thread_id in ("", kept.thread.id)
        ]

    @contextlib.asynccontextmanager
    async def follow(
        self, caller: Caller, thread_id: str, *, after: int | None
    ) -> AsyncIterator[AsyncIterator[FeedEvent]]:
        self._meet()
        kept = self._of(thread_id)
        queue: asyncio.Queue[FeedEvent | None] = asyncio.Queue()
        kept.readers.append(queue)
        try:
            yield self._feed(kept, queue, after)
        finally:
            kept.readers.remove(queue)

    async def _feed(
        self, kept: Kept, queue: asyncio.Queue[FeedEvent | None], after: int | None
    ) -> AsyncIterator[FeedEvent]:
        with_snapshot = after is None or after > len(kept.log)
        if with_snapshot:
            yield kept.snapshot()
        else:
            for event in kept.log[after:]:
                yield event
        yield CaughtUp(len(kept.log))
        if not with_snapshot:
            for item in kept.items:
                if item.status == "open" and item.text:
                    yield Text(item.id, 0, item.text)
        while (live := await queue.get()) is not None:
            yield live
            if isinstance(live, Resync):
                return

    async def agents(self, caller: Caller) -> list[AgentObject]:
        self._meet()
        return [AgentObject("scripted", "scripted", "1", "ready", "unproved", {})]

    async def stop_agents(self) -> None:
        """There are none."""

    async def runners(self, caller: Caller) -> list[RunnerObject]:
        return []

    async def transcript(self, caller: Caller, thread_id: str) -> AsyncIterator[bytes]:
        kept = self._of(thread_id)

        async def lines() -> AsyncIterator[bytes]:
            for event in kept.log:
                yield msgspec.json.encode(event) + b"\n"

        return lines()

    def ready(self) -> dict[str, Any]:
        return {"ready": self.is_ready, "recovery": {}}


def crash() -> Exception:
    """What no surface may tell its caller about."""
    return ZeroDivisionError("secret inside")


def away() -> Exception:
    return HoldfastError("busy", "cannot take the command: because the queue is full; try again")
