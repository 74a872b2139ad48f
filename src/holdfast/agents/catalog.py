"""Which kinds of agent there are: the one place that knows all of them by name.

Owns the table; a new kind is one line here. Called by settings, the engine and the command line.
"""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.agents.claude.kind import CLAUDE
from holdfast.agents.port import AgentKind
from holdfast.agents.scripted import SCRIPTED

_ALL: tuple[AgentKind, ...] = (CLAUDE, SCRIPTED)

KINDS: Mapping[str, AgentKind] = {kind.name: kind for kind in _ALL}
