"""The journal on disk: every cut of its tail leaves what was whole, and no reader needs the runner that wrote it."""

import errno
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.runner import journal as journal_file
from holdfast.runner import keeping
from holdfast.runner.journal import FileJournal, JournalDamagedError, read_records, segments
from holdfast.runner.keeping import FileJournals
from holdfast.runner.ports import StorageFullError
from holdfast.wire.link import Record, Spec, encode_record
from tests.runner.harness import eventually, open_files

SPEC = Spec(["agent"], {"SECRET": "hunter2"}, "/")


@pytest.fixture
async def journals(tmp_path: Path) -> AsyncIterator[FileJournals]:
    journals = FileJournals(tmp_path / "journals", sync_s=0.01, segment_bytes=2000)
    yield journals
    await journals.close()


def record(no: int, size: int = 20) -> Record:
    return Record(no, 1.0, "out", bytes([no % 256]) * size)


def fill(journal: FileJournal, count: int, size: int = 20) -> list[Record]:
    records = [record(journal.last + number, size) for number in range(1, count + 1)]
    for entry in records:
        journal.append([encode_record(entry)])
    return records


def test_every_cut_of_the_tail_leaves_the_whole_records(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    journal = FileJournal(folder, lambda journal: None, lambda segment: None)
    records = fill(journal, 4)
    ends = []
    for number in range(1, 5):
        ends.append(sum(len(encode_record(entry)) + 8 for entry in records[:number]))
    os.close(journal.fd)
    segment = segments(folder)[0][1]
    content = segment.read_bytes()
    assert len(content) == ends[-1]

    for cut in range(len(content) + 1):
        segment.write_bytes(content[:cut])
        whole = [entry for entry, end in zip(records, ends, strict=True) if end <= cut]
        assert list(read_records(tmp_path, "s")) == whole
        for rubbish in (b"\0" * 40, b"\xff" * 40):
            segment.write_bytes(content[:cut] + rubbish)
            assert list(read_records(tmp_path, "s")) == whole
            journal_file.cut_torn_tail(segment)
            assert segment.stat().st_size == (ends[len(whole) - 1] if whole else 0)


async def test_reading_goes_on_after_any_record_across_segments(
    journals: FileJournals, tmp_path: Path
) -> None:
    journal = journals.create("s", SPEC)
    records = fill(journal, 200, 50)
    assert len(segments(journal.folder)) > 5

    for after in range(201):
        assert list(read_records(tmp_path / "journals", "s", after)) == records[after:]
        cursor = journal.cursor(after)
        found = []
        while batch := cursor.read(500, 7):
            assert len(batch) <= 7
            found += batch
        cursor.close()
        assert found == [encode_record(entry) for entry in records[after:]]
    journal.close()


async def test_a_cursor_at_the_end_sees_what_is_appended_later(journals: FileJournals) -> None:
    journal = journals.create("s", SPEC)
    cursor = journal.cursor(0)
    assert cursor.read(1000, 10) == []
    for _ in range(100):
        (entry,) = fill(journal, 1, 100)
        assert cursor.read(1000, 10) == [encode_record(entry)]
    cursor.close()
    journal.close()


async def test_a_record_larger_than_every_bound_travels_alone(journals: FileJournals, tmp_path: Path) -> None:
    journal = journals.create("s", SPEC)
    records = [*fill(journal, 1), *fill(journal, 1, 3_000_000), *fill(journal, 1)]

    cursor = journal.cursor(0)
    sizes = [len(cursor.read(1000, 10)) for _ in range(3)]
    cursor.close()
    journal.close()

    assert sizes == [1, 1, 1]
    assert list(read_records(tmp_path / "journals", "s")) == records


async def test_damage_before_the_tail_is_told_after_what_is_whole(
    journals: FileJournals, tmp_path: Path
) -> None:
    journal = journals.create("s", SPEC)
    records = fill(journal, 100, 50)
    journal.close()
    first, second, third, *_ = [path for _, path in segments(journal.folder)]
    content = bytearray(second.read_bytes())
    content[100] ^= 1
    second.write_bytes(content)

    found: list[Record] = []
    with pytest.raises(JournalDamagedError, match="damaged"):
        found.extend(read_records(tmp_path / "journals", "s"))
    assert found == records[: len(found)]
    assert len(found) >= int(second.name.split(".")[0]) - 1

    second.unlink()
    with pytest.raises(JournalDamagedError, match="missing"):
        list(read_records(tmp_path / "journals", "s"))
    first.unlink()
    with pytest.raises(JournalDamagedError, match="missing"):
        list(read_records(tmp_path / "journals", "s"))
    no = int(third.name.split(".")[0])
    assert next(read_records(tmp_path / "journals", "s", no)) == records[no]


async def test_a_session_without_a_journal_has_no_records(tmp_path: Path) -> None:
    assert list(read_records(tmp_path / "journals", "nobody")) == []


async def test_files_are_private_and_hold_no_secrets(journals: FileJournals) -> None:
    journal = journals.create("s", SPEC)
    journal.close()

    assert stat.S_IMODE(journal.folder.stat().st_mode) == 0o700
    for path in journal.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = (journal.folder / "spec.json").read_text()
    assert "SECRET" in text
    assert "hunter2" not in text


async def test_a_forgotten_journal_is_compressed_and_reads_the_same(
    journals: FileJournals, tmp_path: Path
) -> None:
    journal = journals.create("s", SPEC)
    records = fill(journal, 100, 50)
    journal.close()

    assert journals.forget("s")
    assert not journals.forget("nobody")

    await eventually(lambda: all(path.name.endswith(".gz") for _, path in segments(journal.folder)))
    assert list(read_records(tmp_path / "journals", "s")) == records
    assert list(read_records(tmp_path / "journals", "s", 77)) == records[77:]


async def test_acknowledged_segments_are_compressed_while_the_session_lives(
    journals: FileJournals, tmp_path: Path
) -> None:
    journal = journals.create("s", SPEC)
    records = fill(journal, 100, 50)
    cursor = journal.cursor(3)

    journal.acknowledged(60)

    await eventually(lambda: segments(journal.folder)[0][1].name.endswith(".gz"))
    records += fill(journal, 10, 50)
    assert list(read_records(tmp_path / "journals", "s")) == records
    found: list[bytes] = []
    while batch := cursor.read(1000, 100):
        found += batch
    assert found == [encode_record(entry) for entry in records[3:]]
    assert segments(journal.folder)[-1][1].name.endswith(".seg")
    cursor.close()
    journal.close()


async def test_only_what_was_forgotten_long_ago_is_pruned(journals: FileJournals, tmp_path: Path) -> None:
    for name in ("kept", "fresh", "old"):
        journals.create(name, SPEC).close()
    for name in ("fresh", "old"):
        journals.forget(name)
        await eventually(lambda: segments(tmp_path / "journals" / name)[0][1].suffix == ".gz")  # noqa: B023
    old = tmp_path / "journals" / "old" / keeping.FORGOTTEN_FILE
    os.utime(old, (1000.0, 1000.0))

    keeping.prune(tmp_path / "journals", old.stat().st_mtime + 14.5 * 86400, 14)

    assert sorted(path.name for path in (tmp_path / "journals").iterdir()) == ["fresh", "kept"]


async def test_a_write_that_fails_half_way_leaves_nothing_and_can_be_repeated(
    journals: FileJournals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journals.create("s", SPEC)
    records = fill(journal, 3)
    entry = encode_record(record(4))
    write = os.pwrite

    def full_after_ten_bytes(fd: int, data: memoryview, offset: int) -> int:
        if len(data) < len(entry) + 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:10], offset)

    monkeypatch.setattr("os.pwrite", full_after_ten_bytes)
    with pytest.raises(StorageFullError, match="No space left"):
        journal.append([entry])
    monkeypatch.undo()

    assert list(read_records(tmp_path / "journals", "s")) == records
    journal.append([entry])
    assert list(read_records(tmp_path / "journals", "s")) == [*records, record(4)]
    journal.close()


async def test_appends_are_synced_soon_and_once_for_many(
    journals: FileJournals, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fdatasync", lambda fd: synced.append(os.fstat(fd).st_ino))
    journal = journals.create("s", SPEC)
    inode = segments(journal.folder)[0][1].stat().st_ino
    fill(journal, 20)

    await eventually(lambda: inode in synced)
    assert len(synced) < 20
    journal.close()


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = open_files()
    journals = FileJournals(tmp_path / "j", sync_s=0.01, segment_bytes=500)
    for name in "abc":
        journal = journals.create(name, SPEC)
        fill(journal, 100)
        journal.cursor(50).close()
        journal.close()
    await journals.close()

    assert open_files() == before


def test_positions_give_the_bytes_behind_them(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    journal = FileJournal(folder, lambda journal: None, lambda segment: None)
    assert journal.total_through(0) == 0
    fill(journal, 3000, 100)
    assert journal.total_through(3000) == journal.total
    assert journal.total_through(5000) == journal.total
    for no in range(0, 3000, 100):
        exact = journal.total * no // 3000
        assert exact - journal_file.INDEX_BYTES - 200 <= journal.total_through(no) <= exact + 10000
    os.close(journal.fd)
    for fd in journal.retired:
        os.close(fd)
