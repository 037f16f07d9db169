"""A whole call centre per test session: real Asterisk, real PostgreSQL, the daemon as a subprocess, phones.

Nothing here skips: where Asterisk can not be started the tests fail and say why.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from lab.floor import LINES
from lab.postgres import PrivatePostgres
from lab.stage import Stage

HERE = Path(__file__).parent
CREW = ("1011", "1016", "1017", "1018", "1019", "1020")
ROUGH = {
    name: replace(line, wrap_up=0, agents=CREW if name == "overflow" else line.agents)
    for name, line in LINES.items()
}
"""Nobody writes notes, and six agents take what comes to the queue ``overflow``."""


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


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rough(tmp_path_factory: pytest.TempPathFactory, postgres: PrivatePostgres) -> AsyncIterator[Stage]:
    """A call centre that is treated roughly from outside; whoever did it waits until it has settled."""
    async with Stage(tmp_path_factory.mktemp("rough-22"), lines=ROUGH, postgres=postgres) as stage:
        yield stage


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rough16(
    tmp_path_factory: pytest.TempPathFactory, postgres: PrivatePostgres
) -> AsyncIterator[Stage]:
    """The same on the oldest Asterisk that is supported."""
    folder = tmp_path_factory.mktemp("rough-16")
    async with Stage(folder, version=16, lines=ROUGH, postgres=postgres) as stage:
        yield stage


@pytest.fixture(scope="session", params=[22, 16])
def either(request: pytest.FixtureRequest) -> Stage:
    """One after the other, for what is cheap."""
    stage: Stage = request.getfixturevalue("rough" if request.param == 22 else "rough16")
    return stage
