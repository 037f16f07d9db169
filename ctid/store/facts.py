"""The journal: facts in, once each, with everything derived from them in one transaction."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any, Final

import msgspec

from ctid.acd.facts import Fact
from ctid.store import derive
from ctid.store.pool import Connection, Pool

_INSERT: Final = """
insert into fact (system, boot, call, kind, about, at, body)
select $1, $2, told.* from unnest($3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::jsonb[]) as told
on conflict do nothing
returning call, kind, about, at
"""
#: PostgreSQL stores every character but NUL; an odd number of backslashes makes it one.
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


def _leaves(kind: type[Fact]) -> list[type[Fact]]:
    below = kind.__subclasses__()
    return [leaf for one in below for leaf in _leaves(one)] if below else [kind]


_ANY: Final[Any] = reduce(or_, _leaves(Fact))
_DECODER: Final = msgspec.json.Decoder(_ANY)


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


async def write(
    pool: Pool,
    facts: Sequence[Fact],
    *,
    system: str,
    boot: datetime | None,
    key_of: Callable[[str], str],
) -> int:
    """Store facts and what follows from them; those already there are left alone.

    Args:
        system: Asterisk's ``systemname``.
        boot: Identity of this run of Asterisk, if known.
        key_of: A caller's number -> the number as it is compared.

    Returns:
        How many were new.

    Raises:
        StoreUnavailable: Maybe nothing was stored, maybe all of it; write the same again.
        RowRefused: One of them can not be stored; nothing was.
        StoreError: See ``pool``.
    """
    clean = [storable(fact) for fact in facts]
    async with pool.transaction() as connection:
        new = await _insert(connection, clean, system, boot)
        for sql, arguments in derive.rows(system, new, key_of):
            await connection.executemany(sql, arguments)
    return len(new)


async def _insert(
    connection: Connection, clean: Sequence[tuple[Fact, str]], system: str, boot: datetime | None
) -> list[Fact]:
    by_key: dict[tuple[str, str, str, datetime], tuple[Fact, str]] = {}
    for fact, body in clean:
        by_key.setdefault((fact.call, kind_of(fact), fact.about, fact.at), (fact, body))
    calls, kinds, abouts, ats = zip(*by_key, strict=True) if by_key else ((), (), (), ())
    bodies = [body for _, body in by_key.values()]
    stored = await connection.fetch(_INSERT, system, boot, calls, kinds, abouts, ats, bodies)
    new = {tuple(row) for row in stored}
    return [fact for key, (fact, _) in by_key.items() if key in new]


async def of_call(pool: Pool, *, system: str, call: str) -> list[Fact]:
    """Return what is known about one call, oldest first."""
    rows = await pool.fetch(
        "select body from fact where system = $1 and call = $2 order by at, kind, about", system, call
    )
    return [_DECODER.decode(row["body"]) for row in rows]
