"""A whole web daemon per test, on a free port, with clients."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fakes_web import WebDaemon, running


@pytest.fixture
async def daemon() -> AsyncIterator[WebDaemon]:
    async with running(WebDaemon()) as daemon:
        yield daemon


@pytest.fixture
async def http(daemon: WebDaemon) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of ``daemon`` that keeps no cookies."""
    async with aiohttp.ClientSession(daemon.url, cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield http
