"""The Python client of the outer contract, shared by the command line and users' scripts.

    async with Client(url, token) as client:
        created = await client.create_thread("scripted", "/some/folder", message="Hello")
        async for event in client.follow(created.thread.id, after=0):
            ...

`SyncClient` has the same methods without `await`.
"""

from holdfast.client.client import Client, CreatedThread, Page, StoppedThread, ThreadView
from holdfast.client.events import CaughtUp, Event, Resync, Text
from holdfast.client.sync import SyncClient

__all__ = [
    "CaughtUp",
    "Client",
    "CreatedThread",
    "Event",
    "Page",
    "Resync",
    "StoppedThread",
    "SyncClient",
    "Text",
    "ThreadView",
]
