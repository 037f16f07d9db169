"""One agent's phone being rung for one caller.

    OFFERED --Ringing--> RANG
    OFFERED --Up-------> ANSWERED
    RANG    --Up-------> ANSWERED
    OFFERED --end------> over
    RANG    --end------> over
    ANSWERED --end-----> over

The phone is keyed by its leg. "Ringing" is the first of ``Newstate Ringing`` and
``DialState RINGING``: their order is not fixed. An offer is over with the first of
``AgentConnect``, ``AgentRingNoAnswer``, ``DialEnd`` and the leg's ``Hangup``; the others
that follow find it gone (``DialEnd`` comes twice for cancelled legs).
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum

import msgspec

from ctid.acd.facts import ZERO, OfferEnded, OfferMade, OfferOutcome, OfferRang
from ctid.acd.rings import cycles, verdict
from ctid.acd.rules import QueueRule

_replace = msgspec.structs.replace

#: Q.850 causes with which a phone says no: user busy, call rejected.
_REFUSALS = frozenset({17, 21})
#: A phone that answers "nobody there" itself (SIP 480, 408).
_NOBODY = frozenset({18, 19})


class Stage(Enum):
    """How far the ringing got."""

    OFFERED = "OFFERED"
    RANG = "RANG"
    ANSWERED = "ANSWERED"


class Offer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The ringing of one agent for one caller.

    Attributes:
        call, queue, joined_at: The stay in the queue it belongs to.
        caller: Leg of the caller.
        leg: Leg of the agent's phone (``Local/...;1`` for a Local member).
        rang_at, answered_at: First ringing sign, first sign of an answer.
    """

    call: str
    queue: str
    joined_at: datetime
    caller: str
    agent: str
    interface: str
    leg: str
    offered_at: datetime
    caller_number: str = ""
    caller_name: str = ""
    rang_at: datetime | None = None
    answered_at: datetime | None = None

    @property
    def stage(self) -> Stage:
        if self.answered_at is not None:
            return Stage.ANSWERED
        return Stage.OFFERED if self.rang_at is None else Stage.RANG


def made(offer: Offer) -> OfferMade:
    """State that the phone is called."""
    return OfferMade(
        at=offer.offered_at,
        call=offer.call,
        queue=offer.queue,
        joined_at=offer.joined_at,
        agent=offer.agent,
        interface=offer.interface,
        leg=offer.leg,
        caller_number=offer.caller_number,
        caller_name=offer.caller_name,
    )


def ring(offer: Offer, at: datetime) -> tuple[Offer, OfferRang | None]:
    """Take a ringing sign; only the first one, and only before the answer, says anything."""
    if offer.stage is not Stage.OFFERED:
        return offer, None
    return _replace(offer, rang_at=at), rung(offer, at)


def rung(offer: Offer, at: datetime) -> OfferRang:
    """State that the phone rings since ``at``."""
    return OfferRang(
        at=at,
        call=offer.call,
        queue=offer.queue,
        joined_at=offer.joined_at,
        agent=offer.agent,
        interface=offer.interface,
        leg=offer.leg,
        after=max(at - offer.offered_at, ZERO),
    )


def answer(offer: Offer, at: datetime) -> Offer:
    """Take a sign that the phone was picked up; the first one counts."""
    return offer if offer.answered_at is not None else _replace(offer, answered_at=at)


def refusal(offer: Offer, cause: int) -> OfferOutcome:
    """What it means that the phone itself ended the ringing, by the Q.850 cause it gave."""
    if cause in _REFUSALS:
        return "declined"
    if offer.rang_at is None:
        return "unreachable"
    return "no_answer" if cause in _NOBODY else "declined"


def end(offer: Offer, at: datetime, outcome: OfferOutcome, rule: QueueRule) -> OfferEnded:
    """Close the offer.

    An unreachable phone never rang: its time is nothing. Any other phone without a
    ringing sign (183 only, an early answer) is counted from the offer and marked.
    """
    unreachable = outcome == "unreachable"
    since = offer.rang_at or offer.offered_at
    rang = ZERO if unreachable else max(at - since, ZERO)
    return OfferEnded(
        at=at,
        call=offer.call,
        queue=offer.queue,
        joined_at=offer.joined_at,
        agent=offer.agent,
        interface=offer.interface,
        leg=offer.leg,
        outcome=outcome,
        rang=rang,
        rings=cycles(rang, rule),
        verdict=verdict(outcome, rang, rule),
        offered_at=offer.offered_at,
        ring_estimated=offer.rang_at is None and not unreachable,
    )
