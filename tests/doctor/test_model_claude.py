"""The real Claude Code against the scripted model, on a bare pipe: the two understand each other.

What these tests hold of the program is what Holdfast's translator relies on; a new version that breaks one of
them changes the facts, not only the model.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.doctor.model import ScriptedModel
from tests.real import claude_program
from tests.real.bare_pipe import BarePipe, Frame, allow, leave_pending
from tests.real.proxy import RefusingProxy

pytestmark = pytest.mark.real("claude")


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as running:
        yield running


def is_asked(frame: Frame) -> bool:
    return bool(frame["type"] == "control_request" and frame["request"]["subtype"] == "can_use_tool")


def is_text(frame: Frame) -> bool:
    delta = frame.get("event", {}).get("delta") or {}
    return bool(delta.get("type") == "text_delta")


def is_written(session: Path, text: str) -> bool:
    return any(text in file.read_text(encoding="utf-8") for file in session.rglob("*.jsonl"))


async def until_written(home: Path, text: str) -> None:
    """Waits until the program's own transcript has a text: before that, a kill may lose it."""
    async with asyncio.timeout(10):
        while not is_written(home / ".claude" / "projects", text):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.02)


async def test_three_prompts_on_one_process_are_one_conversation(
    model: ScriptedModel, tmp_path: Path
) -> None:
    async with BarePipe(tmp_path, model.url) as claude:
        answers = [(await claude.ask(f"SCRIPT:hello remember w{at}"))["result"] for at in (1, 2, 3)]
    assert answers == [f"Hello from the scripted model. users={at}" for at in (1, 2, 3)]
    asked = model.requests[-1]
    assert asked.users == [f"SCRIPT:hello remember w{at}" for at in (1, 2, 3)]
    assert asked.agent == "claude"
    assert asked.model == claude_program.MODEL
    assert {entry.session for entry in model.requests} == {claude.results()[0]["session_id"]}
    assert model.turns == 3


async def test_a_command_runs_once_it_is_allowed(model: ScriptedModel, tmp_path: Path) -> None:
    asked: list[Frame] = []

    def permit(request: Frame) -> Frame | None:
        asked.append(request)
        assert not (tmp_path / "ws" / "made.txt").exists()
        return allow(request)

    async with BarePipe(tmp_path, model.url, permit=permit) as claude:
        result = await claude.ask("SCRIPT:bash{touch made.txt && echo done}")
    assert result["result"] == "Bash answered: done. users=1"
    assert [(request["tool_name"], request["input"]["command"]) for request in asked] == [
        ("Bash", "touch made.txt && echo done")
    ]
    assert (tmp_path / "ws" / "made.txt").exists()


async def test_a_declined_command_does_not_run(model: ScriptedModel, tmp_path: Path) -> None:
    def decline(_request: Frame) -> Frame | None:
        return {"behavior": "deny", "message": "use another file"}

    async with BarePipe(tmp_path, model.url, permit=decline) as claude:
        result = await claude.ask("SCRIPT:bash{touch made.txt}")
    assert result["result"] == "Bash failed: use another file. users=1"
    assert [denial["tool_name"] for denial in result["permission_denials"]] == ["Bash"]
    assert not (tmp_path / "ws" / "made.txt").exists()


async def test_a_file_is_written_into_the_workspace(model: ScriptedModel, tmp_path: Path) -> None:
    async with BarePipe(tmp_path, model.url) as claude:
        await claude.ask("SCRIPT:write{note.txt|two\nlines\n}")
        read = await claude.ask("SCRIPT:read{note.txt}")
    assert (tmp_path / "ws" / "note.txt").read_text(encoding="utf-8") == "two\nlines\n"
    assert "lines" in read["result"]


async def test_a_question_is_answered(model: ScriptedModel, tmp_path: Path) -> None:
    def choose(request: Frame) -> Frame | None:
        answers = {"Which colour?": "Blue"} if request["tool_name"] == "AskUserQuestion" else {}
        return {"behavior": "allow", "updatedInput": {**request["input"], "answers": answers}}

    async with BarePipe(tmp_path, model.url, permit=choose) as claude:
        result = await claude.ask("SCRIPT:ask{Which colour?|Red|Blue}")
    assert "Blue" in result["result"]
    assert "Blue" in model.requests[-1].results[-1]


async def test_a_plan_is_presented(model: ScriptedModel, tmp_path: Path) -> None:
    asked: list[Frame] = []

    def permit(request: Frame) -> Frame | None:
        asked.append(request)
        return allow(request)

    async with BarePipe(tmp_path, model.url, "--permission-mode", "plan", permit=permit) as claude:
        await claude.ask("SCRIPT:plan{1. look around}")
    assert asked[-1]["tool_name"] == "ExitPlanMode"
    assert asked[-1]["input"]["plan"] == "1. look around"


async def test_an_interrupt_ends_slow_text(model: ScriptedModel, tmp_path: Path) -> None:
    async with BarePipe(tmp_path, model.url) as claude:
        await claude.prompt("SCRIPT:slow{200,0.1}")
        await claude.until(is_text)
        await claude.control("interrupt")
        result = await claude.result(1)
        assert (result["subtype"], result["terminal_reason"]) == (
            "error_during_execution",
            "aborted_streaming",
        )
        (asked,) = await model.until(lambda asked: asked[0].outcome != "open")
        assert asked.outcome == "gone"
        after = await claude.ask("SCRIPT:hello")
    assert after["result"] == "Hello from the scripted model. users=2"


async def test_an_interrupt_withdraws_a_pending_approval(model: ScriptedModel, tmp_path: Path) -> None:
    async with BarePipe(tmp_path, model.url, permit=leave_pending) as claude:
        await claude.prompt("SCRIPT:bash{touch made.txt}")
        asked = await claude.until(is_asked)
        await claude.control("interrupt")
        withdrawn = await claude.until(lambda frame: frame["type"] == "control_cancel_request")
        assert withdrawn["request_id"] == asked["request_id"]
        assert (await claude.result(1))["terminal_reason"] == "aborted_tools"
        assert (await claude.ask("SCRIPT:hello"))["result"].endswith("users=2")
    assert not (tmp_path / "ws" / "made.txt").exists()


@pytest.mark.parametrize("status", [401, 429, 500, 529])
async def test_an_error_is_retried_and_then_told(model: ScriptedModel, tmp_path: Path, status: int) -> None:
    async with BarePipe(tmp_path, model.url) as claude:
        await claude.prompt(f"SCRIPT:error{{{status}}}")
        result = await claude.result(1)
        assert (result["is_error"], result["api_error_status"]) == (True, status)
        retries = [frame for frame in claude.frames if frame.get("subtype") == "api_retry"]
        assert [frame["error_status"] for frame in retries] == [status, status]
        assert (await claude.ask("SCRIPT:hello"))["is_error"] is False


async def test_an_error_that_passes_is_not_told(model: ScriptedModel, tmp_path: Path) -> None:
    async with BarePipe(tmp_path, model.url) as claude:
        result = await claude.ask("SCRIPT:error{500,1}")
    assert result["result"] == "Answered after 1 errors. users=1"


async def test_a_subagent_reports_in_a_turn_that_nobody_prompted(
    model: ScriptedModel, tmp_path: Path
) -> None:
    async with BarePipe(tmp_path, model.url) as claude:
        prompted = await claude.ask("SCRIPT:subagent{SCRIPT:bash{touch sub.txt}}")
        woken = await claude.result(2)
    assert prompted["result"].startswith("Agent answered: Async agent launched")
    assert woken["result"] == "A background task reported. users=1"
    assert woken["origin"]["kind"] == "task-notification"
    assert (tmp_path / "ws" / "sub.txt").exists()


async def test_a_background_command_reports_likewise(model: ScriptedModel, tmp_path: Path) -> None:
    async with BarePipe(tmp_path, model.url) as claude:
        await claude.ask("SCRIPT:background{touch late.txt}")
        woken = await claude.result(2)
    assert woken["result"] == "A background task reported. users=1"
    assert (tmp_path / "ws" / "late.txt").exists()


async def test_a_prompt_during_a_tool_is_folded_into_the_turn(model: ScriptedModel, tmp_path: Path) -> None:
    async with BarePipe(tmp_path, model.url, permit=leave_pending) as claude:
        await claude.prompt("SCRIPT:bash{true}")
        asked = await claude.until(is_asked)
        folded = await claude.prompt("also this")
        await claude.until(lambda frame: frame.get("command_uuid") == folded)
        response = {
            "subtype": "success",
            "request_id": asked["request_id"],
            "response": allow(asked["request"]),
        }
        await claude.write({"type": "control_response", "response": response})
        result = await claude.result(1)
    assert result["result"].endswith("users=2")
    assert model.requests[-1].users == ["SCRIPT:bash{true}", "also this"]


async def test_a_killed_conversation_is_resumed_with_its_prompts(
    model: ScriptedModel, tmp_path: Path
) -> None:
    session = str(uuid.uuid4())
    async with BarePipe(tmp_path, model.url, "--session-id", session) as claude:
        await claude.ask("SCRIPT:hello remember alpha")
        await claude.prompt("SCRIPT:slow{200,0.1} remember beta")
        await claude.until(lambda frame: is_text(frame) and "word2" in str(frame))
        await until_written(tmp_path, "remember beta")
        await claude.kill()
    async with BarePipe(tmp_path, model.url, "--resume", session) as claude:
        result = await claude.ask("SCRIPT:recall")
    assert result["session_id"] == session
    assert result["result"] == "I remember: alpha beta. users=3"
    assert model.requests[-1].users == [
        "SCRIPT:hello remember alpha",
        "SCRIPT:slow{200,0.1} remember beta",
        "SCRIPT:recall",
    ]


async def test_it_asks_for_no_host_but_the_model(model: ScriptedModel, tmp_path: Path) -> None:
    async with RefusingProxy() as proxy:
        async with BarePipe(tmp_path / "a", model.url, environment=proxy.environment()) as claude:
            await claude.ask("SCRIPT:hello")
            await claude.ask("SCRIPT:bash{true}")
        assert proxy.asked == []
        # The same program without the model's address does ask, so that an empty list above means something.
        elsewhere = proxy.environment() | {"ANTHROPIC_BASE_URL": "http://model.invalid"}
        async with BarePipe(tmp_path / "b", model.url, environment=elsewhere) as claude:
            await claude.prompt("SCRIPT:hello")
            assert "model.invalid" in await proxy.first()
