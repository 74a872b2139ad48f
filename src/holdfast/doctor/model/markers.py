"""The markers `SCRIPT:name{arguments}` by which a prompt says what the model shall answer. Pure.

Braces inside the arguments count, so that a marker may carry a prompt that itself has a marker
(`SCRIPT:subagent{SCRIPT:bash{ls}}`); the inner one belongs to the outer.
"""

import re

import msgspec

_MARKER = re.compile(r"SCRIPT:([a-z_]+)(\{?)")


class Marker(msgspec.Struct, frozen=True):
    """The name of a script and its arguments as they were written."""

    name: str
    arguments: str = ""

    def parts(self, separator: str = ",") -> list[str]:
        return [part.strip() for part in self.arguments.split(separator)] if self.arguments else []


def find_markers(text: str) -> list[Marker]:
    """The outermost markers of a text, in their order."""
    found: list[Marker] = []
    at = 0
    while match := _MARKER.search(text, at):
        at = match.end()
        arguments = ""
        if match[2]:
            end = _closing_brace(text, at)
            arguments, at = text[at:end], end + 1
        found.append(Marker(match[1], arguments))
    return found


def _closing_brace(text: str, start: int) -> int:
    """Where the brace opened before `start` closes; the end of the text's last one if it is unbalanced."""
    depth = 1
    for at in range(start, len(text)):
        if text[at] == "{":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if depth == 0:
                return at
    last = text.rfind("}", start)
    return last if last >= 0 else len(text)
