"""The folder that holds everything of one installation: its layout, its token, its lock and its server's address.

Owns paths, modes and atomic writes inside HOLDFAST_HOME. It never reads the configuration and never opens the
database. Called by the command line, the server, the engine and programs that embed Holdfast.

The lock is a `flock` on the folder itself, held for the server's life; pids in files are information only.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import msgspec

from holdfast.errors import HoldfastError

log = logging.getLogger("holdfast.home")

FOLDER_MODE = 0o700
FILE_MODE = 0o600
TOKEN_CHARS_MIN = 20


class HomeUnusable(HoldfastError):
    """The home cannot be used; the text says what to do. Exit code 5."""

    def __init__(self, detail: str) -> None:
        super().__init__("home_unusable", detail)


class HomeHeld(HoldfastError):
    """Another process holds the home. `holder` is what its server.json says, None if there is none. Exit code 5."""

    def __init__(self, path: Path, holder: ServerInfo | None) -> None:
        who = f"a server holds it (pid {holder.pid}, {holder.url})" if holder else "another process holds it"
        hint = (
            "use that server, or end it with `holdfast serve --stop`" if holder else "end that process first"
        )
        super().__init__(
            "home_held", f"cannot use {path}: because {who}; {hint}, or choose another HOLDFAST_HOME"
        )
        self.holder = holder


class ServerInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """server.json. `restarted`: its runner started it again in the background; a `serve` by hand takes over."""

    url: str
    pid: int
    version: str
    started_at: str
    restarted: bool = False


class Home:
    """The layout. Making a `Home` touches nothing; `prepare` makes its folders."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()
        self.config_path = self.path / "config.toml"
        self.db_path = self.path / "holdfast.db"
        self.token_path = self.path / "token"
        self.server_path = self.path / "server.json"
        self.runner_dir = self.path / "runner"
        self.runner_json = self.runner_dir / "runner.json"
        self.journals_dir = self.runner_dir / "journals"
        self.blobs_dir = self.path / "blobs"
        self.logs_dir = self.path / "logs"
        self.server_log = self.logs_dir / "server.log"

    @classmethod
    def locate(cls, given: str = "", environ: Mapping[str, str] | None = None) -> Home:
        """The home that is meant: the argument, else HOLDFAST_HOME, else the platform's user data folder."""
        chosen = given or (os.environ if environ is None else environ).get("HOLDFAST_HOME", "")
        if not chosen:
            import platformdirs

            chosen = platformdirs.user_data_dir("holdfast", appauthor=False)
        return cls(chosen)

    def __repr__(self) -> str:
        return f"Home({str(self.path)!r})"

    def prepare(self) -> None:
        """Makes the folders, 0700, and proves that they can be written. Raises `HomeUnusable`."""
        try:
            self.path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            self._refuse_foreign_folder()
            for folder in (self.path, self.runner_dir, self.journals_dir, self.blobs_dir, self.logs_dir):
                folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
                _tighten(folder, FOLDER_MODE)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise HomeUnusable(
                f"cannot use {self.path} as home: because {_words(error)}; "
                "make it a folder that you may write, or set HOLDFAST_HOME to one"
            ) from error

    def _refuse_foreign_folder(self) -> None:
        """Somebody's open folder full of other things is a mistyped home: its mode is not ours to change."""
        if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
            names = {entry.name for entry in self.path.iterdir()}
            ours = {"config.toml", "holdfast.db", "token", "runner", "server.json"}
            if names and not names & ours:
                raise HomeUnusable(
                    f"cannot use {self.path} as home: because it is open to other users and holds other things; "
                    "choose a folder of its own, or `chmod 700` this one if it is meant"
                )

    def token(self) -> str:
        """The local operator's token; made at the first call. Two processes that make it agree on one."""
        self.prepare()
        try:
            if not self.token_path.exists():
                self._make_token()
            _tighten(self.token_path, FILE_MODE)
            return self._checked_token()
        except (OSError, UnicodeDecodeError) as error:
            raise HomeUnusable(f"cannot read {self.token_path}: because {_words(error)}") from error

    def read_token(self) -> str:
        """The token if there is one, "" if not; changes nothing."""
        try:
            return self._checked_token()
        except (OSError, UnicodeDecodeError, HomeUnusable):
            return ""

    def _checked_token(self) -> str:
        token = self.token_path.read_text(encoding="ascii").strip()
        if len(token) < TOKEN_CHARS_MIN or not token.isprintable() or " " in token:
            raise HomeUnusable(
                f"cannot use {self.token_path}: because it holds no token; delete it, and a new one is made"
            )
        return token

    def _make_token(self) -> None:
        """A link makes it appear whole or not at all, and never over another process's."""
        draft = _write_beside(self.token_path, f"hf_{secrets.token_urlsafe(32)}\n".encode())
        try:
            with contextlib.suppress(FileExistsError):
                os.link(draft, self.token_path)
        finally:
            draft.unlink(missing_ok=True)

    def lock(self) -> HomeLock:
        """Takes the home for this process, or raises `HomeHeld`. Released by `release`, or by the process's end."""
        self.prepare()
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not self._take(handle):
                os.close(handle)
                raise HomeHeld(self.path, self.server())
        except OSError as error:
            os.close(handle)
            raise HomeUnusable(
                f"cannot lock {self.path}: because {_words(error)}; choose a home on a local file system"
            ) from error
        return HomeLock(handle)

    def _take(self, handle: int) -> bool:
        """Tries a few times: somebody may be looking (`is_held`) at this very moment."""
        for _ in range(10):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                time.sleep(0.01)
        return False

    def is_held(self) -> bool:
        """Whether some process holds the home right now."""
        if not self.path.is_dir():
            return False
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(handle)
        return False

    def holder_pid(self) -> int | None:
        """Which process holds the home, as the kernel says; None where that cannot be read."""
        try:
            status = self.path.stat()
            lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        except OSError:
            return None
        place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in lines:
            fields = line.split()
            if fields[1:2] == ["FLOCK"] and "WRITE" in fields and place in fields:
                pid = int(fields[fields.index("WRITE") + 1])
                return pid if pid > 0 else None
        return None

    def write_server(self, info: ServerInfo) -> None:
        """Says where the server is. Called once it listens."""
        draft = _write_beside(self.server_path, msgspec.json.encode(info) + b"\n")
        draft.replace(self.server_path)

    def server(self) -> ServerInfo | None:
        """What server.json says. Its writer may be dead: the lock and an answer tell."""
        try:
            return msgspec.json.decode(self.server_path.read_bytes(), type=ServerInfo)
        except (OSError, msgspec.MsgspecError):
            return None

    def remove_server(self, pid: int) -> None:
        """On a clean stop; only one's own."""
        info = self.server()
        if info is not None and info.pid == pid:
            self.server_path.unlink(missing_ok=True)


class HomeLock:
    """The held home. A context manager; `release` may be called twice."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def release(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def __enter__(self) -> HomeLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _tighten(path: Path, mode: int) -> None:
    """Takes away what others may do with the path; it is said, because somebody had given it."""
    now = stat.S_IMODE(path.stat().st_mode)
    if now & 0o077:
        os.chmod(path, mode)
        log.warning("%s was open to other users (mode %o): it is now %o", path, now, mode)


def _write_beside(path: Path, data: bytes) -> Path:
    """A synced draft in the same folder, 0600, for a rename or a link."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror.lower()} ({error.filename})" if error.filename else error.strerror.lower()
    return str(error)
