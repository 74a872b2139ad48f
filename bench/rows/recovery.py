"""How long a new server takes after `kill -9` of the old one, with a hundred sessions on the runner."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from bench.conversation import Conversation
from bench.figures import Row, told
from bench.server import Server, until

STREAMING = 20
SLOW = "slow 4000 0.05"


def measure(quick: bool) -> Iterator[Row]:
    sessions = 30 if quick else 100
    with Server() as server:
        for _ in range(sessions - STREAMING):
            with Conversation(server, "scripted", "hello"):
                pass
        with server.requests() as requests:
            for _ in range(STREAMING):
                body = {"agent": "scripted", "cwd": str(server.workspace), "message": {"text": SLOW}}
                requests.post("/threads", body)
            until(lambda: len(_attached(requests.get("/runners"))) == sessions, "sessions")
        done, joined, reported = [], [], []
        for _ in range(1 if quick else 3):
            server.kill()
            began = time.perf_counter()
            server.start()
            state = server.wait_ready()
            done.append(time.perf_counter() - began)
            reported.append(float(state["recovery"]["seconds"]))
            with server.requests() as requests:
                until(lambda: len(_attached(requests.get("/runners"))) == sessions, "joined sessions")
            joined.append(time.perf_counter() - began)
        yield told(f"recovery with {sessions} sessions, from the process's start until it is done", "s", done)
        yield told(f"recovery with {sessions} sessions, of that the recovery itself", "s", reported)
        yield told(f"recovery with {sessions} sessions, until the runner has every one attached", "s", joined)


def _attached(answer: Any) -> list[str]:
    sessions = [session for runner in answer["runners"] for session in runner["sessions"]]
    return [session["session"] for session in sessions if session["state"] == "live" and session["attached"]]
