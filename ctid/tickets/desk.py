"""The built-in ticket desk: the rules applied to what is stored, one transaction each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ctid.errors import RowRefused
from ctid.store.tickets import COLUMNS, Figures, Happened, Sight, Tickets, ToCall, Wanted, Written
from ctid.tickets.commands import Command
from ctid.tickets.deeds import act
from ctid.tickets.due import Alarm, alarms_of, overdue_from, raise_alarm
from ctid.tickets.opening import InCall, Invalid, Opening, open_ticket
from ctid.tickets.ticket import Change, Event, Refusal, Ticket, Times

_IN_COLUMNS: Final = frozenset(COLUMNS) | {"ticket"}
MayDo = Callable[[Ticket], Refusal | None]
"""Says why somebody may not do something to this ticket; ``None``: he may."""


class TicketDesk:
    """Opens tickets, carries commands out, raises what is due.

    All methods raise ``RowRefused`` for a ticket that can not be read, and ``StoreError`` when
    PostgreSQL is away or slow; nothing has changed then, or the same may be asked again: ids
    keep it from being done twice.

    Args:
        normalise: Makes of a number what numbers are compared by; the same as the journal's.
        on_change: Told of every change once it is stored.
    """

    def __init__(
        self,
        store: Tickets,
        *,
        normalise: Callable[[str], str],
        times: Times | None = None,
        on_change: Callable[[Change], None] = lambda change: None,
    ) -> None:
        self._store = store
        self.normalise = normalise
        self.times = times or Times()
        self.on_change = on_change

    async def open(self, opening: Opening, actor: str, at: datetime, *, inside: InCall) -> Change | Invalid:
        """Open a ticket; without events if ``opening.id`` of this actor has opened it before."""
        change = open_ticket(opening, actor, at, inside=inside, times=self.times)
        if isinstance(change, Invalid):
            return change
        ticket = replace(change.ticket, caller_key=self.normalise(change.ticket.caller_number))
        number, is_new = await self._store.add(self._written(ticket, change.events), opening=opening.id)
        if not is_new:
            return Change(ticket=_ticket(await self._store.one(number)))
        stored = replace(change, ticket=replace(ticket, ticket=number))
        self.on_change(stored)
        return stored

    async def do(
        self, number: int, command: Command, actor: str, at: datetime, *, may: MayDo
    ) -> Change | Refusal | None:
        """Carry out a command; ``None``: there is no such ticket."""
        async with self._store.locked(number) as locked:
            if locked.row is None:
                return None
            ticket = _ticket(locked.row)
            if refusal := may(ticket):
                return refusal
            if await locked.knows(command.id):
                return Change(ticket=ticket)
            done = act(ticket, command, actor, at, times=self.times)
            if isinstance(done, Refusal) or not done.events:
                return done
            await locked.write(self._written(done.ticket, done.events))
        self.on_change(done)
        return done

    async def raise_due(self, number: int, now: datetime) -> list[tuple[Alarm, Ticket]]:
        """Note what is due about a ticket as raised; return it: each alarm is returned once, ever."""
        raised: list[tuple[Alarm, Ticket]] = []
        async with self._store.locked(number) as locked:
            if locked.row is None:
                return []
            ticket, events = _ticket(locked.row), list[Event]()
            for alarm in [one for one in alarms_of(ticket, self.times) if one.at <= now]:
                change = raise_alarm(ticket, alarm, now, times=self.times)
                ticket = change.ticket
                events += change.events
                raised.append((alarm, ticket))
            await locked.write(self._written(ticket, events))
        if events:
            self.on_change(Change(ticket=ticket, events=tuple(events)))
        return raised

    async def one(self, number: int) -> Ticket | None:
        """Return a ticket; ``None``: there is none."""
        row = await self._store.one(number)
        return _ticket(row) if row else None

    async def find(self, wanted: Wanted, sight: Sight) -> tuple[list[Ticket], int]:
        """Return a page of tickets, and how many there are in all."""
        rows, count = await self._store.find(wanted, sight)
        return [_ticket(row) for row in rows], count

    async def events_of(self, number: int) -> list[Happened]:
        """Return everything that happened to a ticket, in order."""
        return await self._store.events_of(number)

    async def due(self, now: datetime) -> list[int]:
        """Return the tickets about which something is to be raised, longest due first."""
        return await self._store.due(now)

    async def next_at(self) -> datetime | None:
        """Return when something is to be raised next; ``None``: never."""
        return await self._store.next_at()

    async def figures(self, now: datetime) -> Figures:
        """Count what is open, overdue and to be called back."""
        return await self._store.figures(now)

    def _written(self, ticket: Ticket, events: Sequence[Event]) -> Written:
        alarms = alarms_of(ticket, self.times)
        columns = {name: getattr(ticket, name) for name in COLUMNS} | {
            "state": ticket.state,
            "next_at": alarms[0].at if alarms else None,
            "overdue_from": overdue_from(ticket),
        }
        rest = {key: value for key, value in msgspec.structs.asdict(ticket).items() if key not in _IN_COLUMNS}
        return Written(
            columns=columns,
            body=msgspec.json.encode(rest).decode(),
            call_backs=[ToCall(**msgspec.structs.asdict(one)) for one in ticket.call_backs],
            events=[Happened(**msgspec.structs.asdict(one)) for one in events],
        )


def _ticket(row: dict[str, Any] | None) -> Ticket:
    assert row is not None
    columns = {name: value for name, value in row.items() if name != "body"}
    try:
        return msgspec.convert({**msgspec.json.decode(row["body"]), **columns}, Ticket)
    except msgspec.ValidationError as error:
        raise RowRefused(f"ticket {row['ticket']}: its body was changed by other hands: {error}") from error
