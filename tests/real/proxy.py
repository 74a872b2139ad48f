"""A refusing HTTP proxy on loopback: it records which hosts a program asks for, and lets nothing through.

A program that is given it as its proxy, and asks it for nothing, reached nothing but loopback.
"""

import asyncio
from types import TracebackType
from typing import Self

_REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class RefusingProxy:
    """`async with RefusingProxy() as proxy`: give a program `proxy.environment()`, then look at `proxy.asked`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._refuse, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    def environment(self) -> dict[str, str]:
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        both = [*names, *(name.lower() for name in names)]
        return dict.fromkeys(both, self.url) | dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")

    async def first(self, within: float = 20.0) -> str:
        """The first host asked for."""
        async with asyncio.timeout(within):
            while not self.asked:
                self._changed.clear()
                await self._changed.wait()
        return self.asked[0]

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(request.split(b" ", 2)[1].decode(errors="replace"))
            self._changed.set()
            writer.write(_REFUSAL)
            await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            self.asked.append("(not HTTP)")
            self._changed.set()
        finally:
            writer.close()
