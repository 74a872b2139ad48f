"""The scripted agent's mind in virtual time: words, turns, interrupts, answers, the history."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.agents.scripted_words import WORDS, parse
from tests.agents.scripted_twin import Twin

START = 1_000_000.0


def told(frames: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in frames]


def kinds(frames: list[bytes]) -> list[str]:
    return [frame["type"] for frame in told(frames)]


def texts(frames: list[bytes]) -> list[str]:
    return [frame["text"] for frame in told(frames) if frame["type"] == "text.done" and "text" in frame]


def ready(histories: dict[str, list[str]] | None = None, **hello: Any) -> Twin:
    twin = Twin({} if histories is None else histories)
    frames = send(twin, "hello", **{"native": "n1", "resume": False, **hello})
    assert kinds(frames) == ["ready"]
    return twin


def send(twin: Twin, kind: str, now: float = START, **fields: Any) -> list[bytes]:
    return twin.write(json.dumps({"type": kind, **fields}).encode(), now)


def play(text: str, until: float = START + 1000, **hello: Any) -> list[bytes]:
    """Everything that a script says, each pause in its time."""
    twin = ready(**hello)
    return send(twin, "prompt", id="p1", text=text) + twin.run(until)


def ending(frames: list[bytes]) -> dict[str, Any]:
    last = told(frames)[-1]
    assert last["type"] == "turn.ended"
    return last


def test_a_prompt_without_a_script_is_greeted_with_its_first_line_and_the_count_of_prompts() -> None:
    twin = ready()
    send(twin, "prompt", id="p1", text="Good morning\nto you")
    frames = send(twin, "prompt", id="p2", text="\n  And again ", images=2)
    assert texts(frames) == ["Hello from the scripted agent. You said: And again. images=2 users=2"]
    assert kinds(frames) == ["prompt.seen", "turn.started", "text", "text.done", "usage", "turn.ended"]


def test_words_are_separated_by_lines_and_semicolons_and_other_lines_are_said() -> None:
    assert texts(play("say one;;say two\nNo word of ours\n\nsleep well")) == [
        "one", "two", "No word of ours", "sleep well",
    ]  # fmt: skip


def test_a_marker_line_hides_the_scripts_above_it() -> None:
    assert parse("say old\nscript:\nexit\nscript:\nsay new") == [("say", "new")]


@pytest.mark.parametrize("word", sorted(WORDS))
def test_every_word_with_arguments_it_cannot_use_or_none_leaves_the_mind_in_order(word: str) -> None:
    for rest in ("", " ,|& : -1 x", " 1e400", " nan nan"):
        twin = ready()
        frames = send(twin, "prompt", id="p1", text=word + rest) + twin.run(START + 1e13)
        assert frames or twin.exit
        ended = any(b'"turn.ended"' in frame for frame in frames)
        assert ended or twin.exit or twin.mind.hung or twin.mind.asked, (word, rest)


def test_text_comes_in_numbered_pieces_with_the_pauses_asked_for() -> None:
    twin = ready()
    first = send(twin, "prompt", id="p1", text="text 70 32 250")
    assert [frame["delta"] for frame in told(first) if frame["type"] == "text"] == [f"{0:031d} "]
    assert twin.wake_at == START + 0.25
    rest = twin.run(START + 1)
    assert [frame["delta"] for frame in told(rest) if frame["type"] == "text"] == [f"{1:031d} ", "x" * 6]
    assert ending(rest)["usage"]["duration_ms"] == 500


def test_waking_too_early_changes_nothing() -> None:
    twin = ready()
    send(twin, "prompt", id="p1", text="sleep 5;;say done")
    assert twin.wake(START + 4.9) == []
    assert twin.wake_at == START + 5
    assert texts(twin.wake(START + 5)) == ["done"]


def test_slow_says_words_one_at_a_time() -> None:
    frames = play("slow 3 2")
    assert texts(frames) == ["word1 word2 word3 "]
    assert ending(frames)["usage"]["duration_ms"] == 4000


@pytest.mark.parametrize("size", [60, 1000, 70_001])
def test_a_big_frame_has_exactly_that_many_bytes(size: int) -> None:
    (frame,) = [frame for frame in play(f"big {size}") if json.loads(frame)["type"] == "text"]
    assert len(frame) == size


def test_a_flood_pauses_between_handfuls_so_that_an_interrupt_gets_through() -> None:
    twin = ready()
    first = send(twin, "prompt", id="p1", text="flood 1000000 1000")
    assert 60_000 < sum(map(len, first)) < 100_000
    assert twin.wake_at == START
    frames = send(twin, "interrupt", id="i1")
    assert kinds(frames) == ["text.done", "usage", "turn.ended"]
    assert ending(frames)["status"] == "interrupted"


def test_a_whole_flood_loses_nothing_and_is_not_repeated_at_its_end() -> None:
    frames = told(play("flood 1000000 1000"))
    assert sum(len(frame["delta"]) for frame in frames if frame["type"] == "text") == 1_000_000
    assert [frame for frame in frames if frame["type"] == "text.done"] == [
        {"type": "text.done", "item": "i1"}
    ]


def test_a_command_asks_and_is_run_when_accepted() -> None:
    twin = ready()
    asked = told(send(twin, "prompt", id="p1", text="bash make it;;say after"))[-1]
    assert asked == {
        "type": "ask", "request": "r1", "kind": "command", "item": "i1", "grant": "make it",
        "tool": "command", "title": "make it", "arguments": {"command": "make it"},
    }  # fmt: skip
    frames = send(twin, "answer", request="r1", decision="accept")
    assert kinds(frames)[:2] == ["tool.output", "tool.done"]
    assert told(frames)[1]["exit_code"] == 0
    assert (twin.commands, texts(frames)) == (["make it"], ["after"])


def test_a_declined_tool_is_left_out_and_the_script_goes_on() -> None:
    twin = ready()
    send(twin, "prompt", id="p1", text="write a.txt hello;;say after")
    frames = send(twin, "answer", request="r1", decision="decline", message="not there")
    assert told(frames)[0] == {"type": "tool.done", "item": "i1", "status": "declined", "text": "not there"}
    assert (twin.files, texts(frames), ending(frames)["status"]) == ({}, ["after"], "completed")


def test_cancelling_one_of_several_requests_withdraws_the_others_and_ends_the_turn() -> None:
    twin = ready()
    asked = send(twin, "prompt", id="p1", text="ask A|B|kind=x")
    assert [frame["request"] for frame in told(asked) if frame["type"] == "ask"] == ["r1", "r2", "r3"]
    assert send(twin, "answer", request="r2", decision="accept") == []
    frames = told(send(twin, "answer", request="r3", decision="cancel"))
    assert [frame["type"] for frame in frames] == ["ask.cancelled", "usage", "turn.ended"]
    assert (frames[0]["request"], frames[-1]["status"]) == ("r1", "interrupted")


def test_answers_come_in_any_order_once_each_and_unknown_ones_are_ignored() -> None:
    twin = ready()
    send(twin, "prompt", id="p1", text="ask kind=network A|B")
    assert send(twin, "answer", request="r2", decision="decline", message="why") == []
    assert send(twin, "answer", request="r2", decision="accept") == []
    assert send(twin, "answer", request="r1", decision="perhaps") == []
    assert send(twin, "answer", request="r9", decision="accept") == []
    frames = send(twin, "answer", request="r1", decision="accept_for_session")
    assert texts(frames) == ["A: accept_for_session", "B: decline (why)"]


def test_questions_carry_their_choices_and_the_answer_is_told() -> None:
    twin = ready()
    asked = told(send(twin, "prompt", id="p1", text="question Colour: Which one?|Red|... && *Sizes|S|M"))[-1]
    assert asked["questions"] == [
        {"id": "q1", "header": "Colour", "text": "Which one?", "multiple": False, "free": True,
         "options": [{"label": "Red"}]},
        {"id": "q2", "header": "Question 2", "text": "Sizes", "multiple": True, "free": False,
         "options": [{"label": "S"}, {"label": "M"}]},
    ]  # fmt: skip
    answers = {"q1": ["Blue"], "q2": ["S", "M"]}
    frames = send(twin, "answer", request="r1", decision="accept", answers=answers)
    assert texts(frames) == ["You chose Colour: Blue; Question 2: S, M."]


def test_in_plan_mode_nothing_is_run_until_the_plan_is_accepted() -> None:
    twin = ready(plan=True)
    asked = send(twin, "prompt", id="p1", text="run ls;;plan First this;;run make")
    assert told(asked)[3]["status"] == "declined"
    assert told(asked)[-1]["kind"] == "plan"
    frames = send(twin, "answer", request="r1", decision="accept")
    assert (twin.commands, texts(frames)) == (["make"], ["Plan: accept"])


def test_an_interrupt_closes_what_is_open_and_the_next_prompt_begins() -> None:
    twin = ready()
    send(twin, "prompt", id="p1", text="text 100 10 1000")
    assert send(twin, "prompt", id="p2", text="say next") == []
    frames = told(send(twin, "interrupt", id="i1", turn="t1"))
    assert frames[0] == {"type": "text.done", "item": "i1", "status": "interrupted"}
    assert [frame["status"] for frame in frames if frame["type"] == "turn.ended"] == [
        "interrupted",
        "completed",
    ]
    assert [frame["prompt"] for frame in frames if frame["type"] == "turn.started"] == ["p2"]


def test_an_interrupt_of_another_turn_or_of_none_does_nothing() -> None:
    twin = ready()
    assert send(twin, "interrupt", id="i1", turn="") == []
    send(twin, "prompt", id="p1", text="say first")
    send(twin, "prompt", id="p2", text="sleep 1")
    assert send(twin, "interrupt", id="i2", turn="t1") == []
    assert ending(send(twin, "interrupt", id="i3", turn="t2"))["status"] == "interrupted"


def test_a_deaf_turn_goes_on_and_a_hanging_one_says_nothing_for_ever() -> None:
    twin = ready()
    send(twin, "prompt", id="p1", text="deaf;;sleep 1")
    assert send(twin, "interrupt", id="i1") == []
    assert ending(twin.run(START + 1))["status"] == "completed"
    send(twin, "prompt", id="p2", text="hang")
    assert send(twin, "interrupt", id="i2") + twin.close_input(START) == []
    assert (twin.wake_at, twin.exit) == (None, None)
    twin.stop(15)
    assert twin.exit is not None


def test_a_stubborn_agent_ignores_the_end_of_its_input_and_the_first_signal() -> None:
    twin = ready()
    send(twin, "prompt", id="p1", text="stubborn;;sleep 9")
    twin.close_input(START)
    twin.stop(15)
    assert twin.exit is None
    twin.stop(9)
    assert twin.exit is not None


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ("fail agent_error it broke", {"class": "agent_error", "message": "it broke"}),
        ("fail", {"class": "agent_error", "message": "the script says so"}),
        ("fail usage_limit +60 later", {"class": "usage_limit", "retry_at": "1970-01-12T13:47:40Z", "message": "later"}),
        ("fail usage_limit 2030-01-01T00:00:00Z wait", {"class": "usage_limit", "retry_at": "2030-01-01T00:00:00Z", "message": "wait"}),
        ("fail usage_limit no time known", {"class": "usage_limit", "message": "no time known"}),
    ],
)  # fmt: skip
def test_a_turn_fails_with_its_class(script: str, failure: dict[str, str]) -> None:
    end = ending(play(script))
    assert (end["status"], end["failure"]) == ("failed", failure)


def test_background_work_begins_a_turn_that_nobody_asked_for_after_the_turn_has_ended() -> None:
    twin = ready()
    send(twin, "prompt", id="p1", text="wake 5 tests are green;;later 7 bash ls;;sleep 10")
    assert twin.wake_at == START + 10
    twin.wake(START + 10)
    assert twin.wake_at == START + 15
    frames = twin.wake(START + 15)
    assert told(frames)[0] == {"type": "turn.started", "turn": "t2", "prompt": ""}
    assert texts(frames) == ["tests are green"]
    assert kinds(twin.run(START + 20))[-1] == "ask"


def test_background_work_that_is_due_waits_for_the_turn_that_runs() -> None:
    twin = ready()
    send(twin, "prompt", id="p1", text="wake 5 woke")
    send(twin, "prompt", id="p2", text="sleep 20", now=START + 1)
    assert twin.run(START + 20) == []
    assert texts(twin.run(START + 21)) == ["woke"]


def test_the_history_outlives_the_process_and_remembers() -> None:
    histories: dict[str, list[str]] = {}
    send(ready(histories), "prompt", id="p1", text="remember apple")
    twin = ready(histories, resume=True)
    assert texts(send(twin, "prompt", id="p2", text="please remember pear.\nrecall"))[-1] == (
        "I remember: apple pear. users=2"
    )
    assert [json.loads(line).get("prompt") for line in histories["n1"]] == [None, "p1", None, "p2", None]


def test_a_prompt_that_comes_twice_is_run_twice() -> None:
    histories: dict[str, list[str]] = {}
    twin = ready(histories)
    send(twin, "prompt", id="p1", text="hello")
    send(twin, "prompt", id="p1", text="hello")
    assert sum('"prompt":"p1"' in line for line in histories["n1"]) == 2


def test_a_torn_last_line_of_the_history_is_left_out() -> None:
    twin = ready({"n1": ['{"native":"n1"}', '{"prompt":"p1","text":"remember apple"}', '{"prompt":"p2","te']})
    assert texts(send(twin, "prompt", id="p3", text="recall")) == ["I remember: apple. users=2"]


def test_a_conversation_that_is_gone_cannot_be_resumed() -> None:
    twin = Twin({})
    frames = told(send(twin, "hello", native="n1", resume=True))
    assert frames == [{"type": "refused", "reason": "no conversation", "lost": True}]
    assert send(twin, "prompt", id="p1", text="hello") == []


@pytest.mark.parametrize("native", ["", "../n1", "a/b", "ü", None, 5])
def test_an_id_that_is_no_file_name_is_refused(native: object) -> None:
    assert told(send(Twin({}), "hello", native=native))[0]["type"] == "refused"


def test_lost_dies_once_before_the_prompt_is_noted_and_unseen_once_after() -> None:
    histories: dict[str, list[str]] = {}
    counts, frames = [], []
    for _ in range(3):
        twin = ready(histories)
        frames = send(twin, "prompt", id="p1", text="lost;;unseen;;say here")
        counts.append(sum('"prompt":"p1"' in line for line in histories["n1"]))
        died = twin.exit is not None and twin.exit.signal == 9
        assert (frames == []) == died
    assert counts == [0, 1, 2]
    assert texts(frames) == ["here"]


@pytest.mark.parametrize(
    ("script", "code", "number"),
    [("crash", None, 9), ("crash 11", None, 11), ("exit", 0, None), ("exit 7", 7, None)],
)
def test_it_ends_itself_as_told_and_says_nothing_more(
    script: str, code: int | None, number: int | None
) -> None:
    twin = ready()
    frames = send(twin, "prompt", id="p1", text=f"say before;;{script};;say after") + twin.run(START + 9)
    assert twin.exit is not None
    assert (twin.exit.code, twin.exit.signal, texts(frames)) == (code, number, ["before"])
    assert send(twin, "prompt", id="p2", text="hello") == []


def test_the_last_frame_may_be_a_torn_one() -> None:
    twin = ready()
    send(twin, "prompt", id="p1", text="nonewline_exit")
    assert b"last words" in twin.unfinished
    assert twin.exit is not None


@pytest.mark.parametrize("script", ["halfline some words", "splitutf8"])
def test_a_frame_in_two_writes_is_whole_in_the_end_even_if_it_is_interrupted(script: str) -> None:
    twin = ready()
    first = send(twin, "prompt", id="p1", text=script)
    assert kinds(first) == ["prompt.seen", "turn.started"]
    assert twin.unfinished
    frames = send(twin, "interrupt", id="i1")
    assert kinds(frames) == ["text", "text.done", "usage", "turn.ended"]


def test_noise_is_between_the_frames() -> None:
    frames = play("noise 2")
    assert frames[2:4] == [b"noise 1 of 2: this is not JSON", b"noise 2 of 2: this is not JSON"]


def test_messages_that_it_does_not_know_are_ignored() -> None:
    twin = ready()
    for message in ({"type": "telepathy"}, {"type": 5}, {}, {"type": "answer", "request": ["r1"]}):
        assert twin.write(json.dumps(message).encode(), START) == []
    assert send(twin, "hello", native="n2") == []


LINES = st.sampled_from(
    "say hi|text 90 30 100|sleep 1|bash ls|run ls|write a b|ask A|ask A|question Q,a|think a b|todo a,+b|halfline|"
    "splitutf8|wake 1 woke|later 2 bash ls|deaf|fail auth no|remember x|recall|noise 3|plan do it".split("|")
)
MOVES = st.one_of(
    st.tuples(st.just("prompt"), st.lists(LINES, min_size=1, max_size=4).map("\n".join)),
    st.tuples(st.just("answer"), st.sampled_from(["accept", "accept_for_session", "decline", "cancel", "?"])),
    st.tuples(st.just("interrupt"), st.just("")),
    st.tuples(st.just("pass"), st.sampled_from(["0.01", "0.5", "3"])),
)


@given(st.lists(MOVES, max_size=25))
def test_turns_follow_each_other_whole_and_the_same_moves_give_the_same_frames(
    moves: list[tuple[str, str]],
) -> None:
    def live() -> list[bytes]:
        twin, now, frames = ready(), START, []
        for at, (move, what) in enumerate(moves):
            frames += twin.run(now)
            match move:
                case "prompt":
                    frames += send(twin, "prompt", now, id=f"p{at}", text=what)
                case "answer":
                    request = twin.mind.asked[-1] if twin.mind.asked else "r0"
                    frames += send(twin, "answer", now, request=request, decision=what)
                case "interrupt":
                    frames += send(twin, "interrupt", now, id=f"i{at}")
                case _:
                    now += float(what)
        for _ in range(200):
            frames += twin.run(now := now + 1000)
            for request in list(twin.mind.asked):
                frames += send(twin, "answer", now, request=request, decision="accept")
        assert (twin.wake_at, twin.mind.turn, twin.mind.queue, twin.unfinished) == (None, "", [], b"")
        return frames

    frames = live()
    assert frames == live()
    turn, items, asks = "", set[str](), set[str]()
    for frame in (told([one])[0] for one in frames if one.startswith(b"{")):
        kind = frame["type"]
        if kind == "turn.started":
            assert turn == ""
            turn = frame["turn"]
        elif kind == "turn.ended":
            assert (turn, items) == (frame["turn"], set())
            turn, asks = "", set()
        elif kind in ("text", "reasoning", "tool.started"):
            assert turn
            items.add(frame["item"])
        elif kind in ("text.done", "reasoning.done", "tool.done"):
            items.discard(frame["item"])
        elif kind in ("ask", "question"):
            asks.add(frame["request"])
        elif kind == "ask.cancelled":
            assert frame["request"] in asks
    assert turn == ""
