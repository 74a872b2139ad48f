"""Claude Code's translator: its frames to reports, our intents to its frames.

Owns the handshake, the reading of frames and the writing of intents; turns and prompts are `turns`, blocks of messages
`items`, requests `gate`, what is told beside them `notices`, causes of failure `failures`. It decides nothing for the
person and performs nothing. The engine calls it, one journal record at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast.agents.claude import failures, gate, items, notices, tools
from holdfast.agents.claude.state import Pending, State, Tool
from holdfast.agents.claude.turns import Turns
from holdfast.agents.port import (
    Answer,
    Begin,
    Intent,
    Interrupt,
    Prompt,
    Step,
    TranslatorContext,
    Write,
)
from holdfast.core import reports
from holdfast.core.reports import Failure, Report
from holdfast.wire import stream_json
from holdfast.wire.link import Exit, Record
from holdfast.wire.stream_json import Result

BEGIN = "begin"
HOOK = "gate"
NO_CONVERSATION = "No conversation found"
IN_USE = "already in use"

_decoder = msgspec.msgpack.Decoder(State)


class ClaudeTranslator:
    """One session. `receive` and `tick` change the state, `send` does not."""

    def __init__(self, context: TranslatorContext, state: bytes | None) -> None:
        self._context = context
        self._state = _decoder.decode(state) if state else State(context.native_id, resumable=context.resumed)
        self._reports: list[Report] = []
        self._writes: list[Write] = []
        self._turns = Turns(self._state, self._reports, self._request)

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    # Intents

    def send(self, intent: Intent, now: float) -> Sequence[Write]:
        match intent:
            case Begin():
                return [Write(BEGIN, stream_json.initialize(BEGIN, HOOK))]
            case Prompt(prompt=prompt, text=text, images=images):
                pictures = [(image.media_type, image.data) for image in images]
                return [Write(f"prompt:{prompt}", stream_json.user_message(prompt, text, pictures))]
            case Answer(ref=ref):
                request_id = _native(ref)
                pending = self._state.pending.get(request_id)
                if pending is None or pending.ref != ref:
                    return []
                return [Write(f"answer:{ref}", gate.answer_frame(request_id, pending, intent))]
            case Interrupt(id=id_):
                return self._interrupts(f"interrupt:{id_}")

    def _interrupts(self, id_: str) -> list[Write]:
        writes = [Write(id_, stream_json.interrupt(id_))]
        turn = self._state.turn
        if turn and not turn.root:  # there is no root turn to interrupt: what works is in the background
            ids = {f"{id_}:{task}": task for task in self._state.tasks}
            writes += [Write(each, stream_json.stop_task(each, task)) for each, task in ids.items()]
        return writes

    # Records

    def receive(self, record: Record, now: float) -> Step:
        # By the record's own time, so that the same journal always leads to the same reports.
        self._turns.settle(record.at)
        match record.kind:
            case "out":
                self._frame(record.data)
            case "in" | "received":
                self._written(record)
            case "refused":
                self._not_written(record.id)
            case "oversize":
                self._oversize(record)
            case "exit":
                self._exited(record.data)
            case "start" | "blocked" | "unblocked":
                pass
        self._turns.watch(record.at)
        return self._step()

    def tick(self, now: float) -> Step:
        self._turns.settle(now)
        return self._step()

    def _step(self) -> Step:
        step = Step(tuple(self._reports), tuple(self._writes), self._state.settle_at)
        self._reports.clear()
        self._writes.clear()
        return step

    def _say(self, *said: Report) -> None:
        self._reports.extend(said)

    def _frame(self, data: bytes) -> None:
        frame = stream_json.parse(data)
        state = self._state
        match frame:
            case stream_json.ControlResponse(response=reply):
                self._answered(reply)
            case stream_json.ControlRequest():
                self._asked(frame)
            case stream_json.Result():
                self._result(frame)
            case _ if state.phase != "ready":
                pass  # before its handshake is answered, the agent has nothing to tell
            case stream_json.StreamEvent():
                self._piece(frame)
            case stream_json.Assistant(parent_tool_use_id=parent):
                turn = self._turns.of(parent)
                if not parent:
                    state.said_error = frame.error or ""
                    self._used(frame.message)
                self._say(*items.finished(state, frame, turn))
            case stream_json.User():
                self._user(frame)
            case stream_json.ControlCancel(request_id=request_id):
                if pending := state.pending.pop(request_id, None):
                    self._say(reports.RequestWithdrawn(pending.ref))
            case stream_json.Lifecycle(command_uuid=uuid, state=stage):
                self._turns.lifecycle(uuid, stage)
            case stream_json.Init():
                state.model = frame.model or state.model
                self._turns.announced(frame.user_message_uuids)
            case stream_json.Status():
                if state.announced and frame.status == "requesting":
                    self._turns.claim(frame.user_message_uuids, certain=state.lifecycles)
            case stream_json.ConversationReset(new_conversation_id=id_):
                if id_:
                    state.native_id, state.resumable, state.cost_usd = id_, False, 0.0
                    self._say(reports.BindingChanged(id_, resumable=False))
            case stream_json.TaskStarted(task_type="local_agent", is_backgrounded=True, task_id=id_):
                if id_ and id_ not in state.tasks:
                    state.tasks.append(id_)
            case stream_json.TaskNotification(task_id=id_):
                self._task_ended(frame)
            case stream_json.BackgroundTasks(tasks=tasks):
                listed = {task.get("task_id") for task in tasks if isinstance(task, dict)}
                state.tasks = [task for task in state.tasks if task in listed]
            case stream_json.CompactBoundary():
                turn = self._turns.of(None)
                state.context_used = frame.compact_metadata.post_tokens or state.context_used
                self._say(notices.compaction(frame, turn, self._turns.number()))
            case _:
                self._say(*notices.of_frame(state, frame, self._turns.ref))

    # Handshake and end

    def _answered(self, reply: stream_json.ControlReply) -> None:
        """An answer to a request of ours. Only the handshake's matters: what an interrupt led to, `result` says."""
        if reply.request_id != BEGIN or self._state.phase != "opening":
            return
        if reply.subtype == "success":
            self._state.phase = "ready"
            version, details = notices.handshake(reply.response)
            self._say(reports.SessionReady(self._context.native_id, version, self._context.model, details))
        else:
            self._refuse(f"cannot start the session: because the agent says: {reply.error or 'no'}")

    def _refuse(self, message: str) -> None:
        if self._state.phase == "refused":
            return
        self._state.phase = "refused"
        class_ = failures.of_result(Result(result=message), "", None).class_
        failure = Failure("auth" if class_ == "auth" else "start_failed", message)
        self._say(reports.SessionRefused(failure, resume_lost=NO_CONVERSATION in message))

    def _exited(self, data: bytes) -> None:
        if self._state.phase != "opening":
            return
        value = stream_json.decode(data)
        end = stream_json.read(Exit, value) if isinstance(value, dict) else Exit()
        how = f"signal {end.signal}" if end.signal else f"code {end.code}"
        words = end.stderr.strip()[-2000:]
        if IN_USE in words:
            words += " (another process has this conversation open, or its id was used before)"
        said = f" and said: {words}" if words else " and said nothing"
        self._refuse(f"cannot start the session: because the agent's process ended with {how}{said}")

    def _oversize(self, record: Record) -> None:
        value = stream_json.decode(record.data)
        length = value.get("bytes") if isinstance(value, dict) else None
        message = f"cannot read what the agent wrote: because one frame of {length} bytes is above the bound"
        failure = Failure("frame_too_large", message)
        if self._state.phase == "opening":
            self._state.phase = "refused"
            self._say(reports.SessionRefused(failure))
            return
        self._say(reports.NoticeGiven("frame_too_large", message, turn=self._turns.ref))
        if self._state.turn:
            # What is left of the agent's turn makes no sense without that frame: the agent shall stop. What it still
            # says until then is a turn that nobody asked for.
            self._writes.extend(self._interrupts(f"interrupt:oversize-{record.no}"))
            self._turns.end("failed", failure)
            self._turns.carry_on()

    # What we wrote, as the journal tells it

    def _written(self, record: Record) -> None:
        """`received`: the runner took the write on. `in`: the agent has it in full."""
        state = self._state
        name, _, rest = record.id.partition(":")
        if name == "prompt":
            if rest not in state.taken:
                state.prompts.setdefault(rest, "written")
        elif name == "interrupt" and state.turn:
            state.turn.interrupted = True
        elif name == "answer" and (pending := state.pending.get(_native(rest))):
            pending.answering = True
            if record.kind == "in":
                del state.pending[_native(rest)]
                if pending.ref != rest:  # it was asked again while this answer was on its way
                    self._say(reports.RequestWithdrawn(pending.ref))
                tool = state.tools.get(pending.tool_use)
                if tool and _denies(record.data):
                    tool.declined = True

    def _not_written(self, id_: str) -> None:
        name, _, rest = id_.partition(":")
        if name == "prompt":
            self._state.prompts.pop(rest, None)
        elif name == "answer" and (pending := self._state.pending.get(_native(rest))):
            pending.answering = False

    # What a turn consists of

    def _task_ended(self, frame: stream_json.TaskNotification) -> None:
        known = frame.task_id in self._state.tasks
        if known:
            self._state.tasks.remove(frame.task_id)
        # A call that waited for its subagent tells of its end with its result.
        if known or frame.tool_use_id not in self._state.tools:
            self._say(*notices.of_task(frame, self._turns.ref))

    def _piece(self, frame: stream_json.StreamEvent) -> None:
        parent = frame.parent_tool_use_id
        type_ = frame.event.get("type")
        if type_ not in ("message_start", "content_block_start", "content_block_delta"):
            return
        turn = self._turns.of(parent)
        message = frame.event.get("message")
        if not parent and isinstance(message, dict):
            self._used(stream_json.read(stream_json.Message, message))
        self._say(*items.streamed(self._state, frame, turn))

    def _used(self, message: stream_json.Message) -> None:
        if message.usage and message.usage.context > 0:  # the program's own error messages used nothing
            self._state.context_used = message.usage.context

    def _user(self, frame: stream_json.User) -> None:
        if frame.is_replay:
            self._replayed(frame)
            return
        answered = [
            tools.text_at(block, "tool_use_id")
            for block in frame.message.blocks()
            if block.get("type") == "tool_result" and block.get("is_error") is not True
        ]
        if all(block.get("type") != "tool_result" for block in frame.message.blocks()):
            return  # the program's own words to the model: a prompt for a subagent, a summary, "interrupted"
        turn = self._turns.of(frame.parent_tool_use_id)
        for id_ in answered:
            tool = self._state.tools.get(id_)
            if tool and not tool.gated and tools.surely_gated(tool.name):
                self._bypassed(tool.name, id_, turn)
        self._say(*items.results(self._state, frame, turn))

    def _bypassed(self, tool: str, call: str, turn: str) -> None:
        """The gate has a hole (a setting, a new version): the agent is stopped, and it is said."""
        text = (
            f"{tool} ran without having asked Holdfast: the agent's hook did not run. The turn is stopped. "
            "Look for --bare or CLAUDE_CODE_SIMPLE in the agent's command, environment and settings."
        )
        self._say(reports.NoticeGiven("gate_bypassed", text, {"tool": tool, "call": call}, turn=turn))
        self._writes.append(Write(f"interrupt:gate-{call}", stream_json.interrupt(f"interrupt:gate-{call}")))

    def _replayed(self, frame: stream_json.User) -> None:
        state = self._state
        if frame.uuid not in state.prompts:
            text = stream_json.text_of(frame.message.content)
            self._say(*notices.local_output(text, self._turns.ref))
            return
        self._turns.seen(frame.uuid)
        if not state.lifecycles and (state.announced or self._turns.root_is_open):
            self._turns.take_up(frame.uuid)

    def _result(self, frame: Result) -> None:
        state = self._state
        if state.phase != "ready":
            self._refuse(f"cannot start the session: because the agent says: {failures.words_of(frame)}")
            return
        ours = [uuid for uuid in frame.user_message_uuids if uuid in state.prompts]
        for uuid in ours:
            self._turns.take_up(uuid)
        self._turns.of(None)
        interrupted = state.turn is not None and state.turn.interrupted
        usage = self._usage(frame)
        window = _window(frame, state.model)
        if state.context_used:
            self._say(reports.ContextReported(state.context_used, window))
        if not state.resumable:
            state.resumable = True
            self._say(reports.BindingChanged(state.native_id, resumable=True))
        if frame.terminal_reason.startswith(failures.ABORTED) or (
            interrupted and frame.subtype == "error_during_execution"
        ):
            self._turns.end("interrupted", usage=usage)
        elif frame.is_error or frame.subtype.startswith("error"):
            self._turns.end("failed", failures.of_result(frame, state.said_error, state.reset_at), usage)
        else:
            state.reset_at = None
            self._turns.end("completed", usage=usage)
        self._turns.carry_on()

    def _usage(self, frame: Result) -> reports.Usage:
        """Of this turn alone: the program's cost and time at the model run on over its life."""
        state = self._state
        cost = api_ms = None
        if frame.total_cost_usd is not None:
            before = state.cost_usd if frame.total_cost_usd >= state.cost_usd else 0.0
            cost = round(frame.total_cost_usd - before, 10)
            state.cost_usd = frame.total_cost_usd
        if frame.duration_api_ms is not None:
            before_ms = state.api_ms if frame.duration_api_ms >= state.api_ms else 0
            api_ms = frame.duration_api_ms - before_ms
            state.api_ms = frame.duration_api_ms
        tokens = frame.usage
        return reports.Usage(
            input=tokens.input_tokens if tokens else None,
            output=tokens.output_tokens if tokens else None,
            cache_read=tokens.cache_read_input_tokens if tokens else None,
            cache_write=tokens.cache_creation_input_tokens if tokens else None,
            cost_usd=cost,
            duration_ms=frame.duration_ms,
            api_duration_ms=api_ms,
        )

    # Requests

    def _asked(self, frame: stream_json.ControlRequest) -> None:
        request, id_ = frame.request, frame.request_id
        subtype = tools.text_at(request, "subtype")
        if subtype == "hook_callback":
            call = tools.text_at(request, "tool_use_id")
            tool = self._state.tools.setdefault(call, Tool(name=""))
            tool.gated = True
            verdict = gate.hook_verdict(request)
            self._writes.append(Write(f"hook:{id_}", stream_json.hook_decision(id_, verdict)))
        elif subtype == "mcp_message":
            refusal = stream_json.control_error(id_, "Holdfast offers no MCP server on this connection")
            self._writes.append(Write(f"reply:{id_}", refusal))
        else:
            self._turns.any_open()
            pending = Pending(id_, frame.raw, tools.text_at(request, "tool_use_id"))
            self._state.pending[id_] = pending
            self._say(self._request(pending))

    def _request(self, pending: Pending) -> reports.RequestOpened:
        context = self._context
        return gate.opened(pending, self._turns.ref, context.cwd, context.add_dirs)


def _native(ref: str) -> str:
    """The agent's id of a request that was reported as `ref`."""
    return ref.partition("#")[0]


def _denies(data: bytes) -> bool:
    """Whether a frame of ours is a refusal."""
    frame = stream_json.parse(data)
    return (
        isinstance(frame, stream_json.ControlResponse) and frame.response.response.get("behavior") == "deny"
    )


def _window(frame: Result, model: str) -> int:
    """The size of the context window: the root model's, or the largest there is."""
    sizes = {
        name: size
        for name, usage in frame.model_usage.items()
        if isinstance(usage, dict)
        and isinstance(size := usage.get("contextWindow"), int)
        and 0 < size < 2**53
    }
    return sizes.get(model) or max(sizes.values(), default=0)
