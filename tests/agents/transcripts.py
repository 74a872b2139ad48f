"""Journals of real sessions as files, with what their kind's translator says to them.

`NAME.jsonl` is a transcript as `holdfast record` writes it; `NAME.reports.jsonl` has the reports, one a line. When a
translator is changed on purpose, both are recorded anew.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from holdfast.agents import transcripts
from holdfast.agents.port import AgentKind
from holdfast.agents.transcripts import Header, Transcript
from holdfast.core.reports import Report
from holdfast.wire.link import Record
from tests.agents.pipe_driver import PipeDriver

FOLDER = Path(__file__).resolve().parent.parent / "transcripts"


def names(kind: str) -> list[str]:
    """The transcripts of a kind; there is at least one, or a test over them would test nothing."""
    files = sorted(path.name for path in (FOLDER / kind).glob("*.jsonl") if ".reports." not in path.name)
    assert files, f"there are no transcripts in {FOLDER / kind}"
    return [name.removesuffix(".jsonl") for name in files]


def load(kind: str, name: str) -> Transcript:
    return transcripts.decode((FOLDER / kind / f"{name}.jsonl").read_bytes())


def load_reports(kind: str, name: str) -> list[Any]:
    lines = (FOLDER / kind / f"{name}.reports.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line) for line in lines]


def as_values(reports: Sequence[Report]) -> list[Any]:
    return [msgspec.to_builtins(report) for report in reports]


def save(kind: AgentKind, name: str, driver: PipeDriver) -> None:
    """Writes both files of a session that is over. The host's folders get other names, and records their number as
    their time."""
    scene = driver.scene
    header = Header(
        holdfast_transcript=transcripts.FORMAT,
        agent=kind.name,
        session=scene.session,
        native_id=scene.native_id,
        cwd="/workspace",
        mode=scene.mode,
        program_version=kind.tested_versions[-1],
        translator_version=kind.translator_version,
        plan=scene.plan,
        model=scene.model,
        resumed=scene.resumed,
    )
    places = {driver.context.cwd: "/workspace", driver.context.env["HOME"]: "/home/somebody"}
    records = []
    for record in driver.records:
        data = record.data
        for place, stand_in in places.items():
            data = data.replace(place.encode(), stand_in.encode())
        records.append(Record(record.no, float(record.no), record.kind, data, record.id))
    transcript = transcripts.from_records(header, records)
    folder = FOLDER / kind.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_bytes(transcripts.encode(transcript))
    reports = transcripts.replay(transcript, kind)
    told = b"".join(msgspec.json.encode(report) + b"\n" for report in reports)
    (folder / f"{name}.reports.jsonl").write_bytes(told)
