"""The transcript format: what is written is read back, and a broken file gives the one declared error."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.agents import transcripts
from holdfast.agents.transcripts import Header, Transcript, TranscriptError
from holdfast.wire.link import Record

HEADER = Header(
    holdfast_transcript=1,
    agent="claude",
    session="ses_1",
    native_id="n",
    cwd="/home/user/workspace",
    mode="ask",
    program_version="2.1.328",
    translator_version=1,
)

SAMPLE = transcripts.encode(
    Transcript(
        HEADER,
        [
            Record(1, 0.0, "start", b'{"pid":1}'),
            Record(2, 0.25, "in", b'{"a":1}', "begin"),
            Record(3, 0.5, "out", b"no json \xff"),
            Record(4, 0.75, "exit", b'{"code":0}'),
        ],
    )
)

datas = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"{}",
            b'{"base64":"AAAA"}',
            b'{"base64": 5}',
            b'{ "base64" : "x"}',
            b'{"base64":"AAAA","x":1}',
            b'"text"',
            b"17",
            b"null",
            b' {"a":1}',
            b'{"a":1}\r',
            b'{"a":"\xc3\xb6"}',
            b'{"a":"\\ud83d"}',
            b"\xef\xbb\xbf{}",
        ]
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=8,
    ).map(msgspec.json.encode),
)
records = st.lists(
    st.tuples(
        st.floats(0, 2e9),
        st.sampled_from(["start", "out", "received", "in", "refused", "oversize", "blocked", "exit"]),
        datas,
        st.text(max_size=12),
    ),
    max_size=8,
)


@given(records)
def test_what_is_written_is_read_back_byte_for_byte(rows: list[tuple[float, str, bytes, str]]) -> None:
    made = Transcript(
        HEADER,
        [Record(no, at, kind, data, id_) for no, (at, kind, data, id_) in enumerate(rows, 1)],  # type: ignore[arg-type]
    )
    assert transcripts.decode(transcripts.encode(made)) == made


def test_json_is_written_as_it_is_and_anything_else_as_base64() -> None:
    lines = SAMPLE.splitlines()
    assert lines[2] == b'{"no":2,"at":0.25,"kind":"in","id":"begin","data":{"a":1}}'
    assert base64.b64encode(b"no json \xff") in lines[3]


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """The sample with some bytes changed, taken out or put in, or cut off."""
    data = bytearray(SAMPLE)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["change", "remove", "insert", "cut"])):
            case "change" if data:
                data[at] = draw(st.integers(0, 255))
            case "remove":
                del data[at : at + draw(st.integers(1, 40))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=10) | st.sampled_from([b'"', b"{", b"}\n", b"[" * 9]))
            case _:
                del data[at:]
    return bytes(data)


def read_or_refuse(data: bytes) -> Transcript | TranscriptError:
    try:
        return transcripts.decode(data)
    except TranscriptError as error:
        return error


@given(broken() | st.binary(max_size=200))
def test_a_broken_file_gives_nothing_but_the_declared_error(data: bytes) -> None:
    read = read_or_refuse(data)
    if isinstance(read, TranscriptError):
        assert 1 <= read.line <= data.count(b"\n") + 1
        assert read.reason
        assert str(read).startswith("cannot read the transcript: because line ")
    else:
        assert transcripts.decode(transcripts.encode(read)) == read


@pytest.mark.parametrize(
    ("change", "line", "field"),
    [
        ((b'"holdfast_transcript":1', b'"holdfast_transcript":2'), 1, "holdfast_transcript"),
        ((b'"mode":"ask"', b'"mode":"yolo"'), 1, "mode"),
        ((b'"agent":"claude",', b""), 1, ""),
        ((b'"kind":"in"', b'"kind":"inn"'), 3, "kind"),
        ((b'"no":3', b'"no":4'), 4, "no"),
        ((b'"no":1', b'"no":0'), 2, "no"),
        ((b'"at":0.25', b'"at":"soon"'), 3, "at"),
        ((b'"kind":"exit"', b'"kind":"exit","wrong":1'), 5, ""),
        ((b'{"base64":"', b'{"base64":"*'), 4, "data.base64"),
        ((b'{"pid":1}}', b'{"pid":1}'), 2, ""),
    ],
)
def test_an_error_names_the_line_and_the_field(change: tuple[bytes, bytes], line: int, field: str) -> None:
    assert change[0] in SAMPLE
    with pytest.raises(TranscriptError) as caught:
        transcripts.decode(SAMPLE.replace(*change, 1))
    assert (caught.value.line, caught.value.field) == (line, field)


def test_an_empty_file_is_no_transcript() -> None:
    with pytest.raises(TranscriptError):
        transcripts.decode(b"")


def test_a_later_header_field_is_ignored() -> None:
    data = SAMPLE.replace(b'{"holdfast_transcript"', b'{"colour":"red","holdfast_transcript"', 1)
    assert transcripts.decode(data).header == HEADER
