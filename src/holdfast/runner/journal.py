"""The journal on disk: a session's records in segment files, written before they are acted on.

Owns the format, the writing with its bounded loss at power failure, and the reading, which needs no runner: the
server reads with `read_records` what a dead runner left behind. It knows nothing of what a record means. The runner's
core appends through `ports.Journal`; compression and pruning are in `keeping`.

A segment is a file named by its first record, `000000000001.seg`: entries of length (4 bytes, little endian), CRC-32
of the payload (4 bytes) and payload (one encoded record). A torn tail ends the journal. `*.seg.gz` is the same, done
with.
"""

from __future__ import annotations

import bisect
import gzip
import os
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from holdfast.runner.ports import StorageFullError
from holdfast.wire.link import Record, decode_record

SEGMENT_BYTES = 8 * 1024 * 1024
INDEX_BYTES = 64 * 1024
ENTRY_BYTES_MAX = 128 * 1024 * 1024
"""A length above this is damage, not an entry."""

_HEADER = 8


class JournalDamagedError(Exception):
    """Records are missing or broken before the journal's tail. What came before was read."""


class FileJournal:
    """One session's journal, open for appending.

    `dirty` is told at each append that there is something to sync; `retired` are descriptors of finished segments,
    to be synced and closed by whoever listens to it. `done_with` gets each finished segment that is acknowledged.
    """

    def __init__(
        self,
        folder: Path,
        dirty: Callable[[FileJournal], None],
        done_with: Callable[[Path], None],
        *,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.folder = folder
        self._dirty = dirty
        self._done_with = done_with
        self._segment_bytes = segment_bytes
        self._last = 0
        self._total = 0
        self._offset = 0
        self._segments: list[tuple[int, int]] = []  # first record; bytes of all records and headers before it
        self._done_segments = 0
        self._nos = array("Q")
        self._totals = array("Q")
        self.retired: list[int] = []
        self._fd = -1
        self._open_segment()

    @property
    def last(self) -> int:
        return self._last

    @property
    def total(self) -> int:
        return self._total

    @property
    def fd(self) -> int:
        """Of the newest segment; -1 once closed."""
        return self._fd

    def append(self, records: Sequence[bytes]) -> None:
        if self._offset >= self._segment_bytes:
            self._open_segment()
        parts: list[bytes] = []
        for record in records:
            parts.append(len(record).to_bytes(4, "little") + zlib.crc32(record).to_bytes(4, "little"))
            parts.append(record)
        data = b"".join(parts)
        self._write(data)
        self._offset += len(data)
        self._total += len(data)
        self._last += len(records)
        if self._total - (self._totals[-1] if self._totals else 0) >= INDEX_BYTES:
            self._nos.append(self._last)
            self._totals.append(self._total)
        self._dirty(self)

    def total_through(self, no: int) -> int:
        if no >= self._last:
            return self._total
        at = bisect.bisect_right(self._nos, no) - 1
        return self._totals[at] if at >= 0 else 0

    def acknowledged(self, no: int) -> None:
        while self._done_segments + 1 < len(self._segments):
            if self._segments[self._done_segments + 1][0] - 1 > no:
                return
            self._done_with(segment_path(self.folder, self._segments[self._done_segments][0]))
            self._done_segments += 1

    def cursor(self, after: int) -> SegmentCursor:
        at = bisect.bisect_right(self._nos, after) - 1
        no, total = (self._nos[at], self._totals[at]) if at >= 0 else (0, 0)
        index = max(0, bisect.bisect_right([first for first, _ in self._segments], no + 1) - 1)
        first, start = self._segments[index]
        cursor = SegmentCursor(self.folder, first, total - start, no + 1)
        cursor.skip_to(after + 1)
        return cursor

    def close(self) -> None:
        if self._fd >= 0:
            self.retired.append(self._fd)
            self._fd = -1
            self._dirty(self)

    def _open_segment(self) -> None:
        path = segment_path(self.folder, self._last + 1)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageFullError(
                f"cannot begin journal segment {path}: because {error.strerror}"
            ) from error
        if self._fd >= 0:
            self.retired.append(self._fd)
        self._fd = fd
        self._offset = 0
        self._segments.append((self._last + 1, self._total))

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.pwrite(self._fd, rest, self._offset + len(data) - len(rest)) :]
        except OSError as error:
            # The next attempt writes over what is there; a reader in the meantime sees a torn tail.
            os.ftruncate(self._fd, self._offset)
            raise StorageFullError(f"cannot write journal {self.folder}: because {error.strerror}") from error


class SegmentCursor:
    """Reads entries from segment to segment. Raises `JournalDamagedError` where the entries stop making sense."""

    def __init__(self, folder: Path, first: int, offset: int, no: int) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._first = first
        self._offset = offset
        self.next = no

    def read(self, bytes_max: int, records_max: int) -> list[bytes]:
        while True:
            records = self._read_here(bytes_max, records_max)
            if records or not self._to_next_segment():
                return records

    def skip_to(self, no: int) -> None:
        """Advance without keeping anything; stops at the end of what is written."""
        while self.next < no:
            if not self.read(256 * 1024, min(no - self.next, 4096)):
                return

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read_here(self, bytes_max: int, records_max: int) -> list[bytes]:
        file = self._file or self._open()
        if file is None:
            return []
        file.seek(self._offset)
        data = _read_up_to(file, bytes_max)
        if len(data) >= _HEADER:
            needed = _HEADER + int.from_bytes(data[:4], "little")
            if len(data) < needed <= ENTRY_BYTES_MAX:
                data += _read_up_to(file, needed - len(data))
        records: list[bytes] = []
        position = 0
        while len(records) < records_max and len(data) - position >= _HEADER:
            start = position + _HEADER
            end = start + int.from_bytes(data[position : position + 4], "little")
            if end > len(data):
                break
            record = data[start:end]
            if end == start or zlib.crc32(record) != int.from_bytes(data[position + 4 : start], "little"):
                if records:
                    break
                return self._damaged()
            records.append(record)
            position = end
        self._offset += position
        self.next += len(records)
        return records

    def _damaged(self) -> list[bytes]:
        """The tail of the newest segment may be torn; damage before it is damage."""
        if any(first > self._first for first, _ in segments(self._folder)):
            raise JournalDamagedError(
                f"cannot read journal {self._folder}: because record {self.next} in segment {self._first} is damaged"
            )
        return []

    def _open(self) -> BinaryIO | None:
        path = segment_path(self._folder, self._first)
        try:
            self._file = path.open("rb", buffering=0)
        except FileNotFoundError:
            try:
                self._file = cast(BinaryIO, gzip.open(compressed_path(path), "rb"))
            except FileNotFoundError:
                return None
        return self._file

    def _to_next_segment(self) -> bool:
        """True if reading can go on in the segment that begins with the next record."""
        path = segment_path(self._folder, self.next)
        if self.next == self._first or not (path.exists() or compressed_path(path).exists()):
            later = [first for first, _ in segments(self._folder) if first > self._first]
            if later:
                raise JournalDamagedError(
                    f"cannot read journal {self._folder}: because records {self.next} to {min(later) - 1} are missing"
                )
            return False
        self.close()
        self._first, self._offset = self.next, 0
        return True


def _read_up_to(file: BinaryIO, size: int) -> bytes:
    """Unbuffered files may return less than is there."""
    pieces: list[bytes] = []
    while size > 0:
        piece = file.read(size)
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def segment_path(folder: Path, first: int) -> Path:
    return folder / f"{first:012d}.seg"


def compressed_path(segment: Path) -> Path:
    return segment.with_name(segment.name + ".gz")


def segments(folder: Path) -> list[tuple[int, Path]]:
    """First record and file of each segment, in order; the uncompressed one where both exist."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        stem, dot, ending = path.name.partition(".")
        if stem.isdigit() and dot and ending in ("seg", "seg.gz"):
            found.setdefault(int(stem), path)
    return sorted(found.items())


def read_records(journals: Path, session: str, after: int = 0) -> Iterator[Record]:
    """The session's records after `after`, without a runner; a torn tail ends them.

    Reads in bounded pieces. Raises `JournalDamagedError` where records before the tail are broken or missing.
    """
    folder = journals / session
    known = [first for first, _ in segments(folder)]
    start = [first for first in known if first <= after + 1]
    if not known:
        return
    if not start:
        raise JournalDamagedError(
            f"cannot read journal {folder}: because the records before {known[0]} are missing"
        )
    cursor = SegmentCursor(folder, start[-1], 0, start[-1])
    try:
        while records := cursor.read(256 * 1024, 500):
            for data in records:
                record = decode_record(data)
                if record.no > after:
                    yield record
    finally:
        cursor.close()


def cut_torn_tail(segment: Path) -> int:
    """Cuts what follows the last whole entry off an uncompressed segment; returns the number of bytes cut."""
    cursor = SegmentCursor(segment.parent, int(segment.name.partition(".")[0]), 0, 1)
    end = 0
    try:
        while records := cursor._read_here(256 * 1024, 500):
            end += sum(len(record) + _HEADER for record in records)
    finally:
        cursor.close()
    cut = segment.stat().st_size - end
    if cut:
        os.truncate(segment, end)
    return cut
