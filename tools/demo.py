"""`make run`: starts Holdfast in the foreground, opens a first thread on the scripted agent, and says what to type next.

A client of the command line like any other: it knows no internals. It uses the person's own Holdfast home, so that a
second shell finds the same server. Ctrl-C stops the server.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HOLDFAST = Path(sys.executable).with_name("holdfast")
STOP_SECONDS = 30


def start_server() -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Starts `holdfast serve`; its first line says where it listens, and comes once it does."""
    server = subprocess.Popen([str(HOLDFAST), "serve", "--json"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line:
        code = server.wait()
        raise SystemExit(f"cannot start Holdfast: because `holdfast serve` ended with code {code}; see above")
    address: dict[str, Any] = json.loads(line)
    return server, address


def first_thread() -> dict[str, Any]:
    """One run on the scripted agent, which needs no account; `--no-start`: of this server and no other."""
    command = [str(HOLDFAST), "run", "--json", "--no-start", "--agent", "scripted", "--cwd", str(ROOT)]
    done = subprocess.run([*command, "Hello from make run"], stdout=subprocess.PIPE, text=True)
    if not done.stdout.strip():
        raise SystemExit(
            f"cannot open the first thread: because `holdfast run` ended with code {done.returncode}"
        )
    run: dict[str, Any] = json.loads(done.stdout)
    return run


def what_next(address: dict[str, Any], run: dict[str, Any]) -> str:
    program = os.path.relpath(HOLDFAST) if HOLDFAST.is_relative_to(Path.cwd()) else str(HOLDFAST)
    thread = run["thread_id"]
    return f"""
Holdfast listens at {address["url"]} and keeps everything in {address["home"]}
A first thread, {thread}, is {run["status"]} on the scripted agent; it answered: {run.get("text") or "nothing yet"}

In a second shell, in this folder:
  {program} send {thread} "and again"        go on in this thread
  {program} show {thread}                    everything that happened in it
  {program} agents                           the agents found on this machine
  {program} run "what is in this folder?"    a new thread, here, on your own agent

Ctrl-C stops the server; what it was told stays.
"""


def stop(server: subprocess.Popen[str]) -> int:
    """Waits for a server that has been asked to stop; insists when it does not."""
    try:
        return server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        print("the server did not stop in time; ending it", file=sys.stderr)
        server.kill()
        return server.wait()


def main() -> int:
    server, address = start_server()
    try:
        print(what_next(address, first_thread()), flush=True)
        return server.wait()
    except KeyboardInterrupt:  # the terminal sent it to the server too
        stop(server)
        return 0
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
            stop(server)


if __name__ == "__main__":
    sys.exit(main())
