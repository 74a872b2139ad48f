"""The people of a simulation: they send with keys and repeat what was not answered, answer from two windows, read on.

Owns the ledger of what was accepted, refused and read; it judges nothing: `laws` does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import msgspec

from holdfast.engine.engine import Engine
from holdfast.engine.port import Caller
from holdfast.errors import HoldfastError, Rejected, Unavailable
from holdfast.store.port import StoreFull
from holdfast.wire import api
from tests.simulation.reducer import View
from tests.simulation.server import AGENT, Server, ServerGone

OWNER = Caller("owner", frozenset({"read", "operate"}))

Call = Callable[[Engine], Coroutine[Any, Any, bytes]]


class Command(msgspec.Struct):
    """One command as its sender knows it. `answer` None: refused, with `code`."""

    key: str
    what: str
    call: Call
    answer: bytes | None = None
    code: str = ""


class People:
    """`server` is the one that lives now, None while there is none."""

    def __init__(self, rng: Random, server: Callable[[], Server | None], counts: Counter[str]) -> None:
        self.commands: list[Command] = []
        self.threads: list[str] = []
        #: prompts by run, as accepted
        self.prompts: dict[str, str] = {}
        #: request -> decisions that were accepted (more than one distinct is a fault)
        self.decided: dict[str, list[str]] = {}
        self.views: list[tuple[str, View]] = []
        self.answers_everything = False
        self.answering: list[asyncio.Task[None]] = []
        self._seen: set[str] = set()
        self._rng = rng
        self._server = server
        self._counts = counts
        self._keys = 0

    # Commands

    async def command(self, what: str, make: Callable[[str], Call]) -> Command:
        """Ask until there is an answer, always with the same key."""
        self._keys += 1
        command = Command(f"key-{self._keys}", what, make(f"key-{self._keys}"))
        while True:
            try:
                server = self._server()
                if server is None:
                    raise ServerGone
                command.answer = await server.ask(command.call)
            except Rejected as refusal:
                command.code = refusal.code
            except (ServerGone, Unavailable) as error:
                self._counts[f"asked again: {getattr(error, 'code', 'server gone')}"] += 1
                await asyncio.sleep(self._rng.random() * 0.5 + 0.01)
                continue
            self.commands.append(command)
            return command

    async def open_thread(self, mode: str, text: str) -> str:
        message = api.NewMessage(text) if text else None
        body = api.NewThread(agent=AGENT, cwd="/", mode=mode, message=message)
        command = await self.command("open", lambda key: lambda e: e.create_thread(OWNER, key, body))
        assert command.answer is not None, f"a thread was refused: {command.code}"
        answer = msgspec.json.decode(command.answer)
        thread = answer["thread"]
        if message:
            self.prompts[answer["run"]["id"]] = text
        self.threads.append(thread["id"])
        return str(thread["id"])

    async def send(self, thread: str, text: str) -> None:
        body = api.NewMessage(text)
        command = await self.command("send", lambda key: lambda e: e.send_message(OWNER, key, thread, body))
        assert command.answer is not None, f"a message was refused: {command.code}"
        self.prompts[msgspec.json.decode(command.answer)["id"]] = text

    async def stop_run(self, run: str) -> None:
        await self.command("stop", lambda key: lambda e: e.stop_run(OWNER, key, run))

    async def stop_thread(self, thread: str) -> None:
        await self.command("stop thread", lambda key: lambda e: e.stop_thread(OWNER, key, thread))

    async def release(self, thread: str) -> None:
        await self.command("release", lambda key: lambda e: e.release_queue(OWNER, key, thread))

    # Answers

    async def watch_requests(self, group: asyncio.TaskGroup) -> None:
        while True:
            await asyncio.sleep(0.3 + self._rng.random())
            server = self._server()
            if server is None:
                continue
            try:
                pending = await server.ask(lambda e: e.requests(OWNER))
            except (ServerGone, HoldfastError):
                continue
            for request in pending:
                if request.id not in self._seen and (self.answers_everything or self._rng.random() < 0.8):
                    self._seen.add(request.id)
                    windows, slowness = (
                        self._rng.choice([1, 1, 2]),
                        self._rng.choice([2, 2, 2, 2, 2, 2, 2, 45]),
                    )
                    at_once = self._rng.random() * slowness
                    for _ in range(windows):
                        after_s = self._rng.choice([at_once, self._rng.random() * slowness])
                        self.answering.append(group.create_task(self._answer(request, after_s)))

    async def _answer(self, request: api.RequestObject, after_s: float) -> None:
        decision = self._rng.choice(["accept", "accept", "decline", *request.options])
        choice = {q.id: [q.options[0].label if q.options else "free"] for q in request.questions}
        answers = choice if decision.startswith("accept") else {}
        body = api.NewAnswer(decision, self._rng.choice(["", "because"]), answers)
        await asyncio.sleep(after_s)
        command = await self.command("answer", lambda key: lambda e: e.answer(OWNER, key, request.id, body))
        if command.answer is not None:
            self.decided.setdefault(request.id, []).append(decision)

    # Readers

    async def follow(self, thread: str, *, snapshot: bool, slow: float) -> None:
        """Reads until it is cancelled; comes back at its cursor after whatever ended the stream."""
        view = View()
        self.views.append((thread, view))
        after = None if snapshot else 0

        async def read(engine: Engine) -> None:
            nonlocal after
            patience = self._rng.choice([5, 30, 10_000])
            async with engine.follow(OWNER, thread, after=after) as stream:
                async for event in stream:
                    view.take(event)
                    after = view.version
                    patience -= 1
                    if patience == 0:
                        return
                    if slow and self._rng.random() < slow:
                        await asyncio.sleep(self._rng.random())

        while True:
            server = self._server()
            try:
                if server is not None:
                    await server.ask(read)
            except (ServerGone, Unavailable, StoreFull):
                pass
            await asyncio.sleep(self._rng.random() * 0.5 + 0.01)
