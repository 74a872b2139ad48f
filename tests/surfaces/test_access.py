"""Only its owner: no route answers without the token, nor to a page or a name that is not ours."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from holdfast.engine.port import Caller
from holdfast.errors import HoldfastError
from holdfast.surfaces.http.access import LOCAL, Access, require
from holdfast.surfaces.http.app import Application
from holdfast.surfaces.http.routes import PREFIX, ROUTES, Route
from tests.surfaces.conftest import BEARER, PORT, TOKEN, URL
from tests.surfaces.memory_engine import MemoryEngine

CLOSED = [route for route in ROUTES if route.scope]


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


def problem_of(response: httpx2.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert set(document) == {"type", "title", "status", "code", "detail"}
    assert document["status"] == response.status_code
    return document


def call(client: httpx2.AsyncClient, route: Route, **rest: Any) -> Any:
    return client.request(route.method, PREFIX + route.path.replace("{id}", "th_0000000000000001"), **rest)


@pytest.mark.parametrize("route", CLOSED, ids=named)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        TOKEN,
    ],
)
async def test_without_the_token_no_route_answers(
    bare: httpx2.AsyncClient, engine: MemoryEngine, route: Route, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    response = await call(bare, route, headers=headers)
    assert problem_of(response)["code"] == "unauthenticated"
    assert response.status_code == 401
    assert "Bearer" in response.headers["www-authenticate"]
    assert engine.calls == 0


@pytest.mark.parametrize("route", ROUTES, ids=named)
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        f"https://127.0.0.1:{PORT}",
        "http://127.0.0.1:1",
        "http://localhost",
        "",
    ],
)
async def test_a_page_of_another_origin_reaches_nothing(
    http: httpx2.AsyncClient, engine: MemoryEngine, route: Route, origin: str
) -> None:
    response = await call(http, route, headers={"origin": origin})
    assert problem_of(response)["code"] == "not_allowed"
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers
    assert engine.calls == 0


@pytest.mark.parametrize("route", ROUTES, ids=named)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1:1",
        "127.0.0.1",
        f"127.0.0.1.evil.example:{PORT}",
        "",
    ],
)
async def test_a_rebound_name_reaches_nothing(
    http: httpx2.AsyncClient, engine: MemoryEngine, route: Route, host: str
) -> None:
    response = await call(http, route, headers={"host": host})
    assert problem_of(response)["code"] == "not_allowed"
    assert engine.calls == 0


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
async def test_our_own_names_and_origins_pass(http: httpx2.AsyncClient, name: str) -> None:
    headers = {"host": f"{name}:{PORT}", "origin": f"http://{name.lower()}:{PORT}"}
    assert (await http.get(f"{PREFIX}/agents", headers=headers)).status_code == 200


async def test_health_needs_no_token(bare: httpx2.AsyncClient) -> None:
    response = await bare.get(f"{PREFIX}/health")
    assert response.status_code == 200
    assert response.json()["status"] == "ok"


@pytest.mark.parametrize("name", ["192.168.1.5", "[fe80::1]", "127.0.0.1"])
def test_a_server_on_all_addresses_answers_to_addresses_but_not_to_foreign_names(name: str) -> None:
    walls = Access("0.0.0.0", PORT, {})
    walls.check_source([(b"host", f"{name}:{PORT}".encode())])
    with pytest.raises(HoldfastError, match="Host header"):
        walls.check_source([(b"host", f"evil.example:{PORT}".encode())])


def test_a_configured_name_is_ours() -> None:
    Access("box.lan", PORT, {}).check_source([(b"host", f"box.lan:{PORT}".encode())])


def test_two_hosts_are_none_of_ours() -> None:
    ours = (b"host", f"127.0.0.1:{PORT}".encode())
    with pytest.raises(HoldfastError, match="Host"):
        Access("127.0.0.1", PORT, {}).check_source([ours, ours])


async def test_each_route_asks_for_its_scope(engine: MemoryEngine) -> None:
    reader = Caller(owner="guest", scopes=frozenset({"read"}))
    app = Application(engine, Access("127.0.0.1", PORT, {TOKEN: reader}))
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url=URL, headers=BEARER) as client:
        for route in CLOSED:
            if route.path.endswith("/events"):
                continue
            response = await call(client, route)
            refused = response.status_code == 403
            assert refused == (route.scope != "read"), named(route)


def test_admin_has_every_scope() -> None:
    for scope in ("read", "operate", "admin"):
        require(LOCAL, scope)
    with pytest.raises(HoldfastError, match="lacks the scope operate"):
        require(Caller("x", frozenset({"read"})), "operate")
