"""``/readyz`` tells the truth: one check per part, and none of them can be worn out (F12, F26, F28)."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from ctid import readiness
from ctid.readiness import Database
from ctid.web.api.health import Degraded, HealthApi


class Parts:
    """What the checks ask; each says why not."""

    def __init__(self) -> None:
        self.asterisk = self.database = self.spool = self.loop = self.leader = ""
        self.slow = 0.0
        self.asked = 0

    async def ask_database(self) -> str:
        self.asked += 1
        await asyncio.sleep(self.slow)
        return self.database

    def api(self) -> HealthApi:
        return HealthApi(
            readiness.checks(
                asterisk=lambda: self.asterisk,
                ask_database=self.ask_database,
                spool=lambda: self.spool,
                loop=lambda: self.loop,
                leader=lambda: self.leader,
            )
        )


async def ask(parts: Parts, path: str = "/readyz") -> tuple[int, dict[str, str]]:
    route = next(route for route in parts.api().routes() if route.path == path)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await route.answer(request, None)

    application = web.Application()
    application.router.add_get(path, answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        address = f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
        async with aiohttp.ClientSession() as http, http.get(address) as response:
            return response.status, (await response.json()).get("checks", {})
    finally:
        await runner.cleanup()


async def test_all_is_well() -> None:
    status, checks = await ask(Parts())
    assert status == 200
    assert checks == dict.fromkeys(("asterisk", "database", "spool", "loop", "leader"), "ok")


@pytest.mark.parametrize("part", ["asterisk", "spool", "loop", "leader"])
async def test_any_part_can_say_no(part: str) -> None:
    """F26, F28: a loop that stood still and a standby are not ready, nor is a full spool (F16)."""
    parts = Parts()
    setattr(parts, part, "because")
    status, checks = await ask(parts)
    assert (status, checks[part]) == (503, "because")
    assert (await ask(parts, "/healthz"))[0] == 200, "alive all the same"


async def test_f12_spooling_is_ready() -> None:
    """F12: without PostgreSQL ctid is of use as long as the spool takes the facts, and says so."""
    parts = Parts()
    parts.database = "connection refused"
    status, checks = await ask(parts)
    assert (status, checks["database"]) == (200, "degraded: connection refused; facts wait in the spool")
    parts.spool = "full"
    status, checks = await ask(parts)
    assert (status, checks["database"], checks["spool"]) == (503, "connection refused", "full")


async def test_f41_a_database_that_never_answers_does_not_hold_the_answer_up() -> None:
    """F41: 30 s slow counts as away, after half a second."""
    parts = Parts()
    parts.slow = 30
    began = asyncio.get_running_loop().time()
    status, checks = await ask(parts)
    assert asyncio.get_running_loop().time() - began < 0.95
    assert (status, checks["database"]) == (200, "degraded: no answer within 0.5 s; facts wait in the spool")


async def test_asking_a_thousand_times_asks_postgresql_once() -> None:
    """Anybody may ask for ``/readyz``; the connections of the journal are not his to use up."""
    parts = Parts()
    parts.slow = 0.05
    check = Database(parts.ask_database, lambda: "")
    assert set(await asyncio.gather(*(check() for _ in range(1000)))) == {""}
    assert parts.asked == 1
    parts.database = "gone"
    await asyncio.sleep(readiness.FRESH)
    assert await check() == Degraded("gone; facts wait in the spool")


async def test_one_who_hangs_up_does_not_spoil_it_for_the_others() -> None:
    parts = Parts()
    parts.slow = 0.1
    check = Database(parts.ask_database, lambda: "")
    first, second = asyncio.create_task(check()), asyncio.create_task(check())
    await asyncio.sleep(0.01)
    first.cancel()
    assert await second == ""
