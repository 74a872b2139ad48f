"""The home: its folders and modes, one token for all, one holder at a time, and words for what cannot be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.home import Home, HomeHeld, HomeUnusable, ServerInfo

INFO = ServerInfo("http://127.0.0.1:4770", 4321, "0.1.0", "2026-01-01T00:00:00.000Z")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_argument_wins_over_the_variable_over_the_platform(tmp_path: Path) -> None:
    assert Home.locate(str(tmp_path), {"HOLDFAST_HOME": "/other"}).path == tmp_path
    assert Home.locate("", {"HOLDFAST_HOME": "/other"}).path == Path("/other")
    assert Home.locate("", {}).path.name == "holdfast"
    assert Home.locate("", {}).path.is_absolute()


def test_making_a_home_touches_nothing_and_preparing_it_makes_private_folders(home: Home) -> None:
    assert not home.path.exists()
    before = os.umask(0)
    try:
        home.prepare()
    finally:
        os.umask(before)
    for folder in (home.path, home.runner_dir, home.journals_dir, home.blobs_dir, home.logs_dir):
        assert mode(folder) == 0o700


def test_a_home_of_ours_that_is_open_is_closed_and_it_is_said(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    home.prepare()
    home.token()
    home.path.chmod(0o755)
    home.prepare()
    assert mode(home.path) == 0o700
    assert "was open to other users" in caplog.text


def test_somebody_elses_open_folder_is_not_made_ours(tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "letter.txt").write_text("x", encoding="utf-8")
    folder.chmod(0o755)
    with pytest.raises(HomeUnusable, match="holds other things"):
        Home(folder).prepare()
    assert mode(folder) == 0o755


@pytest.mark.parametrize("blocked", ["", "runner"])
def test_a_home_that_cannot_be_a_folder_says_why(home: Home, blocked: str) -> None:
    place = home.path / blocked
    place.parent.mkdir(mode=0o700, exist_ok=True)
    place.write_text("a file", encoding="utf-8")
    with pytest.raises(HomeUnusable, match=r"cannot use .* as home: because") as unusable:
        home.prepare()
    assert "HOLDFAST_HOME" in unusable.value.detail


def test_the_token_is_made_once_and_private(home: Home) -> None:
    token = home.token()
    assert home.token() == token
    assert Home(home.path).read_token() == token
    assert mode(home.token_path) == 0o600
    assert len(token) > 40
    assert [path.name for path in home.path.iterdir() if path.name.startswith(".")] == []


def test_many_at_once_agree_on_one_token(home: Home) -> None:
    home.prepare()
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: Home(home.path).token(), range(32)))) == 1


def test_a_token_that_others_may_read_is_closed(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    token = home.token()
    home.token_path.chmod(0o644)
    assert home.token() == token
    assert mode(home.token_path) == 0o600
    assert "was open to other users" in caplog.text


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 40, b"two words that are long enough\n"])
def test_a_file_that_is_no_token_says_what_to_do(home: Home, content: bytes) -> None:
    home.prepare()
    home.token_path.write_bytes(content)
    with pytest.raises(HomeUnusable, match="token"):
        home.token()
    assert home.read_token() == ""


def test_one_holder_at_a_time_and_the_next_learns_who(home: Home) -> None:
    with home.lock():
        home.write_server(INFO)
        assert home.is_held()
        assert home.holder_pid() in (os.getpid(), None)
        with pytest.raises(HomeHeld) as held:
            home.lock()
        assert "pid 4321" in held.value.detail
        assert INFO.url in held.value.detail
        assert held.value.holder == INFO
    assert not home.is_held()
    home.lock().release()


def test_a_holder_without_an_address_is_said_too(home: Home) -> None:
    with home.lock(), pytest.raises(HomeHeld, match="another process holds it"):
        home.lock()


def test_the_lock_ends_with_its_process(home: Home) -> None:
    program = f"from holdfast.home import Home; lock = Home({str(home.path)!r}).lock(); print('held', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"held\n"
        assert home.is_held()
    finally:
        child.kill()
        child.communicate()
    assert not home.is_held()


def test_looking_does_not_keep_others_out(home: Home) -> None:
    home.prepare()
    with ThreadPoolExecutor(4) as pool:
        looking = [pool.submit(home.is_held) for _ in range(200)]
        for _ in range(20):
            home.lock().release()
        assert all(look.result() in (True, False) for look in looking)


def test_the_address_is_whole_or_not_there(home: Home) -> None:
    home.prepare()
    assert home.server() is None
    home.write_server(INFO)
    assert home.server() == INFO
    assert mode(home.server_path) == 0o600
    home.remove_server(1)
    assert home.server() == INFO
    home.remove_server(INFO.pid)
    assert home.server() is None
    home.server_path.write_bytes(b"{half")
    assert home.server() is None
