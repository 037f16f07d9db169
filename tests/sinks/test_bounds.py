"""What one busy or broken neighbour may cost: series, threads, a pop's patience (F40, F41)."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from datetime import timedelta

import aiohttp
import pytest

from ctid.acd.rules import QueueRule
from ctid.settings import Database, Metrics
from ctid.sinks.history import StoredHistory
from ctid.sinks.metrics import MetricsSink
from ctid.sinks.pop_book import PopBook
from ctid.sinks.pops import PopSink
from ctid.stalls import StallMonitor
from ctid.store.pool import Pool
from ctid.web.server import MetricsServer
from tests.fakes_facts import abandoned_call, answered_call
from tests.fakes_web import KEY, joined, offer
from tests.sinks.test_pops import URL, FakeScreens

CALLS = 10_000


def series(sink: MetricsSink) -> set[str]:
    page = sink.render().decode()
    return {line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")}


async def count_calls(sink: MetricsSink, first: int, last: int) -> None:
    """Let the sink see calls, each with a number, a leg and a name of its own."""
    for number in range(first, last):
        if number % 5:
            facts = answered_call(number, caller=f"1380{number:07}")
        else:
            facts = abandoned_call(number, caller=f"1390{number:07}")
        await sink.write(facts)


async def test_f40_series_do_not_grow_with_calls() -> None:
    """F40, S15: 10,000 calls from 10,000 numbers, and not one series more than after ten."""
    sink = MetricsSink({"repair": QueueRule()}, teams={"201": "day"})
    await count_calls(sink, 0, 10)
    before = series(sink)
    await count_calls(sink, 10, CALLS)
    after = series(sink)
    assert after - before == set()
    assert len(after) == len(before)
    assert not re.search(r"\d{7,}", "".join(after)), "a number is a label"


async def test_f40_parallel_scrapes_share_one_page_and_the_loop_goes_on() -> None:
    """F40: fifty scrapes of a page that takes 0.3 s take one thread, and the loop does not stall."""
    running, most, renders = 0, 0, 0
    lock = threading.Lock()

    def render() -> bytes:
        nonlocal running, most, renders
        with lock:
            running, renders = running + 1, renders + 1
            most = max(most, running)
        time.sleep(0.3)
        with lock:
            running -= 1
        return b"x 1\n"

    late: list[float] = []
    monitor = asyncio.create_task(StallMonitor(late.append).run())
    server = MetricsServer(Metrics(port=0), render=render)
    await server.start()
    try:
        address = f"http://127.0.0.1:{server.port}/metrics"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=30)) as http:

            async def scrape() -> str:
                async with http.get(address) as answer:
                    return await answer.text()

            assert set(await asyncio.gather(*(scrape() for _ in range(50)))) == {"x 1\n"}
    finally:
        monitor.cancel()
        await server.close()
    assert most == 1
    assert renders <= 3
    assert max(late) < 0.25, "the loop stood still while the page was made"


async def test_f40_a_scraper_that_does_not_read_holds_nobody_up() -> None:
    """F40: a huge page for one who reads nothing; the next one gets it in time."""
    server = MetricsServer(Metrics(port=0), render=lambda: b"x" * 5_000_000)
    await server.start()
    try:
        _, silent = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        silent.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.1)
        address = f"http://127.0.0.1:{server.port}/metrics"
        async with asyncio.timeout(5), aiohttp.ClientSession() as http, http.get(address) as answer:
            assert len(await answer.read()) == 5_000_000
        silent.transport.abort()
    finally:
        await server.close()


async def test_s20_a_page_that_can_not_be_made_shows_nothing_inside() -> None:
    """S20: no stack trace for who scrapes."""

    def render() -> bytes:
        raise RuntimeError("the secret is 42")

    server = MetricsServer(Metrics(port=0), render=render)
    await server.start()
    try:
        address = f"http://127.0.0.1:{server.port}/metrics"
        async with aiohttp.ClientSession() as http, http.get(address) as answer:
            said = await answer.text()
            assert answer.status == 500
            assert "Traceback" not in said
            assert "42" not in said
    finally:
        await server.close()


class Desk:
    """A pop sink that asks a real PostgreSQL."""

    def __init__(self, pool: Pool) -> None:
        self.screens = FakeScreens()
        self.observed: list[tuple[str, str]] = []
        self.sink = PopSink(
            book=PopBook(),
            screens=self.screens,
            url=URL,
            key=KEY,
            phones=None,
            history=StoredHistory(pool, limit=5, normalise=lambda number: number),
            history_timeout=timedelta(milliseconds=200),
            observe=lambda channel, result, seconds: self.observed.append((channel, result)),
        )

    async def shown(self, call: str) -> float:
        """Let a caller ring an agent; return the seconds until his screen had it."""
        began = time.perf_counter()
        await self.sink.write([joined(call), offer(call, "201")])
        return time.perf_counter() - began

    async def until(self, result: str, count: int = 1) -> None:
        async with asyncio.timeout(15):
            while self.observed.count(("history", result)) < count:
                await asyncio.sleep(0.01)


async def test_f41_a_pop_does_not_wait_for_a_locked_table(pool: Pool, database: Database) -> None:
    """F41: PostgreSQL 30 s slow: pops at once without history; with it once PostgreSQL answers again."""
    desk = Desk(pool)
    task = asyncio.create_task(desk.sink.run())
    async with Pool(database) as other, other.transaction() as lock:
        await lock.execute("lock table call in access exclusive mode")
        assert max([await desk.shown(f"slow-{n}") for n in range(20)]) < 0.1
        assert [message.pop.background for _, message in desk.screens.shown] == [None] * 20
        await desk.until("late")
    await desk.sink.write([joined("fast")])
    await desk.until("found")
    task.cancel()
    assert desk.screens.types[:20] == ["201 PopOffered"] * 20


async def test_f41_look_ups_leave_connections_to_the_journal(database: Database) -> None:
    """F41: a slow table of tickets does not keep facts from being written."""
    async with Pool(database) as pool, Pool(database) as other, other.transaction() as lock:
        desk = Desk(pool)
        task = asyncio.create_task(desk.sink.run())
        await lock.execute("lock table ticket in access exclusive mode")
        await desk.sink.write([offer(f"slow-{n}", f"{300 + n}", number=f"1380000{n:04}") for n in range(40)])
        await desk.until("late", 16)
        async with asyncio.timeout(0.5):
            assert await pool.fetchval("select 1") == 1
        task.cancel()


async def test_f41_nor_for_a_postgresql_that_stands_still() -> None:
    """F41: connections are taken and never answered, as by a frozen machine."""

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    frozen = await asyncio.start_server(never, "127.0.0.1", 0)
    port = frozen.sockets[0].getsockname()[1]
    async with Pool(Database(dsn=f"postgresql://ctid@127.0.0.1:{port}/ctid", timeout="1s")) as pool:
        desk = Desk(pool)
        task = asyncio.create_task(desk.sink.run())
        assert max([await desk.shown(f"slow-{n}") for n in range(20)]) < 0.1
        await desk.until("late", 2)
        assert max([await desk.shown(f"later-{n}") for n in range(20)]) < 0.1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    frozen.close()
    assert desk.screens.types.count("201 PopOffered") == 40
