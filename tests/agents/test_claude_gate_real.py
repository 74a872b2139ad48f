"""The gate with the real Claude Code: no setting of the person's, the project's or the environment's opens it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.agents.port import Answer
from holdfast.core.reports import ItemCompleted, NoticeGiven, RequestOpened, TurnEnded
from tests.agents import claude_session
from tests.agents.claude_session import KIND, answer, begin, play, say
from tests.agents.pipe_driver import PipeDriver
from tests.real import claude_program
from tests.real.model_process import ModelProcess

pytestmark = [pytest.mark.real("claude"), pytest.mark.xdist_group("real-claude")]

Start = Callable[..., PipeDriver]
ALLOWED = {"permissions": {"allow": ["Bash", "Write", "Edit", "Agent"]}}
ALLOWING_HOOK = 'echo \'{"hookSpecificOutput":{"hookEventName":"PreToolUse","permissionDecision":"allow"}}\''


@pytest.fixture
def model() -> Iterator[ModelProcess]:
    with ModelProcess() as process:
        yield process


@pytest.fixture
def start(tmp_path: Path, model: ModelProcess) -> Start:
    def session(**changes: Any) -> PipeDriver:
        return PipeDriver(KIND, claude_session.context(tmp_path, model.url, **changes))

    return session


async def declined(agent: PipeDriver, made: Path) -> None:
    """A command asks although something allows it, and a decline holds."""
    await begin(agent)
    await say(agent, f"SCRIPT:bash{{touch {made}}}")
    await answer(agent, "decline")
    end = await agent.report(TurnEnded)
    assert end.status == "completed"
    statuses = {item.ref: item.status for item in agent.of(ItemCompleted)}
    assert statuses[agent.of(RequestOpened)[0].item_ref] == "declined"
    assert not made.exists()
    assert agent.of(NoticeGiven) == []


@pytest.mark.parametrize(
    "settings",
    [
        ALLOWED,
        {**ALLOWED, "disableAllHooks": True},
        {**ALLOWED, "allowManagedHooksOnly": True},
        {"permissions": {"defaultMode": "bypassPermissions"}},
        {"permissions": {"defaultMode": "acceptEdits"}, "sandbox": {"enabled": True}},
        {**ALLOWED, "env": {"CLAUDE_CODE_SIMPLE": "1"}},
        {
            "hooks": {
                "PreToolUse": [{"matcher": "*", "hooks": [{"type": "command", "command": ALLOWING_HOOK}]}]
            }
        },
    ],
    ids=["allow", "no-hooks", "managed-hooks", "bypass", "sandbox", "simple", "allowing-hook"],
)
async def test_settings_of_the_person_do_not_open_the_gate(
    settings: dict[str, Any], start: Start, tmp_path: Path
) -> None:
    claude_session.settings(tmp_path, settings)
    async with start() as agent:
        await declined(agent, tmp_path / "workspace" / "made.txt")


async def test_settings_of_a_project_do_not_open_the_gate(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "workspace" / ".claude"
    folder.mkdir(parents=True)
    for name in ("settings.json", "settings.local.json"):
        (folder / name).write_text(json.dumps({**ALLOWED, "env": {"CLAUDE_CODE_SIMPLE": "1"}}), "utf-8")
    async with start() as agent:
        await declined(agent, tmp_path / "workspace" / "made.txt")


async def test_the_environment_does_not_open_the_gate(start: Start, tmp_path: Path) -> None:
    claude_session.settings(tmp_path, ALLOWED)
    async with start(env={"CLAUDE_CODE_SIMPLE": "1", "CLAUDECODE": "1"}) as agent:
        await declined(agent, tmp_path / "workspace" / "made.txt")


async def test_a_command_that_forbids_hooks_is_found_out_and_stopped(start: Start, tmp_path: Path) -> None:
    """--bare in the configured command: the program runs no hooks, whatever its handshake says."""
    claude_session.settings(tmp_path, ALLOWED)
    async with start(command=[str(claude_program.program()), "--bare"]) as agent:
        await begin(agent)
        await say(agent, "SCRIPT:steps{5,0}")
        notice = await agent.report(NoticeGiven)
        assert notice.code == "gate_bypassed"
        assert (await agent.report(TurnEnded)).status == "interrupted"
        await play(agent, "SCRIPT:hello", 2)


async def test_what_the_person_forbids_stays_forbidden(start: Start, tmp_path: Path) -> None:
    claude_session.settings(tmp_path, {"permissions": {"deny": ["Bash(touch:*)"]}})
    async with start() as agent:
        await begin(agent)
        await play(agent, "SCRIPT:bash{touch made.txt}")
        assert agent.of(RequestOpened) == []
        assert "declined" in [item.status for item in agent.of(ItemCompleted)]
    assert not (tmp_path / "workspace" / "made.txt").exists()


async def test_a_subagent_comes_through_the_same_gate(start: Start, tmp_path: Path) -> None:
    claude_session.settings(tmp_path, ALLOWED)
    async with start() as agent:
        await begin(agent)
        await say(agent, "SCRIPT:subagent_wait{SCRIPT:bash{touch made.txt}}")
        request = await answer(agent, "decline")
        assert (request.tool, request.arguments) == ("Bash", {"command": "touch made.txt"})
        await agent.report(TurnEnded)
        assert len(agent.of(RequestOpened)) == 1
    assert not (tmp_path / "workspace" / "made.txt").exists()


async def test_accepting_for_the_session_writes_no_settings_and_is_asked_again(
    start: Start, tmp_path: Path
) -> None:
    """What was granted is remembered by the core, by the grant: nothing is left to the program."""
    async with start() as agent:
        await begin(agent)
        await say(agent, "SCRIPT:bash{touch made.txt}", 1)
        first = await answer(agent, "accept_for_session", 1)
        await agent.report(TurnEnded, 1)
        await say(agent, "SCRIPT:bash{touch made.txt}", 2)
        second = await answer(agent, "accept", 2)
        await agent.report(TurnEnded, 2)
        assert first.grant == second.grant == "command:touch made.txt"
    assert (tmp_path / "workspace" / "made.txt").is_file()
    assert list(tmp_path.rglob("settings*.json")) == []


async def test_leaving_plan_mode_is_always_put_to_the_person(start: Start, tmp_path: Path) -> None:
    claude_session.settings(tmp_path, {"permissions": {"allow": ["ExitPlanMode", "AskUserQuestion"]}})
    async with start(plan=True) as agent:
        await begin(agent)
        await say(agent, 'SCRIPT:tool{ExitPlanMode|{"plan":"1. Look"}}', 1)
        request = await agent.report(RequestOpened)
        assert request.kind == "plan"
        await agent.send(Answer(request.ref, "decline", "not yet"))
        await agent.report(TurnEnded, 1)
        await say(agent, "SCRIPT:ask{Which?|A|B}", 2)
        assert (await agent.report(RequestOpened, 2)).kind == "question"
        await answer(agent, "accept", 2, answers={"q1": ["B"]})
        await agent.report(TurnEnded, 2)
        assert any('"Which?"="B"' in (item.text or "") for item in agent.of(ItemCompleted))
