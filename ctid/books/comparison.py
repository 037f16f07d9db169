"""A period of the past, compared with Asterisk's books from the files: ``ctid reconcile``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from errno import ENOENT
from pathlib import Path
from typing import Final

import msgspec

from ctid.acd.rules import QueueRule
from ctid.books.cel import CelReader
from ctid.books.company import Company
from ctid.books.groups import Group, Groups
from ctid.books.ledger import Difference, differences
from ctid.books.period import read_period
from ctid.books.queue_log import QueueLines
from ctid.books.volumes import listing
from ctid.store import ledger as tables
from ctid.store.pool import Pool

#: A call of the period may have begun so long before it, or may go on so long after.
_LONGEST_CALL: Final = timedelta(hours=12)
_AT_ONCE: Final = 200


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison found.

    Attributes:
        calls, visits: Compared, by the books.
        open: Calls that are not over in the books; not compared.
        unread: Places in the files that could not be read.
        holes: Facts that are missing in the journal: written once, by their number, and gone.
    """

    since: datetime
    until: datetime
    calls: int
    visits: int
    open: int
    unread: int
    differences: tuple[Difference, ...]
    holes: tuple[tables.Hole, ...]

    @property
    def count(self) -> int:
        """How many rows are in doubt."""
        return len(self.differences) + sum(hole.count for hole in self.holes)


async def compare(
    pool: Pool,
    cel: Path,
    queue_log: Path,
    *,
    since: datetime,
    until: datetime,
    rules: Mapping[str, QueueRule],
    agents: Mapping[str, str],
    queue: str = "",
    system: str | None = None,
) -> Outcome:
    """Compare the calls that began in [since, until) and are over.

    Args:
        rules, agents: As for ``Centre``.
        queue: Only what concerns this one; empty: everything.
        system: Asterisk's ``systemname``; ``None``: as each call's id says.

    Raises:
        OSError: A book can not be read.
        StoreUnavailable: PostgreSQL is away.
    """
    groups, unread = _read(cel, queue_log, since - _LONGEST_CALL, until + _LONGEST_CALL)
    mine = [group for group in groups if since <= group.began_at < until and group.is_whole]
    over = [group for group in mine if group.is_closed]
    company = Company(groups, agents)
    found: list[Difference] = []
    visits = 0
    for some in _portions(over):
        for name, part in _by_system(some, system).items():
            calls = sorted({call for group in part for call in group.calls})
            rows = await tables.rows_of(pool, system=name, calls=calls)
            for group in part:
                found += differences(company.facts_of(group, rules), rows.of(group.calls))
            visits += sum(line.verb == "ENTERQUEUE" for group in part for line in group.lines)
    known = {call for group in groups for call in group.calls}
    found += await _unknown_to_books(pool, known, since, until, system)
    return Outcome(
        since=since,
        until=until,
        calls=sum(len(group.calls) for group in over),
        visits=visits,
        open=len(mine) - len(over),
        unread=unread,
        differences=tuple(one for one in found if not queue or one.queue == queue),
        holes=() if queue else tuple(await tables.holes_between(pool, since=since, until=until)),
    )


def _read(cel: Path, queue_log: Path, since: datetime, until: datetime) -> tuple[Groups, int]:
    for book in (cel, queue_log):
        if not book.exists() and not listing(book):
            # No book is not an empty one, which would say that no call was ever made.
            raise FileNotFoundError(ENOENT, "there is no such book", str(book))
    groups = Groups()
    places = 0

    def damaged(_path: Path, count: int) -> None:
        nonlocal places
        places += count

    groups.add(read_period(cel, CelReader, since, until, on_damage=damaged), ())
    groups.add((), read_period(queue_log, QueueLines, since, until, on_damage=damaged))
    return groups, places


def _portions(groups: Sequence[Group]) -> Iterator[Sequence[Group]]:
    for begin in range(0, len(groups), _AT_ONCE):
        yield groups[begin : begin + _AT_ONCE]


def _by_system(groups: Sequence[Group], system: str | None) -> dict[str, list[Group]]:
    by_system: dict[str, list[Group]] = {}
    for group in groups:
        name = system if system is not None else system_of(min(group.calls))
        by_system.setdefault(name, []).append(group)
    return by_system


def system_of(call: str) -> str:
    """Return the ``systemname`` that Asterisk put before a Linkedid: ``hz1`` of ``hz1-1795379780.12``."""
    return call.rpartition("-")[0]


async def _unknown_to_books(
    pool: Pool, known: set[str], since: datetime, until: datetime, system: str | None
) -> list[Difference]:
    ours = await tables.calls_between(pool, system=system, since=since, until=until)
    what = "a call that the books do not have"
    return [Difference(ledger="calls", call=call, what=what) for call in ours if call not in known]
