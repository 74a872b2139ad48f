"""From an effect for a live session to the intent that its translator turns into frames.

An effect that means nothing any more (its run has ended, its request is gone) gives no intent.
"""

from __future__ import annotations

from collections.abc import Collection

from holdfast.agents.port import Answer, Intent, Interrupt, Prompt
from holdfast.core import effects as fx
from holdfast.core import events as e
from holdfast.core.context import Exchange, portable
from holdfast.core.deciding import Decided
from holdfast.store.port import EventStore
from holdfast.wire.api import ItemObject, RunObject

EXCHANGES_MAX = 200
"""Runs that a rebuilt context is made from; the budget in characters cuts long before."""


async def intent_of(effect: fx.Effect, decided: Decided, store: EventStore) -> Intent | None:
    """`decided`: the decision that is about to be committed, with the state after it."""
    state = decided.state
    match effect:
        case fx.SendPrompt():
            run = state.runs.get(effect.run_id)
            if run is None or run.attempt != effect.attempt or run.dispatch != "unsent" or run.stopping_at:
                return None
            text = await _prompt_text(run.id, decided, store)
            if state.session is not None and state.session.rebuild:
                text = portable(await _exchanges(state.id, run.ordinal, store), text)
            elif state.session is not None and state.session.missed:
                missed = await _exchanges(state.id, run.ordinal, store, state.session.missed)
                text = portable(missed, text, rest=True)
            return Prompt(run.prompt_ref, text)
        case fx.SendAnswer():
            request = state.requests.get(effect.request_id)
            if request is None or request.decision is None:
                return None
            return Answer(request.ref, request.decision, request.message, request.answers)
        case fx.SendInterrupt():
            run = state.runs.get(effect.run_id)
            if run is None or run.attempt != effect.attempt:
                return None
            return Interrupt(f"{run.id}.{run.attempt}")
        case _:
            return None


async def _prompt_text(run_id: str, decided: Decided, store: EventStore) -> str:
    for event in decided.events:
        if isinstance(event, e.RunQueued) and event.run_id == run_id:
            return event.text
    run = await store.run(run_id)
    if run is None:
        raise AssertionError(f"run {run_id} is in the state and not in the views")
    return run.prompt


async def _exchanges(
    thread_id: str, before: int, store: EventStore, only: Collection[str] | None = None
) -> list[Exchange]:
    runs = [
        x
        for x in await store.runs(thread_id, limit=EXCHANGES_MAX)
        if x.ordinal < before and x.started_at and (only is None or x.id in only)
    ]
    items = await store.items(thread_id, limit=1000)
    return [_exchange(run, items) for run in runs]


def _exchange(run: RunObject, items: list[ItemObject]) -> Exchange:
    tools = [
        f"{item.kind}: {item.data.get('command') or item.data.get('path') or item.data.get('tool') or ''}"
        f" ({item.status})"
        for item in items
        if item.run_id == run.id and item.kind in ("command", "file_change", "tool_call", "search")
    ]
    return Exchange(run.prompt, run.text, run.status, tools)
