"""Journals and locks in memory, for a runner core without a disk: simulations and tests.

Owns nothing that outlives the object: a simulator keeps it while it lets the core die, and reads what was journalled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holdfast.runner.ports import LockedError, StorageFullError
from holdfast.wire.link import Record, Spec, decode_record


class MemoryJournal:
    """One session's records. `full` makes it refuse, as a full disk does."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self._totals: list[int] = []
        self.full = False

    @property
    def last(self) -> int:
        return len(self.records)

    @property
    def total(self) -> int:
        return self._totals[-1] if self._totals else 0

    def append(self, records: Sequence[bytes]) -> None:
        if self.full:
            raise StorageFullError("cannot write journal: because it is full")
        for record in records:
            self._totals.append(self.total + len(record))
            self.records.append(record)

    def total_through(self, no: int) -> int:
        return self._totals[min(no, self.last) - 1] if no > 0 and self._totals else 0

    def acknowledged(self, no: int) -> None:
        return

    def cursor(self, after: int) -> MemoryCursor:
        return MemoryCursor(self.records, after + 1)

    def close(self) -> None:
        return


class MemoryCursor:
    def __init__(self, records: list[bytes], no: int) -> None:
        self._records = records
        self.next = no

    def read(self, bytes_max: int, records_max: int) -> list[bytes]:
        found: list[bytes] = []
        size = 0
        while self.next <= len(self._records) and len(found) < records_max:
            record = self._records[self.next - 1]
            if found and size + len(record) > bytes_max:
                break
            size += len(record)
            found.append(record)
            self.next += 1
        return found

    def close(self) -> None:
        return


class MemoryJournals:
    """All journals by session; they stay when a core that used them is gone."""

    def __init__(self) -> None:
        self.journals: dict[str, MemoryJournal] = {}
        self.forgotten: set[str] = set()
        self.full = False

    def create(self, session: str, spec: Spec) -> MemoryJournal:
        if self.full:
            raise StorageFullError("cannot create journal: because storage is full")
        if session in self.journals:
            raise FileExistsError(session)
        self.journals[session] = MemoryJournal()
        return self.journals[session]

    def discard(self, session: str) -> None:
        self.journals.pop(session, None)

    def forget(self, session: str) -> bool:
        if session not in self.journals:
            return False
        self.forgotten.add(session)
        return True

    def records(self, session: str, after: int = 0) -> Iterator[Record]:
        """As `journal.read_records`."""
        journal = self.journals.get(session)
        for data in journal.records[after:] if journal else []:
            yield decode_record(data)

    async def close(self) -> None:
        return


class MemoryLocks:
    def __init__(self) -> None:
        self._held: dict[str, str] = {}

    def take(self, names: Sequence[str], session: str) -> None:
        for name in names:
            if name in self._held:
                raise LockedError(f"{name} is held by session {self._held[name]}")
        self._held.update(dict.fromkeys(names, session))

    def release(self, session: str) -> None:
        self._held = {name: holder for name, holder in self._held.items() if holder != session}
