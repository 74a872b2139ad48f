"""The schema's history: numbered SQL files, applied forward only and in one transaction.

Owns the table `migrations` (number, name, checksum). It refuses in words a database of a newer build, one that is not
ours, and one whose migrations were edited after they had been applied. Called when a store opens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources

import apsw
import msgspec

from holdfast.store.port import StoreBroken

_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
  number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, at REAL NOT NULL
) STRICT
"""


class Migration(msgspec.Struct, frozen=True):
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def shipped() -> list[Migration]:
    """The migrations of this build, in order."""
    folder = resources.files("holdfast.store") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [
        Migration(int(file.name[:4]), file.name[5:].removesuffix(".sql"), file.read_text(encoding="utf-8"))
        for file in files
    ]


def migrate(connection: apsw.Connection, migrations: Sequence[Migration], at: float, where: str) -> None:
    """Bring the schema up to the last of `migrations`. If that fails, the database is as it was.

    Raises StoreBroken. `where` names the database in messages.
    """
    applied = _applied(connection, where)
    _agree(applied, migrations, where)
    missing = [m for m in migrations if m.number not in applied]
    if not missing:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_TABLE)
        for migration in missing:
            _apply(connection, migration, at, where)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _apply(connection: apsw.Connection, migration: Migration, at: float, where: str) -> None:
    try:
        connection.execute(migration.sql)
    except apsw.Error as error:
        raise StoreBroken(
            "internal",
            f"cannot open {where}: because migration {migration.number} ({migration.name}) failed: {error}; "
            "the database is unchanged, the version that wrote it can go on with it",
        ) from error
    connection.execute(
        "INSERT INTO migrations (number, name, checksum, at) VALUES (?, ?, ?, ?)",
        (migration.number, migration.name, migration.checksum, at),
    )


def _applied(connection: apsw.Connection, where: str) -> dict[int, str]:
    tables = {
        str(name) for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    }
    if not tables:
        return {}
    if "migrations" not in tables:
        raise StoreBroken(
            "internal",
            f"cannot open {where}: because it holds tables of another program; choose another file",
        )
    rows = connection.execute("SELECT number, checksum FROM migrations")
    return {int(number): str(checksum) for number, checksum in rows}


def _agree(applied: dict[int, str], migrations: Sequence[Migration], where: str) -> None:
    known = {m.number: m.checksum for m in migrations}
    newest = max(known)
    if applied and max(applied) > newest:
        raise StoreBroken(
            "internal",
            f"cannot open {where}: because a newer Holdfast wrote it (schema {max(applied)}, this one knows "
            f"{newest}); install that version or a later one",
        )
    for number, checksum in applied.items():
        if known.get(number) != checksum:
            raise StoreBroken(
                "internal",
                f"cannot open {where}: because its migration {number} is not the one of this build; "
                "install the version that wrote it",
            )
