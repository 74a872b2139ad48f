"""What each route does: read, call the engine once, render. No rules live here.

Called by the application through the table in `routes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec

from holdfast import __version__, faults
from holdfast.errors import HoldfastError
from holdfast.surfaces.http import bodies
from holdfast.surfaces.http.call import Answer, Call, Stream
from holdfast.wire.api import RunObject


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(msgspec.json.encode(value), status)


async def health(call: Call) -> Answer:
    return _json({"status": "ok", "version": __version__})


async def ready(call: Call) -> Answer:
    """503 until it is; never waits. What recovery has found is told to whoever has the token."""
    call.query(())
    state = call.engine.ready()
    is_ready = bool(state.get("ready")) and not call.stopping.is_set()
    told = state if call.caller.scopes else {}
    return _json({**told, "ready": is_ready}, 200 if is_ready else 503)


COMMAND_READ = faults.declare(
    "http.command_read", "a command is read and its caller may; nothing is committed"
)
COMMAND_DONE = faults.declare("http.command_done", "a command is committed, its answer has not left")


async def _commit(command: Awaitable[bytes], status: int = 200) -> Answer:
    faults.point(COMMAND_READ)
    body = await command
    faults.point(COMMAND_DONE)
    return Answer(body, status)


# Threads


async def create_thread(call: Call) -> Answer:
    data = await call.body(call.bounds.http_image_body_bytes_max)
    body = bodies.new_thread(data, call.bounds)
    return await _commit(call.engine.create_thread(call.caller, call.key(), body), 201)


async def list_threads(call: Call) -> Answer:
    query = call.query(("cursor", "limit", "project", "status"))
    limit = _limit(call, query.get("limit"))
    page = await call.engine.threads(
        call.caller,
        before=bodies.place(query, "cursor", "th"),
        limit=limit,
        project=query.get("project", ""),
        status=bodies.one_of(query, "status", bodies.STATUSES),
    )
    return _json({"threads": page, "cursor": page[-1].id if len(page) == limit else None})


async def get_thread(call: Call) -> Answer:
    """With `items=N` also the newest items, all from one moment."""
    query = call.query(("items",))
    if "items" not in query:
        return _json(await call.engine.thread(call.caller, call.id))
    items = bodies.whole(query, "items", default=0, least=0, most=call.bounds.page_max)
    return _json(await call.engine.snapshot(call.caller, call.id, items=items))


async def send_message(call: Call) -> Answer:
    data = await call.body(call.bounds.http_image_body_bytes_max)
    body = bodies.new_message(data, call.bounds)
    return await _commit(call.engine.send_message(call.caller, call.key(), call.id, body), 202)


async def list_items(call: Call) -> Answer:
    query = call.query(("before", "limit"))
    limit = _limit(call, query.get("limit"))
    page = await call.engine.items(
        call.caller, call.id, before=bodies.place(query, "before", "item"), limit=limit
    )
    return _json({"items": page, "before": page[0].id if len(page) == limit else None})


async def stop_thread(call: Call) -> Answer:
    await _empty(call)
    return await _commit(call.engine.stop_thread(call.caller, call.key(), call.id))


async def release_queue(call: Call) -> Answer:
    await _empty(call)
    return await _commit(call.engine.release_queue(call.caller, call.key(), call.id))


async def transcript(call: Call) -> Stream:
    call.query(())
    lines = await call.engine.transcript(call.caller, call.id)
    return Stream(lines, b"application/x-ndjson")


# Runs


async def stop_run(call: Call) -> Answer:
    await _empty(call)
    return await _commit(call.engine.stop_run(call.caller, call.key(), call.id))


async def get_run(call: Call) -> Answer:
    query = call.query(("wait",))
    wait = bodies.seconds(query, "wait", most=call.bounds.run_wait_s_max)
    if wait == 0 or call.stopping.is_set():
        return _json(await call.engine.run(call.caller, call.id))
    return _json(await _run_until(call, wait))


async def _run_until(call: Call, wait: float) -> RunObject:
    """Waits for the run, but never holds up the server's end: then the run is told as it is."""
    refused: HoldfastError | None = None
    try:
        async with asyncio.TaskGroup() as group:
            run = group.create_task(call.engine.run(call.caller, call.id, wait=wait))
            stopping = group.create_task(call.stopping.wait())
            await asyncio.wait((run, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if run.done():
                return run.result()
            run.cancel()
    except* HoldfastError as errors:
        refused = next(error for error in errors.exceptions if isinstance(error, HoldfastError))
    if refused is not None:
        raise refused
    return await call.engine.run(call.caller, call.id)


# Requests


async def list_requests(call: Call) -> Answer:
    query = call.query(("thread",))
    return _json({"requests": await call.engine.requests(call.caller, thread_id=query.get("thread", ""))})


async def answer_request(call: Call) -> Answer:
    body = bodies.new_answer(await call.body(call.bounds.http_body_bytes_max), call.bounds)
    return await _commit(call.engine.answer(call.caller, call.key(), call.id, body))


# The house


async def list_agents(call: Call) -> Answer:
    call.query(())
    return _json({"agents": await call.engine.agents(call.caller)})


async def list_runners(call: Call) -> Answer:
    call.query(())
    return _json({"runners": await call.engine.runners(call.caller)})


async def not_built_yet(call: Call) -> Answer:
    raise HoldfastError(
        "unsupported",
        f"cannot {call.scope['method']} {call.scope['path']}: because this version cannot do that yet",
    )


def _limit(call: Call, text: str | None) -> int:
    given = {} if text is None else {"limit": text}
    return bodies.whole(given, "limit", default=call.bounds.page_default, least=1, most=call.bounds.page_max)


async def _empty(call: Call) -> None:
    bodies.no_fields(await call.body(call.bounds.http_body_bytes_max))
