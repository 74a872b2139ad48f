"""What runs for some milliseconds between the runner's spawn and the agent's program, in the agent's own process.

Owns what must be set up in the child itself: death with its parent, signals, limits, working folder, the search for
the program. It is started as a file of its own by `processes`, isolated and without site packages, and imports as
little as it can. What fails is told on the `report` pipe, which a successful exec closes.

Arguments: parent pid, report descriptor, limit of open files (-1: leave it), LC_CTYPE as it shall be ("-": absent,
else after a "="), working folder, program and its arguments.
"""

import ctypes
import os
import resource
import sys

PR_SET_PDEATHSIG = 1
SIGKILL = 9
SIG_SETMASK = 2
SIGNALS = 64
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


def main() -> None:
    parent, report, files_max, lc_ctype, cwd, *argv = sys.argv[1:]
    report_fd = int(report)
    os.set_inheritable(report_fd, False)
    libc = ctypes.CDLL(None)
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        os._exit(125)  # the runner died before the line above: its death would not be told to us
    for number in range(1, SIGNALS + 1):
        libc.signal(number, None)
    libc.sigprocmask(SIG_SETMASK, ctypes.create_string_buffer(128), None)
    if int(files_max) >= 0:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (int(files_max), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )
    try:
        os.chdir(cwd)
    except OSError as error:
        fail(report_fd, "cwd", error)
    # Starting Python in a C locale changes LC_CTYPE; the agent's environment is to be exactly what was asked for.
    env = dict(os.environ)
    env.pop("LC_CTYPE", None)
    if lc_ctype != "-":
        env["LC_CTYPE"] = lc_ctype[1:]
    run(report_fd, argv, env)


def run(report_fd: int, argv: list[str], env: dict[str, str]) -> None:
    program = argv[0]
    candidates = [program]
    if "/" not in program:
        candidates = [
            os.path.join(folder or ".", program) for folder in env.get("PATH", DEFAULT_PATH).split(":")
        ]
    refused = None
    for candidate in candidates:
        try:
            os.execve(candidate, argv, env)
        except (FileNotFoundError, NotADirectoryError) as error:
            if os.path.lexists(candidate):  # there, but its interpreter is not
                fail(report_fd, "exec", error)
        except PermissionError as error:
            refused = error
        except OSError as error:
            fail(report_fd, "exec", error)
    fail(
        report_fd, "exec" if refused else "missing", refused or FileNotFoundError(2, os.strerror(2), program)
    )


def fail(report_fd: int, stage: str, error: OSError) -> None:
    os.write(
        report_fd, f"{stage}\n{error.strerror}\n{error.filename or ''}".encode("utf-8", "surrogateescape")
    )
    os._exit(126)


main()
