"""File descriptors go to calls before screens, on both loops (F42)."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable

import aiohttp
import pytest

from ctid import descriptors
from ctid.settings import Metrics, Web
from ctid.web import server
from tests.agi.fakes import ENVIRONMENT, Channel
from tests.agi.test_server import DECIDED, said, serving
from tests.fakes_web import WebDaemon, running


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Say how many descriptors are left, counting from those that are in use."""

    def leave(count: int) -> None:
        with socket.socket() as next_one:
            number = next_one.fileno()
        monkeypatch.setattr(descriptors, "limit", lambda: number + count)

    return leave


async def test_f42_screens_are_refused_before_calls(few: Callable[[int], None]) -> None:
    """F42: with just enough for calls, a page is closed unread and the dialplan is answered."""
    async with running(WebDaemon()) as daemon, serving() as site:
        few(descriptors.CORE + 8)
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.ClientError):
                await http.get(f"{daemon.url}/healthz")
        assert (await Channel().ask(site.port))["CTID_OK"] == "1"
        few(descriptors.CORE)
        assert await said(site.port, ENVIRONMENT) == b"", "the last ones are for spool, AMI and PostgreSQL"
        few(1000)
        async with aiohttp.ClientSession() as http, http.get(f"{daemon.url}/healthz") as answer:
            assert answer.status == 200
        assert await Channel().ask(site.port) == {**DECIDED, "CTID_OK": "1"}


async def test_f42_connections_to_a_listener_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """F42, S19: who only opens connections and says nothing has so many and no more."""
    monkeypatch.setattr(server, "SCRAPERS", 2)
    metrics = server.MetricsServer(Metrics(port=0), render=lambda: b"x 1\n")
    await metrics.start()
    try:
        held = [await asyncio.open_connection("127.0.0.1", metrics.port) for _ in range(2)]
        await asyncio.sleep(0.05)
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.ClientError):
                await http.get(f"http://127.0.0.1:{metrics.port}/metrics")
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.05)
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{metrics.port}/metrics") as answer,
        ):
            assert await answer.text() == "x 1\n"
    finally:
        await metrics.close()


def test_the_limit_is_the_systems_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """F42: as it is at this very moment, and unlimited is a number, too."""
    assert descriptors.limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    assert descriptors.limit() > 100_000


@pytest.mark.parametrize("most", [64, 256, 1024, 16384])
def test_calls_always_have_more_than_screens(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """F42: at any limit."""
    monkeypatch.setattr(descriptors, "limit", lambda: most)
    screens = sum(descriptors.for_screens(number) for number in range(most))
    calls = sum(descriptors.for_calls(number) for number in range(most))
    assert 0 < screens <= calls - descriptors.FASTAGI
    assert calls == most - descriptors.CORE
    assert Web().max_clients < 16384 * 3 // 4, "the unit's limit is enough for every screen"
