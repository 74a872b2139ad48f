"""Promise 4 read from the log: runs end in time after a stop and after a death, and fail for a cause that there was.

Times in which nobody could have written the end (no server, a full database) do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.core.ids import stream_of
from holdfast.wire.api import RunObject, Snapshot
from tests.simulation.server import EPOCH

if TYPE_CHECKING:
    from tests.simulation.world import World

P4_S = 30.0
Entry = tuple[float, str, dict[str, Any]]


async def log_of(world: World, thread: str) -> list[Entry]:
    """Every event as (virtual time, type, data)."""
    entries: list[Entry] = []
    after = 0
    while events := await world.store.events(stream_of(thread), after=after, limit=1000):
        for event in events:
            at = datetime.fromisoformat(event.at).timestamp() - EPOCH
            entries.append((at, event.type, msgspec.json.decode(event.data)))
        after = events[-1].version
    return entries


async def runs_end_in_time(world: World, thread: str) -> None:
    if world.counts["clock stepped"] or world.plan.unreachable:
        return  # the log's times, or the way to a runner, say nothing then
    entries = await log_of(world, thread)
    deaths = {process.mark.partition(".")[2]: process.died_at for process in world.host.spawner.processes}
    for index, (at, kind, data) in enumerate(entries):
        if kind == "run.stopping":
            _ends(world, entries[index:], data["run_id"], at, "it was stopped")
        if kind == "session.closed" and data["session_id"] in deaths:
            died = deaths[data["session_id"]]
            if died == 0.0:
                continue  # it was closed because nobody knew it
            unknown = world.cut_off(died, at)
            late = at - died - world.outage(died, at) - unknown
            assert late <= P4_S, f"{data['session_id']} was closed {late:.1f} s after its agent's death"
            for run in _carried(entries[:index]):
                _ends(world, entries[index:], run, died + unknown, "its agent's death")


def _carried(entries: list[Entry]) -> list[str]:
    """The runs that are with an agent after these events. One whose prompt has not left may go on with the next."""
    runs: dict[str, None] = {}
    for _, kind, data in entries:
        if kind in ("run.dispatched", "run.working"):
            runs[data["run_id"]] = None
        elif kind in ("run.ended", "run.requeued"):
            runs.pop(data["run_id"], None)
    return list(runs)


def _ends(world: World, entries: list[Entry], run: str, since: float, why: str) -> None:
    """The run ends, or is put back into the queue, within the promised time."""
    for at, kind, data in entries:
        if kind in ("run.ended", "run.requeued") and data["run_id"] == run:
            late = at - since - world.outage(since, at)
            assert late <= P4_S, f"{run} went on for {late:.1f} s after {why}"
            return
    raise AssertionError(f"{run} never ended after {why}")


async def only_what_stalls_is_ended(world: World, thread: str) -> None:
    """No session is given up as stalled whose agent lives and takes what it is given."""
    plan = world.plan
    if world.counts["clock stepped"] or plan.unreachable or plan.mute or plan.cut_off:
        return
    entries = await log_of(world, thread)
    hangs = any(kind == "run.queued" and "hang" in data["text"] for _, kind, data in entries)
    deaths = {process.mark.partition(".")[2]: process.died_at for process in world.host.spawner.processes}
    for at, kind, data in entries:
        if kind == "session.closing" and data["reason"] == "stalled" and not hangs:
            died = deaths.get(data["session_id"], 0.0)
            assert 0.0 < died <= at + 0.001, (
                f"{data['session_id']} was ended as stalled at {at:.1f} s, and did not stall"
            )


def failures_have_causes(world: World, picture: Snapshot) -> None:
    """No run fails on account of something that did not happen in this world."""
    said = " ".join(run.prompt for run in picture.runs)
    plan, counts = world.plan, world.counts
    struck = bool(
        counts["clock stepped"] or plan.store_full or plan.journals_full or plan.unreachable or plan.cut_off
    )
    odd = any(word in said for word in ("crash", "exit", "lost", "unseen", "hang", "deaf", "stubborn"))
    limited = bool(plan.limits.run_s or plan.limits.silence_s)
    causes: dict[str, Callable[[], bool]] = {
        "agent_error": lambda: "fail agent_error" in said,
        "usage_limit": lambda: "fail usage_limit" in said,
        "agent_lost": lambda: odd or struck or bool(counts["agent killed"] or plan.mute),
        "runner_lost": lambda: bool(counts["runner died"]),
        "start_failed": lambda: (
            struck or bool(plan.spawn_fails or plan.mute or plan.host_fails or counts["agent killed"])
        ),
        "stalled": lambda: limited,
        "protocol": lambda: bool(counts["translator raised"]),
        "unknown_outcome": lambda: bool(counts["histories lost"] or plan.host_fails or struck),
    }
    for run in picture.runs:
        if run.failure is not None:
            assert causes[run.failure.class_](), f"{run.id} failed for no cause: {run.failure}"
        if not (struck or odd or limited or plan.server or plan.runner or any(counts.values())):
            _is_untouched(run)


def _is_untouched(run: RunObject) -> None:
    assert run.attempts == 1, f"{run.id} took {run.attempts} attempts, and nothing was wrong"
