"""One thread of a house, as a test talks to it: sends, waits for facts, and looks at what the thread shows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.client import Client
from holdfast.client.events import CaughtUp, Event
from holdfast.wire.api import EventObject, ItemObject, RequestObject, RunObject
from tests.house.processes import eventually

if TYPE_CHECKING:
    from tests.house.house import House

ENDED = frozenset({"completed", "failed", "interrupted", "cancelled"})


class Talk:
    """One thread of a house and the run that was asked for last."""

    def __init__(self, house: House, thread_id: str, run_id: str) -> None:
        self.house = house
        self.id = thread_id
        self.run_id = run_id

    @property
    def client(self) -> Client:
        return self.house.client

    async def send(self, text: str, **more: Any) -> str:
        run = await self.client.send(self.id, text, **more)
        self.run_id = run.id
        return run.id

    async def run(self, run_id: str = "") -> RunObject:
        return await self.client.run(run_id or self.run_id)

    async def ended(self, run_id: str = "", within: float = 30.0) -> RunObject:
        """The run once it has ended."""

        async def end() -> RunObject | None:
            run = await self.client.run(run_id or self.run_id, wait=1.0)
            return run if run.status in ENDED else None

        try:
            return await eventually(end, within)
        except AssertionError:
            run = await self.run(run_id)
            raise AssertionError(
                f"{run.id} is {run.status} after {within:g} s and waits for {run.requests}"
            ) from None

    async def settled(self, run_id: str = "", within: float = 30.0) -> RunObject:
        """The run once it has ended or waits for a person."""

        async def end() -> RunObject | None:
            run = await self.client.run(run_id or self.run_id, wait=1.0)
            return run if run.status in ENDED or run.requests else None

        return await eventually(end, within)

    async def ask(self, text: str, within: float = 30.0) -> RunObject:
        """Sends, and waits for the end."""
        await self.send(text)
        return await self.ended(within=within)

    async def request(self, within: float = 30.0) -> RequestObject:
        """The one request that the thread waits for."""

        async def pending() -> list[RequestObject]:
            return await self.client.requests(thread_id=self.id)

        (found,) = await eventually(pending, within)
        return found

    async def working(self, least: str = "") -> None:
        """Returns when the run streams text (with `least` in it)."""

        async def streams() -> bool:
            return any(
                item.kind == "assistant_message"
                and item.status == "open"
                and item.text
                and least in item.text
                for item in await self.items()
            )

        await eventually(streams)

    async def items(self, kind: str = "") -> list[ItemObject]:
        found = await self.client.items(self.id, limit=1000)
        return [item for item in found if not kind or item.kind == kind]

    async def notices(self) -> list[str]:
        return [str(item.data.get("code")) for item in await self.items("notice")]

    async def at_rest(self) -> bool:
        return (await self.client.thread(self.id)).thread.status in ("idle", "failed")

    async def session(self) -> dict[str, Any]:
        """What the runner says of the thread's living session, once there is one."""

        async def living() -> list[dict[str, Any]]:
            of_all = await self.house.sessions()
            return [s for s in of_all if s["thread_id"] == self.id and s["state"] in ("live", "ending")]

        (mine,) = await eventually(living)
        return mine

    async def agent_pid(self) -> int:
        return int((await self.session())["pid"])

    async def session_closed(self) -> None:
        """Returns when the thread knows that a session of it has ended."""

        async def closed() -> bool:
            return any(event.type == "session.closed" for event in await self.events())

        await eventually(closed)

    async def events(self, after: int = 0) -> list[EventObject]:
        """The log from a version on, up to its head."""
        return [event for event in await self.stream(after) if isinstance(event, EventObject)]

    async def stream(self, after: int | None = 0) -> list[Event]:
        """All that a reader gets until it has caught up."""
        found: list[Event] = []
        async with contextlib.aclosing(self.client.follow(self.id, after=after)) as events:
            async for event in events:
                found.append(event)
                if isinstance(event, CaughtUp):
                    return found
        return found

    async def follow(self, after: int | None = None) -> AsyncIterator[Event]:
        async with contextlib.aclosing(self.client.follow(self.id, after=after)) as events:
            async for event in events:
                yield event


def event_data(event: EventObject) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.json.decode(event.data)
    return data
