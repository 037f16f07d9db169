"""S09: the audit log in a real PostgreSQL: appended to, never changed, and it shows if it was."""

from __future__ import annotations

import asyncio

import pytest

from ctid.errors import StoreError
from ctid.store import audit
from ctid.store.audit import AuditLog
from ctid.store.pool import Pool


@pytest.fixture
async def log(pool: Pool) -> AuditLog:
    log = AuditLog(pool)
    for number in range(1, 6):
        assert await log.note("li", "looked", f"call-{number}", {"why": "测试"}) == number
    return log


async def forge(pool: Pool, statement: str) -> None:
    """Do what only somebody who owns the database can do: take the guards away, then write."""
    async with pool.transaction() as connection:
        await connection.execute("alter table audit disable trigger user")
        await connection.execute(statement)
        await connection.execute("alter table audit enable trigger user")


async def test_rows_are_told_newest_first(log: AuditLog) -> None:
    rows = await log.page(limit=2)
    assert [row.number for row in rows] == [5, 4]
    assert (rows[0].who, rows[0].action, rows[0].target) == ("li", "looked", "call-5")
    assert rows[0].detail == {"why": "测试"}
    assert [row.number for row in await log.page(before=4, who="li")] == [3, 2, 1]
    assert await log.page(who="somebody else") == []


async def test_a_whole_chain_is_whole(log: AuditLog) -> None:
    verdict = await log.verify()
    assert (verdict.rows, verdict.last, verdict.broken_at) == (5, 5, 0)
    assert verdict.hash == (await log.page(limit=1))[0].hash


async def test_nothing_is_not_broken(pool: Pool) -> None:
    assert (await AuditLog(pool).verify()).broken_at == 0


@pytest.mark.parametrize(
    "statement",
    [
        "update audit set who = 'wang' where number = 2",
        "delete from audit where number = 5",
        "truncate audit",
    ],
)
async def test_s09_postgresql_refuses_to_change_it(log: AuditLog, pool: Pool, statement: str) -> None:
    with pytest.raises(StoreError, match="append-only"):
        await pool.execute(statement)
    assert (await log.verify()).rows == 5


@pytest.mark.parametrize(
    ("statement", "broken_at", "why"),
    [
        ("update audit set who = 'wang' where number = 2", 2, "changed"),
        ("update audit set at = at + interval '1 microsecond' where number = 4", 4, "changed"),
        ("update audit set detail = replace(detail, 'why', 'wha') where number = 1", 1, "changed"),
        ("update audit set target = 'call-' || who, who = '3' where number = 3", 3, "changed"),
        ("delete from audit where number = 3", 4, "row 3 is missing"),
        ("delete from audit where number = 1", 2, "row 1 is missing"),
        (
            "insert into audit select 6, at, who, action, target, detail, previous, sha256('x') "
            "from audit where number = 5",
            6,
            "seals another row",
        ),
    ],
)
async def test_s09_whoever_changed_it_all_the_same_is_found(
    log: AuditLog, pool: Pool, statement: str, broken_at: int, why: str
) -> None:
    await forge(pool, statement)
    verdict = await log.verify()
    assert verdict.broken_at == broken_at
    assert why in verdict.why


async def test_what_is_not_committed_is_not_noted(log: AuditLog, pool: Pool) -> None:
    async def fail() -> None:
        async with pool.transaction() as connection:
            await audit.note(connection, "li", "undone")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await log.note("li", "done") == 6
    assert (await log.verify()).rows == 6


async def test_many_writers_make_one_chain(log: AuditLog) -> None:
    await asyncio.gather(
        *(log.note(f"user{number}", "wrote", "\0\ud800" + "x" * 999) for number in range(60))
    )
    verdict = await log.verify()
    assert (verdict.rows, verdict.last, verdict.broken_at) == (65, 65, 0)
