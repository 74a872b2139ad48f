"""The scripted translator against recorded sessions and against anything else that may come."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.agents.port import Answer, Begin, Intent, Interrupt, Prompt, TranslatorContext
from holdfast.agents.scripted import SCRIPTED
from holdfast.agents.transcripts import replay
from holdfast.core.reports import (
    ItemCompleted,
    ItemStarted,
    ItemText,
    NoticeGiven,
    Report,
    RequestOpened,
    RequestWithdrawn,
    TurnEnded,
    TurnStarted,
)
from holdfast.wire.link import Record, RecordKind
from tests.agents import transcripts
from tests.agents.pipe_driver import fold

NAMES = transcripts.names("scripted")
SCENE = TranslatorContext("ses_0000000000000000_1", "n1", False, "/workspace", "ask", False, "")


def out(no: int, **frame: Any) -> Record:
    return Record(no, float(no), "out", json.dumps(frame).encode())


@pytest.mark.parametrize("name", NAMES)
def test_a_transcript_leads_to_its_reports(name: str) -> None:
    transcript = transcripts.load("scripted", name)
    reports = replay(transcript, SCRIPTED)
    assert transcripts.as_values(reports) == transcripts.load_reports("scripted", name)


@pytest.mark.parametrize("name", NAMES)
def test_a_dump_at_any_record_says_everything(name: str) -> None:
    transcript = transcripts.load("scripted", name)
    whole = fold(SCRIPTED, transcript.header.context(), transcript.records)
    for cut in range(len(transcript.records) + 1):
        before = SCRIPTED.translator(transcript.header.context(), None)
        reports: list[Report] = []
        for record in transcript.records[:cut]:
            reports += before.receive(record, record.at).reports
        dump = before.dump()
        assert len(dump) < 4096
        after = SCRIPTED.translator(transcript.header.context(), dump)
        assert after.dump() == dump
        for record in transcript.records[cut:]:
            reports += after.receive(record, record.at).reports
        assert reports == whole


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_cut_at_any_byte_is_shown_as_noise_and_changes_nothing_else(name: str) -> None:
    transcript = transcripts.load("scripted", name)
    translator = SCRIPTED.translator(transcript.header.context(), None)
    for record in transcript.records:
        if record.kind == "out" and record.data.startswith(b"{"):
            for cut in range(len(record.data)):
                half = SCRIPTED.translator(transcript.header.context(), translator.dump())
                reports = half.receive(Record(record.no, record.at, "out", record.data[:cut]), 0.0).reports
                assert all(isinstance(report, NoticeGiven) for report in reports)
                assert half.state.turn == translator.state.turn
        translator.receive(record, record.at)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_sent_is_what_the_translator_would_send(name: str) -> None:
    """Strict on what we send: the intent of every frame leads to its very bytes again, before it is noted."""
    transcript = transcripts.load("scripted", name)
    translator = SCRIPTED.translator(transcript.header.context(), None)
    sent = 0
    for record in transcript.records:
        if record.kind == "in":
            [write] = translator.send(intent_of(json.loads(record.data)), record.at)
            frame, again = json.loads(record.data), json.loads(write.data)
            # an interrupt may have been made out before its turn was known
            assert (write.id, again | {"turn": 0}) == (record.id, frame | {"turn": 0})
            sent += 1
        translator.receive(record, record.at)
    assert sent >= 2


def intent_of(frame: dict[str, Any]) -> Intent:
    match frame["type"]:
        case "hello":
            return Begin()
        case "prompt":
            return Prompt(frame["id"], frame["text"])
        case "answer":
            return Answer(frame["request"], frame["decision"], frame["message"], frame["answers"])
        case _:
            return Interrupt(frame["id"])


def test_a_second_turn_without_an_end_of_the_first_ends_it() -> None:
    records = [out(1, type="turn.started", turn="t1"), out(2, type="turn.started", turn="t2", prompt="p2")]
    first, ended, second = fold(SCRIPTED, SCENE, records)
    assert isinstance(ended, TurnEnded)
    assert ended.failure is not None
    assert (first, second) == (TurnStarted("t1"), TurnStarted("t2", "p2"))
    assert (ended.turn, ended.status, ended.failure.class_) == ("t1", "failed", "protocol")


def test_a_frame_that_is_too_large_fails_its_turn_and_interrupts_the_agent() -> None:
    translator = SCRIPTED.translator(SCENE, None)
    translator.receive(out(1, type="turn.started", turn="t1"), 1.0)
    step = translator.receive(Record(2, 2.0, "oversize", b'{"bytes":99,"prefix":"{"}'), 2.0)
    [ended] = step.reports
    assert isinstance(ended, TurnEnded)
    assert ended.failure is not None
    assert (ended.status, ended.failure.class_) == ("failed", "frame_too_large")
    [write] = step.writes
    assert write.id == "interrupt-oversize-2"
    assert json.loads(write.data) == {"type": "interrupt", "id": "oversize-2", "turn": "t1"}
    for late in (
        out(3, type="text", item="i1", delta="x"),
        out(4, type="turn.ended", turn="t1", status="interrupted"),
    ):
        assert not translator.receive(late, 3.0).reports
    assert translator.receive(out(5, type="turn.started", turn="t2"), 5.0).reports


def test_a_frame_that_is_too_large_outside_a_turn_is_a_notice() -> None:
    [notice] = fold(SCRIPTED, SCENE, [Record(1, 1.0, "oversize", b"{}")])
    assert isinstance(notice, NoticeGiven)
    assert notice.code == "frame_too_large"


def test_sending_changes_no_state() -> None:
    translator = SCRIPTED.translator(SCENE, None)
    translator.receive(out(1, type="turn.started", turn="t1"), 1.0)
    translator.receive(out(2, type="ask", request="r1", kind="tool", title="A"), 2.0)
    before = translator.dump()
    intents: list[Intent] = [Begin(), Prompt("p1", "hello"), Answer("r1", "accept"), Interrupt("i1")]
    first = [list(translator.send(intent, 3.0)) for intent in intents]
    assert [list(translator.send(intent, 9.0)) for intent in intents] == first
    assert all(len(writes) == 1 for writes in first)
    assert translator.dump() == before


REFS = st.sampled_from(["a", "b", "t1", "t2", ""])
WORDS = st.one_of(REFS, st.text(max_size=5), st.none(), st.integers(), st.lists(REFS, max_size=2))
FIELDS = (
    "native version reason lost id turn prompt item delta text status tool title arguments exit_code request kind "
    "questions detail grant entries code used window failure usage"
).split()
TYPES = (
    "ready refused prompt.seen turn.started text text.done reasoning reasoning.done tool.started tool.output "
    "tool.done ask ask.cancelled question plan todo notice usage turn.ended telepathy"
).split()
RIGHT = {
    "status": st.sampled_from(["completed", "failed", "interrupted", "declined"]),
    "kind": st.sampled_from(["command", "file_change", "question", "telepathy"]),
    "arguments": st.fixed_dictionaries({}, optional={"path": WORDS}),
    "questions": st.just([]),
    "entries": st.just([{"text": "a"}]),
    "failure": st.fixed_dictionaries({"class": REFS}),
    "usage": st.just({"input": 1}),
    "used": st.integers(0, 9),
    "window": st.integers(0, 9),
    "exit_code": st.integers(0, 255),
    "lost": st.booleans(),
}
PROPER = st.builds(
    lambda kind, fields: {"type": kind} | fields,
    st.sampled_from(TYPES),
    st.fixed_dictionaries({name: RIGHT.get(name, REFS) for name in FIELDS}),
)
WRONG = st.dictionaries(st.sampled_from(["type", *FIELDS]), st.one_of(WORDS, st.sampled_from(TYPES)))
DATA = st.one_of(
    PROPER.map(lambda frame: json.dumps(frame).encode()),
    WRONG.map(lambda frame: json.dumps(frame).encode()),
    st.binary(max_size=40),
    st.just(b"[" * 5000),
    REFS.map(lambda ref: json.dumps({"type": "answer", "request": ref}).encode()),
)
KINDS = st.sampled_from([*get_args(RecordKind), *["out"] * 20, *["in"] * 5])


@given(st.lists(st.tuples(KINDS, DATA), max_size=60))
def test_no_record_makes_it_raise_and_what_it_reports_fits_together(
    records: list[tuple[RecordKind, bytes]],
) -> None:
    translator = SCRIPTED.translator(SCENE, None)
    turn, ended, open_items = "", True, set[str]()
    asks: list[str] = []
    for no, (kind, data) in enumerate(records, 1):
        translator = SCRIPTED.translator(SCENE, translator.dump())
        for report in translator.receive(Record(no, float(no), kind, data), float(no)).reports:
            match report:
                case TurnStarted():
                    assert ended
                    turn, ended, open_items, asks = report.turn, False, set(), []
                case TurnEnded():
                    assert (report.turn, ended) == (turn, False)
                    ended = True
                case ItemStarted():
                    assert (report.turn, ended) == (turn, False)
                    open_items.add(report.ref)
                case ItemText():
                    assert report.ref in open_items
                case ItemCompleted():
                    assert report.ref in open_items or (report.kind is not None and report.turn == turn)
                    open_items.discard(report.ref)
                case RequestOpened():
                    assert (report.turn, ended) == (turn, False)
                    asks.append(report.ref)
                case RequestWithdrawn():
                    assert report.ref in asks
                case _:
                    pass
        assert not translator.tick(float(no)).reports
