"""All thread workers, one per thread, made when first needed and dropped when nothing goes on in them."""

from __future__ import annotations

from holdfast.engine.house import House
from holdfast.engine.worker import ThreadWorker


class Workers:
    """There is never a second worker of a thread: it would be a second writer."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._workers: dict[str, ThreadWorker] = {}

    def get(self, thread_id: str) -> ThreadWorker:
        """The worker; it loads itself with its first command."""
        worker = self._workers.pop(thread_id, None)
        if worker is None:
            self._shrink()
            worker = ThreadWorker(thread_id, self.house)
        self._workers[thread_id] = worker  # the newest last
        return worker

    def live(self) -> list[ThreadWorker]:
        """Those with a session."""
        return [w for w in self._workers.values() if w.live is not None]

    def _shrink(self) -> None:
        excess = len(self._workers) - self.house.bounds.workers_max
        if excess < 0:
            return
        for thread_id in [t for t, w in self._workers.items() if w.quiet()][: excess + 1]:
            self._workers.pop(thread_id).close()

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
