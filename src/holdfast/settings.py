"""Every bound, queue, buffer, frame, wait and retry of the house, each with its unit and its reason.

Owns numbers and nothing else: no file, no environment, no parsing. `Server` and `Limits` are what `config.toml` may
change (`config` reads it); `Bounds` is ours, the same for every installation, and replaceable as a whole in tests.
A wait without a bound is a bug: if a number is missing here, it is missing in the house.
"""

from __future__ import annotations

from typing import Final

import msgspec

MB: Final = 1024 * 1024


class Server(msgspec.Struct, frozen=True):
    """Section `[server]`."""

    #: address to listen on; loopback, because the token is the only wall
    host: str = "127.0.0.1"
    #: 0: any free one; unset and taken by another home: any free one
    port: int = 4770
    #: "" is holdfast.db in the home
    database: str = ""
    #: "" is one host
    bus: str = ""


class Limits(msgspec.Struct, frozen=True):
    """Section `[limits]`. 0 = never."""

    #: seconds without frame, pending request or running tool, after which a notice says so
    stall_s: float = 300
    #: the same, as a failure; never by default: an agent may think as long as it likes
    silence_s: float = 0
    #: seconds that a run may take
    run_s: float = 0
    #: one frame of an agent; larger ones fail the run with `frame_too_large`. 0: what the link carries
    frame_mb: int = 32
    #: unacknowledged frames per session; above it the agent's pipe is not read, and nothing is lost
    journal_mb: int = 256
    #: days that the journal of an ended session is kept
    journal_days: int = 14

    @property
    def frame_bytes_max(self) -> int:
        """The bound in bytes; never more than `FRAME_MB_MAX`."""
        return (self.frame_mb or FRAME_MB_MAX) * MB

    @property
    def journal_bytes_max(self) -> int:
        """The bound in bytes; 0 means a bound that nobody reaches."""
        return self.journal_mb * MB if self.journal_mb else 1 << 62


#: the link carries messages of 64 MB; a frame needs some room for its envelope
FRAME_MB_MAX: Final = 60


class Bounds(msgspec.Struct, frozen=True):
    """What nobody configures. Seconds end in `_s`, bytes in `_bytes_max`, counts in `_max`.

    The runner, the link and the store keep theirs beside their code: they outlive a server, or another may take their
    place.
    """

    # HTTP: what a request may be.
    #: body of a request without images: the longest text, doubled by JSON escapes, and its envelope
    http_body_bytes_max: int = 12 * MB
    #: body of a request that may carry images: 8 of 10 MB in base64 (4/3), and the text
    http_image_body_bytes_max: int = 120 * MB
    #: what is read and thrown away of a body that is too large, so that its sender can read why
    http_discard_bytes_max: int = 512 * MB
    #: one message, as UTF-8; more is a file, and belongs into the workspace
    text_bytes_max: int = 8 * MB
    #: decoded size of one image, and how many one message may carry: what the agents' own services accept
    image_bytes_max: int = 10 * MB
    images_max: int = 8
    #: characters of a title, a model, an effort, a path: they are shown in lists and kept in every row
    name_chars_max: int = 200
    path_chars_max: int = 4096
    add_dirs_max: int = 64
    #: characters of an Idempotency-Key, all visible
    key_chars_max: int = 200
    #: connections and requests under way; above it 503. Each stream is one
    http_connections_max: int = 2000
    #: seconds that an unused connection stays open
    http_idle_s: int = 75
    #: seconds between a request's first byte and its last: a slow sender does not hold memory for ever
    http_body_s: float = 60.0
    #: seconds that the process waits for open requests and streams when it is asked to stop
    http_drain_s: float = 3.0

    # Reading.
    #: rows of one page, as asked for and as given when nothing is asked for
    page_max: int = 1000
    page_default: int = 100
    #: seconds that `GET /runs/{id}?wait=` may hold: below the idle time-outs of proxies
    run_wait_s_max: float = 60.0
    #: seconds between comments on a silent SSE stream, so that either side notices a dead peer
    sse_keep_alive_s: float = 15.0
    #: milliseconds after which a reader of SSE comes back
    sse_retry_ms: int = 1000
    #: events read from the log at once while a reader catches up
    feed_page_max: int = 500

    # Commands.
    #: days that the outcome of a command is kept for its repetition
    idempotency_days: int = 7
    #: threads whose state stays in memory though nothing happens in them
    threads_in_memory_max: int = 500

    # Runs.
    #: seconds from an agent's start to its readiness: cold starts with MCP servers take this long
    handshake_s: float = 120.0
    #: seconds from the prompt's write to the agent's first sign of it
    prompt_seen_s: float = 120.0
    #: seconds for the answer of the agent's own history
    history_s: float = 10.0
    #: seconds between two notes of activity: P4 wants to see since when nothing moved, not every frame
    activity_s: float = 15.0
    #: stop ladder: native interrupt, then terminate, then kill
    stop_interrupt_s: float = 5.0
    stop_terminate_s: float = 3.0
    #: seconds after which a stopping run is ended by us, whatever its agent does (P4)
    forced_end_s: float = 20.0
    #: seconds in which a session may end by itself after its input was closed (idle, shutdown)
    close_s: float = 5.0
    #: attempts of one run that recovery may begin without a person
    restart_attempts_max: int = 3

    # Doctor.
    #: seconds for the answer of a program that is asked for its version
    program_s: float = 10.0
    #: free bytes below which it warns
    disk_warning_bytes: int = 1024 * MB

    # Command line.
    #: seconds in which a server started in the background must answer
    server_start_s: float = 30.0
    #: seconds in which a stopping server must be gone
    server_stop_s: float = 15.0
    #: seconds that `stop` waits for the end of a run
    stop_wait_s: float = 20.0
    #: lines of a server's log that are shown when it did not start
    log_tail_lines: int = 20
    #: bytes of a server's log; then it is put aside once
    log_bytes_max: int = 16 * MB


BOUNDS: Final = Bounds()
