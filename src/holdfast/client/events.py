"""Server-sent events made into typed events of a thread.

Owns the framing of the stream and the types that a follower gets. It opens no connection. Called by `client`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from holdfast.wire.api import EventObject, Snapshot

EVENT_BYTES_MAX = 256 * 1024 * 1024
"""One event; a snapshot holds at most some hundred items of a megabyte."""


class Text(msgspec.Struct, frozen=True):
    """The next piece of an open item's text; `offset` in characters. Offset 0 begins anew."""

    item: str
    offset: int
    text: str


class CaughtUp(msgspec.Struct, frozen=True):
    """From here on the events are live. `version`: the head that was reached."""

    version: int


class Resync(msgspec.Struct, frozen=True):
    """This reader fell behind; the client reads on from the log by itself."""

    version: int


Event = Snapshot | EventObject | Text | CaughtUp | Resync


class ServerEvent(msgspec.Struct, frozen=True):
    """One event as it came over the wire. `id` "": it carried none."""

    id: str
    event: str
    data: bytes


class Splitter:
    """Cuts the bytes of an event stream into events."""

    def __init__(self, bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._max = bytes_max
        self._buffer = bytearray()
        self._id = ""
        self._event = ""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[ServerEvent]:
        """The events that `data` completes. Raises ValueError for one above the bound."""
        self._buffer += data
        if len(self._buffer) > self._max:
            raise ValueError(f"cannot read the event stream: because an event is above {self._max} bytes")
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        for line in lines:
            if event := self._line(bytes(line.removesuffix(b"\r"))):
                yield event

    def _line(self, line: bytes) -> ServerEvent | None:
        if not line:
            event = ServerEvent(self._id, self._event, b"\n".join(self._data)) if self._data else None
            self._id, self._event, self._data = "", "", []
            return event
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode()
        elif name == b"id":
            self._id = value.decode()
        return None


class _Envelope(msgspec.Struct):
    version: int = 0
    data: msgspec.Raw = msgspec.Raw(b"{}")


def typed(event: ServerEvent) -> Event:
    """Raises `msgspec.MsgspecError` for data that is not what its name says."""
    match event.event:
        case "text":
            return msgspec.json.decode(msgspec.json.decode(event.data, type=_Envelope).data, type=Text)
        case "snapshot":
            return msgspec.json.decode(msgspec.json.decode(event.data, type=_Envelope).data, type=Snapshot)
        case "caught_up":
            return CaughtUp(msgspec.json.decode(event.data, type=_Envelope).version)
        case "resync":
            return Resync(msgspec.json.decode(event.data, type=_Envelope).version)
        case _:
            return msgspec.json.decode(event.data, type=EventObject)
