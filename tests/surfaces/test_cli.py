"""The command line without a server: help, usage errors, settings, the doctor, and what is not built yet."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from holdfast import __version__
from holdfast.errors import EXIT, HoldfastError
from holdfast.surfaces.cli.invocation import complain, parts
from holdfast.surfaces.cli.later import LATER
from holdfast.surfaces.cli.main import main
from tests.surfaces.cli import Program

COMMANDS = (
    "serve run send wait threads show stop requests answer fork handoff merge-back checkpoint rollback diff job link "
    "attach agents doctor heal config import record replay token runner mcp acp version"
).split()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "home", tmp_path / "user")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for commands that run in this process."""
    monkeypatch.setenv("HOLDFAST_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert set(COMMANDS) == set(
        re.findall(r"^  ([a-z-]+) {2,}", shown.partition("Commands:")[2], re.MULTILINE)
    )


@pytest.mark.parametrize("command", [*COMMANDS, "runner status", "runner stop"])
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    if command != "runner":
        assert f"Example:\n    holdfast {command}" in shown


def test_help_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from holdfast.surfaces.cli.main import main; main(['--help']); "
        "print([m for m in ('asyncio', 'rich', 'httpx2', 'uvicorn', 'starlette', 'apsw', 'msgspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", sorted(LATER))
def test_what_is_not_built_says_so(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "start", "--whatever", "x", "--json"]) == 4
    shown = capsys.readouterr()
    assert json.loads(shown.out)["code"] == "unsupported"
    assert f"cannot {command}" in shown.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "nonsense"),
        (["threads", "--nonsense"], "--nonsense"),
        (["wait"], "RUN"),
        (["wait", "run_1", "--timeout", "-1"], "--timeout"),
        (["threads", "--limit", "x"], "--limit"),
        (["serve", "--force"], "--agents and --force go with --stop"),
    ],
)
def test_wrong_usage_is_2_and_names_what_is_wrong(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(arguments) == 2
    assert says in capsys.readouterr().err
    assert main([*arguments, "--json"]) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out)["code"] == "invalid"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run"], "exactly one of TEXT and --file"),
        (["run", "text", "--file", "x"], "exactly one of TEXT and --file"),
        (["run", "--file", "/no/such/file"], "/no/such/file cannot be read"),
        (["run", "text", "--image", "/no/such/image"], "/no/such/image cannot be read"),
        (["answer", "req_1"], "neither a decision nor --choose"),
        (["answer", "req_1", "maybe"], "'maybe' is no decision"),
    ],
)
def test_wrong_arguments_are_found_before_a_server_is_started(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(arguments) == 2
    assert says in capsys.readouterr().err
    assert not here.exists()


def test_no_server_and_none_may_be_started_is_5(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["threads"], ["run", "x"], ["wait", "run_1"], ["agents"]):
        assert main([*arguments, "--no-start", "--json"]) == 5
        shown = capsys.readouterr()
        assert json.loads(shown.out)["code"] == "unreachable"
        assert "holdfast serve" in shown.err


def test_a_file_that_is_no_image_is_refused(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "picture.png").write_bytes(b"not at all")
    assert main(["run", "x", "--image", str(tmp_path / "picture.png")]) == 2
    assert "no PNG, JPEG, GIF or WebP" in capsys.readouterr().err


def test_a_text_above_the_limit_is_refused_before_it_is_sent(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "long").write_bytes(b"x" * (8 * 1024 * 1024 + 1))
    assert main(["run", "--file", str(tmp_path / "long"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["code"] == "too_large"
    assert not here.exists()


def test_errors_have_three_parts(capsys: pytest.CaptureFixture[str]) -> None:
    error = HoldfastError("conflict", "cannot do it: because it is so; do another thing; and then this")
    assert parts(error) == ("cannot do it", "it is so", "do another thing; and then this")
    assert complain(error, as_json=False) == EXIT["conflict"]
    shown = capsys.readouterr()
    assert shown.err == "error: cannot do it\n  because: it is so\n  do: do another thing; and then this\n"
    assert shown.out == ""


@pytest.mark.parametrize(("code", "expected"), sorted(EXIT.items()))
def test_every_code_has_its_exit_code(code: str, expected: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert complain(HoldfastError(code, "cannot x: because y"), as_json=True) == expected
    assert json.loads(capsys.readouterr().out)["code"] == code


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["version"], ["--version"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out == f"{__version__}\n"


def test_config_shows_values_and_origins(program: Program) -> None:
    program.home.mkdir(mode=0o700)
    (program.home / "config.toml").write_text("[limits]\nrun_s = 60\n", encoding="utf-8")
    done = program("config", "--json", HOLDFAST_LIMITS__STALL_S="5")
    assert done.code == 0
    values: dict[str, Any] = done.json["values"]
    assert values["limits.stall_s"] == {"value": 5.0, "origin": "HOLDFAST_LIMITS__STALL_S"}
    assert values["limits.run_s"] == {"value": 60.0, "origin": str(program.home / "config.toml")}
    assert values["server.port"] == {"value": 4770, "origin": "default"}
    assert b"limits.stall_s" in program("config").out


@pytest.mark.parametrize("command", ["config", "serve"])
def test_a_wrong_setting_is_2(program: Program, command: str) -> None:
    done = program(command, "--json", HOLDFAST_LIMITS__STAL_S="5")
    assert done.code == 2
    assert "did you mean limits.stall_s?" in done.json["detail"]
    assert "do: did you mean limits.stall_s?" in done.err


def test_a_home_that_is_a_file_is_5(program: Program, tmp_path: Path) -> None:
    program.home.write_text("not a folder", encoding="utf-8")
    for arguments in (["serve"], ["serve", "--background"], ["threads"]):
        done = program(*arguments, "--json")
        assert done.code == 5, done.err
        assert done.json["code"] == "home_unusable"


@pytest.mark.parametrize("key", ["DATABASE", "BUS"])
def test_what_the_server_cannot_do_yet_is_4(program: Program, key: str) -> None:
    program.env[f"HOLDFAST_SERVER__{key}"] = "postgresql://x"
    done = program("serve", "--json")
    assert (done.code, done.json["code"]) == (4, "unsupported")


def test_a_server_that_cannot_start_in_the_background_shows_its_log(program: Program) -> None:
    done = program("threads", "--json", HOLDFAST_LIMITS__STALL_S="never")
    assert done.code == 2
    assert done.json["code"] == "server_not_started"
    assert "limits.stall_s is 'never'" in done.json["detail"]


def test_the_global_home_wins_over_the_variable(program: Program, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    assert program("--home", other, "config", "--json").json["home"] == other
    assert program("config", "--home", other, "--json").json["home"] == other


def test_stopping_what_does_not_run_is_0(program: Program) -> None:
    done = program("serve", "--stop", "--json")
    assert (done.code, done.json["stopped"]) == (0, False)
    done = program("runner", "stop", "--json")
    assert (done.code, done.json["stopped"]) == (0, False)
    assert program("runner", "status", "--json").json["alive"] is False


def checks(program: Program) -> dict[str, dict[str, str]]:
    done = program("doctor", "--json")
    assert set(done.json) == {"summary", "checks"}
    for check in done.json["checks"]:
        assert set(check) == {"name", "status", "detail", "hint"}
        assert check["status"] in ("ok", "warning", "failed")
    failed = any(check["status"] == "failed" for check in done.json["checks"])
    assert done.code == (1 if failed else 0)
    return {check["name"]: check for check in done.json["checks"]}


def test_the_doctor_finds_a_fresh_home_well(program: Program) -> None:
    found = checks(program)
    assert {
        found[name]["status"] for name in ("home", "token", "config", "database", "server", "runner")
    } == {"ok"}
    assert not program.home.exists()


def test_the_doctor_finds_what_is_wrong(program: Program) -> None:
    program.home.mkdir(mode=0o700)
    program.home.chmod(0o755)
    (program.home / "token").write_text("short", encoding="utf-8")
    os.chmod(program.home / "token", 0o644)
    (program.home / "config.toml").write_text("[limits]\nx = 1\n", encoding="utf-8")
    (program.home / "holdfast.db").write_bytes(b"rubbish")
    found = checks(program)
    assert {name for name, check in found.items() if check["status"] == "failed"} >= {
        "home",
        "token",
        "config",
        "database",
    }
    assert "chmod 700" in found["home"]["hint"]


def test_replay_reads_a_recorded_transcript(program: Program) -> None:
    recorded = sorted((Path(__file__).parent.parent / "transcripts").rglob("*.jsonl"))
    assert recorded
    done = program("replay", str(recorded[0]), "--json")
    assert done.code == 0, done.err
    assert done.json[0]["reports"]


def test_replay_of_what_is_no_transcript_is_2(program: Program, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("{}\n", encoding="utf-8")
    assert program("replay", str(tmp_path / "x.jsonl"), "--json").code == 2
    assert program("replay", str(tmp_path / "absent"), "--json").code == 2
