"""The journal: facts in, once each, with everything derived from them in one transaction."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from ctid.acd.facts import Fact
from ctid.errors import StaleEpoch
from ctid.store import derive
from ctid.store.pool import Connection, Pool

_INSERT: Final = """
insert into fact (system, boot, spool, epoch, call, kind, about, at, body, recovered, number)
select $1, $2, $3, $4, told.* from unnest(
    $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::jsonb[], $10::boolean[], $11::bigint[]) as told
on conflict (system, call, kind, about, at, recovered) do nothing
returning call, kind, about, at, recovered
"""
_UNWRITTEN: Final = """
insert into fact_unwritten (spool, number, why, body)
select $1, told.number, $3, $4 from unnest($2::bigint[]) as told (number)
"""
#: PostgreSQL stores every character but NUL; an odd number of backslashes makes it one.
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


def _leaves(kind: type[Fact]) -> list[type[Fact]]:
    below = kind.__subclasses__()
    return [leaf for one in below for leaf in _leaves(one)] if below else [kind]


_ANY: Final[Any] = reduce(or_, _leaves(Fact))
_DECODER: Final = msgspec.json.Decoder(_ANY)


Told: TypeAlias = tuple[Any, Fact, str]
"""Number in the spool (``None`` without one), fact, and its JSON."""


def kind_of(fact: Fact) -> str:
    """Return the name under which the journal keeps such a fact."""
    return type(fact).__name__


def decode(body: bytes | str) -> Fact:
    """Read a fact as the journal keeps it.

    Raises:
        msgspec.MsgspecError: It is none.
    """
    fact: Fact = _DECODER.decode(body)
    return fact


def storable(fact: Fact) -> tuple[Fact, str]:
    """Return the fact and its JSON, free of what PostgreSQL can not store."""
    body = msgspec.json.encode(fact)
    if rb"\u0000" in body:
        body = _NUL.sub(rb"\1\\ufffd", body)
        fact = _DECODER.decode(body)
    return fact, body.decode()


class Origin(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where facts come from, and by whose right they are written.

    Attributes:
        system: Asterisk's ``systemname``.
        boot: Identity of that run of Asterisk, if known.
        spool: Log they are numbered in; ``None``: they come directly.
        epoch: Of the lead; ``None``: nobody leads, everybody may write.
        leader: Name of the lead.
    """

    system: str
    boot: datetime | None = None
    spool: UUID | None = None
    epoch: int | None = None
    leader: str = "main"


async def store(
    pool: Pool,
    facts: Sequence[Fact],
    numbers: Sequence[int] | None,
    origin: Origin,
    key_of: Callable[[str], str],
) -> int:
    """Store facts and what follows from them; those already there are left alone.

    Args:
        numbers: One for each fact, growing, if ``origin`` names a spool: those up to its position
            are skipped, and its position moves to the last, in the same transaction.
        key_of: A caller's number -> the number as it is compared.

    Returns:
        How many were new.

    Raises:
        StoreUnavailable: Maybe nothing was stored, maybe all of it; store the same again.
        RowRefused: One of them can not be stored; nothing was.
        StaleEpoch: Another daemon has taken the lead; nothing was stored.
        StoreError: See ``pool``.
    """
    spool = origin.spool
    numbered = zip(numbers if spool and numbers else [None] * len(facts), facts, strict=True)
    told: list[Told] = [(number, *storable(fact)) for number, fact in numbered]
    async with pool.transaction() as connection:
        await _fence(connection, origin)
        if spool and numbers:
            settled = await _advance(connection, spool, numbers[-1])
            told = [one for one in told if one[0] > settled]
        new = await _insert(connection, told, origin)
        for sql, arguments in derive.rows(origin.system, new, key_of):
            await connection.executemany(sql, arguments)
    return len(new)


async def refuse(pool: Pool, number: int, body: str, origin: Origin) -> None:
    """Note that a record of a spool can not be stored, and why its number is missing.

    Raises:
        StoreUnavailable, StaleEpoch: As ``store``.
    """
    assert origin.spool is not None
    async with pool.transaction() as connection:
        await _fence(connection, origin)
        if await _advance(connection, origin.spool, number) < number:
            text = body.replace("\0", "\ufffd")
            await connection.execute(_UNWRITTEN, origin.spool, [number], "refused", text)


async def position(pool: Pool, spool: UUID) -> int:
    """Return up to which number the records of a spool are settled; 0 if none ever was."""
    return await pool.fetchval("select applied from spool where spool = $1", spool) or 0


async def _fence(connection: Connection, origin: Origin) -> None:
    """Make sure that we lead, and that nobody takes the lead before this transaction ends."""
    if origin.epoch is None:
        return
    now = await connection.fetchval("select epoch from leader where name = $1 for key share", origin.leader)
    if now != origin.epoch:
        raise StaleEpoch(f"epoch {origin.epoch} of {origin.leader} is over; it is {now} now")


async def _advance(connection: Connection, spool: UUID, last: int) -> int:
    """Move the position of a spool to ``last``; return where it was."""
    await connection.execute(
        "insert into spool (spool, host) values ($1, $2) on conflict do nothing", spool, platform.node()
    )
    settled: int = await connection.fetchval("select applied from spool where spool = $1 for update", spool)
    if last > settled:
        await connection.execute("update spool set applied = $2 where spool = $1", spool, last)
    return settled


async def _insert(connection: Connection, told: Sequence[Told], origin: Origin) -> list[Fact]:
    """Insert what is new and return it; note the numbers of what is not."""
    by_key: dict[tuple[object, ...], Told] = {}
    for one in told:
        by_key.setdefault(_key(one[1]), one)
    calls, kinds, abouts, ats, recovered = zip(*by_key, strict=True) if by_key else ((),) * 5
    numbers, _, bodies = zip(*by_key.values(), strict=True) if by_key else ((),) * 3
    head = (origin.system, origin.boot, origin.spool, origin.epoch)
    stored = await connection.fetch(_INSERT, *head, calls, kinds, abouts, ats, bodies, recovered, numbers)
    keys = {tuple(row) for row in stored}
    new = [one for key, one in by_key.items() if key in keys]
    if origin.spool and len(new) < len(told):
        again = sorted({number for number, _, _ in told} - {number for number, _, _ in new})
        await connection.execute(_UNWRITTEN, origin.spool, again, "again", None)
    return [fact for _, fact, _ in new]


def _key(fact: Fact) -> tuple[str, str, str, datetime, bool]:
    return (fact.call, kind_of(fact), fact.about, fact.at, fact.recovered)


async def of_call(pool: Pool, *, system: str, call: str) -> list[Fact]:
    """Return what is known about one call, oldest first."""
    rows = await pool.fetch(
        "select body from fact where system = $1 and call = $2 order by at, kind, about", system, call
    )
    return [_DECODER.decode(row["body"]) for row in rows]
