"""The configuration: each key by file and by variable, each wrong one by name, and what agents get to see."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.agents.catalog import KINDS
from holdfast.config import AgentConfig, Config, agent_environment, load, restart_environment
from holdfast.config.keys import AGENT_KEYS, SECTIONS
from holdfast.errors import ConfigError
from holdfast.home import Home

SCRIPTED = KINDS["scripted"]


def loaded(folder: Path, text: str = "", **environ: str) -> Config:
    if text:
        (folder / "config.toml").write_text(text, encoding="utf-8")
    return load(Home(folder), {"PATH": "/nonexistent", **environ})


def test_without_a_file_everything_is_the_default(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    assert (config.server.host, config.server.port) == ("127.0.0.1", 4770)
    assert (config.limits.stall_s, config.limits.frame_mb, config.limits.journal_mb) == (300, 32, 256)
    assert list(config.agents) == ["scripted"]
    assert config.agents["scripted"].invalid == ""
    assert not config.is_set("server.port")


def test_agents_on_path_are_offered_under_their_kinds_name(tmp_path: Path) -> None:
    names = [name for name, kind in KINDS.items() if not kind.built_in]
    for name in names:
        program = tmp_path / KINDS[name].default_command[0]
        program.write_text("#!/bin/sh\n", encoding="utf-8")
        program.chmod(0o755)
    config = loaded(tmp_path / "home", PATH=str(tmp_path))
    assert set(config.agents) == {*names, "scripted"}
    assert {config.origins[f"agents.{name}.command"] for name in names} == {"found on PATH"}


WHOLE = """
[server]
host = "localhost"
port = 0
[limits]
stall_s = 5
silence_s = 0.5
frame_mb = 1
[agents.scripted]
idle_timeout_s = 7
mode = "full"
[agents.slow]
kind = "scripted"
model = "big"
env_pass = ["SOME_NAME"]
[agents.slow.env]
WORD = "value"
"""


def test_a_file_sets_what_it_names(tmp_path: Path) -> None:
    config = loaded(tmp_path, WHOLE)
    assert (config.server.host, config.server.port) == ("localhost", 0)
    assert (config.limits.stall_s, config.limits.silence_s, config.limits.frame_mb) == (5.0, 0.5, 1)
    slow = config.agents["slow"]
    assert (slow.kind, slow.model, slow.env, slow.env_pass) == (
        "scripted",
        "big",
        {"WORD": "value"},
        ["SOME_NAME"],
    )
    assert slow.command == list(SCRIPTED.default_command)
    assert (config.agents["scripted"].mode, config.agents["scripted"].idle_timeout_s) == ("full", 7.0)
    assert config.origins["limits.stall_s"] == str(tmp_path / "config.toml")
    assert config.is_set("server.port")


@pytest.mark.parametrize(
    ("name", "value", "key", "expected"),
    [
        ("HOLDFAST_LIMITS__STALL_S", "5", "limits.stall_s", 5.0),
        ("HOLDFAST_LIMITS__SILENCE_S", "0.25", "limits.silence_s", 0.25),
        ("HOLDFAST_LIMITS__JOURNAL_MB", "1", "limits.journal_mb", 1),
        ("HOLDFAST_SERVER__PORT", "0", "server.port", 0),
        ("HOLDFAST_SERVER__HOST", "localhost", "server.host", "localhost"),
        ("HOLDFAST_AGENTS__SCRIPTED__MODEL", "big", "agents.scripted.model", "big"),
        (
            "HOLDFAST_AGENTS__SCRIPTED__COMMAND",
            "prog --flag 'a b'",
            "agents.scripted.command",
            ["prog", "--flag", "a b"],
        ),
        ("HOLDFAST_AGENTS__SCRIPTED__COMMAND", '["prog", "a b"]', "agents.scripted.command", ["prog", "a b"]),
        ("HOLDFAST_AGENTS__SCRIPTED__IDLE_TIMEOUT_S", "0", "agents.scripted.idle_timeout_s", 0.0),
        ("HOLDFAST_AGENTS__SCRIPTED__ENV_PASS", "ONE TWO", "agents.scripted.env_pass", ["ONE", "TWO"]),
        (
            "HOLDFAST_AGENTS__SCRIPTED__ENV__BASE_URL",
            "http://x",
            "agents.scripted.env",
            {"BASE_URL": "http://x"},
        ),
        ("HOLDFAST_AGENTS__SCRIPTED__ENV__a__b", "1", "agents.scripted.env", {"a__b": "1"}),
        ("HOLDFAST_AGENTS__SCRIPTED__ENV", '{"A": "1"}', "agents.scripted.env", {"A": "1"}),
        ("HOLDFAST_AGENTS__MY_WORK__KIND", "scripted", "agents.my_work.kind", "scripted"),
    ],
)
def test_every_key_may_be_a_variable(tmp_path: Path, name: str, value: str, key: str, expected: Any) -> None:
    config = loaded(tmp_path, "", **{name: value})
    shown = {row["key"]: row for row in config.shown()}
    assert shown[key]["value"] == expected
    assert shown[key]["origin"] == name


def test_a_variable_wins_over_the_file_and_adds_to_its_tables(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        '[limits]\nstall_s = 9\n[agents.my-work]\nkind = "scripted"\n[agents.my-work.env]\nA = "1"\n',
        HOLDFAST_LIMITS__STALL_S="4",
        HOLDFAST_AGENTS__MY_WORK__ENV__B="2",
    )
    assert config.limits.stall_s == 4.0
    assert config.agents["my-work"].env == {"A": "1", "B": "2"}
    assert "my_work" not in config.agents


def test_other_variables_of_ours_are_not_keys(tmp_path: Path) -> None:
    assert loaded(tmp_path, "", HOLDFAST_HOME="/x", HOLDFAST_FAULT="y").limits.stall_s == 300


WRONG: list[tuple[str, dict[str, str], list[str]]] = [
    (
        "[limits]\nstal_s = 5",
        {},
        ["unknown key limits.stal_s", "did you mean limits.stall_s?", "config.toml"],
    ),
    ("[limit]\nstall_s = 5", {}, ["unknown key limit", "did you mean limits?"]),
    ("[limits]\nzzz = 5", {}, ["unknown key limits.zzz", "known are limits.stall_s"]),
    ("[zzz]\n", {}, ["unknown key zzz", "known are server, limits, agents"]),
    ("limits = 5", {}, ["must be a section [limits]"]),
    ("[limits]\nstall_s = -1", {}, ["limits.stall_s is -1", "a number of seconds, 0 or more"]),
    ('[limits]\nstall_s = "5"', {}, ["limits.stall_s is '5'", "a number of seconds"]),
    ("[limits]\nstall_s = nan", {}, ["limits.stall_s is nan"]),
    ("[limits]\nstall_s = inf", {}, ["limits.stall_s is inf"]),
    ("[limits]\nstall_s = true", {}, ["limits.stall_s is True"]),
    ("[limits]\nframe_mb = 1.5", {}, ["limits.frame_mb is 1.5", "a whole number from 0 to 60"]),
    ("[limits]\nframe_mb = 61", {}, ["limits.frame_mb is 61"]),
    ("[limits]\njournal_days = -3", {}, ["limits.journal_days is -3"]),
    ("[server]\nport = 70000", {}, ["server.port is 70000", "from 0 to 65535"]),
    ('[server]\nport = "4770"', {}, ["server.port is '4770'"]),
    ("[server]\nhost = 1", {}, ["server.host is 1"]),
    ('[server]\nhost = ""', {}, ["server.host is ''", "a host name or address"]),
    ("[agents]\nscripted = 1", {}, ["must be a section [agents.scripted]"]),
    (
        "[agents.scripted]\nmodell = 'x'",
        {},
        ["unknown key agents.scripted.modell", "did you mean agents.scripted.model?"],
    ),
    (
        "[agents.scripted]\nmode = 'yolo'",
        {},
        ["agents.scripted.mode is 'yolo'", "one of ask, edits, auto, full"],
    ),
    ("[agents.scripted]\ncommand = 'prog'", {}, ["agents.scripted.command is 'prog'", "a list of texts"]),
    ("[agents.scripted]\ncommand = [1]", {}, ["agents.scripted.command is [1]"]),
    ("[agents.scripted]\nhome = 'relative'", {}, ["agents.scripted.home is 'relative'", "absolute path"]),
    ("[agents.scripted]\nenv_pass = ['A-B']", {}, ["agents.scripted.env_pass", "names of variables"]),
    ("[agents.scripted]\nenv_pass = ['HOLDFAST_HOME']", {}, ["agents.scripted.env_pass has HOLDFAST_HOME"]),
    ("[agents.scripted.env]\nHOLDFAST_X = '1'", {}, ["agents.scripted.env has HOLDFAST_X"]),
    ("[agents.scripted.env]\nSECRET_KEY = 12345", {}, ["agents.scripted.env", "a table of texts"]),
    ("[agents.Upper]\nkind = 'scripted'", {}, ["'Upper' is no id of an agent"]),
    ("[agents.'a b']\nkind = 'scripted'", {}, ["'a b' is no id of an agent"]),
    ("[limits\n", {}, ["not valid TOML", "config.toml"]),
    (
        "",
        {"HOLDFAST_LIMITS__STAL_S": "1"},
        ["the variable HOLDFAST_LIMITS__STAL_S", "did you mean limits.stall_s?"],
    ),
    ("", {"HOLDFAST_LIMIT__STALL_S": "1"}, ["unknown key limit", "did you mean limits?"]),
    ("", {"HOLDFAST_LIMITS__STALL_S": "soon"}, ["HOLDFAST_LIMITS__STALL_S", "'soon'"]),
    ("", {"HOLDFAST_LIMITS__STALL_S": "-1"}, ["limits.stall_s is -1"]),
    ("", {"HOLDFAST_LIMITS__STALL_S": ""}, ["limits.stall_s is ''"]),
    ("", {"HOLDFAST_AGENTS__SCRIPTED": "x"}, ["names no key of an agent"]),
    ("", {"HOLDFAST_AGENTS__SCRIPTED__COMMAND": "'half"}, ['agents.scripted.command is "\'half"']),
    ("", {"HOLDFAST_AGENTS__SCRIPTED__ENV": "{}x"}, ["agents.scripted.env"]),
    ("", {"HOLDFAST_AGENTS__SCRIPTED__MODEL__X": "1"}, ["unknown key agents.scripted.model.x"]),
]


@pytest.mark.parametrize(("text", "environ", "says"), WRONG)
def test_a_wrong_setting_is_an_error_that_names_it(
    tmp_path: Path, text: str, environ: dict[str, str], says: list[str]
) -> None:
    with pytest.raises(ConfigError) as wrong:
        loaded(tmp_path, text, **environ)
    for words in says:
        assert words in wrong.value.detail
    assert "12345" not in wrong.value.detail


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"cannot read .*config\.toml"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[agents.work]\n", "agents.work.kind is missing"),
        ("[agents.work]\nkind = 'scriptd'", "did you mean 'scripted'?"),
        ("[agents.work]\nkind = 'scripted'\ncommand = []", "agents.work.command is missing"),
    ],
)
def test_an_agent_that_cannot_be_is_shown_as_invalid(tmp_path: Path, text: str, says: str) -> None:
    assert says in loaded(tmp_path, text).agents["work"].invalid


def test_secrets_are_masked(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        '[server]\ndatabase = "postgresql://me:hunter2@db/x"\n'
        '[agents.scripted.env]\nSOME_API_KEY = "hunter2"\nBASE_URL = "http://a:hunter2@b/"\nPLAIN = "word"\n',
    )
    shown = json.dumps(config.shown())
    assert "hunter2" not in shown
    assert "word" in shown
    assert "postgresql://********@db/x" in shown


def test_the_table_of_keys_covers_every_field() -> None:
    from holdfast.settings import Limits, Server

    assert tuple(SECTIONS["server"]) == Server.__struct_fields__
    assert tuple(SECTIONS["limits"]) == Limits.__struct_fields__
    assert {*AGENT_KEYS, "id", "invalid"} == set(AgentConfig.__struct_fields__)
    for section in (*SECTIONS.values(), AGENT_KEYS):
        for key in section.values():
            assert key.meaning
            assert key.allowed


TOML_VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats()
    | st.text(st.characters(codec="ascii", categories=["L", "N"])),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(key=st.sampled_from([*SECTIONS["limits"], *SECTIONS["server"]]), value=TOML_VALUES)
def test_rubbish_is_refused_and_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    section = next(name for name, keys in SECTIONS.items() if key in keys)
    text = f"[{section}]\n{key} = {toml(value)}\n"
    assert tomllib.loads(text)
    folder = tmp_path_factory.mktemp("rubbish")
    try:
        config = loaded(folder, text)
    except ConfigError as error:
        detail = error.detail
    else:
        shown = {row["key"]: row["value"] for row in config.shown()}
        detail = f"{section}.{key}" if shown[f"{section}.{key}"] == value else "another value"
    assert f"{section}.{key}" in detail


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(toml(inner) for inner in value)}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


SERVER_ENV = {
    "HOME": "/home/me", "PATH": "/bin", "LC_ALL": "C", "XDG_DATA_HOME": "/data", "https_proxy": "http://p",
    "NODE_EXTRA_CA_CERTS": "/ca", "SECRET_THING": "s", "HOLDFAST_HOME": "/h", "HOLDFAST_LIMITS__STALL_S": "3",
    "AWS_SECRET_ACCESS_KEY": "k", "OTHER": "o", "NESTED_IN": "1", "PYTHONPATH": "/src",
}  # fmt: skip


def agent(**fields: Any) -> AgentConfig:
    return AgentConfig(**{"id": "a", "kind": "scripted", "command": ["x"], **fields})


def test_an_agent_gets_an_allow_list_and_nothing_else() -> None:
    env = agent_environment(SERVER_ENV, SCRIPTED, agent())
    assert env == {
        "HOME": "/home/me", "PATH": "/bin", "LC_ALL": "C", "XDG_DATA_HOME": "/data", "https_proxy": "http://p",
        "NODE_EXTRA_CA_CERTS": "/ca",
    }  # fmt: skip


def test_an_agent_gets_what_is_configured_for_it_but_nothing_of_ours() -> None:
    chosen = agent(
        env_pass=["OTHER", "HOLDFAST_HOME", "ABSENT"], env={"PATH": "/mine", "X": "1", "HOLDFAST_Y": "2"}
    )
    env = agent_environment(SERVER_ENV, SCRIPTED, chosen)
    assert (env["OTHER"], env["PATH"], env["X"]) == ("o", "/mine", "1")
    assert not any(name.startswith("HOLDFAST_") for name in env)
    assert "ABSENT" not in env


def test_a_kind_may_declare_names_of_its_own() -> None:
    name = next(iter(SCRIPTED.env_names))
    assert agent_environment({name: "v"}, SCRIPTED, agent()) == {name: "v"}


def test_markers_of_nesting_never_pass() -> None:
    chosen = agent(env_pass=["NESTED_IN"], env={"NESTED_TOO": "1"})
    env = agent_environment(SERVER_ENV, SCRIPTED, chosen, markers=["NESTED_IN", "NESTED_TOO"])
    assert not {"NESTED_IN", "NESTED_TOO"} & set(env)


def test_a_separate_account_has_its_own_home() -> None:
    env = agent_environment(SERVER_ENV, SCRIPTED, agent(home="/accounts/work"))
    assert "/accounts/work" in env.values()


def test_a_restarted_server_finds_what_it_had(tmp_path: Path) -> None:
    config = loaded(tmp_path, "[agents.scripted]\nenv_pass = ['OTHER']\n")
    env = restart_environment(SERVER_ENV, config)
    assert env["HOLDFAST_HOME"] == "/h"
    assert env["HOLDFAST_LIMITS__STALL_S"] == "3"
    assert env["OTHER"] == "o"
    assert env["PYTHONPATH"] == "/src"
    assert not {"SECRET_THING", "AWS_SECRET_ACCESS_KEY"} & set(env)
