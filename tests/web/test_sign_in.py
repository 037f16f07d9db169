"""Passwords: who is let in, who waits, what it costs the others (S10, S12, S21)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import argon2
import pytest

from ctid.store.audit import AuditLog
from ctid.store.pool import Pool
from ctid.store.users import SESSION_IDLES, Users
from ctid.web.backoff import ADDRESS, NAME, PAIR, Backoff
from ctid.web.passwords import SHORTEST, Passwords, first_password, why_unfit
from tests.fakes_web import WebDaemon, running, screen

PASSWORD = "correct horse battery"
PATH = "/api/v1/session"
NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)


@pytest.fixture
async def office(pool: Pool) -> AsyncIterator[WebDaemon]:
    users, passwords = Users(pool), Passwords()
    await users.create_user("admin", role="admin")
    await users.create_user("li", role="agent", agent="201")
    encoded = await passwords.encode(PASSWORD)
    for name in ("admin", "li"):
        await users.set_password(name, encoded, must_change=False, by="(console)")
    async with running(WebDaemon(pool=pool, proxies=("127.0.0.1", "::1"))) as daemon:
        yield daemon


@pytest.fixture
async def http(office: WebDaemon) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(office.url, cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield http


class Browser:
    """Signs in from an address."""

    def __init__(self, http: aiohttp.ClientSession, origin: str, address: str = "192.0.2.1") -> None:
        self.http = http
        self.headers = {"Origin": origin, "X-Forwarded-For": f"203.0.113.9, {address}"}

    async def sign_in(self, name: str, password: str) -> tuple[int, str, int]:
        """Return status, code and seconds to wait; keeps the cookie."""
        body = {"name": name, "password": password}
        async with self.http.post(PATH, json=body, headers=self.headers) as answer:
            if answer.status == 200:
                self.headers["Cookie"] = f"ctid_session={answer.cookies['ctid_session'].value}"
            code = str((await answer.json()).get("code", ""))
            return answer.status, code, int(answer.headers.get("Retry-After", 0))


async def test_a_password_opens_a_session(office: WebDaemon, http: aiohttp.ClientSession, pool: Pool) -> None:
    browser = Browser(http, office.url)
    assert await browser.sign_in(" li ", PASSWORD) == (200, "", 0)
    async with http.get(PATH, headers=browser.headers) as answer:
        assert (await answer.json())["agent"] == "201"
    [row] = (await AuditLog(pool).page(who="li"))[:1]
    assert (row.action, row.detail) == ("signed_in", {"with": "password", "address": "192.0.2.1"})
    rows = json.dumps([str(dict(one)) for one in await pool.fetch("select * from app_user")])
    assert PASSWORD not in rows
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in rows


async def test_s10_signing_in_again_ends_the_session_before(
    office: WebDaemon, http: aiohttp.ClientSession
) -> None:
    browser = Browser(http, office.url)
    await browser.sign_in("li", PASSWORD)
    before = dict(browser.headers)
    await browser.sign_in("li", PASSWORD)
    assert before["Cookie"] != browser.headers["Cookie"]
    async with http.get("/api/v1/floor", headers=before) as answer:
        assert answer.status == 401
    async with http.get("/api/v1/floor", headers=browser.headers) as answer:
        assert answer.status == 200


async def test_s12_an_unknown_name_is_told_the_same(office: WebDaemon, http: aiohttp.ClientSession) -> None:
    browser = Browser(http, office.url)
    answers = [await browser.sign_in(name, "wrong") for name in ("li", "no.such", "l'i; drop", "李")]
    assert answers == [(401, "bad_password", 0)] * 4


@pytest.mark.parametrize(
    "body",
    [
        {"name": "li"},
        {"password": PASSWORD},
        {"name": "li", "password": PASSWORD, "token": "x"},
        {"name": "", "password": PASSWORD},
        {"name": "li\0", "password": PASSWORD},
        {"name": "li", "password": "x" * 201},
        {},
    ],
    ids=str,
)
async def test_half_of_it_is_refused(
    office: WebDaemon, http: aiohttp.ClientSession, body: dict[str, str]
) -> None:
    async with http.post(PATH, json=body, headers={"Origin": office.url}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "bad_body")


async def test_s21_who_guesses_waits_and_nobody_else_does(
    office: WebDaemon, http: aiohttp.ClientSession, pool: Pool
) -> None:
    guesser, colleague = Browser(http, office.url), Browser(http, office.url, "192.0.2.2")
    for _ in range(PAIR.free - 1):
        assert await guesser.sign_in("li", "wrong") == (401, "bad_password", 0)
    assert await guesser.sign_in("li", "wrong") == (401, "bad_password", 1)
    status, code, wait = await guesser.sign_in("li", PASSWORD)
    assert (status, code, wait) == (429, "too_many_failures", 1), "not even with the right one"
    assert (await colleague.sign_in("li", PASSWORD))[0] == 200
    assert (await guesser.sign_in("admin", PASSWORD))[0] == 200
    actions = [row.action for row in await AuditLog(pool).page()]
    assert actions.count("sign_in_refused") == PAIR.free


async def test_s21_a_thousand_at_once_are_not_a_thousand_guesses(
    office: WebDaemon, http: aiohttp.ClientSession, pool: Pool
) -> None:
    browsers = [Browser(http, office.url) for _ in range(60)]
    answers = await asyncio.gather(*(one.sign_in("li", "wrong") for one in browsers))
    assert {status for status, *_ in answers} == {401, 429}
    refused = [row for row in await AuditLog(pool).page() if row.action == "sign_in_refused"]
    assert len(refused) <= PAIR.free + 2


def test_waits_double_and_end() -> None:
    backoff, now, waits = Backoff(), NOW, []
    for _ in range(PAIR.free + 14):
        backoff.failed("li", "a", now)
        waits.append(backoff.wait("li", "a", now).total_seconds())
        now += backoff.wait("li", "a", now)
    assert waits[: PAIR.free - 1] == [0] * (PAIR.free - 1)
    assert waits[PAIR.free - 1 : PAIR.free + 3] == [1, 2, 4, 8]
    assert max(waits) == PAIR.longest.total_seconds()
    assert backoff.wait("li", "b", now) <= NAME.longest, "from elsewhere he is hardly slowed"
    assert not backoff.wait("wang", "b", now)
    backoff.succeeded("li", "a")
    assert not backoff.wait("li", "a", now + NAME.longest)


def test_an_address_that_tries_many_names_waits() -> None:
    backoff = Backoff()
    for number in range(ADDRESS.free):
        assert not backoff.wait(f"user{number}", "a", NOW)
        backoff.failed(f"user{number}", "a", NOW)
    assert backoff.wait("somebody", "a", NOW)
    assert not backoff.wait("somebody", "b", NOW)


async def test_s12_two_hundred_at_once_leave_the_loop_alone(
    office: WebDaemon, http: aiohttp.ClientSession
) -> None:
    """They wait for each other, and nothing else waits for them: 1,000 turns of the loop meanwhile."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    watching = asyncio.create_task(turn())
    browsers = [Browser(http, office.url, f"198.51.100.{number}") for number in range(200)]
    answers = await asyncio.gather(*(one.sign_in("li", PASSWORD) for one in browsers))
    watching.cancel()
    assert [status for status, *_ in answers] == [200] * 200
    assert turns > 1_000


async def test_s12_nobodys_password_costs_as_much_as_somebodys() -> None:
    passwords = Passwords()
    of = argon2.extract_parameters
    assert of(passwords._nobodys) == of(await passwords.encode(PASSWORD))
    assert of(passwords._nobodys).memory_cost >= 19 * 1024
    assert not await passwords.is_right(PASSWORD, None)
    assert not await passwords.is_right(PASSWORD, "not argon2")
    assert await passwords.is_right(PASSWORD, await passwords.encode(PASSWORD))


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "too_short"),
        ("x" * 129, "too_long"),
        ("aaaaaaaaaaaa", "too_simple"),
        ("my-name-is-wang.li", "holds_the_name"),
        ("四季如春花开富贵满园", ""),
        (PASSWORD, ""),
    ],
)
def test_what_a_password_has_to_be(password: str, why: str) -> None:
    assert why_unfit(password, name="Wang.Li") == why


def test_first_passwords_are_fit_and_differ() -> None:
    made = {first_password() for _ in range(100)}
    assert len(made) == 100
    assert all(not why_unfit(one, name="li") and len(one) > SHORTEST for one in made)


async def test_ones_own_password(office: WebDaemon, http: aiohttp.ClientSession) -> None:
    browser, path = Browser(http, office.url), f"{PATH}/password"
    await browser.sign_in("li", PASSWORD)
    for body, status, code in (
        ({"old": "wrong", "new": "staple of my own"}, 401, "bad_password"),
        ({"old": PASSWORD, "new": PASSWORD}, 422, "the_old_one"),
        ({"old": PASSWORD, "new": "short"}, 422, "too_short"),
        ({"old": PASSWORD}, 400, "bad_body"),
    ):
        async with http.put(path, json=body, headers=browser.headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (status, code)
    body = {"old": PASSWORD, "new": "staple of my own"}
    async with http.put(path, json=body, headers=browser.headers) as answer:
        assert answer.status == 200
    assert (await Browser(http, office.url, "a").sign_in("li", PASSWORD))[0] == 401
    assert (await Browser(http, office.url, "b").sign_in("li", "staple of my own"))[0] == 200


async def test_s10_a_session_without_use_ends_and_an_open_screen_is_use(
    office: WebDaemon, http: aiohttp.ClientSession, pool: Pool
) -> None:
    idle, busy = Browser(http, office.url), Browser(http, office.url)
    await idle.sign_in("li", PASSWORD)
    await busy.sign_in("li", PASSWORD)
    headers = {name: busy.headers[name] for name in ("Origin", "Cookie")}
    async with http.ws_connect("/ws", headers=headers) as socket:
        await socket.receive()
        await pool.execute(
            "update app_token set used_at = used_at - $1::interval", SESSION_IDLES - timedelta(seconds=5)
        )
        office.sessions._used.clear()  # both were used a moment ago
        office.sessions._mark_at = datetime.now(UTC)
        await office.sessions.recheck()
        await pool.execute("update app_token set used_at = used_at - interval '5 seconds'")
        await office.sessions.recheck()
        async with http.get("/api/v1/floor", headers=idle.headers) as answer:
            assert answer.status == 401
        async with http.get("/api/v1/floor", headers=busy.headers) as answer:
            assert answer.status == 200


async def test_people_are_kept_by_admins(office: WebDaemon, http: aiohttp.ClientSession, pool: Pool) -> None:
    admin = Browser(http, office.url)
    await admin.sign_in("admin", PASSWORD)

    async def ask(method: str, path: str, body: object = None) -> tuple[int, dict[str, str]]:
        async with http.request(method, f"/api/v1/people{path}", json=body, headers=admin.headers) as answer:
            return answer.status, (await answer.json() if answer.status != 204 else {})

    status, first = await ask("POST", "", {"name": "wang", "role": "agent", "agent": "202"})
    assert status == 201
    wang = Browser(http, office.url, "192.0.2.7")
    assert (await wang.sign_in("wang", first["password"]))[0] == 200
    async with http.get(PATH, headers=wang.headers) as answer:
        assert (await answer.json())["must_change"]
    for body, fix in (
        ({"name": "zhao", "role": "agent", "agent": "202"}, "is the number of wang"),
        ({"name": "zhao", "role": "agent"}, "needs his agent number"),
        ({"name": "wang", "role": "leader"}, "there already is one"),
    ):
        status, problem = await ask("POST", "", body)
        assert (status, fix in problem["detail"]) == (409, True), problem
    assert (await ask("POST", "", {"name": "a b", "role": "leader"}))[0] == 400
    assert (await ask("POST", "", {"name": "ok", "role": "king"}))[0] == 400
    assert (await ask("PUT", "/wang", {"role": "leader"}))[0] == 204
    await office.sessions.recheck()
    async with http.get(PATH, headers=wang.headers) as answer:
        assert answer.status == 204, "another role: sign in again"
    status, problem = await ask("PUT", "/admin", {"role": "leader"})
    assert (status, "last admin" in problem["detail"]) == (409, True)
    assert (await ask("DELETE", "/admin"))[1]["code"] == "oneself"
    assert (await ask("POST", "/no.one/password"))[0] == 404
    assert (await ask("DELETE", "/wang"))[0] == 204
    assert (await wang.sign_in("wang", first["password"]))[0] == 401
    told = [(row.action, row.target) for row in await AuditLog(pool).page(who="admin")]
    assert ("user_revoked", "wang") in told
    assert ("user_changed", "wang") in told
    assert ("user_added", "wang") in told
    async with http.get("/api/v1/audit?limit=3", headers=admin.headers) as answer:
        assert len(await answer.json()) == 3
    async with http.get("/api/v1/audit/verdict", headers=admin.headers) as answer:
        assert (await answer.json())["broken_at"] == 0


async def test_s10_revoking_closes_the_screens(
    office: WebDaemon, http: aiohttp.ClientSession, pool: Pool
) -> None:
    async with screen(office.url, await Users(pool).issue_token("li")) as one:
        await one.next("hello")
        assert await Users(pool).revoke("li")
        async with asyncio.timeout(5):
            assert await one.closed() == 1008
