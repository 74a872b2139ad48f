"""`config.toml` and `HOLDFAST_SECTION__KEY` made into one checked value, with every value's origin.

Owns the reading and the error texts; what is allowed is in `keys`. It never creates or changes a file. Called by the
server, the command line and programs that embed Holdfast.
"""

from __future__ import annotations

import difflib
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from holdfast.agents.port import AgentKind, Mode
from holdfast.config.keys import AGENT_KEYS, ID, SECTIONS, Key, mask
from holdfast.errors import ConfigError
from holdfast.home import Home
from holdfast.settings import BOUNDS, Bounds, Limits, Server

DEFAULT = "default"
FOUND = "found on PATH"
BUILT_IN = "built in"


class AgentConfig(msgspec.Struct, frozen=True):
    """One agent as configured or found. `invalid` says why it cannot be used, "" if nothing is known against it."""

    id: str
    kind: str
    command: list[str]
    model: str = ""
    mode: Mode = "ask"
    idle_timeout_s: float = 1800.0
    home: str = ""
    env_pass: list[str] = []
    env: dict[str, str] = {}
    invalid: str = ""


class Config(msgspec.Struct, frozen=True):
    """Everything that may be set. `origins`: dotted key -> `default`, the file's path, or the variable's name."""

    server: Server
    limits: Limits
    agents: dict[str, AgentConfig]
    origins: dict[str, str]
    bounds: Bounds = BOUNDS

    def is_set(self, key: str) -> bool:
        """Whether somebody set the value, even to its default."""
        return self.origins.get(key, DEFAULT) != DEFAULT

    def shown(self) -> list[dict[str, Any]]:
        """Each value with its origin, secrets masked."""
        rows = [
            (f"{name}.{field}", value)
            for name, section in (("server", self.server), ("limits", self.limits))
            for field, value in msgspec.structs.asdict(section).items()
        ]
        for agent in self.agents.values():
            rows += [(f"agents.{agent.id}.{field}", getattr(agent, field)) for field in AGENT_KEYS]
        return [
            {"key": key, "value": mask(key, value), "origin": self.origins.get(key, DEFAULT)}
            for key, value in rows
        ]


class _Given(msgspec.Struct):
    """A value that somebody gave, and where."""

    value: Any
    origin: str


def load(home: Home, environ: Mapping[str, str], *, kinds: Mapping[str, AgentKind] | None = None) -> Config:
    """The configuration of this home. `kinds`: the agents catalog by default. Raises `ConfigError`."""
    if kinds is None:
        from holdfast.agents.catalog import KINDS

        kinds = KINDS
    given = _from_file(home.config_path)
    for path, value in _from_environment(environ, given).items():
        given[path] = value
    server = _section("server", given)
    limits = _section("limits", given)
    origins = {".".join(path): entry.origin for path, entry in given.items()}
    agents = _agents(given, environ, kinds, origins)
    return Config(msgspec.convert(server, Server), msgspec.convert(limits, Limits), agents, origins)


# From the file


def _from_file(path: Path) -> dict[tuple[str, ...], _Given]:
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: because {error}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"cannot read {path}: because it is not valid TOML: {error}") from error
    given: dict[tuple[str, ...], _Given] = {}
    for section, body in document.items():
        if section not in (*SECTIONS, "agents"):
            raise ConfigError(_unknown(str(path), section, [*SECTIONS, "agents"]))
        if not isinstance(body, dict):
            raise ConfigError(
                f"cannot use {path}: because {section} is a value and must be a section [{section}]"
            )
        if section == "agents":
            _agents_from_file(path, body, given)
        else:
            for key, value in body.items():
                _key(SECTIONS[section], (section, key), str(path))
                given[section, key] = _Given(value, str(path))
    return given


def _agents_from_file(path: Path, body: dict[str, Any], given: dict[tuple[str, ...], _Given]) -> None:
    for name, table in body.items():
        _agent_id(name, str(path))
        if not isinstance(table, dict):
            raise ConfigError(f"cannot use {path}: because agents.{name} must be a section [agents.{name}]")
        given["agents", name] = _Given(None, str(path))
        for key, value in table.items():
            _key(AGENT_KEYS, ("agents", name, key), str(path))
            given["agents", name, key] = _Given(value, str(path))


# From the environment


def _from_environment(
    environ: Mapping[str, str], given: Mapping[tuple[str, ...], _Given]
) -> dict[tuple[str, ...], _Given]:
    """`HOLDFAST_LIMITS__STALL_S=5`, `HOLDFAST_AGENTS__WORK__ENV__NAME=value`. Variables without `__` are not ours."""
    found: dict[tuple[str, ...], _Given] = {}
    known_agents = [path[1] for path in given if len(path) == 2 and path[0] == "agents"]
    for name in sorted(environ):
        if not name.startswith("HOLDFAST_") or "__" not in name:
            continue
        section, *rest = name.removeprefix("HOLDFAST_").split("__")
        section = section.lower()
        origin = f"the variable {name}"
        if section not in (*SECTIONS, "agents"):
            raise ConfigError(_unknown(origin, section, [*SECTIONS, "agents"]))
        if section != "agents":
            key = "__".join(rest).lower()
            spec = _key(SECTIONS[section], (section, key), origin)
            found[section, key] = _Given(spec.parse(environ[name]), name)
            continue
        if len(rest) < 2:
            raise ConfigError(
                f"cannot use {origin}: because it names no key of an agent; write HOLDFAST_AGENTS__ID__KEY"
            )
        agent = _agent_of_variable(rest[0], known_agents)
        _agent_id(agent, origin)
        key = rest[1].lower()
        spec = _key(AGENT_KEYS, ("agents", agent, key), origin)
        path = ("agents", agent, key)
        found.setdefault(("agents", agent), given.get(("agents", agent)) or _Given(None, name))
        if key == "env" and len(rest) > 2:
            before = found.get(path) or given.get(path) or _Given({}, name)
            inner = dict(before.value) if isinstance(before.value, dict) else {}
            inner["__".join(rest[2:])] = environ[name]
            found[path] = _Given(inner, name)
        elif len(rest) > 2:
            raise ConfigError(_unknown(origin, ".".join(("agents", agent, *rest[1:])).lower(), []))
        else:
            found[path] = _Given(spec.parse(environ[name]), name)
    return found


def _agent_of_variable(part: str, known: Iterable[str]) -> str:
    """The id that a part of a variable's name means: case and the signs a name cannot have do not count."""

    def plain(text: str) -> str:
        return "".join(c if c.isalnum() else "_" for c in text).upper()

    return next((agent for agent in known if plain(agent) == plain(part)), part.lower())


# Checks


def _section(name: str, given: Mapping[tuple[str, ...], _Given]) -> dict[str, Any]:
    return {
        key: _checked(spec, (name, key), given[name, key])
        for key, spec in SECTIONS[name].items()
        if (name, key) in given
    }


def _checked(spec: Key, path: tuple[str, ...], given: _Given) -> Any:
    problem = spec.problem(given.value)
    if problem:
        where = given.origin if "/" in given.origin else f"the variable {given.origin}"
        raise ConfigError(
            f"cannot use {where}: because {'.'.join(path)} is {spec.shown(given.value)}; {problem}"
        )
    return float(given.value) if spec.kind == "seconds" else given.value


def _key(keys: Mapping[str, Key], path: tuple[str, ...], where: str) -> Key:
    if path[-1] not in keys:
        prefix = ".".join(path[:-1])
        raise ConfigError(_unknown(where, ".".join(path), [f"{prefix}.{key}" for key in keys]))
    return keys[path[-1]]


def _unknown(where: str, key: str, known: list[str]) -> str:
    *parents, last = key.split(".")
    near = ".".join([*parents, nearest(last, (name.rpartition(".")[2] for name in known))])
    near = near if near in known else ""
    hint = f"did you mean {near}?" if near else f"known are {', '.join(known)}" if known else "take it out"
    return f"cannot use {where}: because it has the unknown key {key}; {hint}"


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was most likely meant, "" if none is near."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else ""


def _agent_id(name: str, where: str) -> None:
    if not ID.match(name):
        raise ConfigError(
            f"cannot use {where}: because {name!r} is no id of an agent; "
            "use up to 64 small letters, digits and . _ - (no sign first)"
        )


# Agents


def _agents(
    given: Mapping[tuple[str, ...], _Given],
    environ: Mapping[str, str],
    kinds: Mapping[str, AgentKind],
    origins: dict[str, str],
) -> dict[str, AgentConfig]:
    agents = {
        path[1]: _configured(path[1], given, kinds)
        for path in given
        if len(path) == 2 and path[0] == "agents"
    }
    for name, kind in kinds.items():
        if name in agents:
            continue
        command = list(kind.default_command)
        if kind.built_in or (command and find_program(command[0], environ)):
            agents[name] = AgentConfig(name, name, command)
            for key in ("kind", "command"):
                origins[f"agents.{name}.{key}"] = BUILT_IN if kind.built_in else FOUND
    return agents


def _configured(
    agent: str, given: Mapping[tuple[str, ...], _Given], kinds: Mapping[str, AgentKind]
) -> AgentConfig:
    """An agent with an impossible combination is shown as invalid; one with a rubbish value is an error."""
    values = {
        key: _checked(spec, ("agents", agent, key), given["agents", agent, key])
        for key, spec in AGENT_KEYS.items()
        if ("agents", agent, key) in given
    }
    kind = values.setdefault("kind", agent if agent in kinds else "")
    own = kinds[kind].env_names if kind in kinds else ()
    for key in ("env", "env_pass"):
        for name in values.get(key, ()):
            if name.startswith("HOLDFAST_") and name not in own:
                raise ConfigError(
                    f"cannot use {given['agents', agent, key].origin}: because agents.{agent}.{key} has {name}, "
                    "and an agent never gets a variable of ours; take it out"
                )
    if kind in kinds:
        values.setdefault("command", list(kinds[kind].default_command))
    values.setdefault("command", [])
    if values.get("home"):
        values["home"] = str(Path(values["home"]).expanduser())
    return msgspec.convert({"id": agent, **values, "invalid": _invalid(agent, values, kinds)}, AgentConfig)


def _invalid(agent: str, values: Mapping[str, Any], kinds: Mapping[str, AgentKind]) -> str:
    kind = values["kind"]
    known = ", ".join(sorted(kinds))
    if not kind:
        return f"agents.{agent}.kind is missing; the kinds are {known}"
    if kind not in kinds:
        near = nearest(kind, kinds)
        return f"the kind {kind!r} is not known to this version; " + (
            f"did you mean {near!r}?" if near else f"the kinds are {known}"
        )
    if not values["command"]:
        return f"agents.{agent}.command is missing; give the program and its arguments"
    return ""


def is_built_in(kind: str) -> bool:
    """Whether the kind is always there, whatever is installed."""
    from holdfast.agents.catalog import KINDS

    return kind in KINDS and KINDS[kind].built_in


def find_program(program: str, environ: Mapping[str, str]) -> str:
    """Where the program is, "" if it is not there."""
    return shutil.which(program, path=environ.get("PATH", "")) or ""
