"""What is behind the desk's pages beside telephony: who may sign in, tickets, the audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry

from ctid.sinks.pop_book import PopBook
from ctid.sinks.sign_in_figures import SignInFigures
from ctid.sinks.ticket_figures import TicketFigures
from ctid.store import calls
from ctid.store.audit import AuditLog
from ctid.store.delegations import Delegations
from ctid.store.pool import Pool
from ctid.store.tickets import Tickets
from ctid.store.users import Users
from ctid.ticket_clock import TicketClock
from ctid.tickets.desk import TicketDesk
from ctid.web.api.audit import AuditApi
from ctid.web.api.people import PeopleApi
from ctid.web.api.tickets import TicketsApi
from ctid.web.api.wrap_up import EndWrapUp
from ctid.web.hub import Hub
from ctid.web.routes import Route
from ctid.web.sessions import Sessions
from ctid.web.sign_in import OUTCOMES, SignIns


class Desk:
    """Builds it.

    Args:
        normalise: Makes one key of the ways a telephone number is written.
        registry: Where metrics are.
        system: Asterisk's systemname now.
        end_wrap_up: Called with an agent's number.

    Attributes:
        parts: What has work of its own; each has ``run()``.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        hub: Hub,
        book: PopBook,
        normalise: Callable[[str], str],
        registry: CollectorRegistry,
        system: Callable[[], str],
        end_wrap_up: EndWrapUp,
    ) -> None:
        users = Users(pool)
        self.audit = AuditLog(pool)
        self.sessions = Sessions(
            users, on_end=hub.end_session, on_change=hub.renew_session, in_use=hub.sessions_in_use
        )
        self.sign_ins = SignIns(
            users, self.sessions, self.audit, observe=SignInFigures(registry, OUTCOMES).ended
        )
        self.tickets = TicketClock(
            TicketDesk(Tickets(pool), normalise=normalise), screens=hub, figures=TicketFigures(registry)
        )
        tickets = TicketsApi(
            self.tickets.desk,
            book=book,
            call_of=lambda call: calls.call_of(pool, call),
            system=system,
            end_wrap_up=end_wrap_up,
        )
        people = PeopleApi(users, Delegations(pool), self.sign_ins.passwords)
        self.routes: list[Route] = [*tickets.routes(), *people.routes(), *AuditApi(self.audit).routes()]
        self.parts: tuple[Any, ...] = (self.sessions, self.tickets)
