"""What many tests need: a real PostgreSQL, and a fresh database of it for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from ctid.settings import Database
from ctid.store.migrate import migrate
from ctid.store.pool import Pool
from lab.postgres import PrivatePostgres


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update`` rewrites golden files; the reviewer reads the diff."""
    parser.addoption("--update", action="store_true", help="rewrite the golden files")


@pytest.fixture
def update(pytestconfig: pytest.Config) -> bool:
    """Whether golden files are to be rewritten."""
    return bool(pytestconfig.getoption("--update"))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivatePostgres]:
    """A server for all tests of this process; one that stops it must start it again."""
    with PrivatePostgres(tmp_path_factory.mktemp("postgres"), fast=True) as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: PrivatePostgres) -> str:
    """Name of a migrated database, to be copied."""
    asyncio.run(migrate(Database(dsn=postgres.createdb("migrated"))))
    return "migrated"


@pytest.fixture
def database(postgres: PrivatePostgres, template: str) -> Iterator[Database]:
    """A migrated, empty database, gone after the test."""
    name = f"test_{uuid4().hex}"
    yield Database(dsn=postgres.createdb(name, template=template), timeout="5s")
    postgres.start()
    postgres.dropdb(name)


@pytest.fixture
def empty_database(postgres: PrivatePostgres) -> Iterator[Database]:
    """A database without any table, gone after the test."""
    name = f"test_{uuid4().hex}"
    yield Database(dsn=postgres.createdb(name), timeout="5s")
    postgres.dropdb(name)


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """A pool on ``database``."""
    async with Pool(database) as pool:
        yield pool
