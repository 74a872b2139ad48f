"""The recorded frames of a thread's sessions as a transcript file: a test, a demo and a bug report.

Reads journals and session rows; changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from holdfast.agents.port import TranslatorContext
from holdfast.agents.transcripts import FORMAT, Header, encode_header, encode_record
from holdfast.engine.house import House
from holdfast.store.port import SessionRow


async def transcript_lines(house: House, thread_id: str) -> AsyncIterator[bytes]:
    """Each session's header line and then its records, oldest session first; every line ends with a newline."""
    for row in await house.store.sessions(thread_id):
        yield encode_header(_header(row)) + b"\n"
        for record in house.runners.lost_records(row.session, 0):
            yield encode_record(record) + b"\n"


def _header(row: SessionRow) -> Header:
    context = msgspec.json.decode(row.launch, type=TranslatorContext)
    return Header(
        holdfast_transcript=FORMAT,
        agent=row.kind,
        session=context.session,
        native_id=context.native_id,
        cwd=context.cwd,
        mode=context.mode,
        translator_version=row.translator_version,
        plan=context.plan,
        model=context.model,
        resumed=context.resumed,
        add_dirs=context.add_dirs,
    )
