"""The link's messages: what a peer of another version may send, and how a byte stream carries them."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.wire import link
from holdfast.wire.link import LinkError, Record, Splitter, prefixed

DOWN: list[link.Down] = [
    link.Hello(1, 1, "test", link.Restart(["a"], {"B": "c"}, "/", 7)),
    link.Goodbye(),
    link.Open(1, "s", link.Spec(["x"], {}, "/", locks=["l"])),
    link.Attach(2, "s", 5),
    link.Detach("s"),
    link.Ack("s", 5),
    link.Taken("s", 5),
    link.Write(3, "s", "w", b"\xff{}"),
    link.Stop(4, "s", link.Ladder(close_s=1.0)),
    link.Forget(5, "s"),
    link.Host(6, link.StatFile("/x")),
    link.Host(6, link.FindInFile("/x", ["y"])),
    link.Host(6, link.RunProgram(["x"], {}, "/")),
    link.Status(7),
    link.Shutdown(8),
]
UP: list[link.Up] = [
    link.Welcome(1, "r", 5, 1.5, sessions=["s"]),
    link.Reply(1, "locked", "by him", {"a": [1]}),
    link.Records("s", [Record(1, 1.0, "start", b"{}"), Record(2, 1.0, "in", b"x", "w")]),
]


@pytest.mark.parametrize("message", DOWN, ids=lambda message: type(message).__name__)
def test_a_message_down_arrives_as_it_was(message: link.Down) -> None:
    assert link.decode_down(link.encode(message)) == message


@pytest.mark.parametrize("message", UP, ids=lambda message: type(message).__name__)
def test_a_message_up_arrives_as_it_was(message: link.Up) -> None:
    assert link.decode_up(link.encode(message)) == message


def test_records_that_are_encoded_already_make_the_same_message() -> None:
    records = [Record(1, 1.0, "out", b"\x00\xff"), Record(2, 2.0, "exit", b"{}", "")]
    encoded = [link.encode_record(record) for record in records]

    assert link.encode_records("s", encoded) == link.encode(link.Records("s", records))
    assert [link.decode_record(data) for data in encoded] == records


def test_unknown_fields_are_ignored() -> None:
    newer = msgspec.msgpack.encode({"type": "detach", "session": "s", "why": ["new"]})

    assert link.decode_down(newer) == link.Detach("s")


def test_a_record_of_a_newer_peer_may_be_longer() -> None:
    newer = msgspec.msgpack.encode([1, 2.0, "out", b"x", "", "more"])

    assert link.decode_record(newer) == Record(1, 2.0, "out", b"x")


def test_unknown_messages_are_named() -> None:
    newer = msgspec.msgpack.encode({"type": "hibernate", "call": 1})

    assert link.decode_down(newer) == link.Unknown("hibernate")
    assert link.decode_up(newer) == link.Unknown("hibernate")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"not msgpack",
        msgspec.msgpack.encode([1, 2]),
        msgspec.msgpack.encode({"no": "type"}),
        msgspec.msgpack.encode({"type": 5}),
        msgspec.msgpack.encode({"type": ["detach"]}),
        link.encode(link.Detach("s"))[:-1],
    ],
)
def test_what_is_no_message_is_one_error(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        link.decode_down(data)
    with pytest.raises(msgspec.DecodeError):
        link.decode_up(data)


def test_a_known_message_with_wrong_fields_is_an_error_and_not_unknown() -> None:
    with pytest.raises(msgspec.DecodeError, match="wrong fields"):
        link.decode_down(msgspec.msgpack.encode({"type": "detach", "session": 5}))
    with pytest.raises(msgspec.DecodeError, match="wrong fields"):
        link.decode_up(msgspec.msgpack.encode({"type": "reply"}))


@given(st.lists(st.binary(max_size=20), max_size=8), st.lists(st.integers(0, 250), max_size=10))
def test_a_byte_stream_gives_the_messages_however_it_is_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(prefixed(message) for message in messages)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    splitter = Splitter()

    found = [message for a, b in itertools.pairwise(edges) for message in splitter.feed(stream[a:b])]

    assert found == messages


def test_a_message_above_the_bound_is_refused_before_it_is_read() -> None:
    with pytest.raises(LinkError, match="above 10"):
        Splitter(10).feed((11).to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("version", "oldest", "agreed"), [(1, 1, 1), (5, 1, 1), (5, 2, 0), (0, 0, 0)], ids=str
)
def test_the_highest_common_version_is_taken(version: int, oldest: int, agreed: int) -> None:
    found, why = link.agree(version, oldest)

    assert found == agreed
    assert ("cannot link" in why) == (agreed == 0)
