"""The audit log: who did what, one row after the other, each sealing the one before it.

    1 ── hash 1 ──▶ 2 ── hash 2 ──▶ 3 ── hash 3 ──▶ …

A row's hash covers all of its columns and the hash of the row before, so a row that is
changed, removed or slipped in breaks the chain there. Rows cut off at the end break nothing:
whoever wants to see that keeps the number and hash of the last row elsewhere (``Verdict``).
PostgreSQL refuses UPDATE, DELETE and TRUNCATE of the table to everybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from ctid.store.pool import Connection, Pool, Record

Detail = Mapping[str, str]

_LOCK: Final = 0x6374_6964_6175_6474  # "ctidaudt": one row at a time
_NOTHING: Final = bytes(32)
_CHUNK: Final = 2_000
MAX_PAGE: Final = 200

_COLUMNS: Final = "number, at, who, action, target, detail, previous, hash"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row, for people.

    Attributes:
        who: Sign-in name; empty: nobody was signed in.
        action: Past participle, such as ``signed_in``.
        target: To whom or what; may be empty.
        hash: Hexadecimal.
    """

    number: int
    at: datetime
    who: str
    action: str
    target: str
    detail: dict[str, str]
    hash: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a check of the whole chain found.

    Attributes:
        rows: How many there are.
        last: Number of the last one.
        hash: Its hash, hexadecimal; keep it elsewhere to notice a cut-off end.
        broken_at: Number of the first row that does not fit; 0: all fit.
        why: What is wrong there.
    """

    rows: int
    last: int
    hash: str
    broken_at: int = 0
    why: str = ""


def seal(number: int, at: datetime, texts: Sequence[str], previous: bytes) -> bytes:
    """Return the hash of a row.

    Args:
        at: Aware; to the microsecond.
        texts: who, action, target, detail.
        previous: Hash of the row before.
    """
    digest = hashlib.sha256(previous)
    for text in (str(number), at.astimezone(UTC).isoformat(timespec="microseconds"), *texts):
        written = text.encode()
        digest.update(len(written).to_bytes(8, "big"))
        digest.update(written)
    return digest.digest()


async def note(
    connection: Connection, who: str, action: str, target: str = "", detail: Detail | None = None
) -> int:
    """Add a row within the caller's transaction and return its number.

    It is there if, and only if, what it tells of is committed. Other writers wait until then,
    so the transaction has to be a short one.

    Raises:
        StoreUnavailable: As whatever else the transaction does.
    """
    await connection.fetchval("select pg_advisory_xact_lock($1)", _LOCK)
    last = await connection.fetchrow("select number, hash from audit order by number desc limit 1")
    number, previous = (last["number"] + 1, bytes(last["hash"])) if last else (1, _NOTHING)
    at = datetime.now(UTC)
    # PostgreSQL keeps no NUL in a text; what was typed is told as far as it can be.
    texts = [_plain(who), action, _plain(target), msgspec.json.encode(dict(detail or {})).decode()]
    await connection.execute(
        f"insert into audit ({_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8)",  # noqa: S608 - our own
        number,
        at,
        *texts,
        previous,
        seal(number, at, texts, previous),
    )
    return number


def _plain(text: str) -> str:
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()[:200]


class AuditLog:
    """The audit log in PostgreSQL; all methods raise ``StoreUnavailable`` when it is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def note(self, who: str, action: str, target: str = "", detail: Detail | None = None) -> int:
        """Add a row in a transaction of its own; once this returns, it is committed."""
        async with self._pool.transaction() as connection:
            return await note(connection, who, action, target, detail)

    async def page(self, *, before: int = 0, who: str = "", limit: int = MAX_PAGE) -> list[Row]:
        """Return rows, newest first.

        Args:
            before: Older than this number; 0: from the newest on.
            who: Of this person only; empty: of everybody.
        """
        rows = await self._pool.fetch(
            f"select {_COLUMNS} from audit where ($1 = 0 or number < $1) and ($2 = '' or who = $2) "  # noqa: S608
            "order by number desc limit $3",
            before,
            who,
            min(limit, MAX_PAGE),
        )
        return [_row(row) for row in rows]

    async def verify(self) -> Verdict:
        """Read the whole chain, in pieces, and say whether each row seals the one before."""
        number, previous, rows = 0, _NOTHING, 0
        while chunk := await self._pool.fetch(
            f"select {_COLUMNS} from audit where number > $1 order by number limit $2",  # noqa: S608
            number,
            _CHUNK,
        ):
            for row in chunk:
                if why := _why_broken(row, number, previous):
                    return Verdict(
                        rows=rows, last=number, hash=previous.hex(), broken_at=row["number"], why=why
                    )
                number, previous, rows = row["number"], bytes(row["hash"]), rows + 1
        return Verdict(rows=rows, last=number, hash=previous.hex())


def _why_broken(row: Record, number: int, previous: bytes) -> str:
    if row["number"] != number + 1:
        return f"row {number + 1} is missing"
    if bytes(row["previous"]) != previous:
        return "it seals another row than the one before it"
    texts = (row["who"], row["action"], row["target"], row["detail"])
    if seal(row["number"], row["at"], texts, previous) != bytes(row["hash"]):
        return "it was changed"
    return ""


def _row(row: Record) -> Row:
    return Row(
        number=row["number"],
        at=row["at"],
        who=row["who"],
        action=row["action"],
        target=row["target"],
        detail=msgspec.json.decode(row["detail"]),
        hash=bytes(row["hash"]).hex(),
    )
