"""Configured agents as the engine and its callers see them: how to launch one, and what is known of each.

Owns the deliberate launch context and the background probes of versions. Readiness never waits for a probe; a probe
has a time limit and runs in the runner, with the agent's own environment.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping

import msgspec

from holdfast.agents.port import AgentKind, Binding, LaunchContext
from holdfast.config import AgentConfig, Config, agent_environment, find_program
from holdfast.core.state import ThreadState
from holdfast.engine.house import AgentUnusable, Runners
from holdfast.engine.link import LinkClosed, LinkRefused
from holdfast.errors import HoldfastError
from holdfast.wire.api import AgentObject

log = logging.getLogger("holdfast.engine")


class ConfiguredAgents:
    """`environ`: the server's environment, from which agents get only what their allow-list names."""

    def __init__(
        self, config: Config, kinds: Mapping[str, AgentKind], environ: Mapping[str, str], runners: Runners
    ) -> None:
        self._config = config
        self._kinds = kinds
        self._environ = environ
        self._runners = runners
        self._versions: dict[str, tuple[str, str]] = {}  # agent -> status, version
        self._details: dict[str, str] = {}

    def kind(self, name: str) -> AgentKind:
        if name not in self._kinds:
            raise AgentUnusable(
                "unknown_agent", f"cannot use the kind {name!r}: because this version has no such kind"
            )
        return self._kinds[name]

    def configured(self, agent: str) -> AgentConfig:
        """Raises AgentUnusable for an agent that is unknown or invalid."""
        found = self._config.agents.get(agent)
        if found is None:
            known = ", ".join(sorted(self._config.agents)) or "none"
            why = "its program is not on PATH" if agent in self._kinds else "it is not configured"
            raise AgentUnusable(
                "agent_unavailable" if agent in self._kinds else "unknown_agent",
                f"cannot use agent {agent!r}: because {why}; known are {known}; install it, or add [agents.{agent}] to"
                " config.toml",
            )
        if found.invalid:
            raise AgentUnusable("agent_unavailable", f"cannot use agent {agent!r}: because {found.invalid}")
        return found

    def usable(self, agent: str) -> AgentConfig:
        """The agent, if its program is there now. Raises AgentUnusable."""
        found = self.configured(agent)
        env = self.environment(found)
        if not find_program(found.command[0], env):
            raise AgentUnusable(
                "agent_unavailable",
                f"cannot start {agent}: because its program {found.command[0]!r} is not found on PATH; install it, or"
                f" set agents.{agent}.command",
            )
        return found

    def environment(self, agent: AgentConfig) -> dict[str, str]:
        return agent_environment(self._environ, self.kind(agent.kind), agent)

    def context(self, state: ThreadState, binding: Binding | None, fresh_id: str) -> LaunchContext:
        found = self.usable(state.agent)
        if found.kind != state.kind:
            raise AgentUnusable(
                "agent_unavailable",
                f"cannot start {state.agent}: because it is of kind {found.kind} now, and this thread was made with"
                f" kind {state.kind}",
            )
        return LaunchContext(
            command=[find_program(found.command[0], self.environment(found)), *found.command[1:]],
            env=self.environment(found),
            cwd=os.path.realpath(state.cwd),  # agents file their own history under the real path
            add_dirs=list(state.add_dirs),
            model=state.model,
            effort=state.effort,
            mode=state.mode,  # type: ignore[arg-type]
            plan=state.plan,
            fresh_id=fresh_id,
            binding=binding,
        )

    def idle_s(self, agent: str) -> float:
        found = self._config.agents.get(agent)
        return found.idle_timeout_s if found else 0.0

    async def probe(self) -> None:
        """Ask every installed program for its version, side by side."""
        await asyncio.gather(*(self._probe(agent) for agent in self._config.agents.values()))

    async def _probe(self, agent: AgentConfig) -> None:
        if agent.invalid:
            return
        self._versions[agent.id] = ("checking", "")
        try:
            self.usable(agent.id)
            kind = self.kind(agent.kind)
            env = self.environment(agent)
            call = kind.version_call(agent.command, env, env.get("HOME", "/"))
            version = ""
            if call is not None:
                link = await self._runners.link()
                version = kind.read_version(dict(await link.host(call)))
                if not version:
                    self._details[agent.id] = "its program did not tell its version"
            self._versions[agent.id] = ("ready", version)
        except HoldfastError as error:
            self._versions[agent.id] = ("missing", "")
            self._details[agent.id] = error.detail
        except (LinkClosed, LinkRefused) as error:
            self._versions[agent.id] = ("unchecked", "")
            self._details[agent.id] = f"its version could not be asked: {error}"
            log.warning("cannot ask %s for its version: because %s", agent.id, error)

    def shown(self) -> list[AgentObject]:
        return [self._shown(agent) for agent in self._config.agents.values()]

    def _shown(self, agent: AgentConfig) -> AgentObject:
        status, version = self._versions.get(agent.id, ("unchecked", ""))
        kind = self._kinds.get(agent.kind)
        if agent.invalid:
            status = "invalid"
        detail = agent.invalid or self._details.get(agent.id, "")
        if kind and version and version not in kind.tested_versions:
            detail = f"tested with {', '.join(kind.tested_versions)}; this is {version}"
        return AgentObject(
            id=agent.id,
            kind=agent.kind,
            version=version,
            status=status,
            proof="unproved",
            capabilities=msgspec.to_builtins(kind.capabilities) if kind else {},
            detail=detail,
            command=list(agent.command),
            modes={str(mode): words for mode, words in kind.modes.items()} if kind else {},
        )
