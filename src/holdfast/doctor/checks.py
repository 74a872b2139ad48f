"""The first checks of an installation: each looks at one thing, changes nothing, and says what to do.

Owns the checks and their order. Called by `holdfast doctor`. A check that cannot look says so as a failure of its own.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import msgspec

from holdfast import __version__
from holdfast.client.probe import version_at
from holdfast.config import Config, find_program, load
from holdfast.errors import HoldfastError
from holdfast.home import Home
from holdfast.settings import BOUNDS, MB

Status = Literal["ok", "warning", "failed"]


class Check(msgspec.Struct, frozen=True):
    name: str
    status: Status
    detail: str
    hint: str = ""


class Report(msgspec.Struct, frozen=True):
    summary: str
    checks: list[Check]


def examine(home: Home, environ: Mapping[str, str]) -> Report:
    """All checks, in the order in which they build on each other."""
    checks = [_guarded("home", lambda: check_home(home)), _guarded("token", lambda: check_token(home))]
    config: Config | None = None
    try:
        config = load(home, environ)
        checks.append(Check("config", "ok", f"{len(config.agents)} agents"))
    except HoldfastError as error:
        checks.append(Check("config", "failed", error.detail, "correct it; `holdfast config` shows the rest"))
    checks += [
        _guarded("disk", lambda: check_disk(home)),
        _guarded("database", lambda: check_database(home, config)),
        _guarded("server", lambda: check_server(home)),
        _guarded("runner", lambda: check_runner(home)),
    ]
    if config is not None:
        checks += [
            _guarded(f"agent {agent}", partial(check_agent, config, agent, environ))
            for agent in config.agents
        ]
    checks += [
        _guarded("git", lambda: check_program("git", ("--version",), environ)),
        _guarded("node", lambda: check_program("node", ("--version",), environ)),
    ]
    return Report(_summary(checks), checks)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except (HoldfastError, OSError) as error:
        return Check(name, "failed", str(error))


def _summary(checks: list[Check]) -> str:
    count = {
        status: sum(check.status == status for check in checks) for status in ("failed", "warning", "ok")
    }
    if not count["failed"] and not count["warning"]:
        return f"all {count['ok']} checks are well"
    return f"{count['failed']} failed, {count['warning']} with a warning, {count['ok']} well"


def check_home(home: Home) -> Check:
    if not home.path.exists():
        return Check("home", "ok", f"{home.path} is not there yet; it is made when it is needed")
    mode = stat.S_IMODE(home.path.stat().st_mode)
    if not os.access(home.path, os.R_OK | os.W_OK | os.X_OK):
        return Check(
            "home", "failed", f"{home.path} cannot be written", "give it to yourself, or set HOLDFAST_HOME"
        )
    if mode & 0o077:
        return Check(
            "home", "failed", f"{home.path} is open to others (mode {mode:o})", f"chmod 700 {home.path}"
        )
    return Check("home", "ok", str(home.path))


def check_token(home: Home) -> Check:
    if not home.token_path.exists():
        return Check("token", "ok", "there is none yet; it is made when it is needed")
    mode = stat.S_IMODE(home.token_path.stat().st_mode)
    if mode & 0o077:
        return Check("token", "failed", f"others may read it (mode {mode:o})", f"chmod 600 {home.token_path}")
    if not home.read_token():
        return Check(
            "token", "failed", "the file holds no token", f"delete {home.token_path}: a new one is made"
        )
    return Check("token", "ok", "only you can read it")


def check_disk(home: Home) -> Check:
    place = next(folder for folder in (home.path, *home.path.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free < BOUNDS.disk_warning_bytes:
        return Check(
            "disk", "warning", f"{free // MB} MB are free at {place}", "make room: agents write a lot"
        )
    return Check("disk", "ok", f"{free // (1024 * MB)} GB are free")


def check_database(home: Home, config: Config | None) -> Check:
    if config is not None and config.server.database:
        return Check(
            "database", "failed", "this version keeps its log in the home", "leave server.database out"
        )
    if not home.db_path.exists():
        return Check("database", "ok", "there is none yet")
    with home.db_path.open("rb") as file:
        head = file.read(16)
    if head != b"SQLite format 3\0":
        return Check(
            "database", "failed", f"{home.db_path} is no SQLite database", "put a backup in its place"
        )
    return Check("database", "ok", f"{home.db_path.stat().st_size // MB} MB")


def check_server(home: Home) -> Check:
    info = home.server()
    if not home.is_held():
        if info is None:
            return Check("server", "ok", "none runs; it is started when it is needed")
        return Check(
            "server", "warning", f"pid {info.pid} died and was not started again", f"see {home.server_log}"
        )
    if info is None:
        return Check(
            "server",
            "warning",
            "it holds the home and does not say where it listens",
            "try again in a moment",
        )
    running = version_at(info.url)
    if not running:
        return Check(
            "server",
            "failed",
            f"pid {info.pid} does not answer at {info.url}",
            "holdfast serve --stop --force",
        )
    if running != __version__:
        return Check(
            "server",
            "warning",
            f"version {running} runs, this is {__version__}",
            "holdfast serve --stop, then go on",
        )
    return Check("server", "ok", f"{info.url} (pid {info.pid})")


def check_runner(home: Home) -> Check:
    from holdfast.runner.home import RunnerHome

    place = RunnerHome(home.path)
    if not place.is_held():
        return Check("runner", "ok", "none lives; it is started with the first agent")
    info = place.info()
    return Check("runner", "ok", f"pid {info.pid}, version {info.version}" if info else "it is starting")


def check_agent(config: Config, agent: str, environ: Mapping[str, str]) -> Check:
    found = config.agents[agent]
    name = f"agent {agent}"
    if found.invalid:
        return Check(name, "failed", found.invalid, f"correct [agents.{agent}] in config.toml")
    program = find_program(found.command[0], {**environ, **found.env})
    if not program:
        return Check(
            name,
            "failed",
            f"its program {found.command[0]!r} is not on PATH",
            f"install it, or set agents.{agent}.command",
        )
    return Check(name, "ok", program)


def check_program(program: str, arguments: tuple[str, ...], environ: Mapping[str, str]) -> Check:
    path = find_program(program, environ)
    if not path:
        return Check(program, "warning", "it is not on PATH", f"install {program}: some agents need it")
    try:
        done = subprocess.run(
            [path, *arguments],
            capture_output=True,
            text=True,
            timeout=BOUNDS.program_s,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Check(program, "warning", f"{path} does not answer")
    return Check(program, "ok", done.stdout.strip().splitlines()[0] if done.stdout.strip() else path)
