"""A whole call centre per test session: real Asterisk, real PostgreSQL, the daemon as a subprocess, phones.

Nothing here skips: where Asterisk can not be started the tests fail and say why.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from lab.postgres import PrivatePostgres
from lab.stage import Stage

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here share one event loop, since they share phones."""
    for item in items:
        if HERE in item.path.parents and inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.integration)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def centre(tmp_path_factory: pytest.TempPathFactory, postgres: PrivatePostgres) -> AsyncIterator[Stage]:
    """The running call centre on Asterisk 22 that tests share; they use different queues or callers."""
    async with Stage(tmp_path_factory.mktemp("centre-22"), postgres=postgres) as stage:
        yield stage


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def centre16(
    tmp_path_factory: pytest.TempPathFactory, postgres: PrivatePostgres
) -> AsyncIterator[Stage]:
    """The same on the oldest Asterisk that is supported."""
    async with Stage(tmp_path_factory.mktemp("centre-16"), version=16, postgres=postgres) as stage:
        yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fragile(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """A call centre of one's own, PostgreSQL included, to break things in."""
    async with Stage(tmp_path_factory.mktemp("fragile")) as stage:
        yield stage
