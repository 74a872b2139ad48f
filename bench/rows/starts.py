"""The first message of a thread against the bare cold start, and a later one against it too."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.conversation import Conversation
from bench.figures import Row, Target, against, in_turn
from bench.pipe import Pipe
from bench.server import Server, until
from tests.house import processes
from tests.real.model_process import ModelProcess

TEXT = "SCRIPT:hello"
BRIEF = "brief"  # the same program; its session is closed soon after the turn


def measure(quick: bool) -> Iterator[Row]:
    rounds = 3 if quick else 30
    with (
        ModelProcess() as model,
        Server(model.url) as server,
        Conversation(server, "claude", TEXT) as standing,
    ):
        own = {pid for pid, _ in _agents(server)}

        def settled() -> None:
            """Only the standing conversation's process is left."""
            until(lambda: {pid for pid, _ in _agents(server)} <= own, "end of the session")

        def cold() -> float:
            settled()
            began = time.perf_counter()
            with Pipe(server, "claude") as pipe:
                pipe.turn(TEXT)
                return 1000 * (time.perf_counter() - began)

        def first() -> float:
            settled()
            with Conversation(server, BRIEF, TEXT) as thread:
                return thread.first_ms

        def later() -> float:
            settled()
            return standing.turn_ms(TEXT)

        in_turn(1, cold, first, later)
        bare, opened, further = in_turn(rounds, cold, first, later)
        yield against("first message, Claude Code", "ms", opened, bare, "bare cold start", Target("<=", 1.2))
        yield against(
            "later message, Claude Code", "ms", further, bare, "bare cold turn", Target("<=", 1 / 8)
        )


def _agents(server: Server) -> list[tuple[int, str]]:
    program = "--input-format=stream-json"
    return [(pid, line) for pid, line in processes.belonging_to(server.root).items() if program in line]
