"""Items: what a run contains, where it belongs when it comes late, and pieces of text."""

from holdfast.core import reports as r
from holdfast.core.evolve import REFS_MAX
from tests.core import words as w
from tests.core.story import Given, Told, event, given


def at_work(*before: Told) -> Given:
    return given(w.create("go"), w.opened(), w.working(), before)


def test_an_item_is_a_row_of_its_run() -> None:
    thread = at_work()
    thread.when(w.told(r.ItemStarted("t1", "a", "command", "ls", {"cwd": "/"}))).then(
        event(
            "item.started", item_id=w.item_id(2), ordinal=2, kind="command", run_id=w.run_id(1), attempt=1, ref="a",
            parent_id="", text="ls", data={"cwd": "/"},
        )
    )  # fmt: skip
    thread.when(w.item_done("a", status="failed", text="no", data={"exit": 1})).then(
        event("item.completed", item_id=w.item_id(2), status="failed", text="no", data={"exit": 1})
    )


def test_an_open_item_is_not_started_twice() -> None:
    at_work(w.item("a")).when(w.item("a"), w.item("a", "tool_call")).then_nothing()


def test_a_completed_item_is_not_completed_again() -> None:
    at_work(w.item("a"), w.item_done("a")).when(
        w.item_done("a"), w.item_done("a", kind="command", turn="t1")
    ).then_nothing()


def test_an_item_that_was_never_started_is_started_when_it_completes() -> None:
    at_work().when(w.item_done("a", kind="search", turn="t1", text="found")).then(
        event("item.started", kind="search", run_id=w.run_id(1), ref="a"),
        event("item.completed", text="found"),
    )


def test_an_item_without_a_reference_is_whole_at_once() -> None:
    thread = at_work().when(w.item_done("", kind="plan", turn="t1", text="1. look"))
    thread.then(event("item.started", kind="plan", ref=""), event("item.completed", item_id=w.item_id(2)))
    thread.when(w.item_done("", kind="plan", turn="t1")).then(
        "item.started", event("item.completed", item_id=w.item_id(3))
    )


def test_a_completion_that_says_nothing_of_its_kind_is_nothing() -> None:
    at_work().when(w.item_done("unknown")).then_nothing()


def test_children_know_their_parents() -> None:
    thread = at_work(w.item("a", "subagent"))
    thread.when(w.item("b", parent="a")).then(event("item.started", parent_id=w.item_id(2)))
    thread.when(w.item_done("b"), w.item("c", parent="b")).then_also(
        event("item.started", parent_id=w.item_id(3))
    )
    thread.when(w.item("d", parent="unknown")).then(event("item.started", parent_id=""))


def test_text_comes_in_pieces_and_is_no_event() -> None:
    thread = at_work(w.item("a", "assistant_message"))
    outcome = thread.when(w.told(r.ItemText("a", "Hel"), r.ItemText("a", "lo"), r.ItemCompleted("a")))
    outcome.then(event("item.completed", text=None))
    assert outcome.pieces == [(w.item_id(2), "Hel"), (w.item_id(2), "lo")]


def test_pieces_of_nothing_are_nothing() -> None:
    thread = at_work(w.item("a", "assistant_message"), w.item_done("a"))
    outcome = thread.when(w.told(r.ItemText("a", "late"), r.ItemText("x", "y"), r.ItemText("", "z")))
    assert outcome.then_nothing().pieces == []
    assert at_work(w.item("a")).when(w.told(r.ItemText("a", ""))).pieces == []


def test_a_notice_is_a_row_that_is_complete() -> None:
    at_work().when(w.told(r.NoticeGiven("retry", "waits 4 s", {"wait_s": 4}, "t1"))).then(
        event("item.started", kind="notice", run_id=w.run_id(1), attempt=1, text="waits 4 s", data={"code": "retry", "wait_s": 4}),
        event("item.completed", status="completed"),
    )  # fmt: skip


def test_a_notice_outside_of_every_run_is_the_threads() -> None:
    given(w.create(), w.send("x"), w.opened(), w.working(), w.turn_ended("t1")).when(
        w.told(r.NoticeGiven("limit", "80 % used"))
    ).then(event("item.started", run_id="", attempt=0), "item.completed")


# Late, and in the background


def test_late_items_belong_to_the_run_whose_turn_they_name() -> None:
    thread = at_work(w.turn_ended("t1"), w.send("two"), w.taken(2), w.written(2))
    thread.when(w.item("late")).then(event("item.started", run_id=w.run_id(1), attempt=1))
    assert thread.run(2).dispatch == "written", "nothing of the first run is a sign of the second"
    thread.when(w.item_done("whole", kind="command", turn="t1")).then(
        event("item.started", run_id=w.run_id(1)), "item.completed"
    )


def test_a_subagent_outlives_a_completed_turn() -> None:
    thread = at_work(w.item("a", "subagent"), w.item("b")).when(w.turn_ended("t1"))
    thread.then(event("item.completed", item_id=w.item_id(3), status="interrupted"), "run.ended")
    thread.when(w.send("two"), w.taken(2))
    for turn in ("", "t1", "elsewhere"):
        thread.when(w.item(f"child of {turn}", turn=turn, parent="a")).then(
            event("item.started", run_id=w.run_id(1), attempt=1, parent_id=w.item_id(2))
        )
    assert thread.run(2).dispatch == "taken"
    thread.when(w.item_done("a", text="done")).then(event("item.completed", item_id=w.item_id(2)))


def test_a_subagent_ends_with_a_run_that_failed() -> None:
    at_work(w.item("a", "subagent")).when(w.turn_ended("t1", "failed")).then(
        event("item.completed", status="interrupted"), "run.ended"
    )


def test_a_completion_after_the_run_does_not_make_a_second_row() -> None:
    at_work(w.item("a"), w.turn_ended("t1")).when(w.item_done("a", kind="command", turn="t1")).then_nothing()


def test_an_item_of_nobody_is_still_a_row() -> None:
    given(w.create(), w.send("x"), w.opened(), w.working(), w.turn_ended("t1")).when(
        w.item("a", turn="")
    ).then(event("item.started", run_id="", attempt=0)).when(w.ended()).then(
        event("item.completed", status="interrupted"), "session.closed"
    )


def test_references_are_kept_in_a_bounded_number() -> None:
    many = [(w.item(f"r{n}"), w.item_done(f"r{n}")) for n in range(REFS_MAX + 20)]
    thread = at_work(w.item("first", "subagent"), many)
    assert len(thread.state.refs) == REFS_MAX
    assert "first" in thread.state.refs, "what is open is not forgotten"
    assert f"r{REFS_MAX + 19}" in thread.state.refs
    assert "r0" not in thread.state.refs
