"""A real private PostgreSQL: starts, obeys, survives a kill, and never outlives its program."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from lab import debian
from lab.errors import PostgresFailed
from lab.postgres import PrivatePostgres, installed_programs

pytestmark = pytest.mark.timeout(300)  # may have to fetch, and initdb is slow on a busy machine


@pytest.fixture(params=["installed", "fetched"])
def programs(request: pytest.FixtureRequest) -> Path:
    """The machine's own programs where it has any, and those that a machine without would fetch."""
    if request.param == "installed":
        return installed_programs()
    return debian.ensure("postgresql-15") / "usr/lib/postgresql/15/bin"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivatePostgres]:
    """One server for all tests that do not make their own."""
    with PrivatePostgres(tmp_path_factory.mktemp("shared") / "postgres", fast=True) as server:
        yield server


@pytest.fixture
def postgres(cluster: PrivatePostgres) -> PrivatePostgres:
    """A running server, whatever the test before did to it."""
    cluster.start()
    return cluster


async def ask(dsn: str, *statements: str) -> object:
    """Run statements one by one and return the single value that the last one yields."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


async def test_rows_survive_kill_stop_and_a_second_object(tmp_path: Path, programs: Path) -> None:
    folder = tmp_path / "postgres"
    server = PrivatePostgres(folder, programs=programs)
    try:
        first = server.start()
        dsn = server.createdb("calls")
        count = "SELECT count(*) FROM call"
        assert await ask(dsn, "CREATE TABLE call AS SELECT '王小明' AS caller", count) == 1
        assert await ask(dsn, "SHOW fsync") == "on"

        server.kill()
        assert server.pid is None
        with pytest.raises(OSError, match=r"(?i)connect|no such file|refused"):
            await asyncpg.connect(dsn)
        assert server.start() == first
        assert await ask(dsn, count) == 1

        server.stop()
        assert server.pid is None
        server = PrivatePostgres(folder, programs=programs)
        assert server.start() == first
        assert await ask(dsn, "SELECT caller FROM call") == "王小明"
    finally:
        server.erase()


async def test_commits_survive_a_kill_even_when_fast(postgres: PrivatePostgres) -> None:
    dsn = postgres.createdb("killed")
    await ask(dsn, "CREATE TABLE call (id int)", "INSERT INTO call VALUES (1) RETURNING id")
    postgres.kill()
    postgres.start()
    assert await ask(dsn, "SELECT count(*) FROM call") == 1


async def test_listens_on_nothing_but_its_socket(postgres: PrivatePostgres) -> None:
    assert await ask(postgres.dsn(), "SHOW listen_addresses") == ""
    assert await ask(postgres.dsn(), "SHOW server_encoding") == "UTF8"


async def test_databases_from_a_template(postgres: PrivatePostgres) -> None:
    model = postgres.createdb("model")
    assert await ask(model, "CREATE TABLE call AS SELECT 7 AS id", "SELECT id FROM call") == 7
    copy = postgres.createdb("copy", template="model")
    assert await ask(copy, "SELECT id FROM call") == 7
    with pytest.raises(PostgresFailed, match="already exists"):
        postgres.createdb("copy")
    postgres.dropdb("copy")
    postgres.dropdb("copy")
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(copy)


async def test_client_of_a_fast_stop_is_disconnected(postgres: PrivatePostgres) -> None:
    connection = await asyncpg.connect(postgres.dsn())
    postgres.stop()
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.AdminShutdownError)):
        await connection.fetchval("SELECT 1")
    await connection.close()


def test_starting_and_stopping_twice_does_nothing(postgres: PrivatePostgres) -> None:
    pid = postgres.pid
    postgres.start()
    assert postgres.pid == pid
    postgres.stop()
    postgres.stop()
    postgres.kill()


def test_second_object_drives_the_running_server(postgres: PrivatePostgres) -> None:
    second = PrivatePostgres(postgres.folder)
    assert second.start() == postgres.dsn()
    assert second.pid == postgres.pid
    second.stop()
    assert postgres.pid is None


async def test_folder_too_deep_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90) / "postgres"
    with PrivatePostgres(deep, fast=True) as server:
        assert await ask(server.dsn(), "SELECT 1") == 1
    assert list(deep.iterdir()) == []


async def test_settings_of_the_terminal_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGPORT": "1", "PGHOST": "/nowhere", "PGDATA": "/nowhere", "LC_ALL": "xx_XX"}.items():
        monkeypatch.setenv(name, value)
    with PrivatePostgres(tmp_path / "postgres", fast=True) as server:
        assert await ask(server.createdb("calls"), "SELECT 1") == 1


def test_never_runs_as_root_and_nobody_else_may_enter(postgres: PrivatePostgres) -> None:
    assert Path(f"/proc/{postgres.pid}").stat().st_uid != 0
    socket = Path(postgres.dsn().partition("host=")[2].partition("&")[0].replace("%2F", "/"))
    assert socket.stat().st_mode & 0o077 == 0


def test_half_made_cluster_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    with PrivatePostgres(folder) as server:
        data = server.log.with_name("data")
    data.rename(data.with_name("data.new"))
    (data.with_name("data.new") / "PG_VERSION").unlink()
    try:
        server.start()
        assert server.pid is not None
    finally:
        server.erase()


def test_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    server = PrivatePostgres(tmp_path / "postgres")
    try:
        server.start()
        server.stop()
        (server.log.with_name("data") / "postgresql.conf").write_text("shared_buffers = 'many'\n")
        with pytest.raises(PostgresFailed, match="shared_buffers"):
            server.start()
    finally:
        server.erase()


@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGINT])
def test_server_ends_with_the_program_that_started_it(tmp_path: Path, deadly: signal.Signals) -> None:
    script = (
        "import sys, time; from pathlib import Path; from lab.postgres import PrivatePostgres\n"
        "server = PrivatePostgres(Path(sys.argv[1])); server.start(); print(server.pid, flush=True)\n"
        "time.sleep(60)"
    )
    folder = tmp_path / "postgres"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script, folder],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        program.send_signal(deadly)
    server = PrivatePostgres(folder)
    try:
        until = time.monotonic() + 20
        while server.pid == pid and time.monotonic() < until:
            time.sleep(0.02)
        assert server.pid is None
    finally:
        server.erase()


async def test_programs_that_only_their_owner_can_reach(tmp_path: Path) -> None:
    """As root, the unprivileged user gets a copy; as an ordinary user, they are simply used."""
    fetched = debian.ensure("postgresql-15")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(fetched, closed / "lab", symlinks=True, ignore=shutil.ignore_patterns("libLLVM*"))
    programs = closed / "lab/usr/lib/postgresql/15/bin"
    try:
        for name in ("one", "two"):
            with PrivatePostgres(tmp_path / name, fast=True, programs=programs) as server:
                assert await ask(server.dsn(), "SELECT 1") == 1
    finally:
        for note in closed.glob("lab-copied-to"):
            shutil.rmtree(note.read_text().strip())


async def test_swept_temporary_folder_means_an_empty_server(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    with PrivatePostgres(folder) as server:
        server.createdb("calls")
    swept = (
        Path(note.read_text().strip())
        if (note := folder / "elsewhere").exists()
        else server.log.parent / "data"
    )
    shutil.rmtree(swept)
    with PrivatePostgres(folder, fast=True) as server:
        server.createdb("calls")
