"""Raises reminders and escalations of tickets when they are due, also those missed while ctid was down.

desk ──change──▶ news to screens, figures; the clock looks again
PostgreSQL ──what is due──▶ raised once, whoever asks ──change──▶ ...
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Protocol, get_args

import structlog

from ctid.errors import RowRefused, StoreError
from ctid.store.tickets import Figures
from ctid.tickets.desk import TicketDesk
from ctid.tickets.due import AlarmKind, overdue_from
from ctid.tickets.ticket import Change, Desk, Event, Ticket
from ctid.web.messages import NewsKind, TicketNews

_log = structlog.get_logger()

LOOK_SECONDS: Final = 15.0
"""So often the figures are counted, whatever happens."""
RETRY_SECONDS: Final = 2.0
LEADING: Final = ("leader", "supervisor")
_FOR_LEADERS: Final = frozenset({*get_args(AlarmKind), "level_raised"} - {"promise_reminder"})
_NEWS: Final[dict[str, NewsKind]] = {
    name: name for kinds in get_args(NewsKind) for name in (get_args(kinds) or (kinds,))
}
_ROLES: Final[dict[Desk, tuple[str, ...]]] = {
    "": (),
    "complaints": ("complaints",),
    "info": ("info",),
    "leaders": ("leader",),
}


class Screens(Protocol):
    """The web hub."""

    def tell(self, message: TicketNews, *, persons: Collection[str], roles: Collection[str]) -> int: ...


class Shown(Protocol):
    """The figures on ``/metrics``."""

    def show(self, figures: Figures) -> None: ...
    def settled(self, result: str) -> None: ...


class TicketClock:
    """Looks when the next thing is due, and whenever a ticket changed.

    Attributes:
        desk: Whose changes it hears of.
    """

    def __init__(
        self,
        desk: TicketDesk,
        *,
        screens: Screens,
        figures: Shown,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.desk = desk
        self._screens = screens
        self._figures = figures
        self._now = now
        self._stirred = asyncio.Event()
        self._is_blind = False
        desk.on_change = self._changed

    async def run(self) -> None:
        """Look, sleep until something is due or has changed, and again; until cancelled."""
        while True:
            self._stirred.clear()
            try:
                seconds = await self.look()
                self._is_blind = False
            except StoreError as error:
                if not self._is_blind:
                    _log.warning("tickets can not be looked at", why=str(error))
                self._is_blind = True
                seconds = RETRY_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stirred.wait()

    async def look(self) -> float:
        """Raise what is due and count; return the seconds until the next look.

        Raises:
            StoreError: PostgreSQL is away; what was not raised yet stays due.
        """
        now, soonest = self._now(), 0.0
        for number in await self.desk.due(now):
            try:
                await self.desk.raise_due(number, now)
            except RowRefused as error:  # one bad ticket must not silence the others
                _log.error("ticket can not be read", why=str(error))
                soonest = LOOK_SECONDS
        self._figures.show(await self.desk.figures(now))
        next_at = await self.desk.next_at()
        if next_at is None:
            return LOOK_SECONDS
        return max(soonest, min(LOOK_SECONDS, (next_at - self._now()).total_seconds()))

    def _changed(self, change: Change) -> None:
        for event in change.events:
            if event.kind in ("promise_kept", "promise_broken"):
                self._figures.settled(event.kind.removeprefix("promise_"))
            if event.kind in _NEWS:
                self._tell(change.ticket, event)
        if change.events and change.events[0].actor:
            self._stirred.set()  # its own alarms it knows of

    def _tell(self, ticket: Ticket, event: Event) -> None:
        is_raised = event.kind in _FOR_LEADERS
        nobody = not ticket.assigned_to
        self._screens.tell(
            TicketNews(
                kind=_NEWS[event.kind],
                at=event.at,
                ticket=ticket.ticket,
                form=ticket.type,
                subject=ticket.subject,
                step=ticket.step,
                level=ticket.level,
                assigned_to=ticket.assigned_to,
                due_at=overdue_from(ticket),
            ),
            persons={name for name in (ticket.assigned_to, ticket.opened_by) if name},
            roles={*_ROLES[ticket.desk], *(LEADING if is_raised or (nobody and not ticket.desk) else ())},
        )
