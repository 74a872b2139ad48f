"""What a reader of events must end with, written from the outer contract alone: no SQL, no code of the store.

Folds the JSON of events (and pieces of text) over a picture of a thread; the picture may be empty or a snapshot's JSON.
"""

from __future__ import annotations

import copy
from typing import Any

Json = dict[str, Any]
USAGE = ("input", "output", "cache_read", "cache_write", "cost_usd", "duration_ms", "api_duration_ms")
ENDED = ("completed", "failed", "interrupted", "cancelled")


class Picture:
    def __init__(self, snapshot: Json | None = None) -> None:
        start = (
            copy.deepcopy(snapshot) if snapshot else {"thread": {}, "runs": [], "items": [], "requests": []}
        )
        self.thread: Json = start["thread"]
        self.runs: dict[str, Json] = {run["id"]: run for run in start["runs"]}
        self.items: dict[str, Json] = {item["id"]: item for item in start["items"]}
        self.requests: dict[str, Json] = {request["id"]: request for request in start["requests"]}
        self.stage = {i: "working" if r["status"] == "waiting" else r["status"] for i, r in self.runs.items()}
        over = sorted((r for r in self.runs.values() if r["ended_at"]), key=lambda r: str(r["ended_at"]))
        self.last_end = over[-1]["status"] if over else ""

    def text(self, item: str, text: str) -> None:
        self.items[item]["text"] += text

    def event(self, kind: str, at: str, data: Json) -> None:
        handler = getattr(self, "on_" + kind.replace(".", "_"), None)
        if handler:
            handler(data, at)
        run = self._concerned(data)
        if run and kind not in ("run.stalled", "queue.held"):
            run["last_activity_at"], run["stalled_since"] = at, None
        self.thread["updated_at"] = at
        self._derive()

    def json(self, *, all_requests: bool = False) -> Json:
        asked = self.requests.values()
        return {
            "thread": self.thread,
            "runs": list(self.runs.values()),
            "items": list(self.items.values()),
            "requests": [r for r in asked if all_requests or r["state"] in ("pending", "answered")],
        }

    def _concerned(self, data: Json) -> Json | None:
        run = data.get("run_id")
        if not run and "request_id" in data:
            run = self.requests[data["request_id"]]["run_id"]
        if not run and "item_id" in data:
            run = self.items[data["item_id"]]["run_id"]
        return self.runs.get(run or "")

    def _derive(self) -> None:
        pending = [r for r in self.requests.values() if r["state"] == "pending"]
        unfinished = {i for i, stage in self.stage.items() if stage not in ENDED}
        active = {i for i in unfinished if self.stage[i] != "queued"}
        for i, run in self.runs.items():
            asking = {i} | (active if self.stage[i] == "queued" else set())
            run["requests"] = [r["id"] for r in pending if r["run_id"] in asking]
            run["status"] = "waiting" if run["requests"] and i in active else self.stage[i]
        statuses = {self.runs[i]["status"] for i in active}
        if "waiting" in statuses:
            status = "waiting"
        elif active:
            status = "working"
        elif unfinished:
            status = "queued"
        else:
            status = "failed" if self.last_end == "failed" else "idle"
        self.thread["status"] = status

    def on_thread_created(self, d: Json, at: str) -> None:
        same = ("title", "project", "cwd", "add_dirs", "agent", "model", "effort", "mode", "plan", "owner")
        self.thread = {k: d[k] for k in same} | {
            "id": d["thread_id"],
            "parent": d["parent"] or None,
            "context": {"used": 0, "window": 0},
            "usage": dict.fromkeys(USAGE),
            "queue_held": False,
            "created_at": at,
        }

    def on_thread_titled(self, d: Json, at: str) -> None:
        self.thread["title"] = d["title"]

    def on_thread_context(self, d: Json, at: str) -> None:
        self.thread["context"] = {"used": d["used"], "window": d["window"]}

    def on_queue_held(self, d: Json, at: str) -> None:
        self.thread["queue_held"] = True

    def on_queue_released(self, d: Json, at: str) -> None:
        self.thread["queue_held"] = False

    def on_run_queued(self, d: Json, at: str) -> None:
        same = ("ordinal", "origin", "agent", "model", "mode", "effort")
        empty = ("failure", "usage", "started_at", "ended_at", "rolled_back_at")
        self.runs[d["run_id"]] = {k: d[k] for k in same} | dict.fromkeys(empty) | {
            "id": d["run_id"],
            "thread_id": self.thread["id"],
            "command_id": d["command_id"] or None,
            "prompt": d["text"],
            "text": "",
            "attempts": 0,
            "forced": False,
            "queued_at": at,
        }  # fmt: skip
        self.stage[d["run_id"]] = "queued"

    def on_run_starting(self, d: Json, at: str) -> None:
        run = self.runs[d["run_id"]]
        self.stage[run["id"]] = "starting"
        run["attempts"], run["started_at"] = d["attempt"], run["started_at"] or at
        if d["item_id"]:
            self.items[d["item_id"]] = {
                "id": d["item_id"], "run_id": run["id"], "attempt": d["attempt"], "ordinal": d["item_ordinal"],
                "parent_id": None, "command_id": run["command_id"], "kind": "user_message", "status": "completed",
                "text": run["prompt"], "data": {}, "at": at,
            }  # fmt: skip

    def on_run_working(self, d: Json, at: str) -> None:
        self.stage[d["run_id"]] = "working"

    def on_run_requeued(self, d: Json, at: str) -> None:
        self.stage[d["run_id"]] = "queued"

    def on_run_stalled(self, d: Json, at: str) -> None:
        self.runs[d["run_id"]]["stalled_since"] = instant(d["since"])

    def on_run_ended(self, d: Json, at: str) -> None:
        self.stage[d["run_id"]] = self.last_end = d["status"]
        changed = {"failure": d["failure"], "usage": d["usage"], "forced": d["forced"], "ended_at": at}
        self.runs[d["run_id"]].update(changed)
        total = self.thread["usage"]
        for name, value in (d["usage"] or {}).items():
            if value is not None:
                total[name] = (total[name] or 0) + value

    def on_item_started(self, d: Json, at: str) -> None:
        item = {k: d[k] for k in ("attempt", "ordinal", "kind", "text", "data")}
        optional = {k: d[k] or None for k in ("run_id", "parent_id", "command_id")}
        self.items[d["item_id"]] = item | optional | {"id": d["item_id"], "status": "open", "at": at}

    def on_item_completed(self, d: Json, at: str) -> None:
        item = self.items[d["item_id"]]
        text = item["text"] if d["text"] is None else d["text"]
        item.update(status=d["status"], text=text, data=item["data"] | d["data"])
        answers = item["kind"] == "assistant_message" and not item["parent_id"]
        if item["run_id"] and answers and d["status"] in ("completed", "interrupted"):
            self.runs[item["run_id"]]["text"] = text

    def on_request_opened(self, d: Json, at: str) -> None:
        same = ("run_id", "kind", "lane", "title", "detail", "options", "questions")
        empty = ("reason", "decision", "decided_by", "answered_at")
        self.requests[d["request_id"]] = {k: d[k] for k in same} | dict.fromkeys(empty) | {
            "id": d["request_id"], "version": 1, "thread_id": self.thread["id"], "item_id": d["item_id"] or None,
            "state": "pending", "live": True, "asked_at": at,
        }  # fmt: skip
        if self.stage[d["run_id"]] == "starting":
            self.stage[d["run_id"]] = "working"

    def _change(self, request: str, **values: object) -> None:
        self.requests[request].update(values, version=self.requests[request]["version"] + 1)

    def on_request_answered(self, d: Json, at: str) -> None:
        self._change(
            d["request_id"], state="answered", decision=d["decision"], decided_by=d["by"], answered_at=at
        )

    def on_request_delivered(self, d: Json, at: str) -> None:
        self._change(d["request_id"], state="delivered", live=False)

    def on_request_closed(self, d: Json, at: str) -> None:
        self._change(d["request_id"], state=d["state"], reason=d["reason"], live=False)

    def on_session_closed(self, d: Json, at: str) -> None:
        for request in self.requests.values():
            if request["live"]:
                self._change(request["id"], live=False)


def instant(seconds: float) -> str:
    """Only whole seconds of one day are used in the tests."""
    hours, rest = divmod(int(seconds), 3600)
    return f"1970-01-01T{hours:02d}:{rest // 60:02d}:{rest % 60:02d}.000Z"
