"""Claude Code's tools by name: which kind of item and of request they are, and which may run without being asked for.

Owns the tables; pure. A tool that is not in them is a tool call that asks. Called by `gate` and `items`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.core.reports import ItemKind, RequestKind

COMMANDS = frozenset({"Bash", "PowerShell", "Monitor"})
FILE_CHANGES = frozenset({"Write", "Edit", "MultiEdit", "NotebookEdit"})
NETWORK = frozenset({"WebFetch", "WebSearch"})
FILE_READS = frozenset({"Read", "NotebookRead", "Glob", "Grep", "LS"})
SEARCHES = frozenset({"Glob", "Grep", "LS", "WebSearch", "ToolSearch"})
SUBAGENTS = frozenset({"Agent", "Task"})
TODO_LISTS = frozenset({"TodoWrite"})
PLAN = "ExitPlanMode"
QUESTION = "AskUserQuestion"

# Left to the program's own rules, which ask where it matters (reading outside the folders, leaving plan mode,
# a question to the person). Each of these either only reads, or touches nothing but the conversation itself:
# - a subagent's own calls come through the same hook, one by one;
# - stopping or listing work in the background, to-do lists and entering plan mode change no file and reach nobody.
# Not here on purpose: Skill and Workflow (they may carry commands of their own), SendMessage (reaches another
# session), Cron* and ScheduleWakeup (act later, unseen), EnterWorktree and ExitWorktree (make and remove folders).
HARMLESS = (
    FILE_READS
    | SUBAGENTS
    | TODO_LISTS
    | frozenset(
        {
            PLAN,
            QUESTION,
            "BashOutput",
            "CronList",
            "EnterPlanMode",
            "KillBash",
            "KillShell",
            "ListAgents",
            "ReportFindings",
            "TaskCreate",
            "TaskGet",
            "TaskList",
            "TaskOutput",
            "TaskStop",
            "TaskUpdate",
            "TodoRead",
            "ToolSearch",
        }
    )
)

MCP_PREFIX = "mcp__"


def must_ask(tool: str) -> bool:
    return tool not in HARMLESS


def surely_gated(tool: str) -> bool:
    """Tools whose calls always reach our hook: a result of one that did not is a hole in the gate."""
    return tool in COMMANDS | FILE_CHANGES | NETWORK or tool.startswith(MCP_PREFIX)


def item_kind(tool: str) -> ItemKind:
    if tool in COMMANDS:
        return "command"
    if tool in FILE_CHANGES:
        return "file_change"
    if tool in SEARCHES:
        return "search"
    if tool in SUBAGENTS:
        return "subagent"
    if tool in TODO_LISTS:
        return "todo_list"
    return "plan" if tool == PLAN else "tool_call"


def request_kind(tool: str) -> RequestKind:
    if tool in COMMANDS:
        return "command"
    if tool in FILE_CHANGES:
        return "file_change"
    if tool in NETWORK:
        return "network"
    if tool in FILE_READS:
        return "file_read"
    if tool == PLAN:
        return "plan"
    return "question" if tool == QUESTION else "tool"


def path_of(arguments: Mapping[str, Any]) -> str:
    """The file or folder a call is about, "" if it names none."""
    for name in ("file_path", "notebook_path", "path"):
        if isinstance(value := arguments.get(name), str):
            return value
    return ""


def text_at(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    return value if isinstance(value, str) else ""
