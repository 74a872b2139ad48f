"""Who is asking, and from where: the walls before every route.

Owns the checks of Host, Origin and token. It never looks at a thread: ownership is the engine's, behind its door.
A web page of another origin cannot reach the server: its Origin is foreign, and a name that was rebound to our
address brings a foreign Host.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping, Sequence

from holdfast.engine.port import Caller
from holdfast.errors import HoldfastError

Headers = Sequence[tuple[bytes, bytes]]

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
WILDCARDS = frozenset({"0.0.0.0", "::", "[::]"})

LOCAL = Caller(owner="local", scopes=frozenset({"read", "operate", "admin"}))
"""The operating-system user whose token it is."""


class Access:
    """The walls of one server. `tokens`: bearer token -> its caller."""

    def __init__(self, host: str, port: int, tokens: Mapping[str, Caller]) -> None:
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host.lower()
        self._any_address = host in WILDCARDS
        self._port = port
        self._names = LOOPBACK_NAMES if self._any_address else LOOPBACK_NAMES | {host}
        self._tokens = [(token.encode(), caller) for token, caller in tokens.items()]

    def check_source(self, headers: Headers) -> None:
        """Raises `not_allowed` for a Host or an Origin that is not ours."""
        hosts = _all(headers, b"host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            raise HoldfastError(
                "not_allowed",
                f"cannot answer: because the Host header {', '.join(hosts) or '(none)'} is not this server's; "
                f"use http://127.0.0.1:{self._port}",
            )
        for origin in _all(headers, b"origin"):
            scheme, _, host = origin.partition("://")
            if scheme != "http" or not self._is_ours(host):
                raise HoldfastError(
                    "not_allowed",
                    f"cannot answer: because pages of {origin} may not reach this server; "
                    "leave the Origin header out, or ask from the server's own origin",
                )

    def _is_ours(self, host: str) -> bool:
        name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        if not name:
            name, port = host, ""
        if port != str(self._port) and not (port == "" and self._port == 80):
            return False
        return name.lower() in self._names or (self._any_address and _is_address(name))

    def caller(self, headers: Headers) -> Caller:
        """Whose token the request carries. Raises `unauthenticated`."""
        given = _all(headers, b"authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() == "bearer":
            sent = token.strip().encode("utf-8", "surrogateescape")
            found: Caller | None = None
            for known, caller in self._tokens:  # always all of them: the time tells nothing
                if hmac.compare_digest(sent, known):
                    found = caller
            if found is not None:
                return found
        why = "the token is not known" if given else "there is no token"
        raise HoldfastError(
            "unauthenticated",
            f"cannot answer: because {why}; send `Authorization: Bearer ...` with the content of the file `token` "
            "in the server's home",
        )


def require(caller: Caller, scope: str) -> None:
    """Raises `not_allowed` for a caller without the scope; `admin` has every scope."""
    if scope not in caller.scopes and "admin" not in caller.scopes:
        raise HoldfastError("not_allowed", f"cannot answer: because the token lacks the scope {scope}")


def _all(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
