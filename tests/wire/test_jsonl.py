"""Frames are the same however the stream is cut; a frame above the bound is skipped and told."""

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st

from holdfast.wire.jsonl import PREFIX_BYTES, Frame, Framer, Oversize

streams = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"\r", b"{}", b"abc", "ü€😀".encode(), b"x" * 9, b"", b"\x00"]),
    max_size=30,
).map(b"".join)


def framed(pieces: list[bytes], frame_bytes_max: int = 100) -> list[Frame]:
    framer = Framer(frame_bytes_max)
    frames = [frame for piece in pieces for frame in framer.feed(piece)]
    return frames + framer.finish()


def expected(stream: bytes, frame_bytes_max: int) -> list[Frame]:
    frames: list[Frame] = []
    for line in stream.split(b"\n"):
        line = line.removesuffix(b"\r")
        if len(line) > frame_bytes_max:
            frames.append(Oversize(len(line), line[:PREFIX_BYTES]))
        elif line:
            frames.append(line)
    return frames


@given(streams, st.lists(st.integers(0, 200), max_size=12), st.integers(1, 12))
def test_any_cut_of_a_stream_gives_the_same_frames(
    stream: bytes, cuts: list[int], frame_bytes_max: int
) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]

    assert framed(pieces, frame_bytes_max) == expected(stream, frame_bytes_max)


@given(streams)
def test_a_stream_may_come_byte_by_byte(stream: bytes) -> None:
    assert framed([bytes([byte]) for byte in stream], 8) == expected(stream, 8)


def test_a_frame_of_exactly_the_bound_passes_with_either_line_end() -> None:
    assert framed([b"x" * 100 + b"\r", b"\n", b"y" * 100 + b"\n"]) == [b"x" * 100, b"y" * 100]
    assert framed([b"x" * 101 + b"\n"]) == [Oversize(101, b"x" * 101)]


def test_an_oversize_frame_keeps_its_beginning_and_the_next_frame_is_whole() -> None:
    line = b"abcdefgh" * 4096
    pieces = [line[at : at + 7] for at in range(0, len(line), 7)]

    assert framed([*pieces, b"\nnext\n"]) == [Oversize(len(line), line[:PREFIX_BYTES]), b"next"]


def test_a_skipped_frame_is_not_kept_in_memory() -> None:
    framer = Framer(1000)
    for _ in range(1000):
        framer.feed(b"x" * 1000)

    assert sum(len(piece) for piece in framer._pieces) == PREFIX_BYTES
    assert framer.finish() == [Oversize(1_000_000, b"x" * PREFIX_BYTES)]


def test_a_line_of_ten_megabytes_in_small_chunks_takes_linear_time() -> None:
    def duration(size: int) -> float:
        framer = Framer(64 * 1024 * 1024)
        began = time.process_time()
        for _ in range(size // 1000):
            framer.feed(b"x" * 1000)
        assert len(framer.feed(b"\n")) == 1
        return time.process_time() - began

    duration(100_000)
    assert duration(10_000_000) < 2.0  # quadratic would be minutes
