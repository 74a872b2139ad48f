"""Work that is begun is finished, whatever becomes of who asked for it; and no task outlives its owner."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.engine.house import Tasks


async def test_work_is_finished_although_its_caller_went_away() -> None:
    gate, finished = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await gate.wait()
        finished.set()

    async with Tasks() as tasks:
        async with asyncio.TaskGroup() as callers:
            caller = callers.create_task(tasks.finish(work(), "work"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            caller.cancel()
        gate.set()
        async with asyncio.timeout(5):
            await finished.wait()


async def test_a_result_and_an_error_reach_the_caller() -> None:
    async def seven() -> int:
        return 7

    async def wrong() -> int:
        raise ValueError("no")

    async with Tasks() as tasks:
        assert await tasks.finish(seven(), "seven") == 7
        with pytest.raises(ValueError, match="no"):
            await tasks.finish(wrong(), "wrong")


async def test_the_end_of_the_house_ends_what_runs_and_who_waits_for_it() -> None:
    never = asyncio.Event()

    async def for_ever() -> None:
        await never.wait()

    async with asyncio.TaskGroup() as callers:
        async with Tasks() as tasks:
            waiting = callers.create_task(tasks.finish(for_ever(), "for ever"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await asyncio.wait([waiting])
    assert waiting.cancelled()


async def test_one_fault_does_not_end_the_others(caplog: pytest.LogCaptureFixture) -> None:
    done = asyncio.Event()

    async def wrong() -> None:
        raise ValueError("a fault")

    async def right() -> None:
        done.set()

    async with Tasks() as tasks:
        tasks.start(wrong(), "the wrong one")
        tasks.start(right(), "the right one")
        async with asyncio.timeout(5):
            await done.wait()
    assert "the wrong one" in caplog.text
