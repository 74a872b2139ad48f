"""What Claude Code tells beside its turns: retries, limits, compaction, work in the background, its handshake.

Owns the words and codes of notices, and which frames are noise. Pure; called by the translator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.agents.claude import failures, tools
from holdfast.agents.claude.state import State
from holdfast.core.reports import ItemCompleted, NoticeGiven, Report
from holdfast.wire import stream_json

ONCE_AT_MOST = 50
"""How many different things are remembered as said once."""

# Frames that say nothing to a person, or nothing that another frame does not say better.
NOISE = frozenset(
    {
        "auth_status",
        "keep_alive",
        "prompt_suggestion",
        "tool_progress",
        "tool_use_summary",
        "transcript_mirror",
    }
)


def handshake(response: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The program's version, and what of its answer is worth keeping: names, not descriptions."""
    details: dict[str, Any] = {}
    for key, name in (("commands", "name"), ("agents", "name"), ("models", "value")):
        given = response.get(key)
        names = (
            [tools.text_at(each, name) for each in given or [] if isinstance(each, dict)]
            if isinstance(given, list)
            else []
        )
        if names:
            details[key] = [each[:80] for each in names if each][:200]
    for key in ("output_style", "current_permission_mode"):
        if value := tools.text_at(response, key):
            details[key] = value
    account = response.get("account")
    if isinstance(account, dict):
        kept = ("apiProvider", "apiKeySource", "subscriptionType", "tokenSource")
        details["account"] = {key: account[key] for key in kept if isinstance(account.get(key), str)}
    return tools.text_at(response, "claude_code_version"), details


def of_frame(state: State, frame: stream_json.Frame, turn: str) -> Iterator[Report]:
    """The notices in a frame that concerns no turn."""
    match frame:
        case stream_json.ApiRetry():
            yield _retry(frame, turn)
        case stream_json.RateLimitEvent(rate_limit_info=info):
            if info.status == "rejected":
                state.reset_at = info.resets_at
            yield _limit(info, turn)
        case stream_json.PermissionDenied(tool_use_id=id_, message=message, tool_name=tool):
            known = state.tools.get(id_)
            if not (known and known.declined):
                text = message or f"{tool} was refused by the agent's own rules"
                yield NoticeGiven("permission_denied", text, {"tool": tool}, turn=turn)
        case stream_json.HookResponse(output=output, hook_name=name):
            value = stream_json.decode(output)
            if isinstance(value, dict) and (text := tools.text_at(value, "systemMessage")):
                yield NoticeGiven("hook", text, {"hook": name}, turn=turn)
        case stream_json.Other(type=type_):
            known_noise = type_ in NOISE or type_.startswith(("system/", "streamlined_"))
            if not known_noise and _first(state, f"frame {type_}"):
                text = f"The agent wrote a kind of frame that Holdfast does not know: {type_}"
                yield NoticeGiven("unknown_frame", text, {"type": type_}, turn=turn)
        case stream_json.Noise(broken=True):
            if _first(state, "broken"):
                text = "The agent wrote a line that is broken JSON. It is kept in the session's journal."
                yield NoticeGiven("protocol", text, turn=turn)
        case _:
            pass


def _first(state: State, what: str) -> bool:
    if what in state.noticed or len(state.noticed) >= ONCE_AT_MOST:
        return False
    state.noticed.append(what)
    return True


def _retry(frame: stream_json.ApiRetry, turn: str) -> NoticeGiven:
    wait = max(frame.retry_delay_ms, 0) / 1000
    status = f"HTTP {frame.error_status}" if frame.error_status is not None else "no answer"
    why = f"{status}, {frame.error}" if frame.error else status
    text = f"The model's server refused ({why}). Trying again in {wait:.1f} s, {frame.attempt} of {frame.max_retries}."
    data = {
        "attempt": frame.attempt,
        "of": frame.max_retries,
        "wait_s": wait,
        "status": frame.error_status,
        "error": frame.error,
    }
    return NoticeGiven("retry", text, data, turn=turn)


def _limit(info: stream_json.RateLimit, turn: str) -> NoticeGiven:
    percent = round(min(max(info.utilization or 0.0, 0.0), 100.0) * 100)
    resets = failures.time_text(info.resets_at)
    name = info.rate_limit_type.replace("_", " ") or "usage"
    text = f"The {name} limit is used to {percent} %" + (f"; it resets at {resets}." if resets else ".")
    data = {
        "percent": percent,
        "resets_at": resets,
        "limit": info.rate_limit_type,
        "status": info.status,
    }
    return NoticeGiven("limit", text, data, turn=turn)


def of_task(frame: stream_json.TaskNotification, turn: str) -> Iterator[Report]:
    """Work that went on beside a turn has ended; work that a tool call waited for says so with its result."""
    text = frame.summary or f"Work in the background: {frame.status}"
    data = {"task": frame.task_id, "status": frame.status, "call": frame.tool_use_id or ""}
    yield NoticeGiven("background_task", text, data, turn=turn)


def compaction(frame: stream_json.CompactBoundary, turn: str, number: int) -> ItemCompleted:
    """The conversation was replaced by a summary of it."""
    about = frame.compact_metadata
    return ItemCompleted(
        ref=f"compaction-{number}",
        text="The conversation was summarised to make room.",
        data={"trigger": about.trigger, "tokens_before": about.pre_tokens, "tokens_after": about.post_tokens},
        turn=turn,
        kind="compaction",
    )


def local_output(text: str, turn: str) -> Iterator[Report]:
    """What one of the program's own slash commands printed."""
    _, start, rest = text.partition("<local-command-stdout>")
    shown, _, _ = rest.partition("</local-command-stdout>")
    if start and shown.strip():
        yield NoticeGiven("command_output", shown.strip(), turn=turn)
