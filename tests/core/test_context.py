"""Portable context: the newest in full, the older shortened, within a budget, and never nothing."""

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.context import BUDGET_CHARS, ENTRY_CHARS, Exchange, portable

lengths = st.sampled_from([0, 1, 500, ENTRY_CHARS, 30_000, BUDGET_CHARS, 2 * BUDGET_CHARS])
sizes = st.tuples(lengths, lengths, st.sampled_from([0, 3, 100]))


def test_a_first_prompt_stands_alone() -> None:
    assert portable([], "go") == "go"


def test_the_exchanges_come_in_order_and_say_how_they_ended() -> None:
    text = portable(
        [Exchange("one", "1", "completed"), Exchange("two", "", "failed", ["ran make (2)"])], "three"
    )
    lines = text.splitlines()
    start = lines.index("<earlier-conversation>")
    assert lines[start + 1 : -4] == [
        "[1] user: one",
        "[1] assistant: 1",
        "",
        "[2] user: two",
        "[2] done: ran make (2)",
        "[2] assistant (failed): (no text)",
        "</earlier-conversation>",
    ]
    assert text.endswith("The request to answer now:\n\nthree")


def test_the_rest_of_a_conversation_is_told_as_such() -> None:
    text = portable([Exchange("two", "", "failed")], "three", rest=True)
    assert "missing from your history" in text.splitlines()[0]
    assert "[1] user: two" in text


def test_the_newest_is_in_full_and_the_older_is_shortened() -> None:
    long = "a" * (ENTRY_CHARS + 1000)
    text = portable([Exchange("one", long, "completed"), Exchange("two", long, "completed")], "three")
    assert text.count(long) == 1
    assert "(1200 more characters)" in text


@settings(max_examples=60)
@given(st.lists(sizes, min_size=1, max_size=30))
def test_the_budget_holds_and_the_newest_is_always_there(said_sizes: list[tuple[int, int, int]]) -> None:
    said = [Exchange("p" * p, "t" * t, "completed", ["x" * 400] * n) for p, t, n in said_sizes]
    text = portable(said, "now")
    assert len(text) <= BUDGET_CHARS + 1000
    assert f"[{len(said)}] user: {said[-1].prompt[:10]}" in text
    assert f"[{len(said)}] assistant: {said[-1].text[:10] or '(no text)'}" in text
