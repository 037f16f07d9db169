"""The schema: once, in order, by one process, and never something else than was tested."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from ctid.errors import SchemaError, StoreError
from ctid.settings import Database
from ctid.store.migrate import SCHEMA, check, migrate, migrations
from ctid.store.pool import Pool

ALL = [one.name for one in migrations()]


def folder_with(tmp_path: Path, **files: str) -> Path:
    for name, sql in files.items():
        (tmp_path / f"{name.removeprefix('m')}.sql").write_text(sql)
    return tmp_path


async def test_applies_each_file_once(empty_database: Database) -> None:
    assert await migrate(empty_database) == ALL
    assert await migrate(empty_database) == []
    async with Pool(empty_database) as pool:
        await check(pool)


async def test_several_processes_at_once(empty_database: Database) -> None:
    done = await asyncio.gather(*(migrate(empty_database) for _ in range(5)))
    assert sorted(name for names in done for name in names) == ALL


async def test_an_unmigrated_database_says_what_to_do(empty_database: Database) -> None:
    async with Pool(empty_database) as pool:
        with pytest.raises(SchemaError, match="run `ctid migrate`"):
            await check(pool)


async def test_refuses_a_file_changed_after_it_was_applied(empty_database: Database, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, m0001_one="create table one ();")
    await migrate(empty_database, folder=folder)
    folder_with(tmp_path, m0001_one="create table one (more integer);")
    with pytest.raises(SchemaError, match=r"0001_one\.sql was changed"):
        await migrate(empty_database, folder=folder)
    async with Pool(empty_database) as pool:
        with pytest.raises(SchemaError, match=r"0001_one\.sql was changed"):
            await check(pool, folder=folder)


async def test_refuses_a_newer_database(empty_database: Database, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, m0001_one="create table one ();", m0002_two="create table two ();")
    await migrate(empty_database, folder=folder)
    (folder / "0002_two.sql").unlink()
    with pytest.raises(SchemaError, match=r"0002_two\.sql.*install the newer ctid"):
        await migrate(empty_database, folder=folder)


async def test_refuses_a_file_that_comes_too_late(empty_database: Database, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, m0002_two="create table two ();")
    await migrate(empty_database, folder=folder)
    folder_with(tmp_path, m0001_one="create table one ();")
    with pytest.raises(SchemaError, match="give it a higher number"):
        await migrate(empty_database, folder=folder)


async def test_a_failing_file_leaves_nothing(empty_database: Database, tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path, m0001_one="create table one ();", m0002_two="create table two (); sel ect;"
    )
    with pytest.raises(StoreError, match=r"0002_two\.sql"):
        await migrate(empty_database, folder=folder)
    async with Pool(empty_database) as pool:
        assert await pool.fetchval("select to_regclass('two')") is None
        assert await pool.fetchval("select count(*) from schema_migration") == 1
    folder_with(tmp_path, m0002_two="create table two ();")
    assert await migrate(empty_database, folder=folder) == ["0002_two.sql"]


@pytest.mark.parametrize(
    ("names", "why"),
    [(["0001_A.sql"], "NNNN_what"), (["0001_a.sql", "0001_b.sql"], "number 1 is taken by 0001_a")],
)
def test_refuses_misnamed_files(tmp_path: Path, names: list[str], why: str) -> None:
    for name in names:
        (tmp_path / name).write_text("")
    with pytest.raises(SchemaError, match=why):
        migrations(tmp_path)


async def test_needs_no_extension_and_no_collation(pool: Pool) -> None:
    assert [row["extname"] for row in await pool.fetch("select extname from pg_extension")] == ["plpgsql"]
    for file in SCHEMA.glob("*.sql"):
        assert "collate" not in file.read_text(encoding="utf-8").lower()


async def test_every_table_view_and_column_is_explained(pool: Pool) -> None:
    bare = await pool.fetch("""
        select c.relname || coalesce('.' || a.attname, '') as name
        from pg_class c
        left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v')
          and (col_description(c.oid, a.attnum) is null or obj_description(c.oid) is null)
    """)
    assert [row["name"] for row in bare] == []


async def test_times_carry_their_zone_and_durations_their_type(pool: Pool) -> None:
    zoneless = await pool.fetch("""
        select table_name, column_name from information_schema.columns
        where table_schema = 'public' and data_type in ('timestamp without time zone', 'date', 'time')
    """)
    assert zoneless == []


@pytest.mark.parametrize("sql", ["delete from fact", "update fact set kind = 'X'", "truncate fact"])
async def test_the_journal_is_append_only(database: Database, sql: str) -> None:
    owner = await asyncpg.connect(database.address().get_secret_value())
    try:
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="append-only"):
            await owner.execute(sql)
    finally:
        await owner.close()
