"""The table of routes: for each path and method who may, and what is done.

`scope` "" needs no token. What the contract names and this version cannot do is in the table too, and says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal, NamedTuple

from holdfast.surfaces.http import handlers, sse
from holdfast.surfaces.http.call import Answer, Call, Sent, Stream

PREFIX: Final = "/api/v1"

Handler = Callable[[Call], Awaitable[Answer | Stream | Sent]]


class Route(NamedTuple):
    method: Literal["GET", "POST"]
    path: str  # below PREFIX
    scope: Literal["", "read", "operate", "admin"]
    handler: Handler
    meaning: str


ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/health", "", handlers.health, "Whether the server answers, and its version"),
    Route("GET", "/ready", "", handlers.ready, "Whether recovery is done; 503 while it is not"),
    Route("POST", "/threads", "operate", handlers.create_thread, "Open a thread, with its first message"),
    Route("GET", "/threads", "read", handlers.list_threads, "Threads, newest activity first"),
    Route("GET", "/threads/{id}", "read", handlers.get_thread, "A thread with its runs and pending requests"),
    Route("POST", "/threads/{id}/messages", "operate", handlers.send_message, "Send a message: a run"),
    Route("GET", "/threads/{id}/items", "read", handlers.list_items, "The timeline, in pages backwards"),
    Route("GET", "/threads/{id}/events", "read", sse.events, "Server-sent events of a thread"),
    Route(
        "POST", "/threads/{id}/stop", "operate", handlers.stop_thread, "End the run, cancel the queued ones"
    ),
    Route("POST", "/threads/{id}/release", "operate", handlers.release_queue, "Let a held queue go on"),
    Route("GET", "/threads/{id}/transcript", "admin", handlers.transcript, "The recorded frames, as lines"),
    Route(
        "GET", "/runs/{id}", "read", handlers.get_run, "A run; `wait` holds until there is something to say"
    ),
    Route("POST", "/runs/{id}/stop", "operate", handlers.stop_run, "End this run"),
    Route("GET", "/requests", "read", handlers.list_requests, "Pending requests"),
    Route("POST", "/requests/{id}/answer", "operate", handlers.answer_request, "Decide a request"),
    Route("GET", "/agents", "read", handlers.list_agents, "The agents and what they can do"),
    Route("GET", "/runners", "read", handlers.list_runners, "The runners and what they hold"),
    # In the contract, and not built yet.
    Route("POST", "/threads/{id}/fork", "operate", handlers.not_built_yet, "Fork a thread"),
    Route("POST", "/threads/{id}/handoff", "operate", handlers.not_built_yet, "Hand over to another agent"),
    Route("POST", "/threads/{id}/merge-back", "operate", handlers.not_built_yet, "Bring a fork's work back"),
    Route("POST", "/threads/{id}/rollback", "operate", handlers.not_built_yet, "Return to a checkpoint"),
    Route("GET", "/threads/{id}/transfers", "read", handlers.not_built_yet, "Forks, handoffs, merges"),
    Route("GET", "/threads/{id}/checkpoints", "read", handlers.not_built_yet, "Recorded workspace states"),
    Route("GET", "/threads/{id}/diff", "read", handlers.not_built_yet, "What changed in the workspace"),
    Route("GET", "/openapi.json", "read", handlers.not_built_yet, "The description of this interface"),
    Route("GET", "/metrics", "read", handlers.not_built_yet, "Numbers for a monitor"),
    Route("GET", "/stream", "read", handlers.not_built_yet, "Many subscriptions over one WebSocket"),
)
