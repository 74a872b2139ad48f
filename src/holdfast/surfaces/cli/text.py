"""Where a command's text and images come from: an argument, `-`, `--file`; byte for byte.

Called by the commands that send messages.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from holdfast.settings import BOUNDS
from holdfast.surfaces.cli.invocation import USAGE, Stop

_IMAGE_TYPES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}


def message_text(argument: str, file: str) -> str:
    """The text: nothing is added, cut or changed. Exactly one source."""
    if bool(argument) == bool(file):
        raise _wrong("there must be exactly one of TEXT and --file", "give one of them; TEXT `-` reads stdin")
    if file:
        return _decoded(_read(file, BOUNDS.text_bytes_max), file)
    if argument == "-":
        data = sys.stdin.buffer.read(BOUNDS.text_bytes_max + 1)
        return _decoded(_bounded(data, "stdin", BOUNDS.text_bytes_max), "stdin")
    return _decoded(os.fsencode(argument), "the argument")


def images(paths: list[str]) -> list[tuple[str, bytes]]:
    """(media type, content) of each file; the type by its first bytes, not by its name."""
    found = []
    for path in paths:
        data = _read(path, BOUNDS.image_bytes_max)
        media_type = next((kind for start, kind in _IMAGE_TYPES.items() if data.startswith(start)), "")
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            media_type = "image/webp"
        if not media_type:
            raise _wrong(f"{path} is no PNG, JPEG, GIF or WebP image", "convert it, or name it in the text")
        found.append((media_type, data))
    return found


def _read(path: str, bytes_max: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return _bounded(file.read(bytes_max + 1), path, bytes_max)
    except OSError as error:
        raise _wrong(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}", "check the path"
        ) from error


def _bounded(data: bytes, source: str, bytes_max: int) -> bytes:
    if len(data) > bytes_max:
        raise Stop(
            "too_large",
            f"cannot send the message: because {source} is above the limit of {bytes_max} bytes; "
            "put it into a file of the workspace, and name the file",
            USAGE,
        )
    return data


def _decoded(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _wrong(f"{source} is not UTF-8 (byte {error.start})", "convert it to UTF-8") from error


def _wrong(why: str, hint: str) -> Stop:
    return Stop("invalid", f"cannot send the message: because {why}; {hint}", USAGE)
