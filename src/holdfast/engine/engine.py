"""The engine's door: `EnginePort` over workers, store and feed.

Owns who may touch what, the receipts of commands, and how bodies become commands. It decides nothing about threads:
the core does. Surfaces and embedding programs call it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, get_args

import msgspec

from holdfast.core import commands as c
from holdfast.core import events as e
from holdfast.core.deciding import Decided
from holdfast.core.ids import kind_of, thread_id, thread_of
from holdfast.core.reports import Decision
from holdfast.engine.agents import ConfiguredAgents
from holdfast.engine.feed import Channel, follow
from holdfast.engine.house import House
from holdfast.engine.port import Caller, FeedEvent
from holdfast.engine.receipts import Receipts
from holdfast.engine.recovery import Found
from holdfast.engine.transcripts import transcript_lines
from holdfast.engine.workers import Workers
from holdfast.errors import HoldfastError, Rejected, Unavailable
from holdfast.store.port import Receipt, StoreConflict, StoreFull
from holdfast.wire import api

log = logging.getLogger("holdfast.engine")

STOP_AGENTS_S = 12.0
"""The gentle ladder takes 5 s for a closed input and 3 s for SIGTERM; then the processes are gone."""
ENDED = frozenset({"completed", "failed", "interrupted", "cancelled"})
MODES = ("ask", "edits", "auto", "full")
OWNERS_MAX = 10_000
"""Threads whose owner is remembered: some hundred bytes each."""
KEY_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class Result(msgspec.Struct, frozen=True):
    """Which object answers a command; `around`: fields that it is put beside, under its kind's name."""

    kind: Literal["thread", "run", "request", "thread_and_run"]
    id: str
    around: dict[str, Any] | None = None


class Engine:
    """See `EnginePort` for what each method promises."""

    def __init__(
        self,
        house: House,
        agents: ConfiguredAgents,
        workers: Workers,
        found: Found,
        *,
        entropy: Callable[[int], int] = secrets.randbits,
    ) -> None:
        """`entropy`: that many random bits, for ids of threads."""
        self._entropy = entropy
        self._house = house
        self._agents = agents
        self._workers = workers
        self._found = found
        self._receipts = Receipts(house.store)
        self._stopping = False
        self._owners: dict[str, str] = {}  # of threads; an owner never changes

    # Commands

    async def create_thread(self, caller: Caller, key: str, body: api.NewThread) -> bytes:
        identity = thread_id(_fresh_key(self._house.clock.now(), self._entropy))

        def command() -> c.Command:
            agent = self._agents.usable(body.agent)
            return c.CreateThread(
                thread_id=identity,
                owner=caller.owner,
                cwd=_folder(body.cwd),
                agent=body.agent,
                kind=agent.kind,
                mode=_mode(body.mode or agent.mode),
                title=body.title,
                project=body.project,
                add_dirs=[_folder(d) for d in body.add_dirs],
                model=body.model or agent.model,
                effort=body.effort,
                plan=body.plan,
                message=_message(body.message, key) if body.message else None,
            )

        def result(decided: Decided) -> Result:
            if body.message:
                return Result("thread_and_run", _queued(decided))
            return Result("thread", identity, {})

        return await self._command(caller, key, _hash("threads", body), identity, command, result)

    async def send_message(self, caller: Caller, key: str, thread_id: str, body: api.NewMessage) -> bytes:
        await self._owned(caller, thread_id)

        def command() -> c.Command:
            return _message(body, key)

        def result(decided: Decided) -> Result:
            return Result("run", _queued(decided))

        return await self._command(caller, key, _hash(thread_id, body), thread_id, command, result)

    async def stop_run(self, caller: Caller, key: str, run_id: str) -> bytes:
        thread = await self._owned(caller, run_id, "run")
        command = c.StopRun(run_id, f"person:{caller.owner}")
        answer = Result("run", run_id)
        return await self._plain(caller, key, _hash("stop", run_id), thread, command, answer)

    async def stop_thread(self, caller: Caller, key: str, thread_id: str) -> bytes:
        await self._owned(caller, thread_id)
        command = c.StopThread(f"person:{caller.owner}")

        def result(decided: Decided) -> Result:
            ended = [x for x in decided.events if isinstance(x, e.RunEnded)]
            stopped = [x.run_id for x in decided.events if isinstance(x, e.RunStopping)]
            stopped += [x.run_id for x in ended if x.status != "cancelled" and x.run_id not in stopped]
            cancelled = [x.run_id for x in ended if x.status == "cancelled"]
            around = {"stopped": stopped[0] if stopped else None, "cancelled": cancelled}
            return Result("thread", thread_id, around)

        return await self._command(
            caller, key, _hash("stop", thread_id), thread_id, lambda: command, result, vital=True
        )

    async def release_queue(self, caller: Caller, key: str, thread_id: str) -> bytes:
        await self._owned(caller, thread_id)
        command = c.ReleaseQueue(f"person:{caller.owner}")
        answer = Result("thread", thread_id)
        return await self._plain(caller, key, _hash("release", thread_id), thread_id, command, answer)

    async def answer(self, caller: Caller, key: str, request_id: str, body: api.NewAnswer) -> bytes:
        thread = await self._owned(caller, request_id, "request")
        decision = body.decision or ("accept" if body.answers else "")
        if decision not in get_args(Decision):
            allowed = ", ".join(get_args(Decision))
            raise Rejected(
                "invalid", f"cannot answer {request_id}: because decision is {decision!r}; use {allowed}"
            )
        answers = {question: list(chosen) for question, chosen in body.answers.items()}
        command = c.AnswerRequest(
            request_id,
            decision,  # type: ignore[arg-type]
            f"person:{caller.owner}",
            body.message,
            answers,
        )
        answer = Result("request", request_id)
        return await self._plain(caller, key, _hash(request_id, body), thread, command, answer)

    async def _plain(
        self, caller: Caller, key: str, content: str, thread: str, command: c.Command, answer: Result
    ) -> bytes:
        """A stop, a release or an answer: written even where the disk is full."""
        return await self._command(
            caller, key, content, thread, lambda: command, lambda _: answer, vital=True
        )

    async def _command(
        self,
        caller: Caller,
        key: str,
        content: str,
        thread: str,
        command: Callable[[], c.Command],
        result: Callable[[Decided], Result],
        *,
        vital: bool = False,
    ) -> bytes:
        """Once per key and content, whoever asks how often."""
        if self._stopping:
            raise Unavailable(
                "shutting_down", "cannot take commands: because this server is stopping; try again"
            )
        async with self._receipts.once(caller.owner, key):
            known = await self._receipts.answer(caller.owner, key, content)
            if known is not None:
                return known
            receipt = Receipt(caller.owner, key, content)

            def complete(decided: Decided) -> Receipt:
                chosen = result(decided)
                return msgspec.structs.replace(
                    receipt, result=chosen.kind, result_id=chosen.id, around=chosen.around
                )

            worker = self._workers.get(thread)
            try:
                committed = await worker.execute(command(), receipt=complete, correlation=key, vital=vital)
            except Rejected as refusal:
                await self._refused(worker, receipt, refusal)
                raise
            except StoreConflict as conflict:
                raise Unavailable(
                    "busy", f"cannot take the command: because {conflict.detail}; try again"
                ) from conflict
            except StoreFull as full:
                raise Unavailable(
                    "storage_full",
                    "cannot take the command: because the disk is full; nothing was done; free some space and try again",
                ) from full
            return committed.answer

    async def _refused(self, worker: Any, receipt: Receipt, refusal: Rejected) -> None:
        """Remember a deterministic refusal; if that cannot be stored, the command id stays usable."""
        if not worker.state.id:
            return
        stored = msgspec.structs.replace(receipt, code=refusal.code, detail=refusal.detail)
        try:
            await worker.refuse(stored)
        except HoldfastError as error:
            log.warning("cannot store the refusal of %s: because %s", receipt.command_id, error.detail)

    # Reads

    async def threads(
        self, caller: Caller, *, before: str = "", limit: int = 100, project: str = "", status: str = ""
    ) -> list[api.ThreadObject]:
        return await self._house.store.threads(
            _owner(caller), before=before, limit=limit, project=project, status=status
        )

    async def thread(self, caller: Caller, thread_id: str) -> dict[str, Any]:
        picture = await self.snapshot(caller, thread_id, items=1)
        return {
            "thread": picture.thread,
            "runs": picture.runs,
            "requests": picture.requests,
            "version": picture.version,
        }

    async def snapshot(self, caller: Caller, thread_id: str, *, items: int = 100) -> api.Snapshot:
        await self._owned(caller, thread_id)
        picture = await self._house.store.snapshot(thread_id, items=items)
        if picture is None:
            raise _unknown("thread", thread_id)
        return picture

    async def items(
        self, caller: Caller, thread_id: str, *, before: str = "", limit: int = 100
    ) -> list[api.ItemObject]:
        await self._owned(caller, thread_id)
        return await self._house.store.items(thread_id, before=before, limit=limit)

    async def run(self, caller: Caller, run_id: str, *, wait: float = 0.0) -> api.RunObject:
        thread = await self._owned(caller, run_id, "run")
        with self._house.feed.channel(thread) as channel, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait if wait > 0 else None):
                while True:
                    run = await self._run(run_id)
                    if wait <= 0 or run.status in ENDED or run.requests or channel.closed:
                        return run
                    await _something_new(channel)
        return await self._run(run_id)

    async def _run(self, run_id: str) -> api.RunObject:
        run = await self._house.store.run(run_id)
        if run is None:
            raise _unknown("run", run_id)
        return run

    async def requests(self, caller: Caller, *, thread_id: str = "") -> list[api.RequestObject]:
        if thread_id:
            await self._owned(caller, thread_id)
        return await self._house.store.requests(_owner(caller), thread_id=thread_id)

    @contextlib.asynccontextmanager
    async def follow(
        self, caller: Caller, thread_id: str, *, after: int | None
    ) -> AsyncIterator[AsyncIterator[FeedEvent]]:
        await self._owned(caller, thread_id)
        house = self._house
        stream = follow(house.feed, house.store, thread_id, after=after, page=house.bounds.page)
        try:
            yield stream
        finally:
            await stream.aclose()

    async def agents(self, caller: Caller) -> list[api.AgentObject]:
        return self._agents.shown()

    async def runners(self, caller: Caller) -> list[api.RunnerObject]:
        current = getattr(self._house.runners, "current", lambda: None)()
        if current is None:
            return []
        status = dict(await current.status())
        mine = []
        for entry in status.get("sessions", []):
            owner_thread = thread_of(str(entry.get("session", "")))
            mine.append({**entry, "thread_id": owner_thread})
        welcome = current.welcome
        return [
            api.RunnerObject(
                id=welcome.runner,
                pid=welcome.pid,
                version=welcome.version,
                build=welcome.build,
                started_at=api.rfc3339(welcome.started_at),
                connected=True,
                sessions=mine,
            )
        ]

    async def transcript(self, caller: Caller, thread_id: str) -> AsyncIterator[bytes]:
        await self._owned(caller, thread_id)
        return transcript_lines(self._house, thread_id)

    def ready(self) -> dict[str, Any]:
        return {
            "ready": self._found.done and not self._stopping,
            "recovery": msgspec.to_builtins(self._found),
            "sessions": len(self._workers.live()),
            "log": self._house.store.log_id,
        }

    # Ownership

    async def _owned(self, caller: Caller, identity: str, kind: str = "thread") -> str:
        """The thread of the id, if the caller may touch it; what is not theirs is as unknown as what is not there."""
        thread = thread_of(identity)
        expected = {"thread": "th", "run": "run", "request": "req"}[kind]
        if thread is None or kind_of(identity) != expected:
            raise _unknown(kind, identity)
        owner = self._owners.get(thread) or await self._house.store.owner(thread)
        if owner is None or (owner != caller.owner and "admin" not in caller.scopes):
            raise _unknown(kind, identity)
        if len(self._owners) >= OWNERS_MAX:
            self._owners.clear()
        self._owners[thread] = owner
        return thread

    # Life

    async def stop_agents(self) -> None:
        """End every session gently (`serve --stop --agents`); what has not ended in time goes on without us."""
        live = self._workers.live()
        for worker in live:
            await worker.execute(c.CloseSession(), vital=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_AGENTS_S):
                await asyncio.gather(*(worker.pump.finished() for worker in live))

    def stop_taking(self) -> None:
        """No command is taken from here on; readers end."""
        self._stopping = True
        self._house.feed.close()


async def _something_new(channel: Channel) -> None:
    """Until an event was committed; pieces of text alone change no run."""
    while True:
        await channel.wait()
        lagged, channel.lagging = channel.lagging, False
        taken = channel.take()
        if lagged or channel.closed or any(publication.events for publication in taken):
            return


def _unknown(kind: str, identity: str) -> Rejected:
    return Rejected(
        f"unknown_{kind}", f"cannot find {kind} {identity}: because there is none of that id for you"
    )


def _owner(caller: Caller) -> str | None:
    return None if "admin" in caller.scopes else caller.owner


def _mode(mode: str) -> str:
    if mode not in MODES:
        raise Rejected("invalid", f"cannot use mode {mode!r}: because it is none of {', '.join(MODES)}")
    return mode


def _delivery(delivery: str) -> Any:
    if delivery not in get_args(c.Delivery):
        allowed = ", ".join(get_args(c.Delivery))
        raise Rejected("invalid", f"cannot deliver with {delivery!r}: because it is none of {allowed}")
    return delivery


def _queued(decided: Decided) -> str:
    """The run that the command itself queued."""
    return next(event.run_id for event in decided.events if isinstance(event, e.RunQueued))


def _message(body: api.NewMessage, key: str) -> c.SendMessage:
    if body.images:
        raise Rejected(
            "unsupported", "cannot take images: because they are not built yet; name the file in the text"
        )
    return c.SendMessage(body.text, _delivery(body.delivery), body.agent, command_id=key)


def _folder(path: str) -> str:
    if not os.path.isabs(path):
        raise Rejected("invalid", f"cannot use folder {path!r}: because it is not absolute")
    if not os.path.isdir(path):
        raise Rejected("invalid", f"cannot use folder {path!r}: because there is no such folder")
    return os.path.normpath(path)


def _hash(path: str, body: object) -> str:
    return hashlib.sha256(
        path.encode() + b"\n" + msgspec.json.encode(body, order="deterministic")
    ).hexdigest()


def _fresh_key(now: float, entropy: Callable[[int], int]) -> str:
    """Ten characters of time in milliseconds, ten of randomness: sortable, and not to be guessed."""
    value = (int(now * 1000) << 50) | entropy(50)
    letters = []
    for _ in range(20):
        letters.append(KEY_ALPHABET[value & 31])
        value >>= 5
    return "".join(reversed(letters))
