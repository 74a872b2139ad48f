"""What recorded sessions of the real Claude Code amount to: the same reports, however their bytes and the server break."""

import collections
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.agents import transcripts
from holdfast.agents.transcripts import Transcript
from holdfast.core.reports import (
    ContextReported,
    ItemCompleted,
    ItemStarted,
    ItemText,
    PromptSeen,
    Report,
    RequestOpened,
    SessionReady,
    TurnEnded,
    TurnStarted,
)
from holdfast.wire.jsonl import Framer
from holdfast.wire.link import Record
from tests.agents.claude_frames import Session, of, scene
from tests.agents.claude_session import FOLDER, KIND, SCENARIOS, read, shown

NAMES = sorted(SCENARIOS)
every = pytest.mark.parametrize("name", NAMES)
cuts_per_transcript = 40


def fold(transcript: Transcript, records: list[Record] | None = None) -> list[Report]:
    translator = KIND.translator(transcript.header.context(), None)
    return [
        report
        for record in (transcript.records if records is None else records)
        for report in translator.receive(record, record.at).reports
    ]


def test_every_scenario_is_recorded_and_nothing_else() -> None:
    wanted = {f"{name}{kind}" for name in NAMES for kind in (".jsonl", ".reports.jsonl")}
    assert {file.name for file in FOLDER.iterdir()} == wanted


@every
def test_the_recording_says_what_it_was_made_with(name: str) -> None:
    header = read(name).header
    assert header.program_version in KIND.tested_versions
    assert header.translator_version == KIND.translator_version
    assert len(header.program_sha256) == 64


@every
def test_the_recording_names_no_path_of_the_machine_it_was_made_on(name: str) -> None:
    text = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8")
    assert "/home/user" in text
    assert "/root" not in text
    assert text.count("/tmp") == text.count("/home/user/tmp")


@every
def test_the_reports_are_the_ones_that_were_looked_at(name: str) -> None:
    """After a change on purpose: `python -m tests.agents.claude_session reports`, and look at the difference."""
    kept = (FOLDER / f"{name}.reports.jsonl").read_text(encoding="utf-8")
    assert shown(transcripts.replay(read(name), KIND)) == kept


@every
def test_a_translator_restored_at_every_record_says_the_same(name: str) -> None:
    transcript = read(name)
    said: list[Report] = []
    writes = []
    state = None
    for record in transcript.records:
        translator = KIND.translator(transcript.header.context(), state)
        step = translator.receive(record, record.at)
        said += step.reports
        writes += [(write.id, json.loads(write.data)) for write in step.writes]
        state = translator.dump()
        assert len(state) < 8192, "the state is small"
    assert said == fold(transcript)
    sent = {record.id: json.loads(record.data) for record in transcript.records if record.kind == "in"}
    for id_, frame in writes:
        assert sent[id_] == frame, "what the translator writes is what was written when it was recorded"


@every
def test_the_bytes_may_be_cut_anywhere(name: str) -> None:
    """P77 and P8: also inside a character, and without a newline at the end."""
    transcript = read(name)
    out = [record for record in transcript.records if record.kind == "out"]
    stream = b"\n".join(record.data for record in out)
    whole = [record.data for record in out]
    for cut in range(len(stream)):
        framer = Framer(1 << 20)
        frames = framer.feed(stream[:cut]) + framer.feed(stream[cut:]) + framer.finish()
        assert frames == whole, f"cut at byte {cut}"
    expected = fold(transcript)
    for cut in range(0, len(stream), max(len(stream) // cuts_per_transcript, 1)):
        framer = Framer(1 << 20)
        parts = framer.feed(stream[:cut]) + framer.feed(stream[cut:]) + framer.finish()
        lines = iter([part for part in parts if isinstance(part, bytes)])
        records = [
            Record(one.no, one.at, one.kind, next(lines), one.id) if one.kind == "out" else one
            for one in transcript.records
        ]
        assert fold(transcript, records) == expected


@every
def test_unknown_fields_change_nothing(name: str) -> None:
    """A newer version says more."""
    transcript = read(name)
    records = []
    for record in transcript.records:
        if record.kind == "out":
            frame = {"brand_new": [1, {"x": None}], **json.loads(record.data)}
            record = Record(record.no, record.at, record.kind, json.dumps(frame).encode(), record.id)
        records.append(record)
    assert fold(transcript, records) == fold(transcript)


@every
def test_a_session_without_partial_messages_has_the_same_items_in_the_end(name: str) -> None:
    transcript = read(name)
    records = [one for one in transcript.records if b'"type":"stream_event"' not in one.data]
    assert len(records) < len(transcript.records)

    def ends(reports: list[Report]) -> list[Any]:
        kinds = {item.ref: item.kind for item in of(ItemStarted, reports)}
        return [
            (item.ref, item.kind or kinds[item.ref], item.status, item.text)
            for item in of(ItemCompleted, reports)
        ]

    assert ends(fold(transcript, records)) == ends(fold(transcript))
    assert of(ItemText, fold(transcript, records)) == []


# What holds in every recording


@every
def test_a_session_is_ready_once_before_its_first_turn(name: str) -> None:
    said = fold(read(name))
    assert isinstance(said[0], SessionReady)
    assert len(of(SessionReady, said)) == 1


@every
def test_turns_are_opened_and_ended_once_each_and_one_at_a_time(name: str) -> None:
    """P33: exactly one end per turn."""
    open_turn = ""
    seen = set()
    for report in fold(read(name)):
        match report:
            case TurnStarted(turn):
                assert not open_turn
                assert turn not in seen
                open_turn = turn
                seen.add(turn)
            case TurnEnded(turn):
                assert turn == open_turn
                open_turn = ""
            case ItemStarted(turn):
                assert turn == open_turn
            case ItemCompleted(turn=turn) if turn:
                assert turn == open_turn
            case RequestOpened(turn=turn):
                assert turn == open_turn
            case _:
                pass
    assert not open_turn
    assert seen


@every
def test_every_prompt_is_seen_once(name: str) -> None:
    """P25: prompts are answered in the order in which they were written."""
    transcript = read(name)
    written = [
        record.id.removeprefix("prompt:")
        for record in transcript.records
        if record.kind == "in" and record.id.startswith("prompt:")
    ]
    said = fold(transcript)
    assert [report.prompt for report in of(PromptSeen, said)] == written
    assert [turn.prompt for turn in of(TurnStarted, said) if turn.prompt] == [
        each for each in written if each in {turn.prompt for turn in of(TurnStarted, said)}
    ]


@every
def test_an_item_is_started_and_completed_at_most_once_and_in_that_order(name: str) -> None:
    """P71 to P73: no duplicates of what was streamed and what came whole."""
    begun: collections.Counter[str] = collections.Counter()
    done: collections.Counter[str] = collections.Counter()
    for report in fold(read(name)):
        match report:
            case ItemStarted(ref=ref):
                begun[ref] += 1
                assert not done[ref]
            case ItemText(ref=ref):
                assert begun[ref] == 1
                assert not done[ref]
            case ItemCompleted(ref=ref):
                done[ref] += 1
                assert begun[ref] or report.kind is not None
            case _:
                pass
    assert max(begun.values()) == 1
    assert max(done.values()) == 1


@every
def test_streamed_pieces_amount_to_the_text_of_their_item(name: str) -> None:
    said = fold(read(name))
    pieces: dict[str, str] = {}
    for piece in of(ItemText, said):
        pieces[piece.ref] = pieces.get(piece.ref, "") + piece.text
    texts = {item.ref: item.text for item in of(ItemCompleted, said)}
    assert pieces
    for ref, streamed in pieces.items():
        text = texts[ref] or ""
        assert streamed == text or text.endswith("…"), "the recording cuts long texts"


@every
def test_the_budget_comes_before_the_end_of_its_turn(name: str) -> None:
    """P66."""
    said = fold(read(name))
    before = 0
    for report in said:
        if isinstance(report, ContextReported):
            before += 1
        if isinstance(report, TurnEnded):
            assert before <= 1
            before = 0
    assert of(ContextReported, said)


# Whatever comes


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
    | st.sampled_from(
        ["msg_1", "t1", "r1", "p", "text", "tool_use", "tool_result", "can_use_tool", "success"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TYPES = [
    "assistant",
    "user",
    "stream_event",
    "result",
    "control_request",
    "control_response",
    "control_cancel_request",
    "command_lifecycle",
    "rate_limit_event",
    "conversation_reset",
    "system",
    "other",
]
KEYS = [
    "message",
    "content",
    "id",
    "usage",
    "parent_tool_use_id",
    "uuid",
    "isReplay",
    "event",
    "index",
    "delta",
    "content_block",
    "request",
    "request_id",
    "response",
    "subtype",
    "tool_name",
    "input",
    "questions",
    "options",
    "tool_use_id",
    "is_error",
    "result",
    "errors",
    "modelUsage",
    "total_cost_usd",
    "user_message_uuids",
    "state",
    "command_uuid",
    "rate_limit_info",
    "tasks",
    "task_id",
    "status",
    "tool_use_result",
    "tool_result_meta",
    "compact_metadata",
]
SUBTYPES = [
    "init", "status", "api_retry", "compact_boundary", "task_started", "task_notification", "hook_response",
    "background_tasks_changed", "permission_denied", "can_use_tool", "hook_callback", "elicitation",
]  # fmt: skip
deep = st.recursive(
    values,
    lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=12,
)
strange = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES)},
    optional=dict.fromkeys(KEYS, deep) | {"subtype": st.sampled_from(SUBTYPES) | values},
)


@settings(max_examples=60)
@given(st.lists(strange, max_size=4))
def test_no_frame_makes_the_translator_raise(frames: list[dict[str, Any]]) -> None:
    """P14. Every frame also goes through a dump."""
    session = Session()
    session.prompt("p")
    session.out(*frames)
    session.record("exit", b"{}")


@given(
    st.binary(max_size=60), st.sampled_from(["out", "in", "received", "refused", "oversize", "exit", "start"])
)
def test_no_record_makes_the_translator_raise(data: bytes, kind: Any) -> None:
    for ready in (True, False):
        session = Session(ready=ready)
        session.record(kind, data, data.decode("utf-8", "replace"))


@given(st.data())
def test_a_frame_changed_anywhere_makes_no_harm(data: st.DataObject) -> None:
    """Values of a real session exchanged for others: something may be lost, nothing raises."""
    transcript = read(data.draw(st.sampled_from(["commands", "subagent_in_background", "question"])))
    translator = KIND.translator(transcript.header.context(), None)
    victim = data.draw(st.integers(0, len(transcript.records) - 1))
    for record in transcript.records:
        if record.no == victim + 1 and record.data:
            frame = json.loads(record.data)
            target: Any = frame
            while isinstance(target, dict) and target:
                key = data.draw(st.sampled_from(sorted(target)))
                if not isinstance(target[key], dict) or data.draw(st.booleans()):
                    target[key] = data.draw(values)
                    break
                target = target[key]
            record = Record(record.no, record.at, record.kind, json.dumps(frame).encode(), record.id)
        translator.receive(record, record.at)
    translator = KIND.translator(scene(), translator.dump())
