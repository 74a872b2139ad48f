"""A process that commits as fast as it can and says what was acknowledged, until it is killed.

    python -m tests.store.writer_child DATABASE

Each line on stdout is `stream version`, written only after the commit's acknowledgement.
"""

import asyncio
import os
import sys

from holdfast.core import events as e
from holdfast.core.ids import stream_of
from holdfast.store.sqlite import SqliteStore
from tests.store.histories import begin, item, then, thread_named

THREADS = 8


async def write(store: SqliteStore, thread: str) -> None:
    version = (await store.load(stream_of(thread))).version
    if version == 0:
        version = (await store.commit(begin(thread))).version
    while True:
        number = len(await store.items(thread, limit=1)) and (await store.items(thread, limit=1))[0].ordinal
        place = item(number + 1, thread=thread, text="x" * 500)
        done = e.ItemCompleted(place.item_id, "completed", "y" * 500)
        version = (await store.commit(then(version, place, done, thread=thread))).version
        os.write(1, f"{stream_of(thread)} {version}\n".encode())


async def main(path: str) -> None:
    store = await SqliteStore.open(path)
    async with asyncio.TaskGroup() as tasks:
        for number in range(THREADS):
            tasks.create_task(write(store, thread_named(number)))


asyncio.run(main(sys.argv[1]))
