"""The scripted agent: its declaration and its translator. The agent itself is `scripted_program.py`.

It is a real process that goes through the same runner and transport as any other, for demos, tests and load. It speaks
JSON lines of its own; unknown messages and fields are ignored on either side. What a prompt can make it do is listed in
`scripted_words.py`.

To the agent:

    hello{native, resume, plan, model, cwd}       first; `resume`: the conversation must exist
    prompt{id, text, images}                      `images`: how many; prompts are taken up one after the other
    answer{request, decision, message, answers}   `answers`: question id -> labels or texts
    interrupt{id, turn}                           ends that turn, "" the one that runs

From the agent:

    ready{native, version, model} | refused{reason, lost}
    prompt.seen{id}                               it is in the native history now, and will never be run by itself again
    turn.started{turn, prompt}                    `prompt` "": nobody asked for this turn
    text{item, delta}, text.done{item, text?, status?}      reasoning and reasoning.done alike
    tool.started{item, tool, title, arguments}, tool.output{item, delta}, tool.done{item, status, exit_code?, text?}
    ask{request, kind, title, tool, arguments, item?, detail?, grant?}, ask.cancelled{request}
    question{request, title, questions}
    plan{item, text} · todo{item, entries} · notice{code, text} · usage{used, window}
    turn.ended{turn, status, failure?, usage}     of the root turn, which is the only kind there is

The native history is `$HOLDFAST_SCRIPTED_HOME` or `$HOME/.holdfast-scripted`, `/<native id>.jsonl`: a line per prompt
when it is taken up and a line per answer when it is done. A prompt that comes twice is run twice, so that a double
dispatch is to be seen there. HOLDFAST_SCRIPTED_START_MS delays the start, HOLDFAST_SCRIPTED_START_FAIL fails it.
"""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Literal, get_args

import msgspec

from holdfast.agents import scripted_frames as frames
from holdfast.agents.port import (
    Answer,
    Begin,
    Capabilities,
    History,
    Intent,
    Interrupt,
    Lane,
    Launch,
    LaunchContext,
    Mode,
    Prompt,
    Step,
    TranslatorContext,
    Write,
)
from holdfast.core.reports import (
    REQUEST_KINDS,
    BindingChanged,
    ContextReported,
    Decision,
    Failure,
    FailureClass,
    ItemCompleted,
    ItemKind,
    ItemStarted,
    ItemStatus,
    ItemText,
    NoticeGiven,
    PromptSeen,
    Report,
    RequestKind,
    RequestOpened,
    RequestWithdrawn,
    SessionReady,
    SessionRefused,
    TurnEnded,
    TurnStarted,
    Usage,
)
from holdfast.wire.link import FindInFile, HostCall, Record, StatFile

VERSION = "1"
PROGRAM = str(PurePath(__file__).with_name("scripted_program.py"))


_frames = msgspec.json.Decoder(frames.Frame)
_sent = msgspec.json.Decoder(frames.AnswerSent)


class State(msgspec.Struct):
    """All that a translator keeps. `items` and `asks` hold what is open in the turn."""

    turn: str = ""
    items: dict[str, ItemKind] = {}
    asks: list[str] = []
    noise: bool = False  # a line that is no frame was shown


class ScriptedTranslator:
    """Frames of the scripted agent <-> reports."""

    def __init__(self, context: TranslatorContext, state: State) -> None:
        self.context = context
        self.state = state

    def dump(self) -> bytes:
        return msgspec.json.encode(self.state)

    def tick(self, now: float) -> Step:
        return Step()

    def receive(self, record: Record, now: float) -> Step:
        match record.kind:
            case "out":
                return Step(self._frame(record.data))
            case "in":
                return Step(self._sent(record.data))
            case "oversize":
                return self._oversize(record)
            case _:
                return Step()

    def send(self, intent: Intent, now: float) -> Sequence[Write]:
        match intent:
            case Begin():
                context = self.context
                hello = {"type": "hello", "native": context.native_id, "resume": context.resumed}
                more = {"plan": context.plan, "model": context.model, "cwd": context.cwd}
                return [_write("hello", hello | more)]
            case Prompt(prompt, text, images):
                frame = {"type": "prompt", "id": prompt, "text": text, "images": len(images)}
                return [_write(f"prompt:{prompt}", frame)]
            case Answer(ref, decision, message, answers):
                if ref not in self.state.asks:
                    return []
                frame = {"type": "answer", "request": ref, "decision": decision}
                return [_write(f"answer:{ref}", frame | {"message": message, "answers": answers})]
            case Interrupt(name):
                frame = {"type": "interrupt", "id": name, "turn": self.state.turn}
                return [_write(f"interrupt-{name}", frame)]

    def _sent(self, data: bytes) -> list[Report]:
        try:
            sent = _sent.decode(data)
        except (msgspec.MsgspecError, RecursionError):
            return []
        if sent.type == "answer" and sent.request in self.state.asks:
            self.state.asks.remove(sent.request)
        return []

    def _oversize(self, record: Record) -> Step:
        """A frame was too large to read. What it said is not known, so the turn cannot be told truthfully."""
        turn = self.state.turn
        text = "cannot read what the agent wrote: because one frame is larger than limits.frame_mb; raise it"
        if not turn:
            return Step([NoticeGiven("frame_too_large", text)])
        interrupt = {"type": "interrupt", "id": f"oversize-{record.no}", "turn": turn}
        writes = [_write(f"interrupt-oversize-{record.no}", interrupt)]
        return Step([self._end(turn, "failed", Failure("frame_too_large", text))], writes)

    def _frame(self, data: bytes) -> list[Report]:
        try:
            frame = _frames.decode(data)
        except msgspec.ValidationError:
            return []
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._noise(data)
        match frame:
            case frames.Ready(native, version, model):
                return [SessionReady(native, version, model), BindingChanged(native, True)]
            case frames.Refused(reason, lost):
                text = f"cannot open the scripted conversation: because {reason}"
                return [SessionRefused(Failure("start_failed", text), resume_lost=lost)]
            case frames.Seen(prompt):
                return [PromptSeen(prompt)]
            case frames.Started(turn, prompt):
                return self._begin(turn, prompt) if turn else []
            case frames.Ended(turn):
                return self._ended(frame) if turn and turn == self.state.turn else []
            case frames.AskCancelled(request):
                return self._cancelled(request)
            case frames.Notice(code, text):
                return [NoticeGiven(code, text, turn=self.state.turn)]
            case frames.ContextUsed(used, window):
                return [ContextReported(used, window)]
            case _:
                return self._in_turn(frame) if self.state.turn else []

    def _noise(self, data: bytes) -> list[Report]:
        """Shown once; a thousand such lines would tell no more."""
        if self.state.noise:
            return []
        self.state.noise = True
        line = data[:200].decode("utf-8", "replace")
        text = f"the agent wrote a line that is no frame; further ones are not shown: {line}"
        return [NoticeGiven("unreadable_output", text, turn=self.state.turn)]

    # turns

    def _begin(self, turn: str, prompt: str) -> list[Report]:
        before: list[Report] = []
        if self.state.turn:
            text = f"the agent began turn {turn} before it ended turn {self.state.turn}"
            before.append(self._end(self.state.turn, "failed", Failure("protocol", text)))
        self.state.turn = turn
        return [*before, TurnStarted(turn, prompt)]

    def _ended(self, frame: frames.Ended) -> list[Report]:
        failure = None
        if frame.status == "failed":
            cause = frame.failure or frames.Cause("agent_error", "the agent gave no reason")
            known = cause.class_ in get_args(FailureClass)
            failure = Failure(cause.class_ if known else "agent_error", cause.message, cause.retry_at)  # type: ignore[arg-type]
        return [self._end(frame.turn, frame.status, failure, frame.usage)]

    def _end(
        self,
        turn: str,
        status: Literal["completed", "failed", "interrupted"],
        failure: Failure | None = None,
        usage: Usage | None = None,
    ) -> TurnEnded:
        self.state.turn, self.state.items, self.state.asks = "", {}, []
        return TurnEnded(turn, status, failure, usage)

    def _cancelled(self, request: str) -> list[Report]:
        if request not in self.state.asks:
            return []
        self.state.asks.remove(request)
        return [RequestWithdrawn(request)]

    # what a turn shows

    def _in_turn(self, frame: frames.InTurn) -> list[Report]:
        turn = self.state.turn
        match frame:
            case frames.Text(item, delta):
                return self._delta(item, "assistant_message", delta)
            case frames.Reasoning(item, delta):
                return self._delta(item, "reasoning", delta)
            case frames.TextDone(item, text, status):
                return self._done(item, "assistant_message", status, text)
            case frames.ReasoningDone(item, text, status):
                return self._done(item, "reasoning", status, text)
            case frames.ToolStarted():
                return self._tool(frame)
            case frames.ToolOutput(item, delta):
                return [ItemText(item, delta)] if item in self.state.items else []
            case frames.ToolDone():
                return self._tool_done(frame)
            case frames.Ask():
                return self._ask(frame)
            case frames.Asked(request, title, questions):
                self.state.asks.append(request)
                options: list[Decision] = ["accept", "decline", "cancel"]
                asked = RequestOpened(
                    turn, request, "question", title, tool="question", options=options, questions=questions
                )
                return [asked]
            case frames.Plan(item, text):
                return [ItemCompleted(item, text=text, turn=turn, kind="plan")]
            case frames.Todo(item, entries):
                return [ItemCompleted(item, data={"todos": entries}, turn=turn, kind="todo_list")]

    def _delta(self, item: str, kind: ItemKind, delta: str) -> list[Report]:
        reports: list[Report] = []
        if item not in self.state.items:
            self.state.items[item] = kind
            reports.append(ItemStarted(self.state.turn, item, kind))
        return [*reports, ItemText(item, delta)]

    def _done(self, item: str, kind: ItemKind, status: ItemStatus, text: str | None) -> list[Report]:
        self.state.items.pop(item, None)
        return [ItemCompleted(item, status, text, turn=self.state.turn, kind=kind)]

    def _tool(self, frame: frames.ToolStarted) -> list[Report]:
        kinds: dict[str, ItemKind] = {"command": "command", "file_change": "file_change"}
        kind = kinds.get(frame.tool, "tool_call")
        self.state.items[frame.item] = kind
        shown = {key: value for key, value in frame.arguments.items() if key in ("command", "path")}
        data: dict[str, Any] = {"tool": frame.tool, "title": frame.title, "input": frame.arguments, **shown}
        changes = kind in ("command", "file_change")
        return [ItemStarted(self.state.turn, frame.item, kind, data=data, changes_files=changes)]

    def _tool_done(self, frame: frames.ToolDone) -> list[Report]:
        if self.state.items.pop(frame.item, None) is None:
            return []
        data: dict[str, Any] = {}
        if frame.exit_code is not None:
            data["exit_code"] = frame.exit_code
        if frame.text:
            data["message"] = frame.text
        return [ItemCompleted(frame.item, frame.status, data=data)]

    def _ask(self, frame: frames.Ask) -> list[Report]:
        self.state.asks.append(frame.request)
        kind: RequestKind = "unknown"
        if frame.kind in REQUEST_KINDS and frame.kind != "question":
            kind = frame.kind
        request = RequestOpened(
            self.state.turn,
            frame.request,
            kind,
            frame.title,
            tool=frame.tool,
            arguments=frame.arguments,
            detail=frame.detail,
            item_ref=frame.item,
            grant=frame.grant,
            inside_workspace=kind == "file_change" and self._is_inside(frame.arguments.get("path")),
        )
        return [request]

    def _is_inside(self, path: object) -> bool:
        if not isinstance(path, str):
            return False
        whole = posixpath.normpath(posixpath.join(self.context.cwd, path))
        folders = [posixpath.normpath(folder) for folder in (self.context.cwd, *self.context.add_dirs)]
        return any(whole.startswith(folder.rstrip("/") + "/") for folder in folders)


def _write(name: str, frame: dict[str, Any]) -> Write:
    return Write(name, msgspec.json.encode(frame))


# The declaration


def _history(context: LaunchContext) -> str:
    """The path of the native history that the context's session has or would have."""
    env = context.env
    folder = env.get("HOLDFAST_SCRIPTED_HOME") or posixpath.join(
        env.get("HOME") or context.cwd, ".holdfast-scripted"
    )
    native = context.binding.native_id if context.binding else context.fresh_id
    return posixpath.join(folder, f"{native}.jsonl")


class Scripted:
    """The declaration of kind `scripted`."""

    name = "scripted"
    home_variable = "HOLDFAST_SCRIPTED_HOME"
    nesting_markers: Sequence[str] = ()
    default_command: Sequence[str] = (sys.executable, "-I", "-S", PROGRAM)
    env_names: Sequence[str] = (
        "HOLDFAST_SCRIPTED_HOME",
        "HOLDFAST_SCRIPTED_START_MS",
        "HOLDFAST_SCRIPTED_START_FAIL",
    )
    capabilities = Capabilities(
        resume=True,
        interrupt=True,
        interrupt_keeps_background=True,
        queued_messages=True,
        approvals=list(REQUEST_KINDS),
        questions=True,
        plan_mode=True,
        todo_list=True,
        reasoning_stream=True,
        command_output_stream=True,
        images=True,
        usage=True,
    )
    lanes: Mapping[RequestKind, Lane] = dict.fromkeys(REQUEST_KINDS, "hosted-alive")
    modes: Mapping[Mode, str] = {
        "ask": "Every `bash` and `write` of a script asks, and waits for the person.",
        "edits": "Asks the same; Holdfast accepts files written inside the workspace.",
        "auto": "As `edits`: the scripted agent has no reviewer of its own.",
        "full": "Asks the same; Holdfast accepts everything and records it. Questions still wait for the person.",
    }
    translator_version = 1
    tested_versions: Sequence[str] = (VERSION,)
    built_in = True

    def version_call(self, command: Sequence[str], env: Mapping[str, str], cwd: str) -> HostCall | None:
        return None

    def read_version(self, answer: Mapping[str, Any]) -> str:
        return VERSION

    def launch_calls(self, context: LaunchContext) -> Sequence[HostCall]:
        return [StatFile(_history(context))] if context.binding else []

    def launch(self, context: LaunchContext, answers: Sequence[Mapping[str, Any]]) -> Launch:
        native, why, grown = context.fresh_id, "", False
        binding = context.binding
        resumed = binding is not None and bool(answers) and bool(answers[0].get("exists"))
        if binding is not None and resumed:
            native = binding.native_id
            grown = 0 <= binding.native_bytes < int(answers[0].get("size") or 0)
        elif binding is not None:
            why = f"cannot continue conversation {binding.native_id}: because {_history(context)} is gone"
        argv = list(context.command or self.default_command)
        return Launch(argv, dict(context.env), native, resumed, [f"scripted-{native}"], why, grown)

    def history_calls(self, context: LaunchContext, prompt: str) -> Sequence[HostCall]:
        return [FindInFile(_history(context), [_needle(prompt)])]

    def read_history(self, answers: Sequence[Mapping[str, Any]]) -> History:
        if not answers or not answers[0].get("exists"):
            return "unknown"  # it is made before the first prompt can come
        return "present" if answers[0].get("found") else "absent"

    def size_calls(self, context: LaunchContext) -> Sequence[HostCall]:
        return [StatFile(_history(context))]

    def translator(self, context: TranslatorContext, state: bytes | None) -> ScriptedTranslator:
        return ScriptedTranslator(
            context, State() if state is None else msgspec.json.decode(state, type=State)
        )


def _needle(prompt: str) -> str:
    """How a prompt's line in the history begins; inside a text its quotes would be escaped."""
    return f'"prompt":{msgspec.json.encode(prompt).decode()}'


SCRIPTED = Scripted()
