"""A warm turn through Holdfast against the same agent on a bare pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.conversation import Conversation
from bench.figures import Row, Target, against, in_turn
from bench.pipe import Pipe
from bench.server import Server
from tests.real.model_process import ModelProcess

WARM_UP = 5
BETWEEN_S = 0.02
"""What a turn leaves to be done after its end is not to be paid by the next one of the other side."""

CLAUDE = "SCRIPT:hello"
SCRIPTED = "hello"
WORKING = "text 4000 32 5"


def measure(quick: bool) -> Iterator[Row]:
    pairs = 6 if quick else 100
    with ModelProcess() as model, Server(model.url) as server:
        yield _row("warm turn, Claude Code", server, "claude", CLAUDE, pairs, Target("<=", 1.15))
        yield _row(
            "warm turn, scripted agent that answers at once", server, "scripted", SCRIPTED, pairs, None
        )
        yield _row(
            "warm turn, scripted agent with 125 pieces at 5 ms",
            server,
            "scripted",
            WORKING,
            pairs // 10,
            None,
        )


def _row(name: str, server: Server, agent: str, text: str, pairs: int, target: Target | None) -> Row:
    with Conversation(server, agent, text) as ours, Pipe(server, agent) as pipe:

        def through() -> float:
            time.sleep(BETWEEN_S)
            return ours.turn_ms(text)

        def bare() -> float:
            time.sleep(BETWEEN_S)
            began = time.perf_counter()
            pipe.turn(text)
            return 1000 * (time.perf_counter() - began)

        in_turn(WARM_UP, through, bare)
        measured, reference = in_turn(pairs, through, bare)
    return against(name, "ms", measured, reference, "bare pipe", target)
