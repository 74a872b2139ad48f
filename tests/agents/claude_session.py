"""The real Claude Code over pipes, through its translator: how it is started, and the scenarios that are recorded.

The scenarios are driven by tests of the real program and by `python -m tests.agents.claude_session [NAME ...]`, which
makes the transcripts in tests/transcripts/claude anew (the program is that of tests/real/claude_program.py), and what
the translator says to them. `... reports [NAME ...]` makes only the latter.
"""

import asyncio
import hashlib
import json
import re
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from holdfast.agents import transcripts
from holdfast.agents.catalog import KINDS
from holdfast.agents.port import Answer, Begin, Image, Interrupt, LaunchContext, Prompt
from holdfast.agents.transcripts import Header, Transcript
from holdfast.core.reports import (
    ItemStarted,
    ItemText,
    PromptSeen,
    Report,
    RequestOpened,
    SessionReady,
    TurnEnded,
)
from holdfast.wire.link import Record
from tests.agents.pipe_driver import PipeDriver, context_for
from tests.real import claude_program
from tests.real.model_process import ModelProcess

KIND = KINDS["claude"]
FOLDER = Path(__file__).resolve().parent.parent / "transcripts" / "claude"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
NAP = "python3 -c 'import time; time.sleep({})'"


def context(home: Path, url: str, **changes: Any) -> LaunchContext:
    """A launch of the pinned program with nothing of this machine's own; `env` and other fields may be added."""
    workspace = home / "workspace"
    workspace.mkdir(parents=True, exist_ok=True)
    env = claude_program.environment(home, url, changes.pop("env", {}))
    fields: dict[str, Any] = {"command": [str(claude_program.program())], "model": claude_program.MODEL}
    fields["fresh_id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, str(home)))
    made = context_for(KIND, home, workspace, **fields | changes)
    return msgspec.structs.replace(made, env=env)


def settings(home: Path, value: dict[str, Any]) -> None:
    """The person's own settings of the program."""
    folder = home / ".claude"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(value), encoding="utf-8")


def prompt_id(nth: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"prompt {nth}"))


async def begin(agent: PipeDriver) -> None:
    await agent.send(Begin())
    await agent.report(SessionReady)


async def say(agent: PipeDriver, text: str, nth: int = 1, images: int = 0) -> None:
    await agent.send(Prompt(prompt_id(nth), text, [Image("image/png", PIXEL)] * images))


async def play(agent: PipeDriver, text: str, nth: int = 1, *, nth_turn: int = 0) -> TurnEnded:
    """One prompt to its end."""
    await say(agent, text, nth)
    return await agent.report(TurnEnded, nth_turn or nth)


async def answer(agent: PipeDriver, decision: Any, nth: int = 1, **fields: Any) -> RequestOpened:
    """Answers the nth request when it is there."""
    request = await agent.report(RequestOpened, nth)
    await agent.send(Answer(request.ref, decision, **fields))
    return request


# The scenarios


async def hello(agent: PipeDriver) -> None:
    await play(agent, "SCRIPT:hello", 1)
    await play(agent, "SCRIPT:think{I wonder.}", 2)
    await say(agent, "SCRIPT:hello look at this", 3, images=1)
    await agent.report(TurnEnded, 3)


async def commands(agent: PipeDriver) -> None:
    await say(agent, "SCRIPT:bash{echo hi; touch a.txt}", 1)
    await answer(agent, "accept", 1)
    await agent.report(TurnEnded, 1)
    await say(agent, "SCRIPT:bash{touch b.txt}", 2)
    await answer(agent, "decline", 2)
    await agent.report(TurnEnded, 2)
    await say(agent, "SCRIPT:bash{echo out; exit 3}", 3)
    await answer(agent, "accept_for_session", 3)
    await agent.report(TurnEnded, 3)
    await say(agent, "SCRIPT:bash{touch c.txt}", 4)
    await answer(agent, "cancel", 4)
    await agent.report(TurnEnded, 4)


async def files(agent: PipeDriver) -> None:
    path = f"{agent.context.cwd}/notes.txt"
    await say(agent, f"SCRIPT:write{{{path}|one\ntwo\n}}", 1)
    await answer(agent, "accept", 1)
    await agent.report(TurnEnded, 1)
    edit = json.dumps({"file_path": path, "old_string": "one", "new_string": "uno"})
    await play(agent, f"SCRIPT:read{{{path}}}", 2)
    await say(agent, f"SCRIPT:tool{{Edit|{edit}}}", 3)
    await answer(agent, "accept", 2)
    await agent.report(TurnEnded, 3)
    await say(agent, "SCRIPT:read{/etc/hostname}", 4)
    await answer(agent, "decline", 3)
    await agent.report(TurnEnded, 4)


async def parallel(agent: PipeDriver) -> None:
    await say(agent, "SCRIPT:parallel{touch one.txt;;touch two.txt}")
    await answer(agent, "decline", 1)
    await answer(agent, "accept", 2)
    await agent.report(TurnEnded)


async def question(agent: PipeDriver) -> None:
    await say(agent, "SCRIPT:ask{Which colour?|Red|Blue}", 1)
    await answer(agent, "accept", 1, answers={"q1": ["Blue"]})
    await agent.report(TurnEnded, 1)
    await say(agent, "SCRIPT:ask{Which colour?|Red|Blue}", 2)
    await answer(agent, "decline", 2)
    await agent.report(TurnEnded, 2)


async def plan(agent: PipeDriver) -> None:
    """In plan mode: the plan's own file is written unasked, and leaving the mode is put to the person."""
    await play(agent, "SCRIPT:hello", 1)
    found = re.search(r"[^\s\"\\`]+/plans/[^\s\"\\`]+\.md", native_history(agent))
    assert found
    await play(agent, f"SCRIPT:write{{{found[0]}|# Plan\n1. Look}}", 2)
    await say(agent, "SCRIPT:tool{ExitPlanMode|{}}", 3)
    await answer(agent, "accept", 1)
    await agent.report(TurnEnded, 3)


def native_history(agent: PipeDriver) -> str:
    (file,) = (Path(agent.context.env["CLAUDE_CONFIG_DIR"]) / "projects").glob("*/*.jsonl")
    return file.read_text(encoding="utf-8")


async def steered(agent: PipeDriver) -> None:
    """A message that comes while a tool runs is folded into the running turn."""
    await say(agent, f"SCRIPT:bash{{{NAP.format(0.7)}}}", 1)
    await answer(agent, "accept")
    await say(agent, "SCRIPT:hello please also this", 2)
    await agent.report(PromptSeen, 2)
    await agent.report(TurnEnded)


async def queued(agent: PipeDriver) -> None:
    """A message that comes while text streams becomes a turn of its own."""
    await say(agent, "SCRIPT:slow{8,0.1}", 1)
    await agent.report(ItemText)
    await say(agent, "SCRIPT:hello second", 2)
    await agent.report(TurnEnded, 2)


async def interrupted(agent: PipeDriver) -> None:
    """While text streams, while a command runs, while the person is asked, and between turns."""
    await say(agent, "SCRIPT:slow{60,0.1}", 1)
    await agent.report(ItemText, 2)
    await agent.send(Interrupt("1"))
    await agent.report(TurnEnded, 1)
    await say(agent, f"SCRIPT:bash{{{NAP.format(30)}}}", 2)
    await answer(agent, "accept", 1)
    await agent.until(lambda agent: any(record.id.startswith("answer:") for record in agent.records))
    await agent.send(Interrupt("2"))
    await agent.report(TurnEnded, 2)
    await say(agent, "SCRIPT:bash{touch a.txt}", 3)
    await agent.report(RequestOpened, 2)
    await agent.send(Interrupt("3"))
    await agent.report(TurnEnded, 3)
    await agent.send(Interrupt("4"))
    await play(agent, "SCRIPT:hello", 4)


async def subagent(agent: PipeDriver) -> None:
    """A subagent that the turn waits for."""
    await say(agent, "SCRIPT:subagent_wait{SCRIPT:bash{touch sub.txt}}")
    await answer(agent, "accept")
    await agent.report(TurnEnded)


async def subagent_in_background(agent: PipeDriver) -> None:
    """A subagent asks after the turn that started it has ended; then the agent wakes up by itself."""
    await say(agent, "SCRIPT:subagent{SCRIPT:bash{touch sub.txt}}")
    await agent.report(TurnEnded, 1)
    await agent.report(RequestOpened, 1)
    request = await agent.until(
        lambda agent: next((each for each in agent.of(RequestOpened) if each.turn != "turn-1"), None)
    )
    await agent.send(Answer(request.ref, "accept"))
    await agent.report(TurnEnded, 2)


async def command_in_background(agent: PipeDriver) -> None:
    await say(agent, f"SCRIPT:background{{{NAP.format(0.5)}}}")
    await answer(agent, "accept")
    await agent.report(TurnEnded, 2)


async def refused_by_the_model(agent: PipeDriver) -> None:
    await play(agent, "SCRIPT:error{500,1}", 1)
    await play(agent, "SCRIPT:error{429}", 2)
    await play(agent, "SCRIPT:error{401}", 3)
    await play(agent, "SCRIPT:error{400}", 4)
    await play(agent, "SCRIPT:hello", 5)


async def compacted(agent: PipeDriver) -> None:
    await play(agent, "SCRIPT:hello", 1)
    await play(agent, "/compact", 2)
    await play(agent, "SCRIPT:hello", 3)


async def unknown_tools(agent: PipeDriver) -> None:
    await play(agent, 'SCRIPT:tool{NoSuchTool|{"a":1}}', 1)
    await say(agent, 'SCRIPT:tool{WebFetch|{"url":"http://127.0.0.1:1/","prompt":"what is it"}}', 2)
    await answer(agent, "decline", 1)
    await agent.report(TurnEnded, 2)
    assert agent.of(ItemStarted)


Scenario = Callable[[PipeDriver], Awaitable[None]]

SCENARIOS: dict[str, Scenario] = {
    each.__name__: each
    for each in (
        hello,
        commands,
        files,
        parallel,
        question,
        plan,
        steered,
        queued,
        interrupted,
        subagent,
        subagent_in_background,
        command_in_background,
        refused_by_the_model,
        compacted,
        unknown_tools,
    )
}


async def run(scenario: Scenario, home: Path, url: str) -> PipeDriver:
    """The whole scenario with a process of its own."""
    plan_mode = scenario is plan
    async with PipeDriver(KIND, context(home, url, plan=plan_mode)) as agent:
        await begin(agent)
        await scenario(agent)
        await agent.close_input()
        await agent.ended()
    return agent


# Recording

LONGEST = 300
BULKY = frozenset(
    "available_output_styles capabilities memory_paths permission_suggestions plugins skills slash_commands "
    "terminal_slash_commands tools user_output_styles_dir messaging_socket_path model_usage_since_last_result "
    "subagent_stats server_tool_use output_tokens_details cache_creation".split()
)
NAMED = ("commands", "agents", "models")


def scrub(value: Any, home: str) -> Any:
    """Without this machine's paths and without the program's own long texts, of which nothing here depends."""
    match value:
        case dict():
            return {
                key: [{name: one[name] for name in ("name", "value") if name in one} for one in each[:2]]
                if key in NAMED and isinstance(each, list) and all(isinstance(one, dict) for one in each)
                else scrub(each, home)
                for key, each in value.items()
                if key not in BULKY
            }
        case list():
            return [scrub(each, home) for each in value]
        case str():
            text = value.replace(home, "/home/user").replace(as_one_name(home), "-home-user")
            # The scripted model cuts what it echoes and streams: of a path, only the beginning may be left.
            stem = home[: len(home) // 2]
            for cut, user in ((stem, "/home/user"), (as_one_name(stem), "-home-user")):
                text = re.sub(re.escape(cut) + r"\w*", user, text)
            text = re.sub(r"127\.0\.0\.1:\d{4,5}", "127.0.0.1:8790", text)
            return text if len(text) <= LONGEST else text[:LONGEST] + "…"
        case _:
            return value


def as_one_name(path: str) -> str:
    return path.replace("/", "-").replace("_", "-")


def scrubbed(agent: PipeDriver, home: str) -> Transcript:
    first = agent.records[0].at
    records = []
    for record in agent.records:
        data = record.data
        if data:
            data = json.dumps(
                scrub(json.loads(data), home), ensure_ascii=False, separators=(",", ":")
            ).encode()
        records.append(Record(record.no, round(record.at - first, 3), record.kind, data, record.id))
    scene = agent.scene
    header = Header(
        holdfast_transcript=transcripts.FORMAT,
        agent=KIND.name,
        session=scene.session,
        native_id=scene.native_id,
        cwd=scrub(scene.cwd, home),
        mode=scene.mode,
        program_version=KIND.tested_versions[0],
        program_sha256=hashlib.sha256(claude_program.program().read_bytes()).hexdigest(),
        translator_version=KIND.translator_version,
        plan=scene.plan,
        model=scene.model,
    )
    return Transcript(header, records)


async def record(name: str) -> None:
    with ModelProcess() as model, tempfile.TemporaryDirectory(prefix="hfrec") as home:
        agent = await run(SCENARIOS[name], Path(home), model.url)
        FOLDER.mkdir(parents=True, exist_ok=True)
        data = transcripts.encode(scrubbed(agent, home))
        (FOLDER / f"{name}.jsonl").write_bytes(data)
        print(f"{name}: {len(agent.records)} records, {len(data)} bytes", file=sys.stderr)


def read(name: str) -> Transcript:
    return transcripts.decode((FOLDER / f"{name}.jsonl").read_bytes())


def ends_of(transcript: Transcript) -> list[TurnEnded]:
    return [each for each in transcripts.replay(transcript, KIND) if isinstance(each, TurnEnded)]


def shown(reports: list[Report]) -> str:
    """Reports as they are kept beside a transcript: one a line, without what is at its default."""
    lines = []
    for report in reports:
        value = {"type": report.__struct_config__.tag} | {
            field.encode_name: msgspec.to_builtins(getattr(report, field.name))
            for field in msgspec.structs.fields(report)
            if getattr(report, field.name) != field.default
            and (field.default_factory is msgspec.NODEFAULT or getattr(report, field.name))
        }
        lines.append(json.dumps(value, ensure_ascii=False))
    return "\n".join(lines) + "\n"


def keep_reports(name: str) -> None:
    """Writes down what the translator makes of a transcript today: look at the difference before you commit it."""
    (FOLDER / f"{name}.reports.jsonl").write_text(
        shown(transcripts.replay(read(name), KIND)), encoding="utf-8"
    )


if __name__ == "__main__":
    chosen = [each for each in sys.argv[1:] if each != "reports"] or list(SCENARIOS)
    for each in chosen:
        if "reports" not in sys.argv[1:]:
            asyncio.run(record(each))
        keep_reports(each)
