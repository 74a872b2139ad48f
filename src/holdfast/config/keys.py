"""The keys of `config.toml`: for each its kind of value, what is allowed, and what it means.

One table for checks, error texts, variables and the reference documentation. Called by `config` alone.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from typing import Any, Final, Literal

import msgspec

from holdfast.settings import FRAME_MB_MAX

ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|AUTH|CREDENTIAL|COOKIE|SESSION|PRIVATE", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")
MASKED = "********"

Kind = Literal["text", "seconds", "whole", "texts", "map"]
_SAYS: Final[dict[Kind, str]] = {
    "text": "a text",
    "seconds": "a number of seconds, 0 or more",
    "whole": "a whole number",
    "texts": 'a list of texts, such as ["program", "--option"]',
    "map": "a table of texts",
}


class Key(msgspec.Struct, frozen=True):
    """One key. `choices`: the only texts allowed; `least` and `most` bound a whole number."""

    kind: Kind
    meaning: str
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int = 1_000_000
    #: what the texts are: names of variables, an address, a path
    form: Literal["", "variables", "host", "path"] = ""

    @property
    def allowed(self) -> str:
        """In words, for errors and documentation."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind == "whole":
            return f"a whole number from {self.least} to {self.most}"
        if self.form == "variables":
            return f"{_SAYS[self.kind]}; names of variables: letters, digits and _"
        if self.form == "path":
            return 'an absolute path (or one that starts with "~"), or ""'
        if self.form == "host":
            return "a host name or address"
        return _SAYS[self.kind]

    def problem(self, value: Any) -> str:
        """What is wrong with the value, in words that say what is allowed; "" if nothing is."""
        return "" if self._fits(value) else f"allowed is {self.allowed}"

    def _fits(self, value: Any) -> bool:
        match self.kind:
            case "seconds":
                return type(value) in (int, float) and math.isfinite(value) and value >= 0
            case "whole":
                return type(value) is int and self.least <= value <= self.most
            case "texts":
                return isinstance(value, list) and all(self._fits_text(text) for text in value)
            case "map":
                return isinstance(value, dict) and all(
                    _is_variable(name) and isinstance(text, str) and "\0" not in text
                    for name, text in value.items()
                )
            case "text":
                return self._fits_text(value)

    def _fits_text(self, value: Any) -> bool:
        if not isinstance(value, str) or "\0" in value:
            return False
        if self.choices:
            return value in self.choices
        match self.form:
            case "variables":
                return _is_variable(value)
            case "host":
                return bool(value) and not any(c.isspace() or c == "/" for c in value)
            case "path":
                return not value or value.startswith(("/", "~"))
            case _:
                return self.kind != "texts" or value != ""

    def parse(self, text: str) -> Any:
        """The value that a variable's text means; what cannot be parsed stays a text, and `problem` objects."""
        match self.kind:
            case "seconds" | "whole":
                return _number(text)
            case "texts":
                return _list(text)
            case "map":
                return _json(text, dict)
            case "text":
                return text

    def shown(self, value: Any) -> str:
        """The value in an error's text; never what may be a secret."""
        return "no such table" if self.kind == "map" else repr(value)


def _is_variable(name: Any) -> bool:
    return isinstance(name, str) and bool(_NAME.match(name))


def _number(text: str) -> Any:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _list(text: str) -> Any:
    if text.lstrip().startswith("["):
        return _json(text, list)
    try:
        return shlex.split(text)
    except ValueError:
        return text


def _json(text: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, kind) else text


def is_secret(name: str) -> bool:
    """Whether the name of a variable says that its value is nobody's business."""
    return bool(_SECRET.search(name))


def mask(key: str, value: Any) -> Any:
    """The value as it may be shown: no password of an address, no secret of an agent's environment."""
    if isinstance(value, dict):
        return {name: MASKED if is_secret(name) else mask(key, text) for name, text in value.items()}
    if isinstance(value, list):
        return [mask(key, text) for text in value]
    return _USERINFO.sub(MASKED, value) if isinstance(value, str) else value


SECTIONS: Final[dict[str, dict[str, Key]]] = {
    "server": {
        "host": Key("text", "address to listen on", form="host"),
        "port": Key("whole", "0: any free one; unset and taken by another home: any free one", most=65535),
        "database": Key("text", '"" = holdfast.db in the home; or postgresql://...'),
        "bus": Key("text", '"" = one host; or nats://...'),
    },
    "limits": {
        "stall_s": Key("seconds", "no frame, no pending request, no running tool: a notice; 0 = never"),
        "silence_s": Key("seconds", "the same, as a failure; 0 = never"),
        "run_s": Key("seconds", "cap on a run; 0 = never"),
        "frame_mb": Key("whole", "largest frame of an agent; 0 = what the link carries", most=FRAME_MB_MAX),
        "journal_mb": Key(
            "whole", "unacknowledged frames per session; above it the pipe is not read; 0 = never"
        ),
        "journal_days": Key("whole", "how long an ended session's journal is kept; 0 = for ever", most=36500),
    },
}

AGENT_KEYS: Final[dict[str, Key]] = {
    "kind": Key("text", "which program it is; by default the agent's id"),
    "command": Key("texts", "the program and its arguments; by default the kind's, found on PATH"),
    "model": Key("text", '"" = the agent\'s own default'),
    "mode": Key("text", "who approves what", choices=("ask", "edits", "auto", "full")),
    "idle_timeout_s": Key("seconds", "after which an idle agent process is ended; 0 = never"),
    "home": Key("text", '"" = the user\'s own; else a separate account folder', form="path"),
    "env_pass": Key(
        "texts",
        "names to take over from the server's environment besides the kind's own",
        form="variables",
    ),
    "env": Key("map", "added to the agent's environment", form="variables"),
}
