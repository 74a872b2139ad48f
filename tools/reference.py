"""Writes docs/reference.md from the code: settings, routes, objects, errors, events, agents, fault points.

`python tools/reference.py` writes it, `--check` fails if the file is not what the code says. The tables are the ones
that the program itself runs by, so that the reference cannot say something else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from holdfast import faults
from holdfast.agents.catalog import KINDS
from holdfast.config.keys import AGENT_KEYS, SECTIONS, Key
from holdfast.core import events
from holdfast.engine import launch as _engine
from holdfast.errors import EXIT, STATUS
from holdfast.runner import connection as _connection
from holdfast.runner import core as _core
from holdfast.settings import Limits, Server
from holdfast.surfaces.http.routes import PREFIX, ROUTES
from holdfast.wire import api

FILE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"
LOADED = (_engine, _connection, _core)  # they declare the fault points

OBJECTS = (
    api.ThreadObject,
    api.RunObject,
    api.ItemObject,
    api.RequestObject,
    api.EventObject,
    api.Snapshot,
    api.AgentObject,
    api.RunnerObject,
    api.NewThread,
    api.NewMessage,
    api.NewAnswer,
    api.Problem,
)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def settings() -> str:
    defaults: dict[str, Any] = {"server": Server(), "limits": Limits()}
    parts = []
    for section, keys in SECTIONS.items():
        rows = [
            (f"`{name}`", _default(getattr(defaults[section], name)), key.allowed, key.meaning)
            for name, key in keys.items()
        ]
        parts.append(f"### [{section}]\n\n" + table(("Key", "Default", "Allowed", "Meaning"), rows))
    agent_rows: list[tuple[str, str, str]] = [
        (f"`{name}`", key.allowed, key.meaning) for name, key in _keys(AGENT_KEYS)
    ]
    parts.append("### [agents.ID]\n\n" + table(("Key", "Allowed", "Meaning"), agent_rows))
    return "\n".join(parts)


def _keys(keys: Any) -> list[tuple[str, Key]]:
    return list(keys.items())


def _default(value: object) -> str:
    return f"`{msgspec.json.encode(value).decode()}`"


def routes() -> str:
    rows = [(f"`{r.method} {PREFIX}{r.path}`", r.scope or "none", r.meaning) for r in ROUTES]
    return table(("Route", "Scope", "What it does"), rows)


def objects() -> str:
    parts = []
    for kind in OBJECTS:
        hints = get_type_hints(kind)
        names = zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
        rows = [(f"`{shown}`", f"`{_type(hints[name])}`") for name, shown in names]
        title = kind.__name__.removesuffix("Object")
        words = (kind.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")
        words = "" if words.startswith(f"{kind.__name__}(") else f"{words}\n\n"
        parts.append(f"### {title}\n\n{words}" + table(("Field", "Type"), rows))
    return "\n".join(parts)


def _type(hint: object) -> str:
    text = (
        getattr(hint, "__name__", "")
        if isinstance(hint, type) and not hasattr(hint, "__args__")
        else str(hint)
    )
    for cut in ("holdfast.wire.api.", "typing.", "msgspec."):
        text = text.replace(cut, "")
    return text.replace("Object", "")


def codes() -> str:
    return table(("Code", "HTTP", "Exit"), [(f"`{code}`", STATUS[code], EXIT[code]) for code in STATUS])


def event_types() -> str:
    rows = []
    for kind in sorted(_union(events.Event), key=lambda k: str(k.__struct_config__.tag)):
        fields = ", ".join(f"`{name}`" for name in kind.__struct_encode_fields__)
        rows.append((f"`{kind.__struct_config__.tag}`", events.TYPE_VERSION, fields))
    return table(("Type", "Version", "Data"), rows)


def _union(union: Any) -> tuple[Any, ...]:
    members: tuple[Any, ...] = union.__args__
    return members


def agents() -> str:
    parts = []
    for name, kind in KINDS.items():
        can = [
            key
            for key, value in msgspec.to_builtins(kind.capabilities).items()
            if value and key != "approvals"
        ]
        rows: list[tuple[str, str]] = [
            ("can", ", ".join(can)),
            ("asks about", ", ".join(kind.capabilities.approvals)),
            ("lanes", ", ".join(f"{request}: {lane}" for request, lane in kind.lanes.items())),
            ("tested with", ", ".join(kind.tested_versions) or "this build"),
            *((f"mode `{mode}`", words) for mode, words in kind.modes.items()),
        ]
        parts.append(f"### {name}\n\n" + table(("", ""), rows))
    return "\n".join(parts)


def fault_points() -> str:
    return table(
        ("Point", "What has happened when it is passed"),
        sorted((f"`{n}`", m) for n, m in faults.POINTS.items()),
    )


def reference() -> str:
    """The whole file."""
    parts = {
        "Settings": settings(),
        "Routes": routes(),
        "Objects": objects(),
        "Errors": codes(),
        "Events": event_types(),
        "Agents": agents(),
        "Fault points": fault_points(),
    }
    head = (
        "# Reference\n\nMade from the code by `python tools/reference.py`; change the code, not this file.\n"
    )
    return head + "".join(f"\n## {title}\n\n{body}" for title, body in parts.items())


def main() -> int:
    text = reference()
    if "--check" in sys.argv:
        if not FILE.is_file() or FILE.read_text(encoding="utf-8") != text:
            print(
                "docs/reference.md is not what the code says; run: python tools/reference.py", file=sys.stderr
            )
            return 1
        return 0
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
