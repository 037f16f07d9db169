"""Who may what: every role at every route and every topic, against a table written by hand (S08, S26).

The table is the specification: a route that is not in it fails, and so does a right that is
given to somebody who is not named beside the route.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final, get_args

import aiohttp
import pytest

from ctid.store.delegations import Delegations
from ctid.store.pool import Pool
from ctid.store.users import Role, Users
from ctid.web.messages import Topic
from ctid.web.passwords import Passwords
from ctid.web.rights import HOLDERS, TOPICS, Rights
from tests.fakes_web import WebDaemon, running, screen

ROLES: Final[tuple[Role, ...]] = get_args(Role)
ALL: Final = frozenset(ROLES)
NOBODY: Final[frozenset[Role]] = frozenset()
LEADING: Final = frozenset({"leader", "supervisor", "admin"})
PEOPLE: Final = frozenset({"supervisor", "admin", "auditor"})
AUDIT: Final = frozenset({"auditor", "admin"})
ADMIN: Final = frozenset({"admin"})
LENDING: Final = frozenset({"supervisor", "admin"})

#: Nobody has to sign in for these.
OPEN: Final = {
    ("POST", "/api/v1/session"),
    ("GET", "/api/v1/session"),
    ("GET", "/pop/{id}"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/ws"),
    ("GET", "/api/openapi.json"),
    ("GET", "/api/messages.json"),
}
#: Whoever is signed in, even with a password that he must change first.
OWN: Final = {("DELETE", "/api/v1/session"), ("PUT", "/api/v1/session/password")}
#: Who else; ``{agent}`` is somebody else's number.
MATRIX: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("GET", "/api/v1/floor"): ALL,
    ("GET", "/api/v1/phone"): ALL,
    ("GET", "/pop"): ALL,
    ("POST", "/api/v1/agents/{agent}/wrap-up/end"): LEADING,
    ("GET", "/api/v1/tickets"): ALL,
    ("POST", "/api/v1/tickets"): ALL - {"auditor"},
    ("GET", "/api/v1/tickets/{ticket}"): ALL,
    ("POST", "/api/v1/tickets/{ticket}/commands"): ALL,  # which ones: tests/web/test_tickets.py
    ("GET", "/api/v1/ticket-forms"): ALL,
    ("GET", "/api/v1/people"): PEOPLE,
    ("POST", "/api/v1/people"): ADMIN,
    ("PUT", "/api/v1/people/{name}"): ADMIN,
    ("POST", "/api/v1/people/{name}/password"): ADMIN,
    ("DELETE", "/api/v1/people/{name}"): ADMIN,
    ("GET", "/api/v1/delegations"): PEOPLE,
    ("POST", "/api/v1/delegations"): LENDING,
    ("DELETE", "/api/v1/delegations/{delegation}"): LENDING,
    ("GET", "/api/v1/audit"): AUDIT,
    ("GET", "/api/v1/audit/verdict"): AUDIT,
}
TOPIC_MATRIX: Final[dict[Topic, frozenset[str]]] = {"floor": ALL, "pops": frozenset({"agent"})}

PASSWORD: Final = "correct horse battery"


def number_of(role: str) -> str:
    return "201" if role == "agent" else ""


@pytest.fixture
async def office(pool: Pool) -> AsyncIterator[WebDaemon]:
    """A daemon whose people are in PostgreSQL: one of each role, named after it."""
    async with running(WebDaemon(pool=pool)) as daemon:
        yield daemon


@pytest.fixture
async def tokens(pool: Pool) -> dict[str, str]:
    users = Users(pool)
    for role in ROLES:
        await users.create_user(role, role=role, agent=number_of(role))
    return {role: await users.issue_token(role) for role in ROLES}


@pytest.fixture
async def http(office: WebDaemon) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(office.url, cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield http


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def address(path: str, agent: str = "999") -> str:
    """Fill in what leads to nothing, so that no request changes anything."""
    filled = {"{agent}": agent, "{ticket}": "4711", "{name}": "no.one", "{delegation}": "4711"}
    for name, value in filled.items():
        path = path.replace(name, value)
    return path


async def test_every_route_stands_in_the_table(office: WebDaemon) -> None:
    routes = {
        (route.method, route.path)
        for route in office.web.routes
        if not route.summary.startswith("The page")  # files, the same for everybody
    }
    assert routes == OPEN | OWN | MATRIX.keys()
    for route in office.web.routes:
        assert (route.rights is Rights.ANYONE) == (
            (route.method, route.path) in OPEN or route.summary.startswith("The page")
        )


async def test_every_right_and_topic_has_its_holders() -> None:
    assert HOLDERS.keys() == set(Rights)
    assert TOPICS.keys() == set(get_args(Topic)) == TOPIC_MATRIX.keys()


@pytest.mark.parametrize("role", [*ROLES, "nobody"])
async def test_s08_every_route(
    http: aiohttp.ClientSession, tokens: dict[str, str], pool: Pool, role: str
) -> None:
    headers = bearer(tokens[role]) if role in tokens else {}
    before = await pool.fetchval("select count(*) from audit")
    for (method, path), allowed in MATRIX.items():
        async with http.request(method, address(path), headers=headers) as answer:
            told = (method, path, role, answer.status)
            if role == "nobody":
                assert answer.status == 401, told
            elif role in allowed:
                assert answer.status not in (401, 403, 405, 500), told
            else:
                assert (answer.status, (await answer.json())["code"]) == (403, "forbidden"), told
    assert await pool.fetchval("select count(*) from audit") == before, "nothing was done"


async def test_an_agent_may_for_himself(http: aiohttp.ClientSession, tokens: dict[str, str]) -> None:
    for method, path in MATRIX:
        if "{agent}" in path:
            async with http.request(method, address(path, "201"), headers=bearer(tokens["agent"])) as answer:
                assert answer.status not in (401, 403), (method, path)


@pytest.mark.parametrize("role", ROLES)
async def test_s08_every_topic(office: WebDaemon, tokens: dict[str, str], role: str) -> None:
    wanted = {topic for topic, allowed in TOPIC_MATRIX.items() if role in allowed}
    async with screen(office.url, tokens[role]) as one:
        assert set((await one.next("hello"))["topics"]) == wanted
        for topic in TOPIC_MATRIX:
            answer = await one.tell(type="subscribe", topic=topic)
            assert answer["type"] == ("ack" if topic in wanted else "error"), (role, topic)
            if topic not in wanted:
                assert answer["code"] == "forbidden"


async def test_a13_a_lent_role_counts_from_its_beginning_to_its_end(
    office: WebDaemon, http: aiohttp.ClientSession, tokens: dict[str, str], pool: Pool
) -> None:
    """A013: a leader stands in for the supervisor; his session stays, his screens come back."""
    headers, lending = bearer(tokens["leader"]), Delegations(pool)

    async def may() -> bool:
        await office.sessions.recheck()
        async with http.get("/api/v1/people", headers=headers) as answer:
            return answer.status == 200

    now = datetime.now(UTC)
    assert not await may()
    await lending.lend(
        "leader",
        "supervisor",
        starts_at=now + timedelta(hours=1),
        ends_at=now + timedelta(hours=2),
        by="supervisor",
    )
    assert not await may(), "not yet"
    async with screen(office.url, tokens["leader"]) as one:
        assert (await one.next("hello"))["user"]["lent"] == []
        number = await lending.lend(
            "leader", "supervisor", starts_at=now, ends_at=now + timedelta(hours=1), by="supervisor"
        )
        assert await may()
        assert await one.closed() == 1012, "come back: other rights"
    async with http.get("/api/v1/session", headers=headers) as answer:
        assert (await answer.json())["lent"] == ["supervisor"]
        assert "lend_roles" in (await answer.json())["rights"]
    loan = {"name": "info", "role": "supervisor", "starts_at": now.isoformat(), "ends_at": now.isoformat()}
    async with http.post("/api/v1/delegations", json=loan, headers=headers) as answer:
        assert answer.status == 403, "what is lent can not be lent on"
    assert await lending.take_back(number, by="supervisor")
    assert not await may()
    await pool.execute(
        "insert into delegation (name, role, starts_at, ends_at, given_by) "
        "values ('leader', 'supervisor', now() - interval '2 hours', now() - interval '1 second', 'admin')"
    )
    assert not await may(), "over"


async def test_whoever_has_to_change_his_password_may_nothing_else(
    http: aiohttp.ClientSession, office: WebDaemon, tokens: dict[str, str], pool: Pool
) -> None:
    passwords = Passwords()
    await Users(pool).set_password("admin", await passwords.encode(PASSWORD), must_change=True, by="x")
    body, own = {"name": "admin", "password": PASSWORD}, {"Origin": office.url}
    async with http.post("/api/v1/session", json=body, headers=own) as answer:
        assert (answer.status, (await answer.json())["must_change"]) == (200, True)
        assert (await answer.json())["rights"] == []
        cookie = {"Cookie": f"ctid_session={answer.cookies['ctid_session'].value}", **own}
    for method, path in MATRIX:
        async with http.request(method, address(path), headers=cookie) as answer:
            assert (answer.status, (await answer.json())["code"]) == (403, "password_due"), (method, path)
    async with http.get("/ws", headers={**cookie, "Upgrade": "websocket"}) as answer:
        assert answer.status == 403
    change = {"old": PASSWORD, "new": "staple of my own"}
    async with http.put("/api/v1/session/password", json=change, headers=cookie) as answer:
        assert (answer.status, (await answer.json())["must_change"]) == (200, False)
        fresh = {"Cookie": f"ctid_session={answer.cookies['ctid_session'].value}", **own}
    async with http.get("/api/v1/people", headers=fresh) as answer:
        assert answer.status == 200
    await office.sessions.recheck()
    async with http.get("/api/v1/people", headers=cookie) as answer:
        assert answer.status == 401, "S10: the session from before is over"
