"""Records the transcripts of the scripted agent anew: `python -m tests.agents.record_scripted`."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from holdfast.agents.port import Answer, Begin, Interrupt, Prompt
from holdfast.agents.scripted import SCRIPTED
from holdfast.core.reports import RequestOpened, SessionReady, TurnEnded, TurnStarted
from tests.agents import transcripts
from tests.agents.pipe_driver import PipeDriver, context_for


async def greeting(agent: PipeDriver) -> None:
    await agent.send(Begin(), Prompt("p1", "Good morning"))
    await agent.report(TurnEnded)
    await agent.close_input()


async def everything_shown(agent: PipeDriver) -> None:
    script = "think step by step;;text 100;;todo a,>b,+c;;notice mind;;run echo hi;;halfline;;splitutf8;;noise 2;;recall"
    await agent.send(Begin(), Prompt("p1", f"{script};;wake 0.05 tests are green"))
    await agent.report(TurnEnded, 2)
    await agent.close_input()


async def requests(agent: PipeDriver) -> None:
    script = (
        "bash echo hi;;write a.txt x;;ask kind=telepathy A|B;;question Colour: Which?|Red|Blue;;plan Do it"
    )
    await agent.send(Begin(), Prompt("p1", f"{script};;bash never"))
    opened = 0
    decisions = (Answer("r1", "accept_for_session"), Answer("r2", "decline", "no"), Answer("r4", "accept"))
    more = (Answer("r3", "decline"), Answer("r5", "accept", answers={"q1": ["Red"]}), Answer("r6", "accept"))
    for answer in (*decisions, *more, Answer("r7", "cancel")):
        opened = max(opened, int(answer.ref[1:]))
        await agent.report(RequestOpened, opened)
        await agent.send(answer)
    await agent.report(TurnEnded)
    await agent.close_input()


async def interrupted(agent: PipeDriver) -> None:
    await agent.send(
        Begin(), Prompt("p1", "ask A|B"), Prompt("p2", "fail usage_limit 2030-01-01T00:00:00Z wait")
    )
    await agent.report(RequestOpened, 2)
    await agent.send(Interrupt("i1"))
    await agent.report(TurnEnded, 2)
    await agent.close_input()


async def crashed(agent: PipeDriver) -> None:
    await agent.send(Begin())
    await agent.report(SessionReady)
    await agent.send(Prompt("p1", "run echo hi;;text 40;;crash"))


async def torn(agent: PipeDriver) -> None:
    await agent.send(Begin(), Prompt("p1", "nonewline_exit"))
    await agent.report(TurnStarted)


async def main() -> None:
    plays: tuple[Callable[[PipeDriver], Awaitable[None]], ...] = (
        greeting, everything_shown, requests, interrupted, crashed, torn,
    )  # fmt: skip
    for play in plays:
        with tempfile.TemporaryDirectory() as home:
            workspace = Path(home, "workspace")
            workspace.mkdir()
            async with PipeDriver(SCRIPTED, context_for(SCRIPTED, Path(home), workspace)) as agent:
                await play(agent)
                await agent.ended()
            transcripts.save(SCRIPTED, play.__name__, agent)
            print(f"{play.__name__}: {len(agent.records)} records, {len(agent.reports)} reports")


if __name__ == "__main__":
    asyncio.run(main())
