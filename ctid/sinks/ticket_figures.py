"""Tickets on ``/metrics``: how many are open and overdue, and how promises end."""

from __future__ import annotations

from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from ctid.store.tickets import Figures
from ctid.tickets.ticket import State, TicketType

RESULTS: Final = ("kept", "broken")
"""Of a promise."""


class TicketFigures:
    """The metric families; every series stands at 0 from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._open = Gauge(
            "ctid_tickets_open", "Tickets that are not closed.", ("type", "state"), registry=registry
        )
        self._overdue = Gauge(
            "ctid_tickets_overdue",
            "Of these, those somebody waits for too long.",
            ("type",),
            registry=registry,
        )
        self._call_backs = Gauge(
            "ctid_callbacks_due", "Customers who should have been called back by now.", registry=registry
        )
        self._promises = Counter(
            "ctid_promises",
            "Promised answers, by whether they were given in time.",
            ("result",),
            registry=registry,
        )
        self.show(Figures(open={}, overdue={}, call_backs_due=0))
        for result in RESULTS:
            self._promises.labels(result)

    def show(self, figures: Figures) -> None:
        """Set what is counted in PostgreSQL."""
        for kind in get_args(TicketType):
            for state in get_args(State):
                if state != "closed":
                    self._open.labels(kind, state).set(figures.open.get((kind, state), 0))
            self._overdue.labels(kind).set(figures.overdue.get(kind, 0))
        self._call_backs.set(figures.call_backs_due)

    def settled(self, result: str) -> None:
        """A promise was ``kept`` or ``broken``."""
        self._promises.labels(result).inc()
