"""Turns through the whole house with the real Claude Code: one process, the gate, stopping, the queue."""

import json
import sys

import pytest

from holdfast.errors import HoldfastError
from tests.house import processes
from tests.house.house import House
from tests.house.processes import until
from tests.real.proxy import RefusingProxy

pytestmark = pytest.mark.real("claude")

SLEEP = "import time; time.sleep(97.5)"


async def test_three_prompts_run_on_one_process(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:hello")
    first = await talk.ended()
    pid = await talk.agent_pid()
    second = await talk.ask("SCRIPT:hello remember plum")
    third = await talk.ask("SCRIPT:recall")

    assert [run.status for run in (first, second, third)] == ["completed"] * 3
    assert [run.text.rpartition("users=")[2] for run in (first, second, third)] == ["1", "2", "3"]
    assert "plum" in third.text
    assert await talk.agent_pid() == pid


async def test_a_file_write_waits_and_is_done_when_it_is_accepted(house: House) -> None:
    """Over the command line: exit 3 with the request's id, then `answer`."""
    await house.start()
    code, out, _ = await house.cli(
        "run", "SCRIPT:write{plan.txt|the body}", "--agent", "claude", "--cwd", str(house.workspace), "--json"
    )
    waiting = json.loads(out)
    assert (code, waiting["status"]) == (3, "waiting")
    target = house.workspace / "plan.txt"
    assert not target.exists()

    (request,) = waiting["requests"]
    code, out, _ = await house.cli("answer", request, "accept", "--json")
    assert (code, json.loads(out)["decision"]) == (0, "accept")
    code, out, _ = await house.cli("wait", waiting["id"], "--json")
    assert (code, json.loads(out)["status"]) == (0, "completed")
    assert target.read_text().strip() == "the body"

    same = await house.client.answer(request, "accept")
    assert (same.state, same.decision) == ("delivered", "accept")
    with pytest.raises(HoldfastError) as refused:
        await house.client.answer(request, "decline")
    assert refused.value.code == "already_answered"
    code, _, err = await house.cli("answer", request, "decline")
    assert code == 4, err


async def test_a_declined_write_is_not_done_and_the_agent_goes_on(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:write{plan.txt|the body}")
    request = await talk.request()
    assert (request.kind, request.state, request.live) == ("file_change", "pending", True)
    await house.client.answer(request.id, "decline", message="not today")
    run = await talk.ended()

    assert run.status == "completed"
    assert "Write failed" in run.text
    assert "not today" in run.text
    assert not (house.workspace / "plan.txt").exists()
    assert [item.status for item in await talk.items("file_change")] == ["declined"]


async def test_a_users_allow_rule_does_not_pass_the_gate(house: House) -> None:
    settings = house.user / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"permissions": {"allow": ["Bash", "Bash(touch:*)", "Write", "Edit"]}}))
    in_the_project = house.workspace / ".claude" / "settings.local.json"
    in_the_project.parent.mkdir()
    in_the_project.write_text(settings.read_text())
    await house.start()
    talk = await house.open("claude", "SCRIPT:bash{touch there}")

    request = await talk.request()
    assert (request.kind, request.detail.splitlines()[0]) == ("command", "touch there")
    assert not (house.workspace / "there").exists()
    await house.client.answer(request.id, "accept")
    assert (await talk.ended()).status == "completed"
    assert (house.workspace / "there").exists()


async def test_accepted_for_the_session_is_not_asked_again_and_nothing_is_written_down(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:bash{touch there}")
    request = await talk.request()
    await house.client.answer(request.id, "accept_for_session")
    await talk.ended()
    (house.workspace / "there").unlink()

    run = await talk.ask("SCRIPT:bash{touch there}")
    assert run.status == "completed"
    assert (house.workspace / "there").exists()
    assert sorted(path.name for path in house.workspace.iterdir()) == ["there"]
    written = [path for path in (house.user / ".claude").rglob("settings*") if path.is_file()]
    assert written == []

    await talk.send("SCRIPT:bash{touch elsewhere}")
    other = await talk.request()
    assert other.id != request.id


async def test_stop_during_text_ends_the_run_and_the_process_goes_on(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:slow{200,0.05}")
    await talk.working("word3 ")
    pid = await talk.agent_pid()
    await house.client.stop_run(talk.run_id)
    run = await talk.ended()

    assert (run.status, run.forced) == ("interrupted", False)
    (answer,) = await talk.items("assistant_message")
    assert answer.status in (
        "interrupted",
        "completed",
    )  # the program itself may finish the message that it cut off
    assert answer.text.startswith("word1 word2 word3 ")
    assert (await talk.ask("SCRIPT:hello")).status == "completed"
    assert await talk.agent_pid() == pid
    stopped_again = await house.client.stop_run(run.id)
    assert stopped_again.status == "interrupted"


async def test_stop_during_a_running_tool_ends_the_tools_process_too(house: House) -> None:
    await house.start()
    talk = await house.open(
        "claude", f'SCRIPT:bash{{{sys.executable} -c "{SLEEP}" {house.root}}}', mode="full"
    )
    (tool, *_) = await until(lambda: processes.running(f"{SLEEP} {house.root}"))
    assert processes.lives(tool)
    await house.client.stop_run(talk.run_id)
    run = await talk.ended()

    assert run.status == "interrupted"
    await until(lambda: not processes.running(f"{SLEEP} {house.root}"), said="the tool's process has ended")
    assert (await talk.ask("SCRIPT:hello")).status == "completed"


async def test_stop_with_an_approval_pending_withdraws_it(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:bash{touch there}")
    request = await talk.request()
    await house.client.stop_run(talk.run_id)
    run = await talk.ended()

    assert (run.status, run.requests) == ("interrupted", [])
    assert await house.client.requests() == []
    shown = await house.client.snapshot(talk.id)
    assert (shown.requests, shown.thread.status) == ([], "idle")
    assert not (house.workspace / "there").exists()
    with pytest.raises(HoldfastError) as refused:
        await house.client.answer(request.id, "accept")
    assert refused.value.code == "expired"
    assert (await talk.ask("SCRIPT:hello")).status == "completed"


async def test_a_prompt_queued_behind_a_running_one_comes_next(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:slow{30,0.05}")
    await talk.working()
    first = talk.run_id
    second = await talk.send("SCRIPT:recall remember pear")
    assert (await talk.run()).status == "queued"
    assert (await talk.ended(first)).status == "completed"
    run = await talk.ended(second)

    assert (run.status, run.ordinal) == ("completed", 2)
    assert "pear" in run.text
    assert [asked.users[-1] for asked in house.model.requests] == [
        "SCRIPT:slow{30,0.05}",
        "SCRIPT:recall remember pear",
    ]


async def test_a_prompt_queued_behind_an_approval_tells_what_it_waits_for(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:bash{touch there}")
    request = await talk.request()
    second = await talk.send("SCRIPT:hello")
    behind = await talk.settled(second)
    assert (behind.status, behind.requests) == ("queued", [request.id])
    await house.client.answer(request.id, "decline")
    assert (await talk.ended(second)).status == "completed"


@pytest.mark.parametrize(
    ("code", "failure"), [(429, "usage_limit"), (401, "auth"), (400, "agent_error")], ids=str
)
async def test_a_refusal_of_the_model_is_a_failure_of_its_class(
    house: House, code: int, failure: str
) -> None:
    await house.start()
    talk = await house.open("claude", f"SCRIPT:error{{{code}}}")
    run = await talk.ended()
    assert (run.status, run.failure.class_ if run.failure else "") == ("failed", failure)
    assert run.failure is not None
    assert run.failure.message
    assert (await house.client.thread(talk.id)).thread.status == "failed"
    assert (await talk.ask("SCRIPT:hello")).status == "completed"


async def test_a_servers_error_is_tried_again_with_a_notice(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:error{500,1}")
    run = await talk.ended()
    assert run.status == "completed"
    assert "Answered after 1 errors" in run.text
    assert any("retry" in code for code in await talk.notices())


async def test_nothing_of_a_claude_turn_leaves_the_machine(house: House) -> None:
    async with RefusingProxy() as proxy:
        house.configure(claude_env=proxy.environment())
        await house.start()
        talk = await house.open("claude", "SCRIPT:bash{touch there}", mode="full")
        assert (await talk.ended()).status == "completed"
        assert (await talk.ask("SCRIPT:hello")).status == "completed"
        assert proxy.asked == []
