"""Identities, snapshots and effects: the small values that the rest stands on."""

import re

import pytest

from holdfast.core import effects as fx
from holdfast.core import ids
from holdfast.core import state as st
from tests.core import words as w
from tests.core.story import given


def test_ids_lead_to_their_thread() -> None:
    for identity, kind in (
        (w.T, "th"),
        (w.run_id(1), "run"),
        (w.item_id(12), "item"),
        (w.request_id(3), "req"),
    ):
        assert ids.thread_of(identity) == w.T
        assert ids.kind_of(identity) == kind
    assert ids.kind_of(w.session_id(1)) == "ses"
    assert ids.stream_of(w.T) == f"thread:{w.T}"


@pytest.mark.parametrize(
    "text", ["", "th_", "th_short", "run_0123456789abcdefghij", "run_0123456789abcdefghij_0", "job_0123456789abcdefghij_1",
             "run_0123456789abcdefghij_1\n", "th_0123456789abcdefghij\n", "run_0123456789ABCDEFGHIJ_1", "run_0123456789abcdefghij_١"]
)  # fmt: skip
def test_what_is_no_id_of_ours_leads_nowhere(text: str) -> None:
    assert ids.thread_of(text) is None
    assert ids.kind_of(text) is None


@pytest.mark.parametrize("key", ["", "short", "UPPER0123456789ABCDE", "0123456789abcdefghij\n", "a" * 33])
def test_a_key_that_makes_no_id_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="is not 16 to 32"):
        ids.thread_id(key)


def test_references_have_the_form_that_agents_want() -> None:
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", ids.reference("a", 1)
    )
    assert ids.reference("a", 1) == ids.reference("a", "1") != ids.reference("a1")


def test_fingerprints_differ_with_their_parts() -> None:
    assert len(ids.fingerprint("a", "b")) == 32
    assert (
        len(
            {
                ids.fingerprint("a", "b"),
                ids.fingerprint("ab"),
                ids.fingerprint("ab", ""),
                ids.fingerprint("b", "a"),
            }
        )
        == 4
    )


def test_a_snapshot_of_another_shape_is_no_snapshot() -> None:
    state = given(w.create("go"), w.opened(), w.working()).state
    data = st.encode(state)
    assert st.decode(data) == state
    assert (
        st.decode(data.replace(b"%d\n" % st.SNAPSHOT_VERSION, b"%d\n" % (st.SNAPSHOT_VERSION + 1), 1)) is None
    )
    assert st.decode(b"") is None


def test_a_copy_is_independent() -> None:
    state = given(w.create("go"), w.opened(), w.working(), w.asks()).state
    other = st.copy(state)
    other.runs[w.run_id(1)].restarts += 1
    other.requests[w.request_id(1)].answers["x"] = ["y"]
    other.queue.append("z")
    assert (state.runs[w.run_id(1)].restarts, state.requests[w.request_id(1)].answers, state.queue) == (
        0,
        {},
        [],
    )


EFFECTS: list[tuple[fx.Effect, str, int]] = [
    (fx.OpenSession("s", 2, "alpha"), "open_session:s", 2),
    (fx.SendPrompt("r", 3, 2), "send_prompt:r:3:2", 2),
    (fx.SendAnswer("q", 2), "send_answer:q:2", 2),
    (fx.SendInterrupt("r", 3, 2), "send_interrupt:r:3:2", 2),
    (fx.StopSession("s", 2, gentle=True), "stop_session:s", 2),
    (fx.AskHistory("r", 3, "s"), "ask_history:r:3", 0),
    (fx.LetGo("s", "native"), "let_go:s", 0),
]


@pytest.mark.parametrize(
    ("effect", "name", "generation"), EFFECTS, ids=lambda x: str(x) if isinstance(x, str) else ""
)
def test_an_effect_has_one_identity_and_one_life(effect: fx.Effect, name: str, generation: int) -> None:
    assert fx.identity(effect) == name
    assert fx.bound_to(effect) == generation
    assert fx.decode(fx.encode(effect)) == effect
