"""Short words for what happens to one thread: the commands and reports that stories and the machine are made of.

Runs and sessions are named by their numbers, as their ids are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from holdfast.core import commands as c
from holdfast.core import reports as r
from holdfast.core.ids import inner_id, reference, thread_id

T = thread_id("0123456789abcdefghij")
CWD = "/home/ada/atlas"


def run_id(n: int) -> str:
    return inner_id("run", T, n)


def item_id(n: int) -> str:
    return inner_id("item", T, n)


def request_id(n: int) -> str:
    return inner_id("req", T, n)


def session_id(n: int) -> str:
    return inner_id("ses", T, n)


def prompt_of(n: int) -> str:
    """Our reference for the prompt of the n-th run."""
    return reference(run_id(n))


def create(text: str | None = None, mode: str = "ask") -> c.CreateThread:
    message = None if text is None else c.SendMessage(text)
    return c.CreateThread(T, "ada", CWD, "alpha", "scripted", mode, message=message)


def send(text: str = "next") -> c.SendMessage:
    return c.SendMessage(text)


def stop(run: int) -> c.StopRun:
    return c.StopRun(run_id(run), "person:ada")


def stop_thread() -> c.StopThread:
    return c.StopThread("person:ada")


def release() -> c.ReleaseQueue:
    return c.ReleaseQueue("person:ada")


def answer(request: int, decision: r.Decision = "accept", **more: Any) -> c.AnswerRequest:
    return c.AnswerRequest(request_id(request), decision, "person:ada", **more)


def launched(g: int = 1, *, resumed: bool = False, **more: Any) -> c.LaunchDone:
    return c.LaunchDone(g, f"native-{g}", resumed, **more)


def launch_failed(g: int = 1) -> c.LaunchFailed:
    return c.LaunchFailed(g, r.Failure("start_failed", "cannot start alpha: because alpha was not found"))


def told(*reports: r.Report, g: int = 1) -> c.Observe:
    return c.Observe(g, list(reports))


def ready(g: int = 1, native: str = "") -> c.Observe:
    return told(r.SessionReady(native or f"native-{g}"), g=g)


def refused(g: int = 1, *, resume_lost: bool = False) -> c.Observe:
    return told(
        r.SessionRefused(r.Failure("auth", "cannot start alpha: because it is signed out"), resume_lost), g=g
    )


def taken(run: int, g: int = 1) -> c.Observe:
    return told(r.WriteTaken(f"prompt:{prompt_of(run)}"), g=g)


def written(run: int, g: int = 1) -> c.Observe:
    return told(r.WriteDone(f"prompt:{prompt_of(run)}"), g=g)


def seen(run: int, g: int = 1) -> c.Observe:
    return told(r.PromptSeen(prompt_of(run)), g=g)


def turn(name: str, run: int = 0, g: int = 1) -> c.Observe:
    """A turn begins: for the prompt of the run, or (0) unprompted."""
    return told(r.TurnStarted(name, prompt_of(run) if run else ""), g=g)


def turn_ended(
    name: str, status: Literal["completed", "failed", "interrupted"] = "completed", g: int = 1
) -> c.Observe:
    failure = r.Failure("agent_error", "the model refused") if status == "failed" else None
    return told(r.TurnEnded(name, status, failure), g=g)


def item(
    ref: str, kind: r.ItemKind = "command", turn: str = "t1", g: int = 1, parent: str = "", text: str = ""
) -> c.Observe:
    return told(r.ItemStarted(turn, ref, kind, text, parent_ref=parent), g=g)


def item_done(ref: str, g: int = 1, **more: Any) -> c.Observe:
    return told(r.ItemCompleted(ref, **more), g=g)


def asks(
    ref: str = "q1", kind: r.RequestKind = "command", turn: str = "t1", g: int = 1, **more: Any
) -> c.Observe:
    return told(r.RequestOpened(turn, ref, kind, "May I?", **more), g=g)


def withdraws(ref: str = "q1", g: int = 1) -> c.Observe:
    return told(r.RequestWithdrawn(ref), g=g)


def handed_over(ref: str = "q1", g: int = 1) -> c.Observe:
    """The runner has handed the answer to the agent."""
    return told(r.WriteDone(f"answer:{ref}"), g=g)


def ended(
    g: int = 1,
    cause: Literal["exit", "runner_lost", "unknown_session"] = "exit",
    code: int | None = 1,
    stderr: str = "",
    stage: Literal["", "close", "terminate", "kill"] = "",
    signal: int | None = None,
) -> c.Observe:
    return told(r.SessionEnded(cause, code, signal, stderr, stage), g=g)


def history(found: Literal["present", "absent", "unknown"], run: int = 1, attempt: int = 1) -> c.HistoryRead:
    return c.HistoryRead(run_id(run), attempt, found)


def opened(g: int = 1) -> Sequence[c.Command]:
    """The session's process runs and the agent has answered its handshake."""
    return [launched(g), ready(g)]


def working(run: int = 1, g: int = 1, turn_name: str = "t1") -> Sequence[c.Command]:
    """The prompt has gone all its way, and its turn has begun."""
    return [taken(run, g), written(run, g), turn(turn_name, run, g)]
