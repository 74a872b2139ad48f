"""Framing of newline-delimited JSON: bytes in, frames out.

Owns where one frame ends and the next begins, and the bound on a frame. It decodes nothing: a frame is the bytes of
one line, so that split UTF-8 cannot be broken here, and a line that is no JSON is the translator's business. The
runner feeds it what it reads from an agent.
"""

from __future__ import annotations

import msgspec

PREFIX_BYTES = 4096
"""How much of an oversize frame is kept, to tell what it was."""


class Oversize(msgspec.Struct, frozen=True):
    """A frame above the bound was skipped: its size, and how it began."""

    length: int
    prefix: bytes


Frame = bytes | Oversize


class Framer:
    """Splits a stream at newlines. Frames come without `\\n` or `\\r\\n`; empty lines are dropped.

    Holds at most `frame_bytes_max` of an unfinished line, in pieces that are joined once: linear in what is fed.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self._max = frame_bytes_max
        self._pieces: list[bytes] = []
        self._length = 0
        self._last = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes."""
        first, newline, rest = data.partition(b"\n")
        if not newline:
            self._keep(data)
            return []
        frames: list[Frame] = []
        self._keep(first)
        self._complete(frames)
        lines = rest.split(b"\n")
        unfinished = lines.pop()
        for line in lines:
            frame = line[:-1] if line.endswith(b"\r") else line
            if len(frame) > self._max:
                frames.append(Oversize(len(frame), frame[:PREFIX_BYTES]))
            elif frame:
                frames.append(frame)
        self._keep(unfinished)
        return frames

    def finish(self) -> list[Frame]:
        """The stream has ended: its last line, if that had no newline."""
        frames: list[Frame] = []
        self._complete(frames)
        return frames

    def _keep(self, piece: bytes) -> None:
        if not piece:
            return
        self._length += len(piece)
        self._last = piece[-1:]
        if self._skipping:
            if len(self._pieces[0]) < PREFIX_BYTES:
                self._pieces[0] = (self._pieces[0] + piece)[:PREFIX_BYTES]
            return
        self._pieces.append(piece)
        # One byte more than the bound may still be the carriage return of a frame within it.
        if self._length > self._max + 1:
            self._pieces = [b"".join(self._pieces)[:PREFIX_BYTES]]
            self._skipping = True

    def _complete(self, frames: list[Frame]) -> None:
        length = self._length - (self._last == b"\r")
        if length > self._max:
            frames.append(Oversize(length, b"".join(self._pieces)[: min(length, PREFIX_BYTES)]))
        elif length:
            frames.append(b"".join(self._pieces)[:length])
        self._pieces = []
        self._length = 0
        self._last = b""
        self._skipping = False
