"""The table of a run's life is exactly what happens: each listed pair in a story, and no other pair anywhere.

That no other pair happens is a law: `laws.step` checks it after every command of every story and of the machine.
"""

import pytest

from holdfast.core import commands as c
from holdfast.core.runs import TRANSITIONS
from tests.core import words as w
from tests.core.laws import Pair
from tests.core.story import START, Told, given

ready: list[Told] = [w.create("one"), w.opened()]
working: list[Told] = [*ready, w.working()]

STORIES: dict[Pair, list[Told]] = {
    ("", "run.queued"): [w.create("one")],
    ("queued", "run.starting"): [w.create("one")],
    ("queued", "run.ended"): [w.create("one"), w.send("two"), w.stop(2)],
    ("starting", "run.dispatched"): [*ready, w.taken(1)],
    ("starting", "run.working"): [*ready, w.seen(1)],
    ("starting", "run.requeued"): [*ready, w.ended()],
    ("starting", "run.doubtful"): [*ready, w.taken(1), w.ended()],
    ("starting", "run.stopping"): [*ready, w.stop(1)],
    ("starting", "run.ended"): [w.create("one"), w.launch_failed()],
    ("working", "run.working"): [*working, w.turn("t2", 1)],
    ("working", "run.active"): [*working, 60.0, c.NoteActivity()],
    ("working", "run.stalled"): [*working, 300.0, c.TimeUp("stall", w.run_id(1), 1, 1, START)],
    ("working", "run.stopping"): [*working, w.stop(1)],
    ("working", "run.ended"): [*working, w.turn_ended("t1")],
}


def test_every_pair_has_a_story() -> None:
    assert STORIES.keys() == TRANSITIONS.keys()


@pytest.mark.parametrize("pair", STORIES, ids=lambda pair: f"{pair[0] or 'new'}-{pair[1]}")
def test_the_pair_happens_last(pair: Pair) -> None:
    told = STORIES[pair]
    before, outcome = given(told[:-1]), given(told)
    assert pair in outcome.pairs[len(before.pairs) :]
    assert pair not in before.pairs or pair[1] == "run.working"


def test_an_end_is_an_end() -> None:
    statuses = {status for status, _ in TRANSITIONS}
    assert "ended" not in statuses
    assert set(TRANSITIONS.values()) == {"queued", "starting", "working", "ended"}
