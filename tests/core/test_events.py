"""The events' shape on disk: one golden file per type and version, which every later build must read.

A released file is never edited. A type that changes gets a new version, a new file, and an upcast.
"""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from holdfast.core import events as e

GOLDEN = Path(__file__).parent / "events"
TYPES = {kind.__struct_config__.tag: kind for kind in get_args(e.Event)}
FILES = sorted(GOLDEN.glob("*.json"))


def test_each_type_has_its_golden_file() -> None:
    assert {file.name for file in FILES} == {f"{name}.v{e.TYPE_VERSION}.json" for name in TYPES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_golden_file_is_read_and_written_the_same(file: Path) -> None:
    event = e.decode(file.read_bytes())
    name, version = file.stem.rsplit(".v", 1)
    assert (e.type_of(event), version) == (name, str(e.TYPE_VERSION))
    assert isinstance(event, TYPES[name])
    assert msgspec.json.decode(e.encode(event)) == msgspec.json.decode(file.read_bytes())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_golden_file_fills_every_field(file: Path) -> None:
    """So that a field which changes its name or type cannot hide behind its default."""
    written = msgspec.json.decode(file.read_bytes())
    fields = msgspec.structs.fields(TYPES[file.stem.rsplit(".v", 1)[0]])
    assert list(written) == ["type", *(field.encode_name for field in fields)]
    defaulted = [f.name for f in fields if not f.required and written[f.encode_name] == f.default]
    assert defaulted == []


def test_fields_of_a_later_build_are_ignored() -> None:
    text = b'{"type":"run.active","run_id":"run_0123456789abcdefghij_1","mood":"fine"}'
    assert e.decode(text) == e.RunActive("run_0123456789abcdefghij_1")


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        e.decode(b'{"type":"run.levitated","run_id":"run_0123456789abcdefghij_1"}')
