"""One live session: its translator, and how journal records become reports.

Owns the translator and its committed state; it opens nothing and commits nothing: the thread's worker feeds it and
writes what comes out. After a commit that failed it is put back to the last committed state.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.agents.port import AgentKind, Intent, Step, Translator, TranslatorContext, Write
from holdfast.core import reports as r
from holdfast.store.port import SessionRow, WriteRow
from holdfast.wire.link import Exit, Record


class Consumed(msgspec.Struct):
    """What a batch of records led to. `done`: writes that need not be sent again. `ended`: nothing follows."""

    reports: list[r.Report]
    writes: list[WriteRow]
    done: list[tuple[str, str]]
    ended: bool = False


class LiveSession:
    """The engine's end of a session. `row` is what the store has of it."""

    def __init__(self, kind: AgentKind, row: SessionRow, *, build: bool = True) -> None:
        """`build` False: `rollback` or `fold` must come before anything else."""
        self.kind = kind
        self.row = row
        self.wake_at: float | None = None
        #: when the last frame of the agent came in, unix seconds; 0: none since this engine started
        self.last_frame_at = 0.0
        self._is_broken = False
        self._translator = self._build() if build else kind.translator(self._launch(), None)

    @classmethod
    def begin(cls, kind: AgentKind, context: TranslatorContext, generation: int, runner: str) -> LiveSession:
        """A session whose process has just been started."""
        fresh = kind.translator(context, None)
        row = SessionRow(
            session=context.session,
            generation=generation,
            kind=kind.name,
            runner=runner,
            translator_version=kind.translator_version,
            translator_state=fresh.dump(),
            frame_no=0,
            launch=msgspec.json.encode(context),
        )
        return cls(kind, row)

    @property
    def id(self) -> str:
        return self.row.session

    def _launch(self) -> TranslatorContext:
        return msgspec.json.decode(self.row.launch, type=TranslatorContext)

    def _build(self) -> Translator:
        return self.kind.translator(self._launch(), self.row.translator_state or None)

    def rollback(self) -> None:
        """The last step was not committed: forget it."""
        self._translator = self._build()

    def needs_fold(self) -> bool:
        """The translator has changed since the state was stored: it must be folded again from the journal."""
        return self.row.translator_version != self.kind.translator_version

    def fold(self, records: Sequence[Record]) -> None:
        """Rebuild the translator from the journal up to the committed frame; nothing is reported or sent."""
        self._translator = self.kind.translator(self._launch(), None)
        for record in records:
            if record.no <= self.row.frame_no:
                self._translator.receive(record, record.at)
        self.row = msgspec.structs.replace(
            self.row,
            translator_version=self.kind.translator_version,
            translator_state=self._translator.dump(),
        )

    def intend(self, intent: Intent, now: float) -> list[WriteRow]:
        """The frames for an intent; no state changes."""
        return [self._write(w) for w in self._translator.send(intent, now)]

    def tick(self, now: float) -> Consumed:
        step = self._translator.tick(now)
        self.wake_at = step.wake_at
        return Consumed(list(step.reports), [self._write(w) for w in step.writes], [])

    def consume(self, records: Sequence[Record], now: float) -> Consumed:
        """Translate records in order; those that are committed already are left out."""
        out = Consumed([], [], [])
        for record in records:
            if record.no <= self.row.frame_no:
                continue
            before, after = self._about_the_pipe(record, out)
            out.reports.extend(before)
            step = Step() if self._is_broken else self._translator.receive(record, now)
            self.wake_at = step.wake_at
            out.reports.extend(step.reports)
            out.writes.extend(self._write(w) for w in step.writes)
            out.reports.extend(after)
            if record.kind == "out":
                self.last_frame_at = now
        return out

    def broken(self, records: Sequence[Record], now: float) -> Consumed:
        """The translator raised: the session is given up, and only what the runner says of it still counts."""
        self.rollback()
        first = not self._is_broken
        self._is_broken = True
        out = self.consume(records, now)
        if first:
            words = "cannot go on with the agent: because a frame of it could not be translated; see the server's log"
            out.reports.insert(0, r.SessionRefused(r.Failure("protocol", words)))
        return out

    def advanced(self, records: Sequence[Record], *, ended: bool) -> SessionRow:
        """The row after these records, to be committed with what they led to."""
        return msgspec.structs.replace(
            self.row,
            translator_state=self._translator.dump(),
            frame_no=max(self.row.frame_no, records[-1].no) if records else self.row.frame_no,
            open=self.row.open and not ended,
        )

    def _write(self, write: Write) -> WriteRow:
        return WriteRow(self.row.session, write.id, write.data)

    def _about_the_pipe(self, record: Record, out: Consumed) -> tuple[list[r.Report], list[r.Report]]:
        """What the runner's own records say, whatever the agent is: reports before and after the translator's."""
        match record.kind:
            case "received":
                return [r.WriteTaken(record.id)], []
            case "in":
                out.done.append((self.row.session, record.id))
                return [r.WriteDone(record.id)], []
            case "refused":
                out.done.append((self.row.session, record.id))
                return [r.WriteRefused(record.id, record.data.decode(errors="replace"))], []
            case "blocked":
                return [r.ReadingBlocked(True)], []
            case "unblocked":
                return [r.ReadingBlocked(False)], []
            case "exit":
                out.ended = True
                return [], [ended_report(record)]
            case _:
                return [], []


def ended_report(record: Record) -> r.SessionEnded:
    """The end of the process, as the runner recorded it."""
    values: dict[str, Any] = {}
    with contextlib.suppress(json.JSONDecodeError):
        values = json.loads(record.data or b"{}")
    end = msgspec.convert(values, Exit)
    return r.SessionEnded("exit", end.code, end.signal, end.stderr, end.stage)
