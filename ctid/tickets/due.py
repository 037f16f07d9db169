"""What falls due next, and what is to be raised now: reminders before, escalations after, each once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import msgspec
from msgspec.structs import replace

from ctid.tickets.ticket import TOP_LEVEL, Change, Event, Ticket, Times

AlarmKind = Literal["promise_reminder", "promise_broken", "deadline_passed", "level_passed", "call_back_due"]


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be raised about a ticket.

    Attributes:
        at: From when on.
        about: What of it: the promised time, the call-back's index; names the alarm with its kind.
    """

    ticket: int
    kind: AlarmKind
    at: datetime
    about: str

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.about}"


def alarms_of(ticket: Ticket, times: Times) -> list[Alarm]:
    """Return what is still to be raised about a ticket, earliest first."""
    if ticket.step == "closed":
        return []
    found: list[tuple[AlarmKind, datetime, str]] = []
    if ticket.promise == "open" and ticket.promised_at is not None:
        until = ticket.promised_at
        found.append(("promise_reminder", until - times.remind_before, until.isoformat()))
        found.append(("promise_broken", until, until.isoformat()))
    if ticket.due_at is not None:
        found.append(("deadline_passed", ticket.due_at, ticket.due_at.isoformat()))
    if ticket.level_due_at is not None:
        found.append(("level_passed", ticket.level_due_at, str(ticket.level)))
    for index, call_back in enumerate(ticket.call_backs):
        if call_back.result == "open":
            found.append(("call_back_due", call_back.due_at, str(index)))
    alarms = [
        Alarm(ticket=ticket.ticket, kind=kind, at=at, about=about)
        for kind, at, about in sorted(found, key=lambda one: one[1])
    ]
    return [alarm for alarm in alarms if alarm.key not in ticket.raised]


def due(tickets: Iterable[Ticket], now: datetime, times: Times) -> tuple[list[Alarm], datetime | None]:
    """Return what to raise now, earliest first, and when to look again (``None``: nothing is due ever)."""
    alarms = sorted((alarm for one in tickets for alarm in alarms_of(one, times)), key=lambda a: a.at)
    later = [alarm.at for alarm in alarms if alarm.at > now]
    return [alarm for alarm in alarms if alarm.at <= now], min(later, default=None)


def raise_alarm(ticket: Ticket, alarm: Alarm, now: datetime, *, times: Times) -> Change:
    """Note that an alarm was raised; raised before, or needless by now: no events.

    The version stays: whoever is filling in the form meanwhile has nothing to look at again.
    """
    if alarm not in alarms_of(ticket, times):
        return Change(ticket=ticket)
    event = Event(kind=alarm.kind, at=now, actor="", detail={"about": alarm.about})
    after = replace(ticket, raised=(*ticket.raised, alarm.key))
    if alarm.kind == "promise_broken":
        after = replace(after, promise="broken")
    if alarm.kind == "level_passed":
        level = ticket.level + 1
        after = replace(after, level=level, level_due_at=now + times.level if level < TOP_LEVEL else None)
    return Change(ticket=after, events=(event,))


def overdue_from(ticket: Ticket) -> datetime | None:
    """Return when the ticket is, or was, overdue; ``None``: nobody waits for anything."""
    if ticket.step == "closed":
        return None
    waited_for = [one.due_at for one in ticket.call_backs if one.result == "open"]
    return min(filter(None, (ticket.promised_at, ticket.due_at, *waited_for)), default=None)
