"""The server's life as a program: where it listens, who holds the home, its ends, and its coming back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from holdfast.home import Home
from holdfast.surfaces.server_program import server_command
from tests.surfaces.cli import WITHIN_S, Program

pytestmark = pytest.mark.xdist_group("server_life")


def test_serve_says_where_it_listens_and_leaves_cleanly(fresh: Program) -> None:
    server = fresh.start("serve", "--json", "--port", "0")
    assert server.stdout is not None
    first = json.loads(server.stdout.readline())
    assert set(first) == {"url", "pid", "home"}
    assert (first["pid"], first["home"]) == (server.pid, str(fresh.home))
    said = json.loads((fresh.home / "server.json").read_bytes())
    assert (said["url"], said["pid"]) == (first["url"], server.pid)
    assert {"version", "started_at"} <= set(said)
    assert oct((fresh.home / "token").stat().st_mode & 0o777) == "0o600"
    held = fresh("serve", "--json")
    assert (held.code, held.json["code"]) == (5, "home_held")
    assert str(server.pid) in held.err
    assert first["url"] in held.err
    server.send_signal(signal.SIGTERM)
    server.communicate(timeout=20)
    assert server.returncode == 0
    assert not (fresh.home / "server.json").exists()


def test_starting_in_the_background_returns_when_it_answers(fresh: Program) -> None:
    first = fresh("serve", "--background", "--port", "0", "--json")
    assert first.code == 0, first.err
    again = fresh("serve", "--background", "--json")
    assert (again.code, again.json) == (0, first.json)
    assert fresh("threads", "--no-start", "--json").json == []
    stopped = fresh("serve", "--stop", "--json")
    assert (stopped.code, stopped.json["pid"]) == (0, first.json["pid"])
    assert not Home(fresh.home).is_held()


def test_of_parallel_starts_one_wins_and_the_others_use_it(fresh: Program) -> None:
    fresh.env["HOLDFAST_SERVER__PORT"] = "0"
    children = [fresh.start("threads", "--json") for _ in range(4)]
    for child in children:
        out, err = child.communicate(timeout=WITHIN_S)
        assert (child.returncode, json.loads(out)) == (0, []), err
    log = (fresh.home / "logs" / "server.log").read_text(encoding="utf-8")
    assert log.count(" listens there ") == 1


def test_a_port_that_is_given_is_that_one_or_none(fresh: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = fresh("serve", "--port", port, "--json")
    assert (done.code, done.json["code"]) == (5, "cannot_listen")
    assert f"127.0.0.1:{port}" in done.err


def test_the_default_port_gives_way_to_another_home(fresh: Program, tmp_path: Path) -> None:
    other = Program(Path(tempfile.mkdtemp(prefix="hf-e2e-")) / "home", tmp_path / "other-user")
    try:
        urls = {program("serve", "--background", "--json").json["url"] for program in (fresh, other)}
        assert len(urls) == 2
    finally:
        other.end()
        shutil.rmtree(other.home.parent, ignore_errors=True)


def test_a_server_restarted_in_the_background_gives_way_to_one_by_hand(fresh: Program) -> None:
    fresh.home.mkdir(mode=0o700)
    argv = server_command(Home(fresh.home), json=True, port=0, restarted=True)
    background = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=fresh.env)
    assert background.stdout is not None
    first = json.loads(background.stdout.readline())
    by_hand = fresh.start("serve", "--json", "--port", "0")
    assert by_hand.stdout is not None
    second = json.loads(by_hand.stdout.readline())
    assert second["pid"] == by_hand.pid != first["pid"]
    background.communicate(timeout=20)
    assert background.returncode == 0
    by_hand.send_signal(signal.SIGTERM)
    by_hand.communicate(timeout=20)
    assert by_hand.returncode == 0


def test_a_killed_server_comes_back_and_a_waiting_client_does_not_notice(fresh: Program) -> None:
    fresh.env["HOLDFAST_SERVER__PORT"] = "0"
    cwd = str(fresh.home.parent)
    started = fresh(
        "run", "--agent", "scripted", "--cwd", cwd, "sleep 5;; say survived", "--background", "--json"
    )
    assert started.code == 0, started.err
    waiting = fresh.start("wait", started.json["id"], "--stream-json")
    assert waiting.stdout is not None
    lines = [waiting.stdout.readline()]
    os.kill(json.loads((fresh.home / "server.json").read_bytes())["pid"], signal.SIGKILL)
    out, err = waiting.communicate(timeout=WITHIN_S)
    assert waiting.returncode == 0, err
    events = [json.loads(line) for line in [*lines, *out.splitlines()]]
    assert events[0]["type"] == "snapshot"
    assert "survived" in events[-1]["data"]["text"]
    versions = [
        event["version"] for event in events if event["type"] not in ("run", "text", "snapshot", "caught_up")
    ]
    assert versions == list(range(events[0]["version"] + 1, versions[-1] + 1))
    assert json.loads((fresh.home / "server.json").read_bytes())["restarted"] is True


def test_stop_with_force_ends_a_server_that_does_not_listen_and_it_stays_down(fresh: Program) -> None:
    fresh.env["HOLDFAST_SERVER__PORT"] = "0"
    first = fresh("run", "--agent", "scripted", "--cwd", str(fresh.home.parent), "say hello", "--json")
    assert first.code == 0, first.err
    pid = json.loads((fresh.home / "server.json").read_bytes())["pid"]
    os.kill(pid, signal.SIGSTOP)
    done = fresh("serve", "--stop", "--force", "--json")
    assert (done.code, done.json["pid"]) == (0, pid)
    assert not Home(fresh.home).is_held()
    assert fresh("serve", "--stop", "--agents", "--json").code == 0
    assert fresh("runner", "status", "--json").json["alive"] is False
