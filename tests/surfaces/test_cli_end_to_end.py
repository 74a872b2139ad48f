"""Whole commands against a real server with a real runner and the scripted agent, each a process of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.client import SyncClient
from holdfast.home import Home
from tests.surfaces.cli import WITHIN_S, Done, Program

pytestmark = pytest.mark.xdist_group("cli_end_to_end")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short, because a Unix socket's path is."""
    path = Path(tempfile.mkdtemp(prefix="hf-e2e-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def holdfast(folder: Path) -> Iterator[Program]:
    """One server for the tests that only use it."""
    program = Program(folder / "home", folder / "user")
    (folder / "work").mkdir()
    yield program
    program.end()


def run(program: Program, folder: Path, *arguments: str | bytes, stdin: bytes = b"") -> Done:
    return program("run", "--agent", "scripted", "--cwd", str(folder / "work"), *arguments, stdin=stdin)


# Running


def test_a_run_prints_the_answer_and_starts_a_server(holdfast: Program, folder: Path) -> None:
    done = run(holdfast, folder, "say Hello back")
    assert done.code == 0, done.err
    assert b"Hello back" in done.out
    assert Home(holdfast.home).is_held()


def test_json_is_the_run_object(holdfast: Program, folder: Path) -> None:
    done = run(holdfast, folder, "say one word", "--json")
    assert done.code == 0, done.err
    assert done.json["status"] == "completed"
    assert "one word" in done.json["text"]
    assert done.json["id"].startswith("run_")
    assert done.json["thread_id"].startswith("th_")


def test_stream_json_is_a_line_for_each_event_and_ends_with_the_run(holdfast: Program, folder: Path) -> None:
    done = run(holdfast, folder, "text 2000 50 20", "--stream-json")
    assert done.code == 0, done.err
    kinds = [line["type"] for line in done.lines]
    assert kinds[-1] == "run"
    assert {"run.queued", "item.started", "text", "run.ended"} <= set(kinds)
    versions = [line["version"] for line in done.lines if "version" in line and line["type"] != "caught_up"]
    assert versions == list(range(1, len(versions) + 1))
    assert done.lines[-1]["data"]["status"] == "completed"


def test_the_text_arrives_byte_for_byte_from_every_source(holdfast: Program, folder: Path) -> None:
    text = "  leading, \ttabs, \r\n Windows ends, ünïcödé 👍, no newline at the end\n\n "
    data = text.encode()
    (folder / "text").write_bytes(data)
    prompts = [
        run(holdfast, folder, "--json", "--", data).json["prompt"],
        run(holdfast, folder, "-", "--json", stdin=data).json["prompt"],
        run(holdfast, folder, "--file", str(folder / "text"), "--json").json["prompt"],
    ]
    assert prompts == [text, text, text]


def test_text_that_is_not_utf8_is_refused(holdfast: Program, folder: Path) -> None:
    done = run(holdfast, folder, "-", "--json", stdin=b"caf\xe9")
    assert (done.code, done.json["code"]) == (2, "invalid")
    assert "not UTF-8 (byte 3)" in done.err


def test_a_failed_run_is_1(holdfast: Program, folder: Path) -> None:
    done = run(holdfast, folder, "fail agent_error it broke", "--json")
    assert done.code == 1
    assert done.json["failure"]["class"] == "agent_error"
    assert "it broke" in run(holdfast, folder, "fail agent_error it broke").err


def test_send_goes_on_in_the_thread(holdfast: Program, folder: Path) -> None:
    first = run(holdfast, folder, "remember teapot", "--json").json
    done = holdfast("send", first["thread_id"], "recall", "--json")
    assert done.code == 0, done.err
    assert (done.json["ordinal"], done.json["thread_id"]) == (2, first["thread_id"])
    assert "teapot" in done.json["text"]
    assert b"teapot" in holdfast("send", first["thread_id"], "recall").out


def test_what_is_unknown_is_2(holdfast: Program, folder: Path) -> None:
    for arguments in (
        ("wait", "run_0000000000000000_1"),
        ("send", "th_0000000000000000", "x"),
        ("show", "th_0000000000000000"),
        ("stop", "run_0000000000000000_1"),
        ("stop", "th_0000000000000000"),
        ("answer", "req_0000000000000000_1", "accept"),
        ("record", "th_0000000000000000"),
        ("wait", "nonsense"),
    ):
        done = holdfast(*arguments, "--json")
        assert done.code == 2, (arguments, done.err)
        assert done.json["code"].startswith("unknown_"), arguments
    done = holdfast("run", "x", "--agent", "nobody", "--json")
    assert (done.code, done.json["code"]) == (2, "unknown_agent")
    done = holdfast("run", "x", "--agent", "scripted", "--cwd", "/no/such/folder", "--json")
    assert (done.code, done.json["code"]) == (2, "invalid")


# Waiting, background, stopping


def test_a_background_run_is_waited_for(holdfast: Program, folder: Path) -> None:
    started = run(holdfast, folder, "sleep 0.3;; say done now", "--background", "--json")
    assert started.code == 0
    assert started.json["status"] in ("queued", "starting", "working")
    done = holdfast("wait", started.json["id"], "--json")
    assert (done.code, done.json["status"]) == (0, "completed")
    assert b"done now" in holdfast("wait", started.json["id"]).out


def test_time_over_is_6_and_the_work_goes_on(holdfast: Program, folder: Path) -> None:
    done = run(holdfast, folder, "sleep 30", "--timeout", "0.2", "--json")
    assert (done.code, done.json["status"] in ("queued", "starting", "working")) == (6, True)
    assert f"holdfast wait {done.json['id']}" in done.err
    assert holdfast("wait", done.json["id"], "--timeout", "0.1").code == 6
    stopped = holdfast("stop", done.json["id"], "--json")
    assert (stopped.code, stopped.json["status"]) == (0, "interrupted")
    assert holdfast("wait", done.json["id"], "--json").code == 7
    assert holdfast("stop", done.json["id"], "--json").code == 0


def test_stopping_a_thread_names_what_it_ended_and_cancelled(holdfast: Program, folder: Path) -> None:
    first = run(holdfast, folder, "sleep 30", "--background", "--json").json
    second = holdfast("send", first["thread_id"], "say never", "--background", "--json").json
    done = holdfast("stop", first["thread_id"], "--json")
    assert done.code == 0, done.err
    assert (done.json["stopped"], done.json["cancelled"]) == (first["id"], [second["id"]])
    assert done.json["status"] == "interrupted"
    assert holdfast("wait", second["id"], "--json").code == 7


def test_ctrl_c_is_130_and_the_work_goes_on(holdfast: Program, folder: Path) -> None:
    child = holdfast.start(
        "run", "--agent", "scripted", "--cwd", str(folder / "work"), "say begun;; sleep 3;; say ended"
    )
    assert child.stdout is not None
    assert child.stderr is not None
    assert b"thread th_" in child.stderr.readline()
    assert b"begun" in child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=WITHIN_S)
    assert child.returncode == 130
    found = re.search(rb"holdfast wait (run_\S+)", err)
    assert found, err
    done = holdfast("wait", found[1].decode(), "--json")
    assert (done.code, done.json["status"]) == (0, "completed")


# Requests


def test_a_request_returns_3_and_is_answered(holdfast: Program, folder: Path) -> None:
    waiting = run(holdfast, folder, "ask kind=command delete it;; say went on", "--json")
    assert (waiting.code, waiting.json["status"]) == (3, "waiting")
    (request,) = waiting.json["requests"]
    pending = holdfast("requests", "--thread", waiting.json["thread_id"], "--json")
    assert [found["id"] for found in pending.json] == [request]
    assert [found["status"] for found in holdfast("threads", "--status", "waiting", "--json").json] == [
        "waiting"
    ]
    queued = holdfast("send", waiting.json["thread_id"], "say later", "--json")
    assert (queued.code, queued.json["status"], queued.json["requests"]) == (3, "queued", [request])
    done = holdfast("answer", request, "accept", "--wait", "--json")
    assert done.code == 0, done.err
    assert (done.json["decision"], done.json["run"]["status"]) == ("accept", "completed")
    late = holdfast("answer", request, "decline", "--json")
    assert late.code == 4
    assert holdfast("wait", queued.json["id"], "--json").code == 0


def test_a_request_ends_the_following_of_a_run_for_people_too(holdfast: Program, folder: Path) -> None:
    waiting = run(holdfast, folder, "say before;; ask kind=command delete it")
    assert waiting.code == 3
    assert b"before" in waiting.out
    found = re.search(r"holdfast answer (req_\S+)", waiting.err)
    assert found, waiting.err
    declined = holdfast("answer", found[1], "decline", "--message", "not this one", "--json")
    assert (declined.code, declined.json["decision"]) == (0, "decline")


def test_a_question_is_answered_by_its_header(holdfast: Program, folder: Path) -> None:
    waiting = run(holdfast, folder, "question Colour: Which one?|red|blue", "--json")
    assert waiting.code == 3, waiting.err
    (request,) = waiting.json["requests"]
    wrong = holdfast("answer", request, "--choose", "Colour=green", "--json")
    assert (wrong.code, "red, blue" in wrong.err) == (2, True)
    wrong = holdfast("answer", request, "--choose", "Size=red", "--json")
    assert (wrong.code, "Colour" in wrong.err) == (2, True)
    done = holdfast("answer", request, "--choose", "colour=blue", "--wait", "--json")
    assert done.code == 0, done.err
    assert "blue" in done.json["run"]["text"]


def test_on_a_terminal_the_person_is_asked_right_there(holdfast: Program, folder: Path) -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        holdfast.argv(
            "run",
            "--agent",
            "scripted",
            "--cwd",
            str(folder / "work"),
            "ask kind=command delete it;; say fine",
        ),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**holdfast.env, "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    answered = False
    until = time.monotonic() + WITHIN_S
    while time.monotonic() < until:
        if not select.select([ours], [], [], 1.0)[0]:
            continue
        try:
            piece = os.read(ours, 4096)
        except OSError:
            break
        if not piece:
            break
        seen += piece
        if b"[a]ccept" in seen and not answered:
            answered = True
            os.write(ours, b"a\n")
    assert child.wait(WITHIN_S) == 0, seen
    os.close(ours)
    assert b"delete it" in seen
    assert b"fine" in seen


# Reading


def test_show_and_threads_tell_what_there_is(holdfast: Program, folder: Path) -> None:
    made = run(holdfast, folder, "say shown", "--title", "A title", "--json").json
    shown = holdfast("show", made["thread_id"], "--json")
    assert {"thread", "runs", "items", "requests", "version"} <= set(shown.json)
    assert shown.json["thread"]["title"] == "A title"
    texts = [item["text"] for item in shown.json["items"]]
    assert len(holdfast("show", made["thread_id"], "--items", "1", "--json").json["items"]) == 1
    last = shown.json["items"][-1]["id"]
    before = holdfast("show", made["thread_id"], "--before", last, "--json").json["items"]
    assert [item["text"] for item in before] == texts[:-1]
    assert b"shown" in holdfast("show", made["thread_id"]).out
    assert made["thread_id"] in [thread["id"] for thread in holdfast("threads", "--json").json]
    assert b"A title" in holdfast("threads").out
    assert len(holdfast("threads", "--limit", "1", "--json").json) == 1


def test_agents_runner_and_doctor_tell_about_the_house(holdfast: Program, folder: Path) -> None:
    run(holdfast, folder, "say hello")
    agents = holdfast("agents", "--json")
    assert [agent["id"] for agent in agents.json] == ["scripted"]
    assert {"id", "kind", "version", "status", "proof", "capabilities"} <= set(agents.json[0])
    assert holdfast("agents", "--check", "--json").code == 4
    status = holdfast("runner", "status", "--json").json
    assert status["alive"] is True
    assert status["sessions"]
    found = {check["name"]: check for check in holdfast("doctor", "--json").json["checks"]}
    assert {found[name]["status"] for name in ("home", "token", "database", "server", "runner")} == {"ok"}


def test_a_recorded_thread_can_be_replayed(holdfast: Program, folder: Path) -> None:
    made = run(holdfast, folder, "say recorded", "--json").json
    recorded = holdfast("record", made["thread_id"])
    assert recorded.code == 0
    assert json.loads(recorded.out.splitlines()[0])["agent"] == "scripted"
    path = folder / "recorded.jsonl"
    assert holdfast("record", made["thread_id"], "--output", str(path)).code == 0
    assert path.read_bytes().startswith(recorded.out[:100])
    replayed = holdfast("replay", str(path), "--json")
    assert replayed.code == 0, replayed.err
    assert "recorded" in json.dumps(replayed.json[0]["reports"])
    assert holdfast("record", made["thread_id"], "--output", str(path)).code == 2


def test_a_thread_may_be_opened_without_a_message(holdfast: Program, folder: Path) -> None:
    run(holdfast, folder, "say there is a server")
    home = Home(holdfast.home)
    info = home.server()
    assert info is not None
    with SyncClient(info.url, home.token()) as client:
        created = client.create_thread("scripted", str(folder / "work"), title="empty", key="one")
        assert (created.thread.title, created.thread.status, created.run) == ("empty", "idle", None)
        again = client.create_thread("scripted", str(folder / "work"), title="empty", key="one")
        assert again.thread.id == created.thread.id
        assert client.threads(limit=1).threads[0].id == created.thread.id
        assert client.thread(created.thread.id).runs == []
