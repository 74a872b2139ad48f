"""The event stream's framing: the same events however the bytes are cut."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.client.events import CaughtUp, Resync, ServerEvent, Splitter, Text, typed
from holdfast.engine import port
from holdfast.surfaces.http.sse import KEEP_ALIVE, frame
from holdfast.wire.api import EventObject

STREAM = b"".join(
    [
        b"retry: 1000\n\n",
        frame("th_1", EventObject("run.queued", "th_1", 1, "t", msgspec.Raw('{"text":"ünï"}'.encode()))),
        KEEP_ALIVE,
        frame("th_1", port.Text("item_1", 0, "piece\r\n\n👍")),
        frame("th_1", port.CaughtUp(1)),
        frame("th_1", port.Resync(5)),
    ]
)


def test_the_whole_stream_is_read() -> None:
    events = [typed(event) for event in Splitter().feed(STREAM)]
    assert events == [
        EventObject("run.queued", "th_1", 1, "t", msgspec.Raw('{"text":"ünï"}'.encode())),
        Text("item_1", 0, "piece\r\n\n👍"),
        CaughtUp(1),
        Resync(5),
    ]


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_the_cuts_do_not_matter(cuts: list[int]) -> None:
    splitter = Splitter()
    places = [0, *sorted(cuts), len(STREAM)]
    found = [event for a, b in itertools.pairwise(places) for event in splitter.feed(STREAM[a:b])]
    assert found == list(Splitter().feed(STREAM))


def test_lines_may_end_as_on_windows_and_data_may_have_several() -> None:
    (event,) = Splitter().feed(b"id: 7\r\nevent: x\r\ndata: one\r\ndata: two\r\n\r\n")
    assert event == ServerEvent("7", "x", b"one\ntwo")


def test_an_event_without_an_end_is_bounded() -> None:
    splitter = Splitter(bytes_max=100)
    with pytest.raises(ValueError, match="above 100 bytes"):
        list(splitter.feed(b"data: " + b"x" * 200))
