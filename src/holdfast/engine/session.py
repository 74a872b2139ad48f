"""One live session: its translator, and how journal records become reports.

Owns the translator, its committed state, and what records have led to since: that is gathered here until the thread's
worker commits it, all of it or nothing. It opens nothing and commits nothing.
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

GATHER_S = 0.005
"""What nobody waits for is committed with what comes right after it: an agent's frames come in bursts."""
KEEP_S = 1.0
"""The same for frames that led to nothing at all."""
GATHERED_BYTES_MAX = 256 * 1024

CALM = (
    r.WriteTaken
    | r.WriteDone
    | r.PromptSeen
    | r.TurnStarted
    | r.ItemStarted
    | r.ItemCompleted
    | r.NoticeGiven
    | r.ContextReported
)
"""Reports that may wait for `GATHER_S`. Text never waits for a clock, and all others end something, or somebody must
act on them."""


class Consumed(msgspec.Struct):
    """What records led to. `done`: writes that need not be sent again. `ended`: nothing follows."""

    reports: list[r.Report] = []
    writes: list[WriteRow] = []
    done: list[tuple[str, str]] = []
    ended: bool = False

    def add(self, other: Consumed) -> None:
        self.reports += other.reports
        self.writes += other.writes
        self.done += other.done
        self.ended = self.ended or other.ended

    def patience_s(self) -> float:
        """How long it may wait for its commit."""
        if self.ended or self.writes or not all(isinstance(report, CALM) for report in self.reports):
            return 0.0
        return GATHER_S if self.reports or self.done else KEEP_S


class LiveSession:
    """The engine's end of a session. `row` is what the store has of it."""

    def __init__(self, kind: AgentKind, row: SessionRow, *, build: bool = True) -> None:
        """`build` False: `rollback` or `fold` must come before anything else."""
        self.kind = kind
        self.row = row
        self.wake_at: float | None = None
        #: when the last frame of the agent came in, unix seconds; 0: none since this engine started
        self.last_frame_at = 0.0
        #: what the records led to that no commit has taken along, and when it is to be committed at last (0: never)
        self.gathered = Consumed()
        self.due_at = 0.0
        self._records: list[Record] = []
        self._bytes = 0
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

    @property
    def read_to(self) -> int:
        """The number of the last record that was translated, whether or not it is committed."""
        return self._records[-1].no if self._records else self.row.frame_no

    def rollback(self) -> None:
        """As after the last record that was translated as a whole."""
        self._translator = self._build()
        self.gathered = Consumed()
        for record in self._records:
            self._translate(record, record.at, self.gathered)

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

    def tick(self, now: float) -> None:
        step = self._translator.tick(now)
        self.wake_at = step.wake_at
        self.gathered.add(Consumed(list(step.reports), [self._write(w) for w in step.writes]))

    def consume(self, records: Sequence[Record], now: float) -> None:
        """Translate records in order; those that were translated already are left out. Nothing has happened when the
        translator raises, after a `rollback`."""
        out = Consumed()
        new = [record for record in records if record.no > self.read_to]
        for record in new:
            self._translate(record, now, out)
            if record.kind == "out":
                self.last_frame_at = now
        self.gathered.add(out)
        self._records += new
        self._bytes += sum(len(record.data) for record in new)
        due_at = now + out.patience_s()
        self.due_at = min(self.due_at or due_at, due_at)

    def _translate(self, record: Record, now: float, out: Consumed) -> None:
        before, after = self._about_the_pipe(record, out)
        out.reports.extend(before)
        step = Step() if self._is_broken else self._translator.receive(record, now)
        self.wake_at = step.wake_at
        out.reports.extend(step.reports)
        out.writes.extend(self._write(w) for w in step.writes)
        out.reports.extend(after)

    def broken(self, records: Sequence[Record], now: float) -> None:
        """The translator raised: the session is given up, and only what the runner says of it still counts."""
        self.rollback()
        if not self._is_broken:
            words = "cannot go on with the agent: because a frame of it could not be translated; see the server's log"
            self.gathered.reports.append(r.SessionRefused(r.Failure("protocol", words)))
        self._is_broken = True
        self.consume(records, now)
        self.due_at = now

    def over(self, report: r.SessionEnded, now: float) -> None:
        """The session has ended, and no record says so."""
        if not self.gathered.ended:
            self.gathered.add(Consumed([report], ended=True))

    def may_wait(self, now: float) -> bool:
        """What is gathered need not be committed yet."""
        # A clock that was set back makes nobody wait.
        return now < self.due_at <= now + KEEP_S and self._bytes <= GATHERED_BYTES_MAX

    def advanced(self) -> SessionRow:
        """The row to be committed with all that is gathered."""
        return msgspec.structs.replace(
            self.row,
            translator_state=self._translator.dump(),
            frame_no=self.read_to,
            open=self.row.open and not self.gathered.ended,
        )

    def committed(self, row: SessionRow) -> None:
        """The store has this row, and with it all that was gathered."""
        self.row = row
        self.gathered = Consumed()
        self._records.clear()
        self._bytes, self.due_at = 0, 0.0

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
