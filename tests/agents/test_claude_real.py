"""The real Claude Code behind our translator, without engine: what it does between sessions and at its beginning."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from holdfast.agents.port import Begin, Binding, Interrupt, LaunchContext
from holdfast.core.reports import (
    ItemCompleted,
    ItemText,
    NoticeGiven,
    PromptSeen,
    RequestOpened,
    SessionReady,
    SessionRefused,
    TurnEnded,
    TurnStarted,
)
from holdfast.wire.link import FindInFile
from tests.agents import claude_session
from tests.agents.claude_session import KIND, SCENARIOS, answer, begin, play, prompt_id, say
from tests.agents.pipe_driver import PipeDriver, perform
from tests.house.processes import eventually
from tests.real.model_process import ModelProcess

pytestmark = [pytest.mark.real("claude"), pytest.mark.xdist_group("real-claude")]

Start = Callable[..., PipeDriver]


@pytest.fixture
def model() -> Iterator[ModelProcess]:
    with ModelProcess() as process:
        yield process


@pytest.fixture
def start(tmp_path: Path, model: ModelProcess) -> Start:
    """Sessions of the real program in one home."""

    def session(launch: LaunchContext | None = None) -> PipeDriver:
        return PipeDriver(KIND, launch or claude_session.context(tmp_path, model.url))

    return session


# What makes the order of frames differ from run to run: how text is cut into pieces.
@pytest.mark.parametrize("name", ["commands", "question", "subagent_in_background", "interrupted"])
async def test_the_program_still_does_what_was_recorded(
    name: str, tmp_path: Path, model: ModelProcess
) -> None:
    agent = await claude_session.run(SCENARIOS[name], tmp_path, model.url)
    recorded = [
        (turn.status, turn.failure and turn.failure.class_)
        for turn in claude_session.ends_of(claude_session.read(name))
    ]
    assert [(turn.status, turn.failure and turn.failure.class_) for turn in agent.of(TurnEnded)] == recorded


async def test_a_killed_session_goes_on_where_it_was(start: Start, tmp_path: Path) -> None:
    """P6 of the design: the context is kept, and a question that was open is asked again."""
    async with start() as agent:
        await begin(agent)
        await play(agent, "SCRIPT:hello remember apples", 1)
        await say(agent, "SCRIPT:bash{touch made.txt}", 2)
        await agent.report(RequestOpened)
        binding = Binding(agent.launch.native_id, resumable=True)
        fresh = claude_session.context(tmp_path, agent.context.env["ANTHROPIC_BASE_URL"], binding=binding)
        calls = KIND.history_calls(fresh, prompt_id(2))

        async def is_written() -> bool:
            return KIND.read_history([perform(call) for call in calls]) == "present"

        await eventually(is_written)  # the program writes its transcript a moment after it has acted
        agent.process.kill()
        await agent.ended()

    assert KIND.read_history([perform(call) for call in KIND.history_calls(fresh, prompt_id(2))]) == "present"
    assert KIND.read_history([perform(call) for call in KIND.history_calls(fresh, prompt_id(3))]) == "absent"

    async with start(fresh) as again:
        assert again.launch.resumed
        await begin(again)
        await say(again, "Please continue.", 3)
        request = await answer(again, "accept")
        assert request.arguments == {"command": "touch made.txt"}
        await again.report(TurnEnded)
        await play(again, "SCRIPT:recall", 4, nth_turn=2)
        assert any("apples" in (item.text or "") for item in again.of(ItemCompleted))
    assert (tmp_path / "workspace" / "made.txt").is_file()


async def test_a_prompt_that_was_answered_before_is_not_answered_again(start: Start, tmp_path: Path) -> None:
    async with start() as agent:
        await begin(agent)
        await play(agent, "SCRIPT:hello", 1)
        binding = agent.binding()
        agent.process.kill()
        await agent.ended()
    fresh = claude_session.context(tmp_path, agent.context.env["ANTHROPIC_BASE_URL"], binding=binding)
    async with start(fresh) as again:
        assert not again.launch.grown
        await begin(again)
        await say(again, "SCRIPT:hello", 1)
        await again.report(TurnEnded)
        assert [notice.code for notice in again.of(NoticeGiven)] == ["prompt_not_run"]
        await play(again, "SCRIPT:hello", 2, nth_turn=2)
        assert again.of(PromptSeen)[1].prompt == prompt_id(2)


async def test_an_unknown_conversation_is_lost_and_said_so(start: Start, tmp_path: Path) -> None:
    async with start() as agent:
        await begin(agent)
        await play(agent, "SCRIPT:hello", 1)
        (call,) = KIND.size_calls(agent.context)
        path = Path(getattr(call, "path", ""))
        assert path.is_file(), "the transcript lies where we look for it"
        binding = agent.binding()
        agent.process.kill()
        await agent.ended()
    path.write_text("{}\n", encoding="utf-8")
    lost = claude_session.context(tmp_path, agent.context.env["ANTHROPIC_BASE_URL"], binding=binding)
    async with start(lost) as again:
        assert again.launch.resumed
        await again.send(Begin())
        refused = await again.report(SessionRefused)
        assert refused.resume_lost
        await again.ended()


async def test_an_id_in_use_is_refused_in_words(start: Start, tmp_path: Path) -> None:
    async with start() as agent:
        await begin(agent)
        await play(agent, "SCRIPT:hello", 1)
        agent.process.kill()
        await agent.ended()
    async with start(agent.context) as again:
        await again.ended()
        (refused,) = again.of(SessionRefused)
        assert (refused.failure.class_, refused.resume_lost) == ("start_failed", False)
        assert "already in use" in refused.failure.message


async def test_a_long_path_with_every_kind_of_character_is_found_again(
    start: Start, tmp_path: Path, model: ModelProcess
) -> None:
    deep = tmp_path / "wö 日本_x.y" / "😀" / "/".join(["a_very.long-folder name that goes on and on"] * 4)
    deep.mkdir(parents=True)
    launch = msgspec.structs.replace(claude_session.context(tmp_path, model.url), cwd=str(deep))
    async with start(launch) as agent:
        await begin(agent)
        await play(agent, "SCRIPT:hello", 1)
        (call,) = KIND.history_calls(launch, prompt_id(1))
        assert isinstance(call, FindInFile)
        assert perform(call) == {"exists": True, "found": [prompt_id(1)]}


async def test_the_version_that_is_tested_is_the_one_that_runs(start: Start) -> None:
    async with start() as agent:
        await begin(agent)
        assert (await agent.report(SessionReady)).version in KIND.tested_versions
        await play(agent, "SCRIPT:hello", 1)


async def test_the_process_lives_on_after_an_interrupt_and_turns_are_quick(start: Start) -> None:
    """P1, P2 and P31: one process per session; an interrupt keeps it."""
    async with start() as agent:
        await begin(agent)
        await say(agent, "SCRIPT:slow{50,0.1}", 1)
        await agent.report(ItemText)
        pid = agent.process.pid
        await agent.send(Interrupt("run.1"))
        assert (await agent.report(TurnEnded, 1)).status == "interrupted"
        assert (await play(agent, "SCRIPT:hello", 2)).status == "completed"
        assert agent.process.pid == pid
        assert agent.process.returncode is None
        assert [turn.prompt for turn in agent.of(TurnStarted)] == [prompt_id(1), prompt_id(2)]
