"""Rights, headers and answers of every route (S10, S11, S16, S20, B68, B80-B82)."""

from __future__ import annotations

import json
import re
from typing import Any

import aiohttp
import pytest
from aiohttp import web as aiohttp_web

from ctid.errors import AmiDown
from ctid.web.rights import Rights
from ctid.web.routes import Route
from tests.fakes_web import WebDaemon, ended, offer, running

BEARER = {"Authorization": "Bearer token-201"}
LEADER = {"Authorization": "Bearer token-leader"}
OTHER = {"Authorization": "Bearer token-202"}


async def sign_in(http: aiohttp.ClientSession, daemon: WebDaemon, token: str = "token-201") -> dict[str, str]:
    """Return the headers of a browser that has signed in."""
    headers = {"Origin": daemon.url}
    async with http.post("/api/v1/session", json={"token": token}, headers=headers) as answer:
        assert answer.status == 200
        return {"Cookie": f"ctid_session={answer.cookies['ctid_session'].value}", "Origin": daemon.url}


async def test_sign_in_sets_a_strict_cookie(daemon: WebDaemon, http: aiohttp.ClientSession) -> None:
    """S10: out of reach of scripts and other sites; random, and only its hash is kept."""
    headers = {"Origin": daemon.url}
    async with http.post("/api/v1/session", json={"token": "token-201"}, headers=headers) as answer:
        assert await answer.json() == {
            "name": "agent201",
            "role": "agent",
            "agent": "201",
            "language": "en",
            "lent": [],
            "rights": ["takes_calls"],
            "must_change": False,
        }
        cookie = answer.cookies["ctid_session"]
    assert cookie["httponly"]
    assert (cookie["samesite"], cookie["path"], cookie["secure"]) == ("Strict", "/", "")
    assert len(cookie.value) >= 43
    assert cookie.value != "token-201"
    assert cookie.value not in repr(daemon.users.grants)


async def test_s10_the_cookie_is_secure_behind_https() -> None:
    from ctid.web.gate import Gate

    daemon = WebDaemon()
    gate = Gate(daemon.sessions, "https://ctid.example")
    assert (gate.cookie, gate.is_secure) == ("__Host-ctid_session", True)


async def test_sign_out_ends_the_session(daemon: WebDaemon, http: aiohttp.ClientSession) -> None:
    browser = await sign_in(http, daemon)
    async with http.get("/api/v1/session", headers=browser) as answer:
        assert (answer.status, (await answer.json())["name"]) == (200, "agent201")
    async with http.delete("/api/v1/session", headers=browser) as answer:
        assert answer.status == 204
        assert answer.cookies["ctid_session"]["max-age"] == "0"
    async with http.get("/api/v1/floor", headers=browser) as answer:
        assert answer.status == 401
    async with http.get("/api/v1/session", headers=browser) as answer:
        assert answer.status == 204


async def test_a_session_opens_no_other(daemon: WebDaemon, http: aiohttp.ClientSession) -> None:
    browser = await sign_in(http, daemon)
    secret = browser["Cookie"].partition("=")[2]
    headers = {"Origin": daemon.url}
    async with http.post("/api/v1/session", json={"token": secret}, headers=headers) as answer:
        assert answer.status == 401


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"token":""}',
        b'{"token":5}',
        b'{"token":"x","more":1}',
        b'{"token":"' + b"x" * 201 + b'"}',
        b"[" * 30_000,
        b"\xff\xfe",
        b'{"token":NaN}',
    ],
)
async def test_b70_b80_bad_bodies_are_refused(
    daemon: WebDaemon, http: aiohttp.ClientSession, body: bytes
) -> None:
    async with http.post("/api/v1/session", data=body, headers={"Origin": daemon.url}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "bad_body")


async def test_b80_a_megabyte_is_not_read(daemon: WebDaemon, http: aiohttp.ClientSession) -> None:
    body = b'{"token":"' + b"x" * ((1 << 20) - 100) + b'"}'
    async with http.post("/api/v1/session", data=body, headers={"Origin": daemon.url}) as answer:
        assert answer.status == 413


async def test_database_away_unknown_tokens_are_refused_with_the_reason(
    daemon: WebDaemon, http: aiohttp.ClientSession
) -> None:
    browser = await sign_in(http, daemon)
    daemon.users.is_away = True
    async with http.get("/api/v1/floor", headers=browser) as answer:
        assert answer.status == 200
    again = await sign_in(http, daemon)  # known token: a session in memory only
    async with http.get("/api/v1/floor", headers=again) as answer:
        assert answer.status == 200
    headers = {"Origin": daemon.url}
    async with http.post("/api/v1/session", json={"token": "token-202"}, headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "store_unavailable")
    async with http.get("/api/v1/floor", headers=OTHER) as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "store_unavailable")


FOREIGN: list[dict[str, str]] = [
    {},
    {"Origin": "null"},
    {"Origin": "https://evil.example"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_b68_s11_other_pages_can_not_act(
    daemon: WebDaemon, http: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    daemon.wrapping_up.add("201")
    cookie = (await sign_in(http, daemon))["Cookie"]
    path = "/api/v1/agents/201/wrap-up/end"
    async with http.post(path, headers={"Cookie": cookie, **headers}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (403, "foreign_origin")
    async with http.post("/api/v1/session", json={"token": "token-201"}, headers=headers) as answer:
        assert answer.status == 403, "B81: signing somebody in from elsewhere"
    assert daemon.wrapping_up == {"201"}


async def test_our_own_page_may_act_by_either_sign(daemon: WebDaemon, http: aiohttp.ClientSession) -> None:
    browser = await sign_in(http, daemon)
    for proof in ({"Origin": daemon.url}, {"Sec-Fetch-Site": "same-origin"}):
        daemon.wrapping_up.add("201")
        headers = {"Cookie": browser["Cookie"], **proof}
        async with http.post("/api/v1/agents/201/wrap-up/end", headers=headers) as answer:
            assert answer.status == 204


@pytest.mark.parametrize(
    ("headers", "agent", "status"),
    [
        (BEARER, "201", 204),
        (LEADER, "201", 204),
        (OTHER, "201", 403),
        (BEARER, "202", 403),
        (BEARER, "203", 403),
        (LEADER, "203", 409),
        ({}, "201", 401),
        ({"Authorization": "Bearer wrong"}, "201", 401),
        ({"Authorization": "Basic dG9rZW4tMjAxOg=="}, "201", 401),
    ],
)
async def test_wrap_up_is_ended_by_the_agent_or_a_leader(
    daemon: WebDaemon, http: aiohttp.ClientSession, headers: dict[str, str], agent: str, status: int
) -> None:
    daemon.wrapping_up |= {"201", "202"}
    async with http.post(f"/api/v1/agents/{agent}/wrap-up/end", headers=headers) as answer:
        assert answer.status == status
    assert (agent in daemon.wrapping_up) == (status != 204 and agent != "203")


async def test_wrap_up_says_when_asterisk_is_away(http: aiohttp.ClientSession, daemon: WebDaemon) -> None:
    async def fail(agent: str) -> bool:
        raise AmiDown("no connection")

    route = next(route for route in daemon.web.routes if route.path.endswith("/wrap-up/end"))
    route.answer.__self__._end_wrap_up = fail  # type: ignore[attr-defined]
    async with http.post("/api/v1/agents/201/wrap-up/end", headers=BEARER) as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "exchange_unavailable")


async def test_floor_for_whoever_is_signed_in(http: aiohttp.ClientSession) -> None:
    async with http.get("/api/v1/floor") as answer:
        assert answer.status == 401
    async with http.get("/api/v1/floor", headers=BEARER) as answer:
        floor = await answer.json()
    assert [card["queue"] for card in floor["queues"]] == ["complaint", "repair"]
    assert "caller" not in json.dumps(floor)


async def test_pop_by_opaque_id_needs_no_sign_in(daemon: WebDaemon, http: aiohttp.ClientSession) -> None:
    made = offer("c", "201", name="<script>alert(1)</script>")
    await daemon.pops.write([made])
    [pop] = daemon.book.desk("201", made.at).open
    async with http.get(f"/pop/{pop.id}") as answer:
        assert (await answer.json())["caller_number"] == "13812345678"
        assert answer.headers["Cache-Control"] == "no-store"
    headers = {"Accept": "text/html,*/*;q=0.8", "Accept-Language": "en-GB,en"}
    async with http.get(f"/pop/{pop.id}", headers=headers) as answer:
        page = await answer.text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "Ringing" in page
    await daemon.pops.write([ended(made, "no_answer")])
    daemon.pops.dismiss("201", pop.id)
    for path in (f"/pop/{pop.id}", "/pop/0", f"/pop/{made.leg}"):
        async with http.get(path) as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "unknown_pop")
        async with http.get(path, headers=headers) as answer:
            assert (answer.status, "This call is over." in await answer.text()) == (404, True)


@pytest.mark.parametrize(("headers", "status"), [(BEARER, 200), (LEADER, 200), (OTHER, 404), ({}, 401)])
async def test_pop_by_leg_is_for_the_agent_and_leaders(
    daemon: WebDaemon, http: aiohttp.ClientSession, headers: dict[str, str], status: int
) -> None:
    made = offer("c", "201")
    await daemon.pops.write([made])
    async with http.get("/pop", params={"leg": made.leg}, headers=headers) as answer:
        assert answer.status == status
    async with http.get("/pop", headers=headers) as answer:
        assert answer.status == (401 if not headers else 404)


async def test_alive_and_ready(daemon: WebDaemon, http: aiohttp.ClientSession) -> None:
    daemon.ready["asterisk"] = "no AMI connection"
    async with http.get("/healthz", headers={"Host": "10.0.0.7"}) as answer:
        assert answer.status == 200
    async with http.get("/readyz", headers={"Host": "10.0.0.7"}) as answer:
        assert answer.status == 503
        assert await answer.json() == {
            "ready": False,
            "checks": {"asterisk": "no AMI connection", "database": "ok"},
        }
    daemon.ready.clear()
    async with http.get("/readyz") as answer:
        assert answer.status == 200


async def test_a_check_that_hangs_is_not_ready(
    daemon: WebDaemon, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    from ctid.web.api import health

    async def hang() -> str:
        await asyncio.sleep(60)
        return ""

    monkeypatch.setattr(health, "CHECK_SECONDS", 0.02)
    route = next(route for route in daemon.web.routes if route.path == "/readyz")
    route.answer.__self__._checks = {"database": hang}  # type: ignore[attr-defined]
    async with http.get("/readyz") as answer:
        assert (answer.status, (await answer.json())["checks"]["database"]) == (
            503,
            "no answer within 0.02 s",
        )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/ui/../server.py", 404),
        ("GET", "/ui/%2e%2e/server.py", 404),
        ("GET", "/ui/..%2fserver.py", 404),
        ("GET", "/ui/locales/..%5cx.json", 404),
        ("GET", "/ui/", 404),
        ("GET", "/ui/index.html", 404),
        ("PUT", "/api/v1/session", 405),
        ("POST", "/healthz", 405),
        ("GET", "/metrics", 404),
        ("GET", "/debug", 404),
    ],
)
async def test_s20_b75_nothing_else_is_there(
    http: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    from yarl import URL

    url = URL(str(http._base_url).rstrip("/") + path, encoded=True)
    async with aiohttp.ClientSession() as bare, bare.request(method, url) as answer:
        assert answer.status == status
        assert answer.content_type == "application/problem+json"
        problem = await answer.json()
        assert problem["status"] == status
        assert "Traceback" not in json.dumps(problem)
        assert ("Allow" in answer.headers) == (status == 405)


async def test_s20_a_bug_shows_nothing_inside() -> None:
    async def fail(_request: aiohttp_web.Request, _session: Any) -> aiohttp_web.StreamResponse:
        raise RuntimeError("the secret is 42")

    daemon = WebDaemon()
    broken = Route("GET", "/broken", Rights.ANYONE, "fails", fail)
    daemon.web._listener._runner.app.router.add_get("/broken", daemon.web.gate.guarded(broken))
    async with running(daemon), aiohttp.ClientSession(daemon.url) as http, http.get("/broken") as answer:
        text = await answer.text()
        assert (answer.status, json.loads(text)["code"]) == (500, "internal")
        assert "42" not in text
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_s16_security_headers_on_everything(daemon: WebDaemon, http: aiohttp.ClientSession) -> None:
    for path in ("/", "/ui/main.js", "/healthz", "/nope", "/api/v1/floor", "/api/openapi.json", "/pop/x"):
        async with http.get(path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Server"] == "ctid"


async def test_s16_no_inline_script_or_style_and_nothing_from_elsewhere(http: aiohttp.ClientSession) -> None:
    async with http.get("/") as answer:
        page = await answer.text()
    assert not re.search(r"<script(?![^>]*\ssrc=\"/ui/)", page)
    assert not re.search(r"\sstyle=|<style|\son\w+=|javascript:", page)
    assert not re.search(r"(src|href)=\"(?![/#])", page)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.evil.example:80", ""]
)
async def test_b82_other_host_names_are_refused(http: aiohttp.ClientSession, host: str) -> None:
    headers = {"Host": host, "X-Forwarded-Host": "localhost"}
    async with http.get("/", headers=headers) as answer:
        assert answer.status == 421


async def test_own_host_names_are_not(daemon: WebDaemon, http: aiohttp.ClientSession) -> None:
    port = daemon.url.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        async with http.get("/", headers={"Host": host}) as answer:
            assert answer.status == 200


async def test_files_are_not_sent_twice(http: aiohttp.ClientSession) -> None:
    async with http.get("/ui/page.css") as answer:
        tag = answer.headers["ETag"]
        assert answer.headers["Cache-Control"] == "no-cache"
    async with http.get("/ui/page.css", headers={"If-None-Match": tag}) as answer:
        assert answer.status == 304


async def test_openapi_describes_every_route(daemon: WebDaemon, http: aiohttp.ClientSession) -> None:
    async with http.get("/api/openapi.json") as answer:
        document = await answer.json()
    assert (document["openapi"], document["info"]["version"]) == ("3.1.0", "1.2.3")
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    api = {
        (route.method, route.path) for route in daemon.web.routes if not route.summary.startswith("The page")
    }
    assert described == api
    schemas = document["components"]["schemas"]
    for found in re.findall(r"#/components/schemas/(\w+)", json.dumps(document)):
        assert found in schemas
    ids = [
        operation["operationId"] for methods in document["paths"].values() for operation in methods.values()
    ]
    assert len(ids) == len(set(ids))
    for path, methods in document["paths"].items():
        for operation in methods.values():
            places = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
            assert places == set(re.findall(r"{(\w+)}", path))


async def test_only_what_must_be_open_is_open(daemon: WebDaemon) -> None:
    """Default deny: a new route for anyone has to be written down here too."""
    open_routes = {
        route.path
        for route in daemon.web.routes
        if route.rights is Rights.ANYONE and not route.summary.startswith("The page")
    }
    assert open_routes == {
        "/api/v1/session",
        "/pop/{id}",
        "/healthz",
        "/readyz",
        "/ws",
        "/api/openapi.json",
        "/api/messages.json",
    }


async def test_messages_are_described(http: aiohttp.ClientSession) -> None:
    async with http.get("/api/messages.json") as answer:
        assert (await answer.json())["$schema"].endswith("2020-12/schema")
