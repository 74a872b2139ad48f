"""The scripted agent as a real process, driven over pipes through its translator."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from holdfast.agents.port import AgentKind, Answer, Begin, Image, Interrupt, LaunchContext, Prompt
from holdfast.agents.scripted import PROGRAM, SCRIPTED
from holdfast.core.reports import (
    BindingChanged,
    ContextReported,
    Decision,
    Failure,
    ItemCompleted,
    ItemStarted,
    ItemText,
    NoticeGiven,
    PromptSeen,
    RequestOpened,
    RequestWithdrawn,
    SessionReady,
    SessionRefused,
    TurnEnded,
    TurnStarted,
)
from tests.agents.pipe_driver import PipeDriver, context_for, eventually, fold, perform

KIND: AgentKind = SCRIPTED
Start = Callable[..., PipeDriver]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def driver(**changes: Any) -> PipeDriver:
        return PipeDriver(KIND, context(tmp_path, **changes))

    return driver


def context(tmp_path: Path, **changes: Any) -> LaunchContext:
    workspace = tmp_path / "workspace"
    workspace.mkdir(exist_ok=True)
    return context_for(KIND, tmp_path, workspace, **changes)


async def play(agent: PipeDriver, text: str, nth: int = 1, images: int = 0) -> TurnEnded:
    """One prompt to its end."""
    await agent.send(Prompt(f"p{nth}", text, [Image("image/png", "AAAA")] * images))
    return await agent.report(TurnEnded, nth)


def texts(agent: PipeDriver) -> list[str | None]:
    return [item.text for item in agent.of(ItemCompleted) if item.kind == "assistant_message"]


def is_alive(pid: int) -> bool:
    """A zombie is not: in a container nobody may reap orphans."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def holds_a_line(file: Path) -> bool:
    return file.exists() and file.read_text().endswith("\n")


async def gone(pid: int) -> None:
    await eventually(lambda: not is_alive(pid))


# A session from its start to its end


async def test_a_session_gets_ready_answers_and_leaves_at_the_end_of_its_input(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin())
        ready = await agent.report(SessionReady)
        ended = await play(agent, "Good morning\nagent", images=2)
        await agent.close_input()
        last = await agent.ended()
    native = agent.launch.native_id
    assert ready == SessionReady(native, "1", "scripted-1")
    assert agent.of(BindingChanged) == [BindingChanged(native, resumable=True)]
    assert texts(agent) == ["Hello from the scripted agent. You said: Good morning. images=2 users=1"]
    assert [type(report) for report in agent.reports] == [
        SessionReady, BindingChanged, PromptSeen, TurnStarted, ItemStarted, ItemText, ItemCompleted, ContextReported,
        TurnEnded,
    ]  # fmt: skip
    assert (ended.status, ended.usage is not None and ended.usage.input) == ("completed", 4)
    assert (last.code, last.signal, last.stderr) == (0, None, "")


async def test_the_same_records_give_the_same_reports_without_any_dump(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin())
        await play(agent, "think a b;;text 100;;run echo hi;;todo a,+b;;noise 2;;fail auth no key")
    assert fold(KIND, agent.scene, agent.records) == agent.reports


async def test_a_conversation_is_resumed_in_a_new_process(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin())
        await play(agent, "remember apple")
    binding = agent.binding()
    async with start(binding=binding, fresh_id="00000000-0000-8000-8000-000000000002") as second:
        await second.send(Begin())
        await play(second, "recall")
    assert (second.launch.resumed, second.launch.grown, second.launch.native_id) == (
        True,
        False,
        binding.native_id,
    )
    assert second.launch.locks == [f"scripted-{binding.native_id}"] == agent.launch.locks
    assert texts(second) == ["I remember: apple. users=2"]
    assert start(binding=binding).launch.grown


async def test_a_conversation_that_is_gone_is_said_before_and_at_the_handshake(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin())
        await agent.report(SessionReady)
    second = start(binding=agent.binding(), fresh_id="00000000-0000-8000-8000-000000000002")
    [history] = (agent.context.env["HOME"],)
    Path(history, ".holdfast-scripted", f"{agent.launch.native_id}.jsonl").unlink()
    assert second.launch.resumed
    async with second:
        await second.send(Begin())
        refused = await second.report(SessionRefused)
    assert refused.resume_lost
    assert refused.failure == Failure(
        "start_failed", "cannot open the scripted conversation: because no conversation"
    )
    third = start(binding=agent.binding(), fresh_id="00000000-0000-8000-8000-000000000003")
    assert (third.launch.resumed, third.launch.native_id) == (False, "00000000-0000-8000-8000-000000000003")
    assert third.launch.why.startswith(f"cannot continue conversation {agent.launch.native_id}: because ")


async def test_a_start_that_fails_says_why(start: Start) -> None:
    async with start(
        env={"HOLDFAST_SCRIPTED_START_FAIL": "no licence", "HOLDFAST_SCRIPTED_START_MS": "50"}
    ) as agent:
        last = await agent.ended()
    assert (last.code, last.stderr) == (3, "no licence\n")


async def test_the_history_can_be_kept_elsewhere(start: Start, tmp_path: Path) -> None:
    async with start(env={"HOLDFAST_SCRIPTED_HOME": str(tmp_path / "elsewhere")}) as agent:
        await agent.send(Begin())
        await play(agent, "hello")
    [file] = (tmp_path / "elsewhere").iterdir()
    assert file.name == f"{agent.launch.native_id}.jsonl"
    assert file.stat().st_mode & 0o777 == 0o600
    assert agent.binding().native_bytes == file.stat().st_size


async def test_the_history_tells_whether_a_prompt_arrived(start: Start) -> None:
    agent = start()

    def asked(prompt: str) -> str:
        return KIND.read_history([perform(call) for call in KIND.history_calls(agent.context, prompt)])

    assert asked("p1") == "unknown"
    async with agent:
        await agent.send(Begin())
        await agent.report(SessionReady)
        assert asked("p1") == "absent"
        await agent.send(Prompt("p1", 'say "prompt":"p2"'))
        await agent.report(PromptSeen)
        assert (asked("p1"), asked("p2")) == ("present", "absent")


async def test_a_prompt_lost_on_its_way_is_absent_and_one_that_was_noted_present(start: Start) -> None:
    found = []
    for _ in range(2):
        async with start() as agent:
            await agent.send(Begin())
            await agent.report(SessionReady)
            await agent.send(Prompt("p1", "lost;;unseen;;say here"))
            last = await agent.ended()
        calls = KIND.history_calls(agent.context, "p1")
        found.append(
            (last.signal, KIND.read_history([perform(call) for call in calls]), agent.of(PromptSeen))
        )
    assert found == [(9, "absent", []), (9, "present", [])]


# Tools and requests


async def test_a_command_is_asked_for_and_really_run(start: Start, tmp_path: Path) -> None:
    async with start() as agent:
        await agent.send(Begin(), Prompt("p1", "bash echo hi > made.txt; echo out; echo err >&2; exit 3"))
        request = await agent.report(RequestOpened)
        assert not (tmp_path / "workspace" / "made.txt").exists()
        [frame] = await agent.send(Answer(request.ref, "accept_for_session"))
        ended = await agent.report(TurnEnded)
        assert await agent.send(Answer(request.ref, "accept")) == []
    assert json.loads(frame) == {
        "type": "answer", "request": "r1", "decision": "accept_for_session", "message": "", "answers": {},
    }  # fmt: skip
    [item] = agent.of(ItemStarted)
    command = "echo hi > made.txt; echo out; echo err >&2; exit 3"
    assert request == RequestOpened(
        "t1", "r1", "command", command, "command", {"command": command}, item_ref=item.ref, grant=command
    )
    assert (item.kind, item.changes_files, item.data["command"]) == ("command", True, command)
    assert "".join(piece.text for piece in agent.of(ItemText)) == "out\nerr\n"
    [done] = agent.of(ItemCompleted)
    assert (done.status, done.data["exit_code"], done.text) == ("failed", 3, None)
    assert ended.status == "completed"
    assert (tmp_path / "workspace" / "made.txt").read_text() == "hi\n"


@pytest.mark.parametrize(
    ("path", "inside"),
    [("a/b.txt", True), ("../b.txt", False), ("a/../../b.txt", False), ("/etc/x", False), (".", False)],
)
async def test_a_file_change_says_whether_it_stays_in_the_workspace(
    start: Start, path: str, inside: bool
) -> None:
    async with start() as agent:
        await agent.send(Begin(), Prompt("p1", f"write {path} two words"))
        request = await agent.report(RequestOpened)
        await agent.send(Answer(request.ref, "decline", "not there"))
        await agent.report(TurnEnded)
    assert (request.kind, request.inside_workspace, request.arguments) == (
        "file_change", inside, {"path": path, "text": "two words"},
    )  # fmt: skip
    [done] = agent.of(ItemCompleted)
    assert (done.status, done.data) == ("declined", {"message": "not there"})


async def test_a_file_is_written_in_a_folder_of_its_own_and_a_failure_is_told(
    start: Start, tmp_path: Path
) -> None:
    async with start() as agent:
        await agent.send(Begin(), Prompt("p1", "write new/a.txt grün;;write new no folder"))
        for nth in (1, 2):
            await agent.send(Answer((await agent.report(RequestOpened, nth)).ref, "accept"))
        await agent.report(TurnEnded)
    assert (tmp_path / "workspace" / "new" / "a.txt").read_text() == "grün"
    assert [item.status for item in agent.of(ItemCompleted)] == ["completed", "failed"]
    assert "cannot write new: because" in agent.of(ItemCompleted)[1].data["message"]


async def test_another_folder_of_the_thread_counts_as_inside(start: Start, tmp_path: Path) -> None:
    async with start(add_dirs=[str(tmp_path / "more")]) as agent:
        await agent.send(
            Begin(), Prompt("p1", f"write {tmp_path}/more/a.txt x;;write {tmp_path}/moreover/a.txt x")
        )
        for nth in (1, 2):
            await agent.send(Answer((await agent.report(RequestOpened, nth)).ref, "decline"))
        await agent.report(TurnEnded)
    assert [request.inside_workspace for request in agent.of(RequestOpened)] == [True, False]


@pytest.mark.parametrize("kind", [*SCRIPTED.capabilities.approvals, "telepathy"])
async def test_every_kind_of_request_can_be_asked_and_a_new_one_is_unknown(start: Start, kind: str) -> None:
    async with start() as agent:
        await agent.send(Begin(), Prompt("p1", f"ask kind={kind} May I?"))
        request = await agent.report(RequestOpened)
        await agent.send(Answer(request.ref, "accept"))
        await agent.report(TurnEnded)
    known = kind not in ("telepathy", "question")
    assert (request.kind, request.title) == (kind if known else "unknown", "May I?")
    assert texts(agent) == ["May I?: accept"]


async def test_questions_reach_the_person_and_the_answers_the_agent(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin(), Prompt("p1", "question Colour: Which?|Red|Blue && *Sizes|S|M|..."))
        request = await agent.report(RequestOpened)
        await agent.send(Answer(request.ref, "accept", answers={"q1": ["Blue"], "q2": ["S", "huge"]}))
        await agent.report(TurnEnded)
    one, two = request.questions
    assert (request.kind, one.header, one.text, one.multiple, one.free) == (
        "question",
        "Colour",
        "Which?",
        False,
        False,
    )
    assert ([option.label for option in two.options], two.multiple, two.free) == (["S", "M"], True, True)
    assert texts(agent) == ["You chose Colour: Blue; Question 2: S, huge."]


@pytest.mark.parametrize(("decision", "status"), [("decline", "completed"), ("cancel", "interrupted")])
async def test_a_decline_goes_on_without_and_a_cancel_ends_the_turn(
    start: Start, decision: Decision, status: str
) -> None:
    async with start() as agent:
        await agent.send(Begin(), Prompt("p1", "bash touch x;;ask Other|Another"))
        await agent.send(Answer((await agent.report(RequestOpened)).ref, decision))
        if decision == "decline":
            await agent.report(RequestOpened, 3)
            await agent.send(Answer("r2", "accept"), Answer("r3", "accept"))
        ended = await agent.report(TurnEnded)
    assert ended.status == status
    assert not Path(agent.context.cwd, "x").exists()


async def test_plan_mode_runs_nothing_until_its_plan_is_accepted(start: Start) -> None:
    async with start(plan=True) as agent:
        await agent.send(Begin(), Prompt("p1", "run touch early;;plan Look, then act;;run touch late"))
        request = await agent.report(RequestOpened)
        await agent.send(Answer(request.ref, "accept"))
        await agent.report(TurnEnded)
    assert (request.kind, request.detail, request.item_ref) == ("plan", "Look, then act", "i2")
    assert [path.name for path in Path(agent.context.cwd).iterdir()] == ["late"]
    assert [item.text for item in agent.of(ItemCompleted) if item.kind == "plan"] == ["Look, then act"]


# Interrupts, signals and deaths


@pytest.mark.parametrize(
    "script", ["sleep 600", "slow 99 9", "ask One|Two", "run sleep 600", "flood 1e11", "question Q"]
)
async def test_an_interrupt_ends_the_turn_whatever_it_does_and_the_session_stays(
    start: Start, script: str
) -> None:
    async with start() as agent:
        await agent.send(Begin(), Prompt("p1", f"say begun;;{script}"))
        await agent.until(lambda agent: texts(agent) == ["begun"])
        opened = {"ask One|Two": 2, "question Q": 1}.get(script, 0)
        await agent.until(lambda agent: len(agent.of(RequestOpened)) == opened)
        began = time.monotonic()
        await agent.send(Interrupt("i1"))
        ended = await agent.report(TurnEnded)
        took = time.monotonic() - began
        again = await play(agent, "say still here", 2)
    assert (ended.status, again.status, len(agent.of(RequestWithdrawn))) == (
        "interrupted",
        "completed",
        opened,
    )
    assert took < 2
    started = {item.ref for item in agent.of(ItemStarted)}
    assert started == {item.ref for item in agent.of(ItemCompleted)}


async def test_an_interrupt_ends_the_command_and_what_it_started(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin(), Prompt("p1", "run sleep 600 & echo $!; sleep 600"))
        pid = int((await agent.report(ItemText)).text)
        await agent.send(Interrupt("i1"))
        await agent.report(TurnEnded)
        await gone(pid)


async def test_a_command_that_leaves_something_running_is_done_when_it_ends_itself(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin())
        ended = await play(agent, "run sleep 600 & echo $!")
        assert is_alive(int(agent.of(ItemText)[0].text))
    assert ended.status == "completed"


async def test_a_deaf_agent_finishes_and_a_hanging_one_needs_a_signal(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin(), Prompt("p1", "deaf;;text 64 32 50"))
        await agent.report(ItemText)
        await agent.send(Interrupt("i1"))
        assert (await agent.report(TurnEnded)).status == "completed"
        await agent.send(Prompt("p2", "hang"))
        await agent.report(TurnStarted, 2)
        await agent.send(Interrupt("i2"))
        await agent.close_input()
        agent.process.send_signal(signal.SIGTERM)
        assert (await agent.ended()).signal == signal.SIGTERM


async def test_a_stubborn_agent_ends_by_kill_alone(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin(), Prompt("p1", "stubborn;;say ready;;text 64 32 100"))
        await agent.until(lambda agent: texts(agent) == ["ready"])
        await agent.send(Interrupt("i1"))
        agent.process.send_signal(signal.SIGTERM)
        await agent.close_input()
        assert (await agent.report(TurnEnded)).status == "completed"
        agent.process.send_signal(signal.SIGKILL)
        assert (await agent.ended()).signal == signal.SIGKILL


async def test_sigterm_ends_the_agent_and_its_command(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin(), Prompt("p1", "run echo $$; sleep 600"))
        pid = int((await agent.report(ItemText)).text)
        agent.process.send_signal(signal.SIGTERM)
        assert (await agent.ended()).signal == signal.SIGTERM
        await gone(pid)


@pytest.mark.parametrize(
    ("script", "code", "number"),
    [
        ("crash", None, 9),
        ("crash 6", None, 6),
        ("exit 7", 7, None),
        ("exit", 0, None),
        ("nonewline_exit", 0, None),
    ],
)
async def test_it_dies_as_told_after_what_it_said(
    start: Start, script: str, code: int | None, number: int | None
) -> None:
    async with start() as agent:
        await agent.send(Begin(), Prompt("p1", f"text 500000;;say before;;{script};;say after"))
        last = await agent.ended()
    assert (last.code, last.signal) == (code, number)
    assert [text for text in texts(agent) if text is None or len(text) < 100] == [None, "before"]
    assert not agent.of(TurnEnded)


async def test_a_child_stays_behind_in_its_own_session_and_an_heir_holds_the_pipes(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin())
        await play(
            agent, "child echo $$ > child.pid; exec sleep 600;;heir echo $$ > heir.pid; exec sleep 600"
        )
        children = []
        for file in (Path(agent.context.cwd, "child.pid"), Path(agent.context.cwd, "heir.pid")):
            await eventually(partial(holds_a_line, file))
            children.append(int(file.read_text()))
        await agent.close_input()
        await gone(agent.process.pid)
        assert all(map(is_alive, children))
        assert [os.getsid(child) for child in children] == [children[0], agent.process.pid]
        assert agent.exit is None  # the pipes are still open
        for child in children:
            os.kill(child, signal.SIGKILL)
        assert (await agent.ended()).code == 0


# Frames


async def test_a_frame_in_two_writes_is_read_whole(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin())
        await play(agent, "halfline two halves;;splitutf8")
    assert texts(agent) == ["two halves", "grün € 🌲"]
    assert not agent.of(NoticeGiven)


def test_the_two_writes_are_two_and_cut_inside_a_character(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"HOME": str(tmp_path)},
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        messages: list[dict[str, str]] = [
            {"type": "hello", "native": "n1"},
            {"type": "prompt", "id": "p1", "text": "splitutf8"},
        ]
        process.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        process.stdin.flush()
        seen = b""
        while "grün".encode() not in seen:
            seen += os.read(process.stdout.fileno(), 4096)
        assert seen.endswith("€".encode()[:1])
        process.stdin.close()


async def test_many_mad_lines_are_one_notice(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin())
        ended = await play(agent, "noise 5000;;say after")
    [notice] = agent.of(NoticeGiven)
    assert (notice.code, notice.turn) == ("unreadable_output", "t1")
    assert notice.text.endswith(": noise 1 of 5000: this is not JSON")
    assert (texts(agent), ended.status) == (["after"], "completed")


async def test_large_texts_come_whole(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin())
        await play(agent, "flood 2000000;;big 8000000")
    sizes = [len(piece.text) for piece in agent.of(ItemText)]
    assert (sum(sizes[:-1]), set(sizes[:-2])) == (2_000_000, {1024})
    assert max(len(record.data) for record in agent.records) == 8_000_000
    assert texts(agent) == [None, None]


async def test_a_flood_of_errors_blocks_nothing(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin())
        await play(agent, "stderr 1000000;;stderr two words;;say after")
        await agent.close_input()
        last = await agent.ended()
    assert len(last.stderr) == 1_000_000 + len("two words\n")
    assert texts(agent) == ["after"]


async def test_an_unreadable_message_is_ignored(start: Start) -> None:
    async with start() as agent:
        await agent.write_raw(
            b'not json\n[1]\n"x"\n{"type":"host.done"}\n{"type":"eof"}\n' + b"[" * 100_000 + b"\n"
        )
        await agent.send(Begin())
        assert (await play(agent, "say here")).status == "completed"


# The rest of the vocabulary


async def test_failures_carry_their_class_and_reset_time(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin())
        first = await play(agent, "fail usage_limit 2030-01-01T00:00:00Z enough for today")
        second = await play(agent, "fail auth", 2)
        third = await play(agent, "fail divine_wrath thunder", 3)
    assert first.failure == Failure("usage_limit", "enough for today", "2030-01-01T00:00:00Z")
    assert second.failure == Failure("auth", "the script says so")
    assert third.failure == Failure("agent_error", "thunder")


async def test_background_work_begins_a_turn_without_a_prompt(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin())
        await play(agent, "wake 0.05 tests are green;;later run echo later")
        await agent.report(TurnEnded, 3)
    assert [turn.prompt for turn in agent.of(TurnStarted)] == ["p1", "", ""]
    assert "tests are green" in texts(agent)
    assert any(piece.text == "later\n" for piece in agent.of(ItemText))


async def test_prompts_are_taken_up_one_after_the_other(start: Start) -> None:
    async with start() as agent:
        await agent.send(
            Begin(), Prompt("p1", "sleep 0.05"), Prompt("p2", "say two"), Prompt("p3", "say three")
        )
        await agent.report(TurnEnded, 3)
    assert [turn.prompt for turn in agent.of(TurnStarted)] == ["p1", "p2", "p3"]
    kinds = [
        type(report) for report in agent.reports if isinstance(report, PromptSeen | TurnStarted | TurnEnded)
    ]
    assert kinds == [PromptSeen, TurnStarted, TurnEnded] * 3


async def test_todo_notice_and_reasoning_are_shown_as_what_they_are(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin())
        await play(agent, "think it over;;todo a,>b,+c;;notice mind the gap")
    reasoning, todo = agent.of(ItemCompleted)
    assert (reasoning.kind, reasoning.text) == ("reasoning", "it over ")
    states = [("a", "pending"), ("b", "in_progress"), ("c", "completed")]
    entries = [{"text": text, "status": status} for text, status in states]
    assert (todo.kind, todo.data) == ("todo_list", {"todos": entries})
    assert agent.of(NoticeGiven) == [NoticeGiven("scripted", "mind the gap", turn="t1")]


async def test_a_lone_surrogate_breaks_nothing(start: Start) -> None:
    async with start() as agent:
        await agent.send(Begin())
        await agent.write_raw(b'{"type":"prompt","id":"p1","text":"say \\ud800 end"}\n')
        await agent.report(TurnEnded)
    assert texts(agent) == ["? end"]


def test_the_declaration_says_only_what_these_tests_show() -> None:
    capabilities = SCRIPTED.capabilities
    assert (capabilities.fork, capabilities.rollback, capabilities.steer) == ("", False, False)
    assert set(SCRIPTED.lanes) == set(capabilities.approvals)
    assert set(SCRIPTED.lanes.values()) == {"hosted-alive"}
    assert KIND.version_call(KIND.default_command, {}, "/") is None
    assert Path(KIND.default_command[-1]).is_file()
