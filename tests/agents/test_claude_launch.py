"""How Claude Code is started, and where its own history is looked for."""

from typing import Any

import pytest
from inline_snapshot import snapshot

from holdfast.agents.catalog import KINDS
from holdfast.agents.port import Binding, Launch, LaunchContext
from holdfast.wire.link import FindInFile, RunProgram, StatFile

KIND = KINDS["claude"]
FRESH = "6b2f0a52-57a8-8c3e-9d1e-2f4c5a6b7c8d"
OLD = "11111111-2222-4333-8444-555555555555"
FILE = f"/home/user/.claude/projects/-home-user-work-space/{OLD}.jsonl"


def context(**changes: Any) -> LaunchContext:
    fields: dict[str, Any] = {
        "command": ["claude"],
        "env": {"HOME": "/home/user", "PATH": "/bin"},
        "cwd": "/home/user/work space",
        "add_dirs": [],
        "model": "",
        "effort": "",
        "mode": "ask",
        "plan": False,
        "fresh_id": FRESH,
    }
    return LaunchContext(**fields | changes)


def launch(*answers: dict[str, Any], **changes: Any) -> Launch:
    return KIND.launch(context(**changes), list(answers))


def test_a_fresh_conversation_is_started_under_the_id_that_we_chose() -> None:
    """P3."""
    made = launch()
    assert made.argv == snapshot(
        [
            "claude",
            "--print",
            "--input-format=stream-json",
            "--output-format=stream-json",
            "--verbose",
            "--include-partial-messages",
            "--replay-user-messages",
            "--permission-prompt-tool=stdio",
            '--settings={"env":{"CLAUDE_CODE_SIMPLE":"0"}}',
            "--permission-mode=default",
            "--session-id=6b2f0a52-57a8-8c3e-9d1e-2f4c5a6b7c8d",
        ]
    )
    assert (made.native_id, made.resumed, made.locks) == (FRESH, False, [f"claude-{FRESH}"])
    assert KIND.launch_calls(context()) == []


def test_values_are_given_with_an_equals_sign_so_that_none_can_be_a_flag() -> None:
    made = launch(model="--danger", effort="high", add_dirs=["/a b", "-x"], plan=True)
    assert made.argv[9:14] == [
        "--permission-mode=plan",
        "--model=--danger",
        "--effort=high",
        "--add-dir=/a b",
        "--add-dir=-x",
    ]
    assert sum(not part.startswith("--") for part in made.argv) == 1, "only the program itself"


@pytest.mark.parametrize("mode", ["ask", "edits", "auto", "full"])
def test_no_mode_skips_permissions(mode: str) -> None:
    """P59: the core decides; the program always asks."""
    argv = launch(mode=mode).argv
    assert "--permission-mode=default" in argv
    assert not any("skip-permissions" in part or "bypass" in part for part in argv)


def test_a_conversation_is_resumed_while_its_transcript_exists() -> None:
    """P3."""
    binding = Binding(OLD, resumable=True, native_bytes=100)
    assert KIND.launch_calls(context(binding=binding)) == [StatFile(FILE)]
    made = launch({"exists": True, "size": 100, "mtime": 1.0}, binding=binding)
    assert made.argv[-1] == f"--resume={OLD}"
    assert (made.native_id, made.resumed, made.grown, made.why) == (OLD, True, False, "")
    assert made.locks == [f"claude-{OLD}"]


def test_a_history_that_somebody_else_added_to_has_grown() -> None:
    binding = Binding(OLD, resumable=True, native_bytes=100)
    assert launch({"exists": True, "size": 101}, binding=binding).grown
    unknown = Binding(OLD, resumable=True, native_bytes=-1)
    assert not launch({"exists": True, "size": 101}, binding=unknown).grown


@pytest.mark.parametrize("answers", [[{"exists": False, "size": 0}], [{"exists": True, "size": 0}], []])
def test_a_lost_conversation_is_said_and_a_fresh_one_begun(answers: list[dict[str, Any]]) -> None:
    """P6 of the design: never a silently fresh conversation."""
    made = launch(*answers, binding=Binding(OLD, resumable=True))
    assert made.argv[-1] == f"--session-id={FRESH}"
    assert (made.native_id, made.resumed) == (FRESH, False)
    assert made.why == f"cannot resume the conversation {OLD}: because {FILE} is gone or empty"


def test_what_makes_the_program_think_that_it_is_nested_or_hookless_is_removed() -> None:
    env = {
        "HOME": "/home/user",
        "CLAUDECODE": "1",
        "CLAUDE_CODE_ENTRYPOINT": "cli",
        "CLAUDE_CODE_SSE_PORT": "1",
        "CLAUDE_CODE_SIMPLE": "1",
        "ANTHROPIC_API_KEY": "key",
    }
    assert launch(env=env).env == {"HOME": "/home/user", "ANTHROPIC_API_KEY": "key"}


def test_the_declared_names_of_variables_hold_no_marker() -> None:
    assert "ANTHROPIC_*" in KIND.env_names
    for marker in ("CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT", "CLAUDE_CODE_SIMPLE"):
        assert marker not in KIND.env_names
        assert not any(marker.startswith(name[:-1]) for name in KIND.env_names if name.endswith("*"))


# That the program names them so is held by tests/agents/test_claude_real.py.
@pytest.mark.parametrize(
    ("cwd", "folder"),
    [
        ("/home/user/my_work.dir/ws", "-home-user-my-work-dir-ws"),
        ("/x/wö 日本_x.y", "-x-w-----x-y"),
        (
            "/home/user" + "/abcdefghij_klmnopqrst.uvwxyz0123456789" * 6,
            "-home-user"
            + "-abcdefghij-klmnopqrst-uvwxyz0123456789" * 4
            + "-abcdefghij-klmnopqrst-uvwxyz01234-8f6sfg",
        ),
        ("/a/😀", "-a---"),
    ],
)
def test_the_folder_of_the_history_is_named_as_the_program_names_it(cwd: str, folder: str) -> None:
    binding = Binding(OLD, resumable=True)
    (call,) = KIND.size_calls(context(cwd=cwd, binding=binding))
    assert call == StatFile(f"/home/user/.claude/projects/{folder}/{OLD}.jsonl")


def test_another_configuration_folder_is_honoured() -> None:
    env = {"HOME": "/home/user", "CLAUDE_CONFIG_DIR": "/srv/claude"}
    (call,) = KIND.size_calls(context(env=env))
    assert call == StatFile(f"/srv/claude/projects/-home-user-work-space/{FRESH}.jsonl")
    assert KIND.size_calls(context(env={})) == []
    assert KIND.history_calls(context(env={}), "p") == []


def test_the_history_is_asked_for_the_prompts_id() -> None:
    fresh = context()
    bound = context(binding=Binding(OLD, resumable=True))
    path = FILE.replace(OLD, FRESH)
    assert KIND.history_calls(fresh, "p") == [FindInFile(path, ["p"])]
    assert KIND.history_calls(bound, "p") == [FindInFile(FILE, ["p"]), StatFile(FILE)]


@pytest.mark.parametrize(
    ("answers", "history"),
    [
        ([{"exists": True, "found": ["p"]}], "present"),
        ([{"exists": True, "found": []}], "absent"),
        ([{"exists": False, "found": []}], "absent"),
        ([{"exists": False, "found": []}, {"exists": False}], "unknown"),
        ([{"exists": True, "found": []}, {"exists": True}], "absent"),
        ([], "unknown"),
    ],
)
def test_what_the_history_says_of_a_prompt(answers: list[dict[str, Any]], history: str) -> None:
    """Without a file nothing was taken up, unless a turn had ended before: then the file should be there."""
    assert KIND.read_history(answers) == history


def test_the_version_is_read() -> None:
    call = KIND.version_call(["claude"], {"PATH": "/bin", "CLAUDECODE": "1"}, "/")
    assert call == RunProgram(["claude", "--version"], {"PATH": "/bin"}, "/")
    assert KIND.read_version({"code": 0, "stdout": "2.1.328 (Claude Code)\n", "stderr": ""}) == "2.1.328"
    assert KIND.read_version({"code": 1, "stdout": "2.1.328"}) == ""
    assert KIND.read_version({"code": 0, "stdout": "command not found"}) == ""
    assert KIND.read_version({}) == ""
