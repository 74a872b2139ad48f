"""Is there a server at an address, and which version? One question over the standard library, without a loop."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

ANSWER_S = 2.0


def version_at(url: str) -> str:
    """The version of the server that answers at the address, "" if none does within two seconds."""
    place = urlsplit(url)
    link = http.client.HTTPConnection(place.hostname or "", place.port, timeout=ANSWER_S)
    try:
        link.request("GET", "/api/v1/health")
        response = link.getresponse()
        return str(json.loads(response.read())["version"]) if response.status == 200 else ""
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return ""
    finally:
        link.close()
