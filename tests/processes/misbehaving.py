"""An agent program that misbehaves in one named way: `misbehaving.py MODE [ARGS]`. Standard library only.

Each mode is a function. What a program announces (pids, that it is ready) it writes as a line to its output.
"""

import os
import signal
import subprocess
import sys


def say(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


def complain(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(2, rest) :]


def hang() -> None:
    while True:
        signal.pause()


def echo() -> None:
    for line in sys.stdin.buffer:
        say(line)


def environment() -> None:
    for name, value in sorted(os.environb.items()):
        say(name + b"=" + value + b"\n")


def process_state() -> None:
    """What the start left in this process that it should not have."""
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    for name in ("SigBlk", "SigIgn"):
        say(f"{name} {fields[name].strip()}\n".encode())
    descriptors = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
    say(f"fds {' '.join(sorted(descriptors))}\n".encode())
    say(f"cwd {os.getcwd()}\n".encode())
    say(f"leads {os.getpid() == os.getpgrp() == os.getsid(0)}\n".encode())


def half_line() -> None:
    say(b'{"first":')
    sys.stdin.buffer.readline()
    say(b'"second"}\n')
    echo()


def split_utf8() -> None:
    text = '{"text":"😀ü"}\n'.encode()
    for byte in text:
        say(bytes([byte]))
        sys.stdin.buffer.readline()


def noise() -> None:
    say(b"Welcome to the agent!\n\n\r\n  \xff\xfe not text\n[1,2\n{}\r\n")


def long_line(size: str, last: str = "") -> None:
    say(b"x" * int(size) + b"\nafter\n" + last.encode())


def flood_errors(size: str) -> None:
    complain(b"e" * int(size) + b"the last words\n")
    say(b"done\n")
    sys.exit(3)


def flood(size: str, line: str) -> None:
    """That many bytes in lines of that length, numbered; then it echoes."""
    count = int(size) // int(line)
    filler = b"f" * (int(line) - 12)
    for begin in range(0, count, 64):
        say(b"".join(b"%010d %s\n" % (number, filler) for number in range(begin, min(begin + 64, count))))
    say(b"flooded\n")
    echo()


def ignore_term() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(b"ready\n")
    hang()


def close_input() -> None:
    os.close(0)
    say(b"ready\n")
    hang()


def close_output() -> None:
    say(b"last\n")
    os.close(1)
    hang()


def no_reading() -> None:
    say(b"ready\n")
    hang()


def read_late() -> None:
    """Reads its input only after a signal, then echoes the lengths of the lines."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    say(b"ready\n")
    signal.sigwait([signal.SIGUSR1])
    for line in sys.stdin.buffer:
        say(b"%d\n" % len(line))


def last_words(size: str) -> None:
    say(b'{"result":"' + b"x" * int(size) + b'"}')


def exit_with(code: str) -> None:
    complain(b"cannot go on\n")
    sys.exit(int(code))


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def children() -> None:
    """Leaves three behind that hold the output: in its group, in a session of its own, forked twice and deaf.

    Their pids are one line; then it echoes until its input ends.
    """
    sleeper = [sys.executable, "-I", "-S", __file__]
    plain = subprocess.Popen([*sleeper, "no_reading"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    apart = subprocess.Popen([*sleeper, "ignore_term"], stdin=subprocess.DEVNULL, start_new_session=True)
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if (pid := os.fork()) == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            hang()
        os.write(write, str(pid).encode())
        os._exit(0)
    twice = os.read(read, 20).decode()
    os.wait3(0)
    say(f"pids {plain.pid} {apart.pid} {twice}\n".encode())
    echo()
    os._exit(0)


def unmarked_child() -> None:
    """A descendant that dropped the mark and left the session."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, "ignore_term"],
        env={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    say(f"pids {child.pid}\n".encode())
    hang()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
