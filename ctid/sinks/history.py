"""What PostgreSQL knows of a caller, in the words of a pop."""

from __future__ import annotations

from collections.abc import Callable

from ctid.sinks.pop import Background, OpenTicket, PastCall, shown
from ctid.store import calls
from ctid.store.pool import Pool


class StoredHistory:
    """The ``CallerHistory`` of the pops.

    Args:
        limit: Last calls shown (settings.pops.history).
        normalise: Makes of a number what the journal compares by; the same as the journal's.
    """

    def __init__(self, pool: Pool, *, limit: int, normalise: Callable[[str], str]) -> None:
        self._pool = pool
        self._limit = limit
        self._normalise = normalise

    async def of(self, number: str) -> Background:
        """Return the last calls and the open tickets of a number.

        Raises:
            StoreError: PostgreSQL is away or slow.
        """
        key = self._normalise(number)
        if not key:
            return Background()
        past = await calls.history_of(self._pool, key, limit=self._limit) if self._limit else []
        tickets = await calls.open_tickets_of(self._pool, key)
        return Background(
            calls=tuple(_past_call(call) for call in past),
            tickets=tuple(_open_ticket(ticket) for ticket in tickets),
        )


def _past_call(call: calls.PastCall) -> PastCall:
    return PastCall(
        at=call.began_at,
        queue=call.queue,
        agent=call.agent,
        outcome=call.outcome,
        talked_seconds=call.talked.total_seconds(),
        business=call.business,
    )


def _open_ticket(ticket: calls.OpenTicket) -> OpenTicket:
    return OpenTicket(
        id=str(ticket.ticket),
        title=shown(ticket.subject, 120),
        form=ticket.type,
        state=ticket.state,
        opened_at=ticket.opened_at,
        due_at=ticket.promised_at,
    )
