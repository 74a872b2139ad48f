"""A full disk: commits are refused, stops and endings are still written, and nothing acknowledged is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from holdfast.core import events as e
from holdfast.core.ids import inner_id
from holdfast.store.port import Committed, StoreConflict, StoreFull
from holdfast.store.reserve import Reserve
from holdfast.store.sqlite import SqliteStore
from holdfast.store.sqlite_core import SqliteCore
from tests.store.histories import THREAD, begin, then
from tests.store.small_disk import SmallDisk

RESERVE = 128 * 1024


class House:
    """A store on a small disk."""

    def __init__(self, folder: Path) -> None:
        self.disk = SmallDisk(folder, room=10**9)
        self.file = folder / "holdfast.reserve"
        self.reserve = Reserve(self.file, RESERVE, self.disk.allocate)
        self.core = SqliteCore.open(
            str(folder / "holdfast.db"), at=1.0, vfs=self.disk.name, reserve=self.reserve
        )
        self.version = 2
        assert self.core.commit_group([begin()]) == [Committed(2)]

    def title(self, size: int, *, vital: bool = False) -> Committed | Exception:
        commit = msgspec.structs.replace(then(self.version, e.ThreadTitled("x" * size)), vital=vital)
        (outcome,) = self.core.commit_group([commit])
        if isinstance(outcome, Committed):
            self.version = outcome.version
        return outcome

    def fill(self) -> None:
        """Until not even a small commit fits."""
        self.disk.room = self.disk.used() + 64 * 1024
        for _ in range(1000):
            if isinstance(self.title(100), StoreFull):
                break
        assert isinstance(self.title(100), StoreFull)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.core.close()


def test_a_full_disk_refuses_in_words_and_changes_nothing(house: House) -> None:
    house.fill()
    outcome = house.title(100)
    assert isinstance(outcome, StoreFull)
    assert outcome.code == "storage_full"
    assert "because the disk is full" in outcome.detail
    assert house.file.exists(), "only a vital commit may use the reserve up"


async def test_a_vital_commit_uses_the_reserve_and_nothing_else_does(house: House) -> None:
    house.fill()
    ending = e.RunEnded(inner_id("run", THREAD, 1), 1, "interrupted")
    (outcome,) = house.core.commit_group([msgspec.structs.replace(then(house.version, ending), vital=True)])
    assert outcome == Committed(house.version + 1)
    house.version += 1
    assert not house.file.exists()
    assert isinstance(house.title(100), StoreFull), "what the reserve freed is not for this"
    assert house.title(100, vital=True) == Committed(house.version)

    store = SqliteStore(house.core, inline=True)
    run = await store.run(inner_id("run", THREAD, 1))
    assert run is not None and run.status == "interrupted"
    assert await store.check() == []


def test_the_reserve_comes_back_with_the_space(house: House) -> None:
    house.fill()
    assert isinstance(house.title(100, vital=True), Committed)
    house.disk.room += RESERVE + 10**6
    assert isinstance(house.title(100), Committed)
    assert house.file.stat().st_size == RESERVE
    assert house.file.stat().st_mode & 0o777 == 0o600


def test_a_commit_larger_than_the_reserve_is_refused_even_if_vital(house: House) -> None:
    house.fill()
    assert isinstance(house.title(2 * RESERVE, vital=True), StoreFull)
    assert house.title(10, vital=True) == Committed(house.version)


def test_in_a_group_those_that_fit_are_committed(house: House) -> None:
    house.disk.room = house.disk.used() + 400 * 1024
    large = msgspec.structs.replace(begin("th_0123456789abcdef0001"), snapshot=b"x" * 10**6)
    small = begin("th_0123456789abcdef0002")
    conflict = then(7, e.ThreadTitled("late"))
    outcomes = house.core.commit_group([small, large, conflict, then(2, e.ThreadTitled("fits"))])
    assert [type(x) for x in outcomes] == [Committed, StoreFull, StoreConflict, Committed]


def test_a_simulation_can_say_that_the_disk_is_full() -> None:
    core = SqliteCore.open(":memory:", at=1.0)
    core.full = lambda commit: not commit.vital
    assert isinstance(core.commit_group([begin()])[0], StoreFull)
    assert core.commit_group([msgspec.structs.replace(begin(), vital=True)]) == [Committed(2)]
    core.full = None
    assert core.commit_group([then(2, e.ThreadTitled("a"))]) == [Committed(3)]
    core.close()
