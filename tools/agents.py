"""Installs and checks the agent programs that the tests drive, pinned in tests/agents.lock.json.

`python tools/agents.py install` brings them from the npm registry into .agents/, where nothing else on the machine
sees them; `python tools/agents.py check` proves that they are exactly the pinned ones. Called by the Makefile. Uses
the standard library only, never runs an agent beyond `--version`, and gives it neither the caller's environment nor
the caller's home.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "tests" / "agents.lock.json"
FOLDER = ROOT / ".agents"

MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


class Wrong(Exception):
    """A pinned program is absent, or not the pinned one; the text says what to do."""


def this_platform() -> str:
    """The npm registry's name for this machine, such as `linux-x64`."""
    machine = platform.machine().lower()
    return f"{sys.platform}-{MACHINES.get(machine, machine)}"


def locked() -> dict[str, dict[str, Any]]:
    agents: dict[str, dict[str, Any]] = json.loads(LOCK.read_text(encoding="utf-8"))["agents"]
    return agents


def version_of(program: Path) -> str:
    """What the program itself says its version is, asked in an empty home without any of our environment."""
    with tempfile.TemporaryDirectory(prefix="holdfast-agent-") as home:
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, "DISABLE_AUTOUPDATER": "1"}
        done = subprocess.run(
            [str(program), "--version"],
            capture_output=True,
            text=True,
            timeout=60,
            env=env,
            cwd=home,
            stdin=subprocess.DEVNULL,
        )
    if done.returncode != 0:
        raise Wrong(f"it ended with code {done.returncode}: {(done.stderr or done.stdout).strip()[:300]}")
    return done.stdout.strip()


def sha256_of(program: Path) -> str:
    with program.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(agent: str, pin: dict[str, Any]) -> str:
    """Raises `Wrong` unless the installed program is the pinned one; returns what was compared."""
    program = FOLDER / pin["program"]
    if not program.is_file():
        raise Wrong(f"cannot test with {agent}: because {program} is not there; `make agents` installs it")
    wanted = pin["sha256"].get(this_platform())
    if wanted is not None:
        found = sha256_of(program)
        if found != wanted:
            raise Wrong(
                f"cannot test with {agent}: because {program} is another file than the pinned one "
                f"(sha256 {found}, pinned {wanted}); remove .agents and run `make agents`"
            )
    try:
        version = version_of(program)
    except (OSError, subprocess.TimeoutExpired, Wrong) as error:
        raise Wrong(f"cannot test with {agent}: because {program} does not run: {error}") from error
    if version != pin["version_output"]:
        raise Wrong(
            f"cannot test with {agent}: because it says it is {version!r} where tests/agents.lock.json "
            f"pins {pin['version_output']!r}; remove .agents and run `make agents`"
        )
    return f"{agent} {pin['version']}: version" + (" and sha256 as pinned" if wanted else " as pinned")


def put_program_in_place(pin: dict[str, Any]) -> None:
    """Links the platform's file to where the package promises it.

    The package's own install script does this, but newer npm versions do not run install scripts unasked.
    """
    source = FOLDER / str(pin["platform_program"]).format(platform=this_platform())
    program = FOLDER / pin["program"]
    if not source.is_file() or (program.is_file() and source.samefile(program)):
        return
    program.parent.mkdir(parents=True, exist_ok=True)
    program.unlink(missing_ok=True)
    try:
        os.link(source, program)
    except OSError:
        shutil.copy2(source, program)
    program.chmod(0o755)


def install(agents: dict[str, dict[str, Any]]) -> None:
    missing = []
    for agent, pin in agents.items():
        try:
            check(agent, pin)
        except Wrong:
            missing.append(agent)
    if not missing:
        return
    FOLDER.mkdir(exist_ok=True)
    # Exact versions, all in one call: without one, npm picks an older release that suits an older Node.js, and a
    # call for a single package would remove the others.
    packages = [f"{pin['package']}@{pin['version']}" for pin in agents.values()]
    print(f"installing {', '.join(packages)} into .agents (several hundred megabytes)", flush=True)
    command = [
        "npm",
        "install",
        "--prefix",
        str(FOLDER),
        "--no-save",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]
    try:
        done = subprocess.run([*command, *packages], stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise Wrong(
            "cannot install the pinned agents: because npm is not on PATH; install Node.js"
        ) from error
    if done.returncode != 0:
        raise Wrong(
            f"cannot install the pinned agents: because npm ended with code {done.returncode}; its words are above"
        )
    for pin in agents.values():
        put_program_in_place(pin)


def main() -> int:
    parser = argparse.ArgumentParser(description="Install or check the pinned agent programs of the tests.")
    parser.add_argument("action", choices=["install", "check"])
    action = parser.parse_args().action
    agents = locked()
    try:
        if action == "install":
            install(agents)
        for agent, pin in agents.items():
            finding = check(agent, pin)
            if action == "check":
                print(finding)
    except Wrong as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
