"""The link between control plane and runner: its messages, its records, and how both become bytes.

Owns the message types of both directions, the version handshake's numbers and the journal's record. It opens no
socket and no file. `runner` speaks one end, `engine` the other; the same messages cross an in-process pair, a Unix
socket and, later, a WebSocket.

Compatibility: a receiver ignores unknown fields and unknown message types; a field is never re-used with another
meaning. Both sides serve `VERSION` and `OLDEST`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

VERSION = 1
"""What this build speaks."""

OLDEST = 1
"""The oldest version this build still understands."""

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""Bound of one message on the wire: the largest frame (32 MB by default, doubled for head-room)."""

WINDOW_BYTES = 4 * 1024 * 1024
"""How much of one session's records may be under way beyond what its reader has taken (`Taken`)."""

BATCH_BYTES = 256 * 1024
BATCH_RECORDS = 500
"""Bounds of one `Records` message; a record that is larger travels alone."""

RecordKind = Literal[
    "start",  # the process runs; data: JSON {"pid", "argv0", "started_at"}
    "out",  # one frame that the agent wrote (without its newline)
    "received",  # a write was taken on; id: its write id
    "in",  # a write was handed to the agent in full; id: its write id, data: the frame
    "refused",  # a write could not be handed over; id: its write id, data: the reason
    "oversize",  # a frame above the bound was skipped; data: JSON {"bytes", "prefix"}
    "blocked",  # the pipe is no longer read: too much is unacknowledged
    "unblocked",  # the pipe is read again
    "exit",  # the process ended and was reaped; data: JSON of `Exit`; nothing follows
]


class Record(msgspec.Struct, array_like=True, frozen=True):
    """One journal entry of a session. `no` starts at 1 and is gap-free; `at` is unix time in seconds."""

    no: int
    at: float
    kind: RecordKind
    data: bytes = b""
    id: str = ""


class Exit(msgspec.Struct, frozen=True):
    """How a process ended. `stage` is the last rung of the stop ladder that was used, "" if it ended by itself."""

    code: int | None = None
    signal: int | None = None
    stderr: str = ""
    stage: Literal["", "close", "terminate", "kill"] = ""


class Spec(msgspec.Struct, frozen=True):
    """What to start. Bounds in bytes. `locks` are names held exclusively on this host while the process lives."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    framing: Literal["jsonl"] = "jsonl"
    locks: list[str] = []
    frame_bytes_max: int = 32 * 1024 * 1024
    unacked_bytes_max: int = 256 * 1024 * 1024


class Ladder(msgspec.Struct, frozen=True):
    """The stop ladder. Each rung waits that long (seconds) for the end before the next; None leaves the rung out.

    After `terminate_s` the group is killed and everything that carries the session's mark with it.
    """

    close_s: float | None = None
    terminate_s: float | None = 3.0


# Host calls: bounded actions on the host's files and programs, for translators and the opening of sessions.


class StatFile(msgspec.Struct, frozen=True, tag="stat"):
    """Does the file exist, how large is it? Answer: {"exists", "size", "mtime"}."""

    path: str


class FindInFile(msgspec.Struct, frozen=True, tag="find"):
    """Which of the needles occur in the file (scanned to `bytes_max`)? Answer: {"exists", "found": [needle]}."""

    path: str
    needles: list[str]
    bytes_max: int = 512 * 1024 * 1024


class RunProgram(msgspec.Struct, frozen=True, tag="program"):
    """Run a short program to its end. Answer: {"code", "stdout", "stderr"}, each cut to `bytes_max`.

    Ended with its whole group after `timeout_s`: code None.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: str
    timeout_s: float = 10.0
    bytes_max: int = 64 * 1024


HostCall = StatFile | FindInFile | RunProgram


# Down: control plane to runner. Every message but Hello, Goodbye, Ack, Taken and Detach carries `call`, which its Reply repeats.


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    version: int
    oldest: int
    peer: str  # who connects, for logs
    restart: Restart | None = None


class Restart(msgspec.Struct, frozen=True):
    """How the runner starts this server again should it die without saying goodbye (`Goodbye`)."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    pid: int


class Goodbye(msgspec.Struct, frozen=True, tag="goodbye"):
    """The server leaves on purpose: do not start it again."""


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Start a session's process. A session id that is already known answers `existing`, and nothing is started."""

    call: int
    session: str
    spec: Spec


class Attach(msgspec.Struct, frozen=True, tag="attach"):
    """Send the session's records after `after` and then as they come, until `Detach` or the end of the link."""

    call: int
    session: str
    after: int


class Detach(msgspec.Struct, frozen=True, tag="detach"):
    session: str


class Ack(msgspec.Struct, frozen=True, tag="ack"):
    """Everything up to `no` is committed: it no longer counts against the bound."""

    session: str
    no: int


class Taken(msgspec.Struct, frozen=True, tag="taken"):
    """The reader has taken everything up to `no` off its queue: the runner may send `WINDOW_BYTES` beyond it.

    Flow control of one session's stream, nothing more: what was taken is not yet committed (`Ack` says that).
    """

    session: str
    no: int


class Write(msgspec.Struct, frozen=True, tag="write"):
    """Hand `data` (one frame, without newline) to the agent exactly once per `id`. Notes tell what became of it."""

    call: int
    session: str
    id: str
    data: bytes


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Start the stop ladder. Answered at once; the end is the `exit` record. A second call may only shorten it."""

    call: int
    session: str
    ladder: Ladder


class Forget(msgspec.Struct, frozen=True, tag="forget"):
    """The ended session's journal may be compressed, and pruned by age. Refused while its process lives."""

    call: int
    session: str


class Host(msgspec.Struct, frozen=True, tag="host"):
    call: int
    action: HostCall


class Status(msgspec.Struct, frozen=True, tag="status"):
    call: int


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    """End all agents by the ladder, then the runner."""

    call: int
    ladder: Ladder = Ladder()


Down = (
    Hello | Goodbye | Open | Attach | Detach | Ack | Taken | Write | Stop | Forget | Host | Status | Shutdown
)


# Up: runner to control plane.


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """Answer to Hello. `version` is the highest that both understand. `refused` says in words why there is none."""

    version: int
    runner: str  # this runner's id, new at each start
    pid: int
    started_at: float
    build: str = ""
    sessions: list[str] = []
    refused: str = ""


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """Answer to a call. `code` is "" when it was done, else a stable code: `unknown_session`, `not_found`,
    `spawn_failed`, `cwd_missing`, `locked`, `alive`, `ended`, `busy`, `invalid`, `storage_full`, `internal`.
    """

    call: int
    code: str = ""
    detail: str = ""
    result: dict[str, object] = {}


class Records(msgspec.Struct, frozen=True, tag="records"):
    session: str
    records: list[Record]


Up = Welcome | Reply | Records


class Unknown(msgspec.Struct, frozen=True, tag="?"):
    """A message of a newer peer that this build does not know: to be ignored, and counted."""

    name: str = ""


_encoder = msgspec.msgpack.Encoder()
_down = msgspec.msgpack.Decoder(Down)
_up = msgspec.msgpack.Decoder(Up)
_record = msgspec.msgpack.Decoder(Record)
_envelope = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_known_down = frozenset(
    t.__struct_config__.tag
    for t in (Hello, Goodbye, Open, Attach, Detach, Ack, Taken, Write, Stop, Forget, Host, Status, Shutdown)
)
_known_up = frozenset(t.__struct_config__.tag for t in (Welcome, Reply, Records))


class LinkError(Exception):
    """The peer broke the link's rules; the carrier closes."""


class _RawRecords(msgspec.Struct, frozen=True, tag="records"):
    session: str
    records: list[msgspec.Raw]


def encode(message: Down | Up) -> bytes:
    """One message as bytes."""
    return _encoder.encode(message)


def encode_record(record: Record) -> bytes:
    """One record as the journal keeps it and `encode_records` sends it on."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> Record:
    return _record.decode(data)


def encode_records(session: str, records: Iterable[bytes]) -> bytes:
    """A `Records` message of records that are encoded already: each is encoded once in its life."""
    return _encoder.encode(_RawRecords(session, [msgspec.Raw(record) for record in records]))


def decode_down(data: bytes) -> Down | Unknown:
    """Raises `msgspec.DecodeError` (of which ValidationError is a kind) for bytes that are no message."""
    try:
        message: Down = _down.decode(data)
    except msgspec.ValidationError:
        return _unknown(data, _known_down)
    return message


def decode_up(data: bytes) -> Up | Unknown:
    """See `decode_down`."""
    try:
        message: Up = _up.decode(data)
    except msgspec.ValidationError:
        return _unknown(data, _known_up)
    return message


def _unknown(data: bytes, known: frozenset[object]) -> Unknown:
    name = msgspec.msgpack.decode(_envelope.decode(data).get("type", b"\xa0"))
    if not isinstance(name, str) or not name:
        raise msgspec.ValidationError("cannot read link message: because it has no type")
    if name in known:
        raise msgspec.ValidationError(f"cannot read link message: because its type {name!r} has wrong fields")
    return Unknown(name)


def prefixed(message: bytes) -> bytes:
    """The message as a byte stream carries it: after its length as four bytes, big endian."""
    return len(message).to_bytes(4, "big") + message


class Splitter:
    """Cuts a byte stream into messages; the other half of `prefixed`."""

    def __init__(self, message_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._max = message_bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes. Raises `LinkError` for one above the bound."""
        buffer = self._buffer
        buffer += data
        messages: list[bytes] = []
        position = 0
        while len(buffer) - position >= 4:
            length = int.from_bytes(buffer[position : position + 4], "big")
            if length > self._max:
                raise LinkError(f"cannot read link message: because {length} bytes are above {self._max}")
            end = position + 4 + length
            if len(buffer) < end:
                break
            messages.append(bytes(memoryview(buffer)[position + 4 : end]))
            position = end
        if position:
            del buffer[:position]
        return messages


def agree(version: int, oldest: int) -> tuple[int, str]:
    """The highest version that a peer with this range and we understand; if there is none 0, and why."""
    highest = min(version, VERSION)
    if highest >= max(oldest, OLDEST):
        return highest, ""
    return 0, (
        f"cannot link: because this runner speaks versions {OLDEST} to {VERSION} and the server {oldest} to {version};"
        " upgrade the older of the two"
    )
