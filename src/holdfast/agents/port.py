"""The contract between the engine and a kind of agent: declaration, launch, translator.

Owns the types that every agent file fills in and the engine consumes. It never performs anything: an agent file is
data and pure functions; the engine performs the host calls, opens sessions and commits.

Three rules carry crash safety:

1. A translator's state changes in `receive` and `tick` alone, never in `send`: what was sent comes back as the
   journal's record of kind `in`. So the journal alone rebuilds the state, and a journal is a complete test.
2. An item whose text comes in pieces starts without text.
3. `receive` may be called with any record at any time, in the order of the journal, exactly once. It never raises
   for what the agent says; unknown frames are kept as a notice or dropped, never guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from holdfast.core.reports import Decision, Report, RequestKind
from holdfast.wire.link import HostCall, Record

Mode = Literal["ask", "edits", "auto", "full"]
Lane = Literal["native-defer", "hosted-alive", "reask-recorded", "durable-tool", "none"]
History = Literal["present", "absent", "unknown"]


class Capabilities(msgspec.Struct, frozen=True):
    """What a kind can do, as declared and tested. False and "" mean no."""

    resume: bool = False
    fork: Literal["", "latest", "turn", "item"] = ""
    rollback: bool = False
    steer: bool = False
    interrupt: bool = False
    interrupt_keeps_background: bool = False
    queued_messages: bool = False
    approvals: list[RequestKind] = []
    questions: bool = False
    plan_mode: bool = False
    todo_list: bool = False
    reasoning_stream: bool = False
    command_output_stream: bool = False
    subagents: bool = False
    model_switch_live: bool = False
    mode_switch_live: bool = False
    images: bool = False
    mcp_servers: bool = False
    usage: bool = False
    rate_limits: bool = False
    structured_output: bool = False
    multi_client_attach: bool = False
    session_list: bool = False


class Binding(msgspec.Struct, frozen=True):
    """The durable handle on a native conversation: never a port, a pid or a password. `native_bytes` is the size of
    the native history when we last let go of it, -1 unknown."""

    native_id: str
    resumable: bool
    native_bytes: int = -1


class LaunchContext(msgspec.Struct, frozen=True):
    """All that a launch may depend on. `env` is the deliberate environment (allow-list already applied)."""

    command: list[str]
    env: dict[str, str]
    cwd: str
    add_dirs: list[str]
    model: str
    effort: str
    mode: Mode
    plan: bool
    fresh_id: str  # an RFC 4122 text id for a new native conversation, derived from the session's id
    binding: Binding | None = None
    options: dict[str, Any] = {}


class Launch(msgspec.Struct, frozen=True):
    """How to start the process. `resumed` False although a binding was given: the conversation is lost, and the
    engine rebuilds the context from the log, with a notice that says `why`. `grown`: somebody else has added to the
    native history since we let go of it."""

    argv: list[str]
    env: dict[str, str]
    native_id: str
    resumed: bool
    locks: list[str]
    why: str = ""
    grown: bool = False


class Write(msgspec.Struct, frozen=True):
    """One frame for the agent. `id` is unique in its session and the same for the same intent: the runner hands it
    over at most once. The core knows two forms: the frame that carries a prompt has the id `prompt:<Prompt.prompt>`,
    the one that carries a decision `answer:<Answer.ref>`; all other ids are the translator's own affair."""

    id: str
    data: bytes


class Step(msgspec.Struct, frozen=True):
    """What a record led to. `writes` go out after the commit of the reports. `wake_at`: unix seconds at which
    `tick` wants to be called, None: not; the newest step's counts."""

    reports: Sequence[Report] = ()
    writes: Sequence[Write] = ()
    wake_at: float | None = None


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """The process was started: perform the handshake. Sent once per session, first."""


class Image(msgspec.Struct, frozen=True):
    media_type: str
    data: str  # base64


class Prompt(msgspec.Struct, frozen=True, tag="prompt"):
    """A run's request. `prompt` is our reference, an RFC 4122 text id, that the agent keeps in its own history."""

    prompt: str
    text: str
    images: list[Image] = []


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """The person's decision on the request with the native reference `ref`. `answers`: question id -> labels or
    texts."""

    ref: str
    decision: Decision
    message: str = ""
    answers: dict[str, list[str]] = {}


class Interrupt(msgspec.Struct, frozen=True, tag="interrupt"):
    """Stop the running turn; the session stays. `id` makes repeated interrupts of one attempt one write."""

    id: str


Intent = Begin | Prompt | Answer | Interrupt


class Translator(Protocol):
    """Frames <-> reports for one session. A state machine without I/O, clock or randomness."""

    def receive(self, record: Record, now: float) -> Step:
        """Consume the next journal record: `start`, `out`, `in`, `received`, `refused`, `oversize`, `exit` ...

        The engine itself reports writes, blocking and the end of the process; the translator answers only with
        what the record means to it (on `exit`: close what is open by saying nothing, the decider does that).
        """
        ...

    def send(self, intent: Intent, now: float) -> Sequence[Write]:
        """The frames for an intent; changes no state. An intent that makes no sense (an answer to a request that is
        gone) gives no frames."""
        ...

    def tick(self, now: float) -> Step:
        """Called at or after `wake_at`."""
        ...

    def dump(self) -> bytes:
        """The state as bytes, small (some kilobytes), for `AgentKind.translator`."""
        ...


class AgentKind(Protocol):
    """One kind of agent. Implementations are stateless values found by `agents.catalog`."""

    name: str
    default_command: Sequence[str]
    #: names of environment variables that this kind's process may take over from the server's environment
    env_names: Sequence[str]
    capabilities: Capabilities
    #: the variable that names the folder of an account of its own (`agents.<id>.home`)
    home_variable: str
    #: variables by which the program notices that it runs inside an agent: they never pass
    nesting_markers: Sequence[str]
    #: the best lane per kind of request; absent: "none"
    lanes: Mapping[RequestKind, Lane]
    #: one sentence per mode of ours, what it means for this kind
    modes: Mapping[Mode, str]
    #: raise it whenever the same journal would lead to another state or other reports
    translator_version: int
    #: versions of the program that the transcripts and the conformance suite were made with
    tested_versions: Sequence[str]
    #: always available, whatever is on PATH
    built_in: bool

    def version_call(self, command: Sequence[str], env: Mapping[str, str], cwd: str) -> HostCall | None:
        """How to ask the installed program for its version; None if it has none."""
        ...

    def read_version(self, answer: Mapping[str, Any]) -> str:
        """The version in the answer to `version_call`, "" if it cannot be read."""
        ...

    def launch_calls(self, context: LaunchContext) -> Sequence[HostCall]:
        """What must be known of the host before `launch`, such as whether the native history is still there."""
        ...

    def launch(self, context: LaunchContext, answers: Sequence[Mapping[str, Any]]) -> Launch:
        """The process to start, given the answers to `launch_calls` in their order."""
        ...

    def history_calls(self, context: LaunchContext, prompt: str) -> Sequence[HostCall]:
        """How to ask the agent's own history whether it has the prompt with that reference. Empty: undecidable."""
        ...

    def read_history(self, answers: Sequence[Mapping[str, Any]]) -> History:
        """What the answers to `history_calls` mean."""
        ...

    def size_calls(self, context: LaunchContext) -> Sequence[HostCall]:
        """At most one `StatFile` that tells the size of the native history; empty if there is none."""
        ...

    def translator(self, context: TranslatorContext, state: bytes | None) -> Translator:
        """A translator, fresh or from `Translator.dump` of the same `translator_version`."""
        ...


class TranslatorContext(msgspec.Struct, frozen=True):
    """What a translator may know of its session."""

    session: str
    native_id: str
    resumed: bool
    cwd: str
    mode: Mode
    plan: bool
    model: str
    add_dirs: list[str] = []
