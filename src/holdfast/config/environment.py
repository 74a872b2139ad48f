"""The environment of agent processes: an allow-list, what is configured, and never what would confuse or betray.

Owns which variables pass. Called by the engine before it launches an agent, and by the server for its own restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from holdfast.agents.port import AgentKind
from holdfast.config.load import AgentConfig, Config

#: what every agent may take over; a name that ends in * stands for all that begin so
ALLOWED = (
    "HOME", "USER", "SHELL", "PATH", "LANG", "LC_*", "TERM", "TZ", "TMPDIR", "XDG_*", "SSH_AUTH_SOCK",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO",
)  # fmt: skip
OURS = "HOLDFAST_"
#: what the runner puts into the environment of everything that a session starts; who carries it ends with the session
SESSION_MARK = "HOLDFAST_SESSION_MARK"


def agent_environment(
    server_env: Mapping[str, str],
    kind: AgentKind,
    agent: AgentConfig,
    *,
    markers: Iterable[str] | None = None,
) -> dict[str, str]:
    """The deliberate environment of an agent's process: an allow-list of the server's, and what is configured.

    `markers`: the variables by which agents notice that they run inside an agent; by default what the catalog's kinds
    declare as `nesting_markers`. They and ours never pass, whoever asks for them.
    """
    passing = (*kind.env_names, *agent.env_pass, *ALLOWED)
    env = {name: value for name, value in server_env.items() if _matches(name, passing)}
    if agent.home:
        env[kind.home_variable] = agent.home
    env.update(agent.env)
    for name in [name for name in env if name.startswith(OURS) and name not in kind.env_names]:
        del env[name]
    for marker in _nesting_markers() if markers is None else markers:
        env.pop(marker, None)
    return env


def restart_environment(server_env: Mapping[str, str], config: Config) -> dict[str, str]:
    """What the server needs to be started again as it is now: its own variables and all that its agents may take."""
    from holdfast.agents.catalog import KINDS

    passing = [name for kind in KINDS.values() for name in kind.env_names]
    passing += [name for agent in config.agents.values() for name in agent.env_pass]
    passing += [*ALLOWED, "HOLDFAST_*", "PYTHON*", "VIRTUAL_ENV"]
    return {
        name: value for name, value in server_env.items() if name != SESSION_MARK and _matches(name, passing)
    }


def _nesting_markers() -> set[str]:
    from holdfast.agents.catalog import KINDS

    return {name for kind in KINDS.values() for name in kind.nesting_markers}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(name.startswith(p[:-1]) if p.endswith("*") else name == p for p in patterns)
