"""The control plane's end of a link over a Unix socket.

Owns the socket and the length prefix; calls and streams are `link.MessageLink`'s.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from holdfast.engine.link import LinkClosed, MessageLink
from holdfast.runner.server import peer_uid
from holdfast.wire.link import Hello, LinkError, Splitter, prefixed

GREET_S = 10.0


class SocketLink(MessageLink):
    """A link to the runner that listens at a path."""

    def __init__(self) -> None:
        super().__init__()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(cls, path: Path, hello: Hello) -> SocketLink:
        """Raises OSError if nobody listens there, `LinkClosed` or `LinkRefused` if the handshake fails."""
        loop = asyncio.get_running_loop()
        link = cls()
        transport, _ = await loop.create_unix_connection(lambda: _Protocol(link), str(path))
        link._transport = transport
        if (uid := peer_uid(transport.get_extra_info("socket"))) != os.geteuid():
            transport.abort()
            raise LinkClosed(f"cannot use the runner at {path}: because it belongs to user {uid}")
        try:
            async with asyncio.timeout(GREET_S):
                await link._greet(hello)
        except TimeoutError as error:
            transport.abort()
            raise LinkClosed(
                f"cannot use the runner at {path}: because it did not answer in {GREET_S} s"
            ) from error
        except BaseException:
            transport.abort()
            raise
        return link

    def _send(self, message: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(prefixed(message))

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Protocol(asyncio.Protocol):
    def __init__(self, link: SocketLink) -> None:
        self._link = link
        self._splitter = Splitter()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._splitter.feed(data)
        except LinkError:
            assert self._transport is not None
            self._transport.close()
            return
        for message in messages:
            self._link._message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link._lost()
