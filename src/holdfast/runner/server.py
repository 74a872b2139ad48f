"""The runner's Unix socket: carries the link's messages for its connections.

Owns the listening socket, the length prefix and who may connect (the same user). It reads no message.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from pathlib import Path

from holdfast.runner.connection import Connection
from holdfast.runner.core import RunnerCore
from holdfast.wire.link import LinkError, Splitter, prefixed

log = logging.getLogger(__name__)

BUFFER_BYTES = 512 * 1024
"""Records are handed to the socket up to about here; the rest waits in the journals."""


async def listen(core: RunnerCore, path: Path) -> asyncio.Server:
    """Accept connections at `path`, which only this user can reach."""
    server = await asyncio.get_running_loop().create_unix_server(
        lambda: SocketCarrier(core), path, start_serving=False
    )
    os.chmod(path, 0o600)
    await server.start_serving()
    return server


class SocketCarrier(asyncio.Protocol):
    """See `connection.Carrier`."""

    def __init__(self, core: RunnerCore) -> None:
        self.paused = False
        self._connection = Connection(core, self)
        self._splitter = Splitter()
        self._transport: asyncio.Transport | None = None

    def send(self, message: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(prefixed(message))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=BUFFER_BYTES)
        peer = transport.get_extra_info("socket")
        if (uid := peer_uid(peer)) != os.geteuid():
            self._connection.broken(f"it belongs to user {uid}")

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._splitter.feed(data)
        except LinkError as error:
            self._connection.broken(str(error))
            return
        for message in messages:
            self._connection.message(message)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._connection.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connection.lost()


def peer_uid(peer: socket.socket) -> int:
    """The user at the other end of a Unix socket, as the kernel knows it."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", credentials)[1]
    return uid
