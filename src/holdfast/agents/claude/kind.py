"""Claude Code as a kind of agent: what it can do, how it is started, and where its own history lies.

Owns the declaration, the command line and the questions to the host; it starts nothing. Called by `agents.catalog` and
the engine. What is declared was seen on the versions in `tested_versions`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from holdfast.agents.claude.translator import ClaudeTranslator
from holdfast.agents.port import (
    Capabilities,
    History,
    Lane,
    Launch,
    LaunchContext,
    Mode,
    TranslatorContext,
)
from holdfast.core.reports import REQUEST_KINDS, RequestKind
from holdfast.wire.link import FindInFile, HostCall, RunProgram, StatFile

# With CLAUDE_CODE_SIMPLE (what --bare sets) the program runs no hooks, so that no call reaches our gate (measured,
# although its handshake says that the hooks were applied). A person's settings file may set it: settings given on the
# command line outrank those.
SETTINGS = '--settings={"env":{"CLAUDE_CODE_SIMPLE":"0"}}'

FIXED = (
    "--print",
    "--input-format=stream-json",
    "--output-format=stream-json",
    "--verbose",
    "--include-partial-messages",
    "--replay-user-messages",
    "--permission-prompt-tool=stdio",
    SETTINGS,
)

# What makes the program think that it runs inside another one, or switches its hooks off.
REMOVED = frozenset(
    {
        "AI_AGENT",
        "CLAUDECODE",
        "CLAUDE_AGENT_SDK_VERSION",
        "CLAUDE_CODE_CHILD_SESSION",
        "CLAUDE_CODE_COORDINATOR_MODE",
        "CLAUDE_CODE_ENTRYPOINT",
        "CLAUDE_CODE_SESSION_ID",
        "CLAUDE_CODE_SIMPLE",
        "CLAUDE_CODE_SSE_PORT",
        "CLAUDE_ENV_FILE",
        "CLAUDE_PROJECT_DIR",
    }
)

_VERSION = re.compile(r"\s*(\d+\.\d+\.\d+\S*)")
_NAME_MAX = 200


class ClaudeKind:
    """See `holdfast.agents.port.AgentKind`."""

    name = "claude"
    default_command: Sequence[str] = ("claude",)
    home_variable = "CLAUDE_CONFIG_DIR"
    nesting_markers: Sequence[str] = tuple(sorted(REMOVED))
    env_names: Sequence[str] = (
        "ANTHROPIC_*",
        "API_TIMEOUT_MS",
        "AWS_BEARER_TOKEN_BEDROCK",  # whoever uses the secret keys themselves names them in env_pass
        "AWS_CONFIG_FILE",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_SHARED_CREDENTIALS_FILE",
        "BASH_DEFAULT_TIMEOUT_MS",
        "BASH_MAX_OUTPUT_LENGTH",
        "BASH_MAX_TIMEOUT_MS",
        "CLAUDE_CODE_API_KEY_HELPER_TTL_MS",
        "CLAUDE_CODE_CERT_STORE",
        "CLAUDE_CODE_CLIENT_CERT",
        "CLAUDE_CODE_CLIENT_KEY",
        "CLAUDE_CODE_CLIENT_KEY_PASSPHRASE",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS",
        "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "CLAUDE_CODE_EFFORT_LEVEL",
        "CLAUDE_CODE_ENABLE_TELEMETRY",
        "CLAUDE_CODE_EXTRA_BODY",
        "CLAUDE_CODE_GIT_BASH_PATH",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
        "CLAUDE_CODE_MAX_RETRIES",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_SHELL",
        "CLAUDE_CODE_SHELL_PREFIX",
        "CLAUDE_CODE_SKIP_BEDROCK_AUTH",
        "CLAUDE_CODE_SKIP_FOUNDRY_AUTH",
        "CLAUDE_CODE_SKIP_VERTEX_AUTH",
        "CLAUDE_CODE_SUBAGENT_MODEL",
        "CLAUDE_CODE_TMPDIR",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_FOUNDRY",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CONFIG_DIR",
        "CLOUD_ML_REGION",
        "DISABLE_AUTOUPDATER",
        "DISABLE_AUTO_COMPACT",
        "DISABLE_BUG_COMMAND",
        "DISABLE_ERROR_REPORTING",
        "DISABLE_PROMPT_CACHING",
        "DISABLE_TELEMETRY",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "MAX_MCP_OUTPUT_TOKENS",
        "MAX_THINKING_TOKENS",
        "MCP_TIMEOUT",
        "MCP_TOOL_TIMEOUT",
        "VERTEX_REGION_*",
    )
    # Not declared although the program can do it, because no intent or launch asks for it so far: fork (latest, item),
    # rollback, switching model or mode on a live session, structured output, listing sessions.
    capabilities: Capabilities = Capabilities(
        resume=True,
        steer=True,
        interrupt=True,
        queued_messages=True,
        approvals=["command", "file_change", "file_read", "tool", "network", "plan", "unknown"],
        questions=True,
        plan_mode=True,
        reasoning_stream=True,
        subagents=True,
        images=True,
        mcp_servers=True,
        usage=True,
        rate_limits=True,
    )
    # A request ends with its process: after a kill the model asks again, under another id. Taking a recorded decision
    # up then is not built, so no better lane is declared.
    lanes: Mapping[RequestKind, Lane] = dict.fromkeys(REQUEST_KINDS, "hosted-alive")
    modes: Mapping[Mode, str] = {
        "ask": "Every call that changes or reaches anything is put to you, whatever Claude Code's own settings allow; "
        "what they forbid stays forbidden.",
        "edits": "Changes of files inside the thread's folders pass; every other call is put to you.",
        "auto": "As edits: Claude Code's own reviewer is not used.",
        "full": "Every call passes, and is recorded as passed by policy; only questions are put to you.",
    }
    translator_version = 1
    tested_versions: Sequence[str] = ("2.1.328",)
    built_in = False

    def version_call(self, command: Sequence[str], env: Mapping[str, str], cwd: str) -> HostCall | None:
        return RunProgram([*command, "--version"], _clean(env), cwd)

    def read_version(self, answer: Mapping[str, Any]) -> str:
        found = _VERSION.match(str(answer.get("stdout", ""))) if answer.get("code") == 0 else None
        return found[1] if found else ""

    def launch_calls(self, context: LaunchContext) -> Sequence[HostCall]:
        return self.size_calls(context) if context.binding else []

    def launch(self, context: LaunchContext, answers: Sequence[Mapping[str, Any]]) -> Launch:
        binding, why, grown = context.binding, "", False
        native_id = context.fresh_id
        resumed = False
        if binding is not None:
            size = _size(answers)
            if size > 0:
                native_id, resumed = binding.native_id, True
                grown = 0 <= binding.native_bytes < size
            else:
                where = transcript(context.env, context.cwd, binding.native_id) or "its transcript"
                why = f"cannot resume the conversation {binding.native_id}: because {where} is gone or empty"
        argv = [
            *context.command,
            *FIXED,
            f"--permission-mode={'plan' if context.plan else 'default'}",
            *([f"--model={context.model}"] if context.model else []),
            *([f"--effort={context.effort}"] if context.effort else []),
            *(f"--add-dir={folder}" for folder in context.add_dirs),
            f"--resume={native_id}" if resumed else f"--session-id={native_id}",
        ]
        return Launch(
            argv=argv,
            env=_clean(context.env),
            native_id=native_id,
            resumed=resumed,
            locks=[f"claude-{native_id}"],  # two processes on one conversation would fork its history unseen
            why=why,
            grown=grown,
        )

    def history_calls(self, context: LaunchContext, prompt: str) -> Sequence[HostCall]:
        """A second question, for the size alone, says that the file must be there: a turn of it had ended."""
        binding = context.binding
        path = _own_transcript(context)
        if not path:
            return []
        find = FindInFile(path, [prompt])
        return [find, StatFile(path)] if binding and binding.resumable else [find]

    def read_history(self, answers: Sequence[Mapping[str, Any]]) -> History:
        """The prompt is written to the transcript when the program takes it up, before the model is asked.

        Without a transcript nothing was taken up, unless there should be one.
        """
        if not answers:
            return "unknown"
        if answers[0].get("exists") is not True:
            return "absent" if len(answers) == 1 else "unknown"
        return "present" if answers[0].get("found") else "absent"

    def size_calls(self, context: LaunchContext) -> Sequence[HostCall]:
        path = _own_transcript(context)
        return [StatFile(path)] if path else []

    def translator(self, context: TranslatorContext, state: bytes | None) -> ClaudeTranslator:
        return ClaudeTranslator(context, state)


CLAUDE = ClaudeKind()


def _clean(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in REMOVED}


class _Stat(msgspec.Struct):
    exists: bool = False
    size: int = 0


def _size(answers: Sequence[Mapping[str, Any]]) -> int:
    stat = msgspec.convert(answers[0], _Stat, strict=False) if answers else _Stat()
    return stat.size if stat.exists else 0


def _own_transcript(context: LaunchContext) -> str:
    native_id = context.binding.native_id if context.binding else context.fresh_id
    return transcript(context.env, context.cwd, native_id)


def transcript(env: Mapping[str, str], cwd: str, native_id: str) -> str:
    """Where the program keeps a conversation, "" if the environment does not say. `cwd` without symbolic links."""
    config = env.get("CLAUDE_CONFIG_DIR") or (f"{env['HOME']}/.claude" if env.get("HOME") else "")
    return f"{config}/projects/{folder_name(cwd)}/{native_id}.jsonl" if config else ""


def folder_name(cwd: str) -> str:
    """A folder's path as one name: what is no ASCII letter or digit becomes a dash, a long name is cut and hashed.

    The program counts in UTF-16 units: a character beyond them is two dashes.
    """
    units = unicodedata.normalize("NFC", cwd).encode("utf-16-le", "surrogatepass")
    codes = [int.from_bytes(units[at : at + 2], "little") for at in range(0, len(units), 2)]
    name = "".join(chr(code) if code < 128 and chr(code).isalnum() else "-" for code in codes)
    return name if len(name) <= _NAME_MAX else f"{name[:_NAME_MAX]}-{_hash(codes)}"


def _hash(codes: Sequence[int]) -> str:
    value = 0
    for code in codes:
        value = (value * 31 + code) & 0xFFFFFFFF
    value = min(value, 2**32 - value)  # the absolute value of a signed number of 32 bits
    digits = ""
    while value:
        value, digit = divmod(value, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits or "0"
