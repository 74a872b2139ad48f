"""The transcript: a session's journal as a file that is a test, a demo and a bug report at once.

Owns the format, both ways, and the replay through the kind's translator. A transcript is JSON lines: a header, then
one line per journal record; data that is JSON text is written as the value it is, anything else as base64. Pure; used
by `record`, `replay`, and the tests.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any, TypeVar, get_args

import msgspec

from holdfast.agents.port import AgentKind, Mode, TranslatorContext
from holdfast.core.reports import Report
from holdfast.wire.link import Record, RecordKind

FORMAT = 1

T = TypeVar("T")

_KINDS: frozenset[str] = frozenset(get_args(RecordKind))
_encoder = msgspec.json.Encoder()


class TranscriptError(Exception):
    """A file that is no transcript: where, and why. `line` counts from 1; `field` is "" where it is the whole line."""

    def __init__(self, line: int, field: str, reason: str) -> None:
        super().__init__(f"cannot read the transcript: because line {line}{field and f', {field}'}: {reason}")
        self.line = line
        self.field = field
        self.reason = reason


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a replay must know of the session. The program's version and hash say what was recorded."""

    holdfast_transcript: int
    agent: str
    session: str
    native_id: str
    cwd: str
    mode: Mode
    program_version: str = ""
    program_sha256: str = ""
    translator_version: int = 0
    plan: bool = False
    model: str = ""
    resumed: bool = False
    add_dirs: list[str] = []

    def context(self) -> TranslatorContext:
        return TranslatorContext(
            session=self.session,
            native_id=self.native_id,
            resumed=self.resumed,
            cwd=self.cwd,
            mode=self.mode,
            plan=self.plan,
            model=self.model,
            add_dirs=self.add_dirs,
        )


class Transcript(msgspec.Struct, frozen=True):
    header: Header
    records: list[Record]


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    no: int
    at: float
    kind: str
    id: str = ""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Base64(msgspec.Struct, forbid_unknown_fields=True):
    base64: str


def encode(transcript: Transcript) -> bytes:
    """The file. `decode` gives the same records back, byte for byte."""
    lines = [encode_header(transcript.header)]
    lines += [encode_record(record) for record in transcript.records]
    return b"\n".join(lines) + b"\n"


def encode_header(header: Header) -> bytes:
    """The first line, without its newline."""
    return _encoder.encode(header)


def encode_record(record: Record) -> bytes:
    """One record's line, without its newline."""
    line: dict[str, Any] = {"no": record.no, "at": record.at, "kind": record.kind}
    if record.id:
        line["id"] = record.id
    if record.data:
        line["data"] = msgspec.Raw(record.data) if _is_plain(record.data) else _in_base64(record.data)
    return _encoder.encode(line)


def _in_base64(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


def _is_plain(data: bytes) -> bool:
    """Whether the data can stand in a line as it is: one JSON value, on one line, that is not taken for base64."""
    if b"\n" in data or b"\r" in data or data != data.strip():
        return False
    try:
        value = msgspec.json.decode(data)
        data.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return not (isinstance(value, dict) and set(value) == {"base64"})


def decode(data: bytes) -> Transcript:
    """Raises `TranscriptError`, and nothing else, for what is no transcript."""
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if not lines:
        raise TranscriptError(1, "", "the file is empty")
    header = _read(lines[0], Header, 1)
    if header.holdfast_transcript != FORMAT:
        raise TranscriptError(1, "holdfast_transcript", f"it is {header.holdfast_transcript}, not {FORMAT}")
    records: list[Record] = []
    for number, line in enumerate(lines[1:], 2):
        record = _decode_record(line, number)
        if records and record.no != records[-1].no + 1:
            raise TranscriptError(number, "no", f"{record.no} does not follow {records[-1].no}")
        records.append(record)
    return Transcript(header, records)


def _decode_record(line: bytes, number: int) -> Record:
    read = _read(line, _Line, number)
    if read.kind not in _KINDS:
        raise TranscriptError(number, "kind", f"{read.kind[:40]!r} is no kind of record")
    if read.no < 1:
        raise TranscriptError(number, "no", f"{read.no} is below 1")
    data = b"" if isinstance(read.data, msgspec.UnsetType) else bytes(read.data)
    if data.startswith(b"{") and b'"base64"' in data[:40]:
        data = _from_base64(data, number)
    return Record(no=read.no, at=read.at, kind=msgspec.convert(read.kind, RecordKind), data=data, id=read.id)


def _from_base64(data: bytes, number: int) -> bytes:
    try:
        found = msgspec.json.decode(data, type=_Base64)
    except msgspec.MsgspecError:
        return data  # an object that has other fields too: a frame
    try:
        return base64.b64decode(found.base64, validate=True)
    except (binascii.Error, ValueError):
        raise TranscriptError(number, "data.base64", "it is not base64") from None


def _read(line: bytes, kind: type[T], number: int) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        raise TranscriptError(number, path.rstrip("`").lstrip("."), reason) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TranscriptError(number, "", str(error) or "it is nested too deeply") from None


def replay(transcript: Transcript, kind: AgentKind) -> list[Report]:
    """What the kind's translator makes of the records today."""
    translator = kind.translator(transcript.header.context(), None)
    return [
        report for record in transcript.records for report in translator.receive(record, record.at).reports
    ]


def from_records(header: Header, records: Iterable[Record]) -> Transcript:
    """A transcript of a journal."""
    return Transcript(header, list(records))
