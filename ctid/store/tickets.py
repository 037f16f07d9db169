"""Tickets in PostgreSQL: each change in one transaction with what happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from ctid.store.pool import Connection, Pool

#: Columns that are fields of a ticket, beside its number; the others are worked out from it.
COLUMNS: Final = (
    *("version", "type", "step", "source", "subject", "system", "call", "line"),
    *("caller_number", "caller_key", "opened_at", "opened_by", "assigned_to", "desk", "level"),
    *("due_at", "level_due_at", "promised_at", "promise", "verdict", "verification"),
    *("claimed_by", "claimed_until", "closed_at"),
)
_WORKED_OUT: Final = ("state", "next_at", "overdue_from", "body")
_ALL: Final = (*COLUMNS, *_WORKED_OUT)
_READ: Final = f"select ticket, {', '.join(COLUMNS)}, body from ticket"  # noqa: S608 - our own names
_INSERT: Final = (
    f"insert into ticket ({', '.join(_ALL)}, opening) "  # noqa: S608 - our own names
    f"values ({', '.join(f'${i}' for i in range(1, len(_ALL) + 2))}) "
    "on conflict (opened_by, opening) where opening <> '' do nothing returning ticket"
)
_UPDATE: Final = (
    f"update ticket set {', '.join(f'{name} = ${i}' for i, name in enumerate(_ALL, 2))} "  # noqa: S608
    "where ticket = $1"
)

Words = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^\x00]*$")]
SortKey = Literal["opened_at", "due", "ticket", "type", "assigned_to"]
_SORTS: Final[Mapping[SortKey, str]] = {
    "opened_at": "opened_at desc, ticket desc",
    "due": "overdue_from asc nulls last, ticket",
    "ticket": "ticket",
    "type": "type, opened_at desc, ticket",
    "assigned_to": "assigned_to, opened_at desc, ticket",
}
_FIND: Final = """
where ($1 = '' or state = $1) and ($2 = '' or type = $2) and ($3 = '' or assigned_to = $3)
  and ($4 = '' or caller_key = $4) and ($5::timestamptz is null or overdue_from <= $5)
  and ($6 = ''
       or strpos(lower(subject || ' ' || coalesce(body -> 'fields' ->> 'content', '')), lower($6)) > 0)
  and ($7 or type = any($8::text[]) or ($9 <> '' and (assigned_to = $9 or opened_by = $9 or claimed_by = $9))
       or (caller_key <> '' and caller_key = any($10::text[])))
"""


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a ticket."""

    kind: str
    at: datetime
    actor: str
    command: str
    detail: dict[str, str]


class ToCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call-back of a ticket."""

    number: str
    due_at: datetime
    attempts: int
    result: str


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket to be stored.

    Attributes:
        columns: Value of each of ``COLUMNS``, and of state, next_at and overdue_from.
        body: Everything else, as JSON.
    """

    columns: Mapping[str, Any]
    body: str
    call_backs: Sequence[ToCall]
    events: Sequence[Happened]


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """Which tickets somebody may see.

    Attributes:
        everything: All of them; the rest does not matter then.
        types: All of these types.
        person: His own: opened by, assigned to or claimed by him.
        caller_keys: Those of the customers on his line.
    """

    everything: bool = False
    types: tuple[str, ...] = ()
    person: str = ""
    caller_keys: tuple[str, ...] = ()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which tickets to list; empty: any.

    Attributes:
        caller_key: Number as it is compared.
        due_before: Overdue at that time.
        text: In subject or content, whatever its case.
    """

    state: Literal["", "open", "waiting", "closed"] = ""
    type: str = ""
    assigned_to: Words = ""
    caller_key: Words = ""
    due_before: datetime | None = None
    text: Words = ""
    sort: SortKey = "opened_at"
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50
    offset: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How many tickets, for ``/metrics``.

    Attributes:
        open: Keyed by type and state; without closed ones.
        overdue: Keyed by type.
    """

    open: dict[tuple[str, str], int]
    overdue: dict[str, int]
    call_backs_due: int


class Locked:
    """One ticket that nobody else can change meanwhile.

    Attributes:
        row: As read; ``None``: there is no such ticket.
    """

    def __init__(self, connection: Connection, ticket: int, row: dict[str, Any] | None) -> None:
        self._connection = connection
        self._ticket = ticket
        self.row = row

    async def knows(self, command: str) -> bool:
        """Say whether a command with this id was carried out on it."""
        found = await self._connection.fetchval(
            "select exists (select from ticket_event where ticket = $1 and command = $2)",
            self._ticket,
            command,
        )
        return bool(found)

    async def write(self, written: Written) -> None:
        """Replace the ticket and add its events; done when the block ends without an error."""
        await self._connection.execute(_UPDATE, self._ticket, *_values(written))
        await _write_beside(self._connection, self._ticket, written)


class Tickets:
    """The tickets in PostgreSQL; all methods raise ``StoreUnavailable`` when it is away or slow."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, written: Written, *, opening: str) -> tuple[int, bool]:
        """Store a new ticket; return its number, and False if ``opening`` has opened it before."""
        async with self._pool.transaction() as connection:
            ticket = await connection.fetchval(_INSERT, *_values(written), opening)
            if ticket is not None:
                await _write_beside(connection, ticket, written)
                return ticket, True
            return await connection.fetchval(
                "select ticket from ticket where opened_by = $1 and opening = $2",
                written.columns["opened_by"],
                opening,
            ), False

    @asynccontextmanager
    async def locked(self, ticket: int) -> AsyncIterator[Locked]:
        """Lend one ticket, to be changed by nobody else until the block ends."""
        async with self._pool.transaction() as connection:
            row = await connection.fetchrow(f"{_READ} where ticket = $1 for update", ticket)
            yield Locked(connection, ticket, dict(row) if row else None)

    async def one(self, ticket: int) -> dict[str, Any] | None:
        """Return a ticket's columns and body; ``None``: there is none."""
        row = await self._pool.fetchrow(f"{_READ} where ticket = $1", ticket)
        return dict(row) if row else None

    async def find(self, wanted: Wanted, sight: Sight) -> tuple[list[dict[str, Any]], int]:
        """Return a page of tickets, and how many there are in all."""
        asked = (
            *(wanted.state, wanted.type, wanted.assigned_to, wanted.caller_key),
            *(wanted.due_before, wanted.text, sight.everything, list(sight.types)),
            *(sight.person, list(sight.caller_keys)),
        )
        page = f"{_READ}{_FIND} order by {_SORTS[wanted.sort]} limit $11 offset $12"
        async with self._pool.connection() as connection:
            rows = await connection.fetch(page, *asked, wanted.limit, wanted.offset)
            count = await connection.fetchval(f"select count(*) from ticket {_FIND}", *asked)  # noqa: S608
        return [dict(row) for row in rows], count

    async def events_of(self, ticket: int) -> list[Happened]:
        """Return everything that happened to a ticket, in order."""
        rows = await self._pool.fetch(
            "select kind, at, actor, command, detail from ticket_event where ticket = $1 order by ordinal",
            ticket,
        )
        return [Happened(**{**row, "detail": msgspec.json.decode(row["detail"])}) for row in rows]

    async def due(self, now: datetime, *, limit: int = 200) -> list[int]:
        """Return the tickets about which something is to be raised, longest due first."""
        rows = await self._pool.fetch(
            "select ticket from ticket where next_at <= $1 order by next_at limit $2", now, limit
        )
        return [row["ticket"] for row in rows]

    async def next_at(self) -> datetime | None:
        """Return when something is to be raised next; ``None``: never."""
        found: datetime | None = await self._pool.fetchval("select min(next_at) from ticket")
        return found

    async def figures(self, now: datetime) -> Figures:
        """Count what is open, overdue and to be called back."""
        async with self._pool.connection() as connection:
            rows = await connection.fetch(
                "select type, state, count(*) as open, count(*) filter (where overdue_from <= $1) as overdue "
                "from ticket where state <> 'closed' group by 1, 2",
                now,
            )
            call_backs = await connection.fetchval(
                "select count(*) from ticket_call_back where result = 'open' and due_at <= $1", now
            )
        overdue: dict[str, int] = {}
        for row in rows:
            overdue[row["type"]] = overdue.get(row["type"], 0) + row["overdue"]
        opened = {(row["type"], row["state"]): row["open"] for row in rows}
        return Figures(open=opened, overdue=overdue, call_backs_due=call_backs)


def _values(written: Written) -> list[Any]:
    columns = {**written.columns, "body": written.body}
    return [columns[name] for name in _ALL]


async def _write_beside(connection: Connection, ticket: int, written: Written) -> None:
    await connection.executemany(
        "insert into ticket_event (ticket, command, kind, at, actor, detail) values ($1, $2, $3, $4, $5, $6)",
        [
            (ticket, one.command, one.kind, one.at, one.actor, msgspec.json.encode(one.detail).decode())
            for one in written.events
        ],
    )
    await connection.executemany(
        "insert into ticket_call_back (ticket, ordinal, number, due_at, attempts, result) "
        "values ($1, $2, $3, $4, $5, $6) on conflict (ticket, ordinal) do update "
        "set attempts = excluded.attempts, result = excluded.result",
        [
            (ticket, index, one.number, one.due_at, one.attempts, one.result)
            for index, one in enumerate(written.call_backs)
        ],
    )
