"""Commands once per key: the stored outcome of an earlier call, and one call at a time for a key.

Two calls with one key that arrive together are one after the other here; the second finds the first one's receipt.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from holdfast.errors import Rejected
from holdfast.store.port import EventStore


class Receipts:
    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._locks: dict[tuple[str, str], tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def once(self, owner: str, key: str) -> AsyncIterator[None]:
        """Hold the key while a command with it is under way."""
        lock, users = self._locks.get((owner, key), (asyncio.Lock(), 0))
        self._locks[owner, key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[owner, key]
            if users == 1:
                del self._locks[owner, key]
            else:
                self._locks[owner, key] = (lock, users - 1)

    async def answer(self, owner: str, key: str, content: str) -> bytes | None:
        """The earlier answer; None if there is none. Raises Rejected as the earlier call did, or
        `idempotency_conflict` if the key was used for something else."""
        stored = await self._store.receipt(owner, key)
        if stored is None:
            return None
        if stored.content_hash != content:
            raise Rejected(
                "idempotency_conflict",
                f"cannot use the key {key!r}: because it was used for another command; use a fresh key",
            )
        if stored.code:
            raise Rejected(stored.code, stored.detail)
        return stored.answer
