"""What a seed decides before anything runs: threads, prompts, and which faults strike when.

Pure: the same seed gives the same plan, whatever runs beside it.
"""

from __future__ import annotations

import re
from random import Random

import msgspec

from holdfast import faults
from holdfast.core.policies import Limits
from holdfast.engine import launch
from holdfast.runner import connection

DECLARED = (launch, connection)
"""They import every module that declares a point."""

SERVER_POINTS = tuple(sorted(p for p in faults.POINTS if p.startswith(("engine.", "store."))))
RUNNER_POINTS = tuple(sorted(p for p in faults.POINTS if p.startswith("runner.")))
FAULTY_S = 24.0
"""Faults strike within this time; then everything is healed."""

HARMLESS = (
    "say Hello {n}",
    "text {n} 16",
    "text {n} 24 80",
    "slow {d} 0.4",
    "think about it {n}",
    "run ls",
    "todo a,>b,+c",
    "notice look",
    "sleep {d}",
    "remember w{n}",
    "recall",
    "noise 2",
    "halfline half {n}",
    "splitutf8",
    "stderr oops",
)
ASKING = (
    "bash make {n}",
    "write a{n}.txt x",
    "ask may I|and this?",
    "ask kind=network fetch {n}",
    "ask kind=telepathy guess",
    "question Colour: Which?|Red|Blue",
    "question *Many: What?|A|B|... && Other?",
    "plan do it {n}",
)
ODD = (
    "wake {d} Nobody asked",
    "later {d} ask may I again",
    "later 1 sleep {d}",
    "fail agent_error it broke",
    "fail usage_limit +30 enough",
    "crash",
    "crash 11",
    "exit",
    "exit 3",
    "nonewline_exit",
    "lost",
    "unseen",
    "deaf",
    "stubborn",
    "hang",
)


class Strike(msgspec.Struct, frozen=True):
    """A crash at the `passage`-th time that the point is passed, counted from the strike before it."""

    point: str
    passage: int


class Window(msgspec.Struct, frozen=True):
    begin: float
    end: float


class Talk(msgspec.Struct):
    """What is said in one thread: pauses before, and prompts."""

    mode: str
    prompts: list[tuple[float, str]]
    stops: list[tuple[float, str]]  # seconds after the start, what: run, thread, release


class Plan(msgspec.Struct):
    seed: int
    talks: list[Talk]
    limits: Limits
    window_bytes: int
    on_file: bool
    heal_at: float = FAULTY_S
    server: list[Strike] = []
    runner: list[Strike] = []
    server_kills: list[float] = []
    runner_kills: list[float] = []
    agent_kills: list[float] = []
    link_cuts: list[float] = []
    clock_steps: list[tuple[float, float]] = []
    store_full: Window | None = None
    store_full_for_all: bool = False
    journals_full: Window | None = None
    cut_off: Window | None = None
    histories_lost: list[float] = []
    repeats: float = 0.0
    unreachable: float = 0.0
    spawn_fails: float = 0.0
    mute: float = 0.0
    host_fails: float = 0.0
    translator_raises: float = 0.0


def plan_of(seed: int) -> Plan:
    rng = Random(f"plan {seed}")
    plan = Plan(
        seed,
        [_talk(rng) for _ in range(rng.randint(1, 3))],
        Limits(
            stall_s=15.0,
            silence_s=rng.choice([0.0, 0.0, 25.0]),
            run_s=rng.choice([0.0, 0.0, 60.0]),
            idle_s=60.0,
            handshake_s=20.0,
            prompt_s=20.0,
        ),
        rng.choice([600, 4000, 1 << 20]),
        seed % 25 == 7,
    )
    if seed % 10:
        for kind in rng.sample(KINDS, rng.randint(1, 3)):
            kind(plan, rng)
    return plan


def _talk(rng: Random) -> Talk:
    mode = rng.choice(["ask", "ask", "ask", "edits", "full"])
    prompts: list[tuple[float, str]] = []
    for _ in range(rng.randint(2, 6)):
        owed = re.search("(?:wake|later) ([0-9])", prompts[-1][1]) if prompts else None
        pause = rng.random() * rng.choice([0.2, 4.0, 8.0])
        if owed and rng.random() < 0.5:  # just when the agent begins a turn by itself
            pause = int(owed[1]) + rng.random() * 1.3
        prompts.append((pause, _prompt(rng)))
    stops = [
        (rng.random() * FAULTY_S, rng.choice(["run", "run", "thread", "release"]))
        for _ in range(rng.choice([0, 0, 0, 1, 2]))
    ]
    return Talk(mode, prompts, stops)


def _prompt(rng: Random) -> str:
    lines = []
    for _ in range(rng.randint(1, 4)):
        words = rng.choices((HARMLESS, ASKING, ODD), (8, 4, 2))[0]
        lines.append(rng.choice(words).format(n=rng.randint(1, 200), d=rng.randint(1, 8)))
    return ";;".join(lines)


def _times(rng: Random, most: int) -> list[float]:
    return sorted(rng.random() * FAULTY_S for _ in range(rng.randint(1, most)))


def _window(rng: Random) -> Window:
    begin = rng.random() * FAULTY_S * 0.7
    return Window(begin, min(FAULTY_S, begin + 2 + rng.random() * 10))


def _server_strikes(plan: Plan, rng: Random) -> None:
    for _ in range(rng.randint(1, 4)):
        point = SERVER_POINTS[rng.randrange(len(SERVER_POINTS))]
        rare = point.startswith(("engine.session", "engine.recovery", "engine.write"))
        plan.server.append(Strike(point, rng.randint(1, 3 if rare else 25)))


def _runner_strikes(plan: Plan, rng: Random) -> None:
    for _ in range(rng.randint(1, 3)):
        point = RUNNER_POINTS[rng.randrange(len(RUNNER_POINTS))]
        often = point in ("runner.ack", "runner.record.appended")
        plan.runner.append(Strike(point, rng.randint(1, 20 if often else 4)))


def _server_kills(plan: Plan, rng: Random) -> None:
    plan.server_kills = _times(rng, 4)


def _runner_kills(plan: Plan, rng: Random) -> None:
    plan.runner_kills = _times(rng, 2)


def _agent_kills(plan: Plan, rng: Random) -> None:
    plan.agent_kills = _times(rng, 5)


def _link_cuts(plan: Plan, rng: Random) -> None:
    plan.link_cuts = _times(rng, 5)


def _clock_steps(plan: Plan, rng: Random) -> None:
    plan.clock_steps = [(at, rng.choice([-1.5, 2.0, -30.0, 600.0])) for at in _times(rng, 2)]


def _store_full(plan: Plan, rng: Random) -> None:
    plan.store_full, plan.store_full_for_all = _window(rng), rng.random() < 0.4


def _journals_full(plan: Plan, rng: Random) -> None:
    plan.journals_full = _window(rng)


def _cut_off(plan: Plan, rng: Random) -> None:
    """Long enough for a stop to run its whole course, and somebody stops."""
    begin = rng.random() * 4
    plan.cut_off = Window(begin, begin + 38.0)
    plan.talks[0].stops.append((begin + rng.random() * 2, "run"))
    plan.heal_at = begin + 40.0


def _bad_host(plan: Plan, rng: Random) -> None:
    plan.repeats = rng.choice([0.0, 0.2, 0.5])
    plan.unreachable = rng.choice([0.0, 0.3])
    plan.spawn_fails = rng.choice([0.0, 0.2])
    plan.mute = rng.choice([0.0, 0.2])
    plan.host_fails = rng.choice([0.0, 0.3])


def _histories_lost(plan: Plan, rng: Random) -> None:
    plan.histories_lost = _times(rng, 2)


def _translator_raises(plan: Plan, rng: Random) -> None:
    plan.translator_raises = 0.01


KINDS = (
    _server_strikes,
    _server_strikes,
    _server_strikes,
    _runner_strikes,
    _runner_strikes,
    _server_kills,
    _runner_kills,
    _agent_kills,
    _link_cuts,
    _clock_steps,
    _store_full,
    _journals_full,
    _cut_off,
    _bad_host,
    _histories_lost,
    _translator_raises,
)
