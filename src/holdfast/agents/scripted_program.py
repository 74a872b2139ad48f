"""The scripted agent as a process: pipes, files, commands and signals around `ScriptedMind`. Standard library alone.

Owns what the operating system sees of the scripted agent and decides nothing about the conversation. The runner starts
it as `python -I -S scripted_program.py`, as it would any agent; it imports little, because a cold start may take 40 ms.
Nothing of Holdfast runs in it but its own three files.
"""

from __future__ import annotations

import codecs
import json
import os
import select
import signal
import sys
import time
from collections import deque

if (
    not __package__
):  # run by its path: only the files beside this one may be imported, whatever holdfast imports
    import types

    _folder = os.path.dirname(os.path.abspath(__file__))
    for _name in ("holdfast", "holdfast.agents"):
        sys.modules[_name] = types.ModuleType(_name)
        sys.modules[_name].__path__ = [_folder]

from holdfast.agents.scripted_mind import ScriptedMind
from holdfast.agents.scripted_words import Out

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from holdfast.agents.scripted_words import Message

READ_BYTES = 64 * 1024
COMMAND_OUTPUT_MAX = 256 * 1024  # what one command may tell; the rest is read and left out
STDIN, STDOUT, STDERR = 0, 1, 2


class Command:
    """A command under way for the tool `item`."""

    def __init__(self, item: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self.item, self.process, self.pipe = item, process, process.stdout.fileno()
        self.at_end = (
            False  # of its output; a process it left behind may hold the pipe open after its own end
        )
        self.told = 0
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        os.set_blocking(self.pipe, False)

    def read(self) -> str | None:
        """The next piece of its output, None if there is none now."""
        if self.at_end:
            return None
        try:
            data = os.read(self.pipe, READ_BYTES)
        except BlockingIOError:
            return None
        self.at_end = not data
        room = max(COMMAND_OUTPUT_MAX - self.told, 0)
        self.told += len(data)
        return self.decoder.decode(data[:room], final=self.at_end)

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


class Process:
    """Does what the mind says in its order, and tells it what happened. One loop, nothing blocks in it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.history = -1  # the native history, once it is open for appending
        self.mind = ScriptedMind(self.read_history)
        self.outs: deque[Out] = deque()
        self.unsent = memoryview(b"")
        self.received = bytearray()
        self.commands: dict[str, Command] = {}
        self.reading = True
        self.clock = time.time() - time.monotonic()
        self.signals, signals_in = os.pipe()
        for end in (self.signals, signals_in):
            os.set_blocking(end, False)
        os.set_blocking(STDOUT, False)
        signal.set_wakeup_fd(signals_in, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # the loop reads of it
        self.actions: dict[str, Callable[[Out], None]] = {
            "err": self.err, "note": self.note, "run": self.run, "end": self.end, "write": self.write,
            "child": self.child, "heir": self.heir, "stubborn": self.stubborn, "exit": self.exit, "kill": self.kill,
        }  # fmt: skip

    def now(self) -> float:
        return self.clock + time.monotonic()

    def feed(self, message: Message) -> None:
        self.outs += self.mind.feed(message, self.now())

    def loop(self) -> None:
        while True:
            blocked = not self.perform()
            wake_at = None if blocked else self.mind.wake_at
            timeout = None if wake_at is None else max(wake_at - self.now(), 0.0)
            readers = [self.signals]
            if self.reading:
                readers.append(STDIN)
            if not blocked:
                readers += [command.pipe for command in self.commands.values() if not command.at_end]
            ready, _, _ = select.select(readers, [STDOUT] if blocked else [], [], timeout)
            if STDIN in ready:
                self.read()
            if self.signals in ready:
                self.signalled()
            for command in list(self.commands.values()):
                if command.pipe in ready:
                    self.listen(command)
            if not blocked:
                self.outs += self.mind.wake(self.now())

    def read(self) -> None:
        data = os.read(STDIN, READ_BYTES)
        if not data:
            self.reading = False
            self.feed({"type": "eof"})
        before = len(self.received)
        self.received += data
        if self.received.find(b"\n", before) < 0:
            return
        *lines, rest = self.received.split(b"\n")
        self.received = rest
        for line in lines:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(message, dict) and not str(message.get("type")).startswith(("host.", "eof")):
                self.feed(message)

    def signalled(self) -> None:
        numbers = os.read(self.signals, READ_BYTES)
        if signal.SIGTERM in numbers and not self.mind.stubborn:
            self.kill(Out("kill", code=signal.SIGTERM))
        for command in list(self.commands.values()):
            code = command.process.poll()
            if code is not None:
                while (text := command.read()) is not None:
                    self.tell(command, text)
                self.forget(command)
                self.feed(
                    {"type": "host.done", "item": command.item, "code": code if code >= 0 else 128 - code}
                )

    def listen(self, command: Command) -> None:
        if self.commands.get(command.item) is command:
            self.tell(command, command.read() or "")

    def tell(self, command: Command, text: str) -> None:
        if text:
            self.feed({"type": "host.output", "item": command.item, "text": text})

    def forget(self, command: Command) -> None:
        del self.commands[command.item]
        assert command.process.stdout is not None
        command.process.stdout.close()

    # what the mind says

    def perform(self) -> bool:
        """Does all there is to do; False if standard output takes no more for now."""
        while self.unsent or self.outs:
            if self.unsent:
                try:
                    self.unsent = self.unsent[os.write(STDOUT, self.unsent) :]
                except BlockingIOError:
                    return False
                except BrokenPipeError:
                    self.exit(Out("exit", code=1))
                continue
            out = self.outs.popleft()
            if out.do != "out":
                self.actions[out.do](out)
                continue
            pieces = [out.data]
            while self.outs and self.outs[0].do == "out":
                pieces.append(self.outs.popleft().data)
            self.unsent = memoryview(b"".join(pieces))
        return True

    def err(self, out: Out) -> None:
        data = out.data
        while data:
            try:
                data = data[os.write(STDERR, data) :]
            except BlockingIOError:  # it shares the pipe of standard output
                select.select([], [STDERR], [])
            except BrokenPipeError:
                return

    def path(self, native: str) -> str:
        return os.path.join(self.folder, f"{native}.jsonl")

    def read_history(self, native: str) -> list[str] | None:
        try:
            with open(self.path(native), encoding="utf-8", errors="replace") as file:
                return file.read().split("\n")
        except FileNotFoundError:
            return None

    def note(self, out: Out) -> None:
        if self.history < 0:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self.history = os.open(self.path(self.mind.native), flags, 0o600)
        os.write(self.history, out.data + b"\n")

    def run(self, out: Out) -> None:
        import subprocess  # here, because it costs 10 ms and most sessions need it never

        process = subprocess.Popen(
            ["/bin/sh", "-c", out.data],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        self.commands[out.ref] = Command(out.ref, process)

    def end(self, out: Out) -> None:
        command = self.commands.get(out.ref)
        if command is not None:
            command.kill()
            command.process.wait()
            self.forget(command)

    def write(self, out: Out) -> None:
        done = {"type": "host.done", "item": out.ref, "code": 0, "text": ""}
        try:
            os.makedirs(os.path.dirname(os.path.abspath(out.path)), exist_ok=True)
            with open(out.path, "wb") as file:
                file.write(out.data)
        except (OSError, ValueError) as error:
            done |= {"code": 1, "text": f"cannot write {out.path}: because {error}"}
        self.feed(done)

    def child(self, out: Out) -> None:
        import subprocess

        null = subprocess.DEVNULL
        command: list[str | bytes] = ["/bin/sh", "-c", out.data]
        subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True)

    def heir(self, out: Out) -> None:
        import subprocess

        subprocess.Popen(["/bin/sh", "-c", out.data], stdin=subprocess.DEVNULL)

    def stubborn(self, out: Out) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def exit(self, out: Out) -> None:
        for command in self.commands.values():
            command.kill()
        os._exit(out.code)

    def kill(self, out: Out) -> None:
        """Dies by that signal; by SIGKILL nothing is tidied up, as it would be from outside."""
        if out.code != signal.SIGKILL:
            for command in self.commands.values():
                command.kill()
            signal.signal(out.code, signal.SIG_DFL)
        os.kill(os.getpid(), out.code)
        os._exit(1)


def main() -> None:
    env = os.environ
    time.sleep(float(env.get("HOLDFAST_SCRIPTED_START_MS") or 0) / 1000)
    if reason := env.get("HOLDFAST_SCRIPTED_START_FAIL"):
        os.write(STDERR, reason.encode() + b"\n")
        os._exit(3)
    home = env.get("HOME") or os.getcwd()
    Process(env.get("HOLDFAST_SCRIPTED_HOME") or os.path.join(home, ".holdfast-scripted")).loop()


if __name__ == "__main__":
    main()
