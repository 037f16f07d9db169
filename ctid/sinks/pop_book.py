"""Every agent's pops as they are now; what a screen must show after a reload.

Pure: time is an argument, the messages for the screens are the return value. A fact
that comes twice changes nothing and yields no message.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from msgspec.structs import replace

from ctid.acd.facts import OfferEnded
from ctid.sinks.pop import (
    Background,
    Desk,
    Pop,
    PopAnswered,
    PopClosed,
    PopEnriched,
    PopMessage,
    PopOffered,
    PopState,
    PopWithdrawn,
)

MISSED_FOR = timedelta(minutes=15)
"""How long a missed pop can be caught up on."""
MISSED_LIMIT = 20
"""Per agent; the oldest makes room."""
OPEN_LIMIT = 20
"""Per agent; more means that ends were lost, so the oldest goes."""
RING_LIMIT = timedelta(minutes=10)
"""No phone rings longer: the end was lost, and a dead pop must not stay."""
REMEMBERED = 10_000
"""Legs that are over, kept to recognise a fact that comes again."""


class PopBook:
    """Open and missed pops.

    Args:
        missed_for: How long a withdrawn pop stays on the missed list.
    """

    def __init__(self, *, missed_for: timedelta = MISSED_FOR) -> None:
        self._missed_for = missed_for
        self._pops: dict[str, Pop] = {}  # keyed by leg, oldest first
        self._legs_of_agent: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._legs_of_call: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._leg_of_id: dict[str, str] = {}
        self._over: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._pops)

    def offered(self, pop: Pop) -> list[PopMessage]:
        """Open ``pop``, unless this offer is open or over already."""
        if pop.leg in self._pops or pop.leg in self._over:
            return []
        crowded_out = self._make_room(pop.agent, ("ringing", "answered"), OPEN_LIMIT)
        self._put(pop)
        return [*crowded_out, PopOffered(pop=pop)]

    def enriched(self, leg: str, background: Background) -> list[PopMessage]:
        """Add history and tickets to the pop, if there still is one and it changes by it."""
        pop = self._pops.get(leg)
        if pop is None or pop.background == background:
            return []
        return [PopEnriched(pop=self._put(replace(pop, background=background)))]

    def routed(self, call: str, *, line: str, business: str, vip: bool) -> list[PopMessage]:
        """Add line, business and VIP to the call's pops."""
        pops = [self._pops[leg] for leg in self._legs_of_call.get(call, ())]
        new = [(pop, replace(pop, line=line, business=business, vip=vip)) for pop in pops]
        return [PopEnriched(pop=self._put(changed)) for pop, changed in new if changed != pop]

    def ended(self, fact: OfferEnded) -> list[PopMessage]:
        """The phone stopped ringing: keep the pop, or move it to the missed list."""
        pop = self._pops.get(fact.leg)
        if pop is None:
            self._remember(fact.leg)
            return []
        if pop.state != "ringing":
            return []
        if fact.outcome == "answered":
            return [PopAnswered(pop=self._put(replace(pop, state="answered", ended_at=fact.at)))]
        return self._withdraw(pop, fact)

    def talking(self, leg: str, at: datetime) -> list[PopMessage]:
        """The agent talks on a leg whose end of ringing nobody saw: it was answered after all."""
        pop = self._pops.get(leg)
        if pop is None or pop.reason != "unknown_end":
            return []
        return [
            PopAnswered(
                pop=self._put(replace(pop, state="answered", reason="", ended_at=at, expires_at=None))
            )
        ]

    def found_talking(self, pop: Pop) -> list[PopMessage]:
        """Open ``pop`` as answered: the call was found in a snapshot, its ringing is past."""
        if pop.leg in self._pops or pop.leg in self._over:
            return []
        crowded_out = self._make_room(pop.agent, ("ringing", "answered"), OPEN_LIMIT)
        return [*crowded_out, PopAnswered(pop=self._put(pop))]

    def handled(self, leg: str) -> list[PopMessage]:
        """The agent is done with the call."""
        pop = self._pops.get(leg)
        return [self._close(pop)] if pop and pop.state == "answered" else []

    def dismissed(self, agent: str, pop_id: str) -> list[PopMessage]:
        """The agent put one of his own pops away; a ringing one stays until it stops."""
        pop = self.find(pop_id)
        if pop is None or pop.agent != agent or pop.state == "ringing":
            return []
        return [self._close(pop)]

    def expired(self, now: datetime) -> list[PopMessage]:
        """Close what is too old to be true: missed pops, and rings that never ended."""
        return [self._close(pop) for pop in list(self._pops.values()) if _is_old(pop, now)]

    def find(self, pop_id: str) -> Pop | None:
        """Look a pop up by its id."""
        leg = self._leg_of_id.get(pop_id)
        return None if leg is None else self._pops[leg]

    def of_leg(self, leg: str) -> Pop | None:
        """Look a pop up by the Uniqueid of the agent's channel."""
        return self._pops.get(leg)

    def legs_of(self, call: str) -> tuple[str, ...]:
        """Return the legs of all pops of one call."""
        return tuple(self._legs_of_call.get(call, ()))

    def desk(self, agent: str, now: datetime) -> Desk:
        """Return what the agent's screens show, oldest first."""
        mine = [self._pops[leg] for leg in self._legs_of_agent.get(agent, ())]
        fresh = [pop for pop in mine if not _is_old(pop, now)]
        return Desk(
            open=tuple(pop for pop in fresh if pop.state != "withdrawn"),
            missed=tuple(
                sorted(
                    (pop for pop in fresh if pop.state == "withdrawn"),
                    key=lambda pop: (pop.ended_at or pop.offered_at, pop.id),
                )
            ),
        )

    def _withdraw(self, pop: Pop, fact: OfferEnded) -> list[PopMessage]:
        crowded_out = self._make_room(pop.agent, ("withdrawn",), MISSED_LIMIT)
        gone = self._put(
            replace(
                pop,
                state="withdrawn",
                reason=fact.outcome,
                ended_at=fact.at,
                expires_at=fact.at + self._missed_for,
            )
        )
        return [*crowded_out, PopWithdrawn(pop=gone)]

    def _make_room(self, agent: str, states: tuple[PopState, ...], limit: int) -> list[PopMessage]:
        mine = [self._pops[leg] for leg in self._legs_of_agent.get(agent, ())]
        crowd = [pop for pop in mine if pop.state in states]
        return [self._close(pop) for pop in crowd[: max(0, len(crowd) + 1 - limit)]]

    def _put(self, pop: Pop) -> Pop:
        self._pops[pop.leg] = pop
        self._legs_of_agent[pop.agent][pop.leg] = None
        self._legs_of_call[pop.call][pop.leg] = None
        self._leg_of_id[pop.id] = pop.leg
        return pop

    def _close(self, pop: Pop) -> PopMessage:
        del self._pops[pop.leg]
        del self._leg_of_id[pop.id]
        for index, key in ((self._legs_of_agent, pop.agent), (self._legs_of_call, pop.call)):
            del index[key][pop.leg]
            if not index[key]:
                del index[key]
        self._remember(pop.leg)
        return PopClosed(pop=pop)

    def _remember(self, leg: str) -> None:
        self._over[leg] = None
        while len(self._over) > REMEMBERED:
            del self._over[next(iter(self._over))]


def _is_old(pop: Pop, now: datetime) -> bool:
    if pop.state == "ringing":
        return pop.offered_at + RING_LIMIT <= now
    return pop.expires_at is not None and pop.expires_at <= now
