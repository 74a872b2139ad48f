"""A thread as a reader sees it: a snapshot, then events and pieces of text, folded by the words of the contract alone.

Independent of the store's views on purpose: where both agree field by field, a late reader sees what the server has.
"""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.engine.port import CaughtUp, FeedEvent, Resync, Text
from holdfast.wire.api import EventObject, Snapshot

Fields = dict[str, Any]
USAGE = ("input", "output", "cache_read", "cache_write", "cost_usd", "duration_ms", "api_duration_ms")


class View:
    """`version` is the reader's cursor."""

    def __init__(self) -> None:
        self.version = 0
        self.thread: Fields = {}
        self.runs: dict[str, Fields] = {}
        self.items: dict[str, Fields] = {}
        self.requests: dict[str, Fields] = {}
        self.caught_up = False
        self._last_end = ""
        self._asked_by: dict[str, str] = {}

    def take(self, event: FeedEvent) -> None:
        match event:
            case Snapshot():
                self._begin_at(event)
            case EventObject():
                assert event.version == self.version + 1, f"after {self.version} came {event.version}"
                self.version = event.version
                self._event(event.type, msgspec.json.decode(event.data), event.at)
            case Text():
                self._text(event)
            case CaughtUp():
                assert event.version == self.version, (
                    f"caught up at {event.version}, which is not {self.version}"
                )
                self.caught_up = True
            case Resync():
                assert event.version == self.version, (
                    f"resync at {event.version}, which is not {self.version}"
                )

    def picture(self) -> Fields:
        """What a snapshot of the same version has."""
        pending = [q["id"] for q in self.requests.values() if q["state"] == "pending"]
        runs = [self._shown(run, pending) for run in self.runs.values()]
        return {
            "thread": {**self.thread, "status": self._status(runs)},
            "runs": runs,
            "items": sorted(self.items.values(), key=lambda item: int(item["ordinal"])),
            "requests": list(self.requests.values()),
            "version": self.version,
        }

    # From a snapshot

    def _begin_at(self, snapshot: Snapshot) -> None:
        whole = msgspec.to_builtins(snapshot)
        self.version, self.thread = whole["version"], whole["thread"]
        self.runs = {run["id"]: run for run in whole["runs"]}
        for run in self.runs.values():
            run["status"] = "working" if run["status"] == "waiting" else run["status"]
        self.items = {item["id"]: item for item in whole["items"]}
        self.requests = {request["id"]: request for request in whole["requests"]}
        self._asked_by = {request["id"]: request["run_id"] for request in whole["requests"]}
        self._last_end = "failed" if self.thread["status"] == "failed" else ""

    # Pieces of text

    def _text(self, piece: Text) -> None:
        item = self.items.get(piece.item)
        if item is None or item["status"] != "open":
            return
        assert piece.offset <= len(item["text"]), f"a hole in {piece.item}: {piece} after {len(item['text'])}"
        item["text"] = item["text"][: piece.offset] + piece.text

    # Events

    def _event(self, kind: str, data: Fields, at: str) -> None:
        handler = getattr(self, "_" + kind.replace(".", "_"), None)
        if handler is not None:
            handler(data, at)
        self.thread["updated_at"] = at
        run = self._run_meant(kind, data)
        if run is not None and kind not in ("run.stalled", "run.queued"):
            run["last_activity_at"], run["stalled_since"] = at, None

    def _run_meant(self, kind: str, data: Fields) -> Fields | None:
        """The run that an event is a sign of life of."""
        if kind.startswith("run.") or kind in ("item.started", "request.opened"):
            return self.runs.get(data.get("run_id", ""))
        if kind == "item.completed":
            return (
                self.runs.get(self.items[data["item_id"]]["run_id"] or "")
                if data["item_id"] in self.items
                else None
            )
        if kind.startswith("request."):
            return self.runs.get(self._asked_by.get(data["request_id"], ""))
        return None

    def _thread_created(self, data: Fields, at: str) -> None:
        names = ("title", "project", "cwd", "add_dirs", "agent", "model", "effort", "mode", "plan", "owner")
        defaults = {"title": "", "project": "", "add_dirs": [], "model": "", "effort": "", "plan": False}
        self.thread = {
            "id": data["thread_id"],
            **{name: data.get(name, defaults.get(name)) for name in names},
            "parent": data.get("parent") or None,
            "context": {"used": 0, "window": 0},
            "usage": dict.fromkeys(USAGE),
            "queue_held": False,
            "created_at": at,
        }

    def _thread_titled(self, data: Fields, at: str) -> None:
        self.thread["title"] = data["title"]

    def _thread_context(self, data: Fields, at: str) -> None:
        self.thread["context"] = {"used": data["used"], "window": data["window"]}

    def _queue_held(self, data: Fields, at: str) -> None:
        self.thread["queue_held"] = True

    def _queue_released(self, data: Fields, at: str) -> None:
        self.thread["queue_held"] = False

    def _run_queued(self, data: Fields, at: str) -> None:
        names = ("ordinal", "origin", "agent", "model", "mode", "effort")
        self.runs[data["run_id"]] = {
            "id": data["run_id"],
            "thread_id": self.thread["id"],
            "status": "queued",
            "command_id": data.get("command_id") or None,
            **{name: data[name] for name in names},
            "prompt": data["text"],
            "text": "",
            "requests": [],
            "failure": None,
            "usage": None,
            "attempts": 0,
            "forced": False,
            "queued_at": at,
            "last_activity_at": at,
            **dict.fromkeys(("started_at", "ended_at", "rolled_back_at", "stalled_since")),
        }

    def _run_starting(self, data: Fields, at: str) -> None:
        run = self.runs[data["run_id"]]
        run["status"], run["attempts"] = "starting", data["attempt"]
        run["started_at"] = run["started_at"] or at
        if data.get("item_id"):
            self._add_item(data["item_id"], data["item_ordinal"], "user_message", run, data["attempt"], at)
            self.items[data["item_id"]] |= {
                "status": "completed",
                "text": run["prompt"],
                "command_id": run["command_id"],
            }

    def _run_working(self, data: Fields, at: str) -> None:
        self.runs[data["run_id"]]["status"] = "working"

    def _run_requeued(self, data: Fields, at: str) -> None:
        self.runs[data["run_id"]]["status"] = "queued"

    def _run_stalled(self, data: Fields, at: str) -> None:
        from holdfast.wire.api import rfc3339

        self.runs[data["run_id"]]["stalled_since"] = rfc3339(data["since"])

    def _run_ended(self, data: Fields, at: str) -> None:
        run = self.runs[data["run_id"]]
        assert run["ended_at"] is None, f"{run['id']} ended twice"
        failure, usage = data.get("failure"), data.get("usage")
        run["status"], run["ended_at"], run["forced"] = data["status"], at, data.get("forced", False)
        run["failure"] = None if failure is None else {"retry_at": "", **failure}
        run["usage"] = None if usage is None else {**dict.fromkeys(USAGE), **usage}
        self._last_end = data["status"]
        for name, value in (run["usage"] or {}).items():
            if value is not None:
                self.thread["usage"][name] = (self.thread["usage"][name] or 0) + value

    def _item_started(self, data: Fields, at: str) -> None:
        run = self.runs.get(data.get("run_id", ""))
        self._add_item(data["item_id"], data["ordinal"], data["kind"], run, data.get("attempt", 0), at)
        self.items[data["item_id"]] |= {
            "parent_id": data.get("parent_id") or None,
            "text": data.get("text", ""),
            "data": data.get("data", {}),
        }

    def _add_item(
        self, item_id: str, ordinal: int, kind: str, run: Fields | None, attempt: int, at: str
    ) -> None:
        self.items[item_id] = {
            "id": item_id,
            "run_id": run["id"] if run else None,
            "attempt": attempt,
            "ordinal": ordinal,
            "parent_id": None,
            "command_id": None,
            "kind": kind,
            "status": "open",
            "text": "",
            "data": {},
            "at": at,
        }

    def _item_completed(self, data: Fields, at: str) -> None:
        item = self.items.get(data["item_id"])
        if item is None:
            return  # older than what the snapshot showed
        text = data.get("text")
        if text is not None:
            assert text.startswith(item["text"]), f"the text of {item['id']} was read otherwise than it is"
            item["text"] = text
        item["status"] = data["status"]
        item["data"] = {**item["data"], **data.get("data", {})}
        answers = item["kind"] == "assistant_message" and not item["parent_id"]
        if answers and item["run_id"] and item["status"] in ("completed", "interrupted"):
            self.runs[item["run_id"]]["text"] = item["text"]

    def _request_opened(self, data: Fields, at: str) -> None:
        run = self.runs[data["run_id"]]
        run["status"] = "working" if run["status"] == "starting" else run["status"]
        self._asked_by[data["request_id"]] = run["id"]
        question = {"multiple": False, "free": False, "options": []}
        self.requests[data["request_id"]] = {
            "id": data["request_id"],
            "version": 1,
            "thread_id": self.thread["id"],
            "run_id": run["id"],
            "item_id": data.get("item_id") or None,
            "kind": data["kind"],
            "state": "pending",
            "live": True,
            "lane": data["lane"],
            "reason": None,
            "title": data["title"],
            "detail": data.get("detail", ""),
            "options": data.get("options", []),
            "questions": [
                {**question, **q, "options": [{"detail": "", **o} for o in q.get("options", [])]}
                for q in data.get("questions", [])
            ],
            "decision": None,
            "decided_by": None,
            "asked_at": at,
            "answered_at": None,
        }

    def _request_answered(self, data: Fields, at: str) -> None:
        request = self.requests[data["request_id"]]
        request["version"] += 1
        request |= {
            "state": "answered",
            "decision": data["decision"],
            "decided_by": data["by"],
            "answered_at": at,
        }

    def _request_delivered(self, data: Fields, at: str) -> None:
        del self.requests[data["request_id"]]

    def _request_closed(self, data: Fields, at: str) -> None:
        del self.requests[data["request_id"]]

    def _session_closed(self, data: Fields, at: str) -> None:
        for request in self.requests.values():
            request["live"], request["version"] = False, request["version"] + 1

    # What is derived

    def _shown(self, run: Fields, pending: list[str]) -> Fields:
        running = ("starting", "working", "paused")
        asker = {request: self._asked_by[request] for request in pending}
        waits = [
            request
            for request in pending
            if asker[request] == run["id"]
            or (run["status"] == "queued" and self.runs[asker[request]]["status"] in running)
        ]
        status = "waiting" if waits and run["status"] in ("starting", "working") else run["status"]
        return {**run, "requests": waits, "status": status}

    def _status(self, runs: list[Fields]) -> str:
        unfinished = {run["status"] for run in runs if run["ended_at"] is None}
        for shown, statuses in (
            ("waiting", {"waiting"}),
            ("paused", {"paused"}),
            ("working", {"starting", "working"}),
            ("queued", {"queued"}),
        ):
            if unfinished & statuses:
                return shown
        return "failed" if self._last_end == "failed" else "idle"
