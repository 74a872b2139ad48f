"""The folder of journals: creating, syncing, compressing and pruning them.

Owns when journals reach the disk (at most every 100 ms, in a thread) and how long they stay. It reads no record. The
runner's core uses it through `ports.Journals`; `__main__` prunes.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import shutil
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from holdfast.runner.journal import SEGMENT_BYTES, FileJournal, compressed_path, cut_torn_tail, segments
from holdfast.runner.ports import StorageFullError
from holdfast.wire.link import Spec

log = logging.getLogger(__name__)

SPEC_FILE = "spec.json"
FORGOTTEN_FILE = "forgotten"


class FileJournals:
    """Journals in `root/<session>/`. Made on the event loop that uses it."""

    def __init__(self, root: Path, *, sync_s: float = 0.1, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._root = root
        self._sync_s = sync_s
        self._segment_bytes = segment_bytes
        self._unsynced: set[FileJournal] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._syncing: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(2, "journal")
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, session: str, spec: Spec) -> FileJournal:
        folder = self._root / session
        try:
            folder.mkdir(mode=0o700)
            _write_private(folder / SPEC_FILE, msgspec.json.encode(_describe(spec)))
            return FileJournal(folder, self._dirty, self._done_with, segment_bytes=self._segment_bytes)
        except FileExistsError:
            raise
        except OSError as error:
            self.discard(session)
            raise StorageFullError(f"cannot create journal {folder}: because {error.strerror}") from error

    def discard(self, session: str) -> None:
        shutil.rmtree(self._root / session, ignore_errors=True)

    def forget(self, session: str) -> bool:
        folder = self._root / session
        if not (folder / SPEC_FILE).exists():
            return False
        _write_private(folder / FORGOTTEN_FILE, b"")
        self._in_thread(lambda: compress_all(folder))
        return True

    def prune(self, now: float, days: float) -> None:
        """Remove what was forgotten more than `days` ago."""
        self._in_thread(lambda: prune(self._root, now, days))

    async def close(self) -> None:
        """What was appended is on the disk when this returns."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._syncing is not None or self._unsynced:
            if self._syncing is None:
                self._start_sync()
            elif not self._syncing.done():
                await asyncio.wait([self._syncing])
            else:
                await asyncio.sleep(0)
        await self._loop.run_in_executor(None, self._threads.shutdown)

    def _dirty(self, journal: FileJournal) -> None:
        self._unsynced.add(journal)
        if self._timer is None and self._syncing is None:
            self._timer = self._loop.call_later(self._sync_s, self._start_sync)

    def _start_sync(self) -> None:
        self._timer = None
        fds: list[int] = []
        for journal in self._unsynced:
            fds += journal.retired
            journal.retired = []
            if journal.fd >= 0:
                fds.append(os.dup(journal.fd))
        self._unsynced.clear()
        self._syncing = self._loop.run_in_executor(self._threads, _sync, fds)
        self._syncing.add_done_callback(self._synced)

    def _synced(self, done: asyncio.Future[None]) -> None:
        self._syncing = None
        if not done.cancelled() and (error := done.exception()):
            log.error("cannot sync journals: because %s", error)
        if self._unsynced and self._timer is None:
            self._timer = self._loop.call_later(self._sync_s, self._start_sync)

    def _done_with(self, segment: Path) -> None:
        self._in_thread(lambda: compress(segment))

    def _in_thread(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except OSError as error:
                log.warning("cannot tidy journals: because %s", error)

        self._threads.submit(run)


def prune(root: Path, now: float, days: float) -> None:
    for folder in root.iterdir():
        mark = folder / FORGOTTEN_FILE
        if mark.exists() and mark.stat().st_mtime < now - days * 86400:
            shutil.rmtree(folder, ignore_errors=True)


def compress_all(folder: Path) -> None:
    """Compress every segment of an ended journal; a torn tail is cut first."""
    paths = [path for _, path in segments(folder)]
    if paths and paths[-1].suffix == ".seg":
        cut_torn_tail(paths[-1])
    for path in paths:
        if path.suffix == ".seg":
            compress(path)


def compress(segment: Path) -> None:
    """Replace a finished segment by its compressed form; readers find one of the two at any moment."""
    target = compressed_path(segment)
    unfinished = target.with_name(target.name + ".tmp")
    try:
        with segment.open("rb") as plain, open(unfinished, "wb", opener=_private) as raw:
            with gzip.GzipFile(
                filename="", fileobj=raw, mode="wb", compresslevel=zlib.Z_BEST_SPEED, mtime=0
            ) as packed:
                shutil.copyfileobj(plain, packed, 1024 * 1024)
            raw.flush()
            os.fsync(raw.fileno())
    except FileNotFoundError:
        return  # compressed before, or pruned
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.rename(target)
    segment.unlink(missing_ok=True)


def _describe(spec: Spec) -> dict[str, object]:
    """What may be kept of a spec: names of environment variables, never their values."""
    return {
        "argv": spec.argv,
        "env": sorted(spec.env),
        "cwd": spec.cwd,
        "framing": spec.framing,
        "locks": spec.locks,
        "frame_bytes_max": spec.frame_bytes_max,
        "unacked_bytes_max": spec.unacked_bytes_max,
    }


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_private(path: Path, data: bytes) -> None:
    with open(path, "wb", opener=_private) as file:
        file.write(data)


def _sync(fds: list[int]) -> None:
    failed: OSError | None = None
    for fd in fds:
        try:
            os.fdatasync(fd)
        except OSError as error:
            failed = error
        finally:
            os.close(fd)
    if failed is not None:
        raise failed
