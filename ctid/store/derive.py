"""Which row a fact sets in which derived table.

Every fact sets its own columns of one row and nothing else, and sets values, never sums.
So facts may be applied again, and in any order, with the same outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from ctid.acd import facts

Row = tuple[Any, ...]
KeyOf = Callable[[str], str]
"""A caller's number -> the number as it is compared."""


class Upsert(msgspec.Struct, frozen=True, gc=False):
    """A statement, and how its arguments are read from a fact.

    Attributes:
        row: (system, fact, key_of) -> the statement's arguments.
    """

    sql: str
    row: Callable[[str, Any, KeyOf], Row]


def _sql(table: str, key: str, columns: str, *, unless_set: str = "") -> str:
    """Write the upsert of one table.

    Args:
        key, columns: Names, separated by blanks.
        unless_set: Of ``columns``, those that another fact knows better.
    """
    names = key.split() + columns.split()
    weak = set(unless_set.split())
    sets = ", ".join(
        f"{name} = coalesce({table}.{name}, excluded.{name})" if name in weak else f"{name} = excluded.{name}"
        for name in columns.split()
    )
    values = ", ".join(f"${number}" for number in range(1, len(names) + 1))
    return (
        f"insert into {table} ({', '.join(names)}) values ({values}) "  # noqa: S608 - our own names
        f"on conflict ({', '.join(key.split())}) do update set {sets}"
    )


def _call_started(system: str, fact: facts.CallStarted, key_of: KeyOf) -> Row:
    return (
        system,
        fact.call,
        fact.leg,
        fact.channel,
        fact.caller_number,
        key_of(fact.caller_number),
        fact.caller_name,
        fact.dialled,
        fact.adopted,
        fact.at,
    )


def _call_routed(system: str, fact: facts.CallRouted, key_of: KeyOf) -> Row:
    return (system, fact.call, fact.line, fact.business, fact.vip, fact.recording)


def _call_ended(system: str, fact: facts.CallEnded, key_of: KeyOf) -> Row:
    return (
        system,
        fact.call,
        fact.began_at,
        fact.at,
        fact.lasted,
        fact.answered,
        list(fact.participants),
        fact.cause,
        fact.cause_text,
        fact.end_reason,
    )


def _call_merged(system: str, fact: facts.CallMerged, key_of: KeyOf) -> Row:
    return (system, fact.merged, fact.call)


def _caller_joined(system: str, fact: facts.CallerJoined, key_of: KeyOf) -> Row:
    return (
        system,
        fact.call,
        fact.queue,
        fact.joined_at,
        fact.leg,
        fact.caller_number,
        key_of(fact.caller_number),
        fact.caller_name,
        fact.position,
        fact.source,
    )


def _caller_left(system: str, fact: facts.CallerLeft, key_of: KeyOf) -> Row:
    return (
        system,
        fact.call,
        fact.queue,
        fact.joined_at,
        fact.at,
        fact.outcome,
        fact.waited,
        fact.short,
        fact.in_time,
        fact.agent,
        fact.interface,
        fact.leg,
        fact.first_ring_to_answer,
    )


def _offer(system: str, fact: facts.OfferFact) -> Row:
    return (system, fact.call, fact.leg, fact.queue, fact.joined_at, fact.agent, fact.interface)


def _offer_made(system: str, fact: facts.OfferMade, key_of: KeyOf) -> Row:
    return (*_offer(system, fact), fact.at)


def _offer_rang(system: str, fact: facts.OfferRang, key_of: KeyOf) -> Row:
    return (*_offer(system, fact), fact.at, fact.after)


def _offer_ended(system: str, fact: facts.OfferEnded, key_of: KeyOf) -> Row:
    return (
        *_offer(system, fact),
        fact.offered_at,
        fact.at,
        fact.outcome,
        fact.rang,
        fact.rings,
        fact.verdict,
        fact.ring_estimated,
    )


def _talk_started(system: str, fact: facts.TalkStarted, key_of: KeyOf) -> Row:
    return (system, fact.call, fact.leg, fact.at, fact.queue, fact.agent, fact.interface)


def _talk_ended(system: str, fact: facts.TalkEnded, key_of: KeyOf) -> Row:
    return (
        system,
        fact.call,
        fact.leg,
        fact.began_at,
        fact.queue,
        fact.agent,
        fact.interface,
        fact.at,
        fact.talked,
        fact.held,
        fact.holds,
        fact.ended_by,
        fact.assisted,
    )


def _call_handled(system: str, fact: facts.CallHandled, key_of: KeyOf) -> Row:
    return (
        system,
        fact.call,
        fact.leg,
        fact.at,
        fact.queue,
        fact.agent,
        fact.interface,
        fact.talked,
        fact.held,
        fact.wrapped,
        fact.handled,
    )


def _transferred(system: str, fact: facts.Transferred, key_of: KeyOf) -> Row:
    return (
        system,
        fact.call,
        fact.leg,
        fact.at,
        fact.queue,
        fact.agent,
        fact.interface,
        fact.kind,
        fact.target,
    )


def _agent_state_changed(system: str, fact: facts.AgentStateChanged, key_of: KeyOf) -> Row:
    return (
        system,
        fact.agent,
        fact.at,
        fact.state,
        fact.reason,
        list(fact.queues),
        fact.previous,
        fact.previous_reason,
        fact.lasted,
    )


def _recording_started(system: str, fact: facts.RecordingStarted, key_of: KeyOf) -> Row:
    return (fact.recording, system, fact.call, fact.leg, fact.at)


def _recording_stopped(system: str, fact: facts.RecordingStopped, key_of: KeyOf) -> Row:
    return (fact.recording, system, fact.call, fact.began_at, fact.at, fact.expected)


_OFFER = "queue joined_at agent interface"
_TALK = "queue agent interface"

#: Facts that are not here live in the journal only.
UPSERTS: Final[dict[type[facts.Fact], Upsert]] = {
    facts.CallStarted: Upsert(
        _sql(
            "call",
            "system call",
            "leg channel caller_number caller_key caller_name dialled adopted began_at",
        ),
        _call_started,
    ),
    facts.CallRouted: Upsert(
        _sql("call", "system call", "line business vip recording"),
        _call_routed,
    ),
    facts.CallEnded: Upsert(
        _sql(
            "call",
            "system call",
            "began_at ended_at lasted answered participants cause cause_text end_reason",
            unless_set="began_at",
        ),
        _call_ended,
    ),
    facts.CallMerged: Upsert(_sql("call", "system call", "merged_into"), _call_merged),
    facts.CallerJoined: Upsert(
        _sql(
            "queue_visit",
            "system call queue joined_at",
            "leg caller_number caller_key caller_name position source",
        ),
        _caller_joined,
    ),
    facts.CallerLeft: Upsert(
        _sql(
            "queue_visit",
            "system call queue joined_at",
            "left_at outcome waited short in_time agent interface agent_leg first_ring_to_answer",
        ),
        _caller_left,
    ),
    facts.OfferMade: Upsert(_sql("offer", "system call leg", f"{_OFFER} offered_at"), _offer_made),
    facts.OfferRang: Upsert(_sql("offer", "system call leg", f"{_OFFER} rang_at dial_delay"), _offer_rang),
    facts.OfferEnded: Upsert(
        _sql(
            "offer",
            "system call leg",
            f"{_OFFER} offered_at ended_at outcome rang rings verdict ring_estimated",
        ),
        _offer_ended,
    ),
    facts.TalkStarted: Upsert(_sql("talk", "system call leg began_at", _TALK), _talk_started),
    facts.TalkEnded: Upsert(
        _sql(
            "talk",
            "system call leg began_at",
            f"{_TALK} ended_at talked held holds ended_by assisted",
        ),
        _talk_ended,
    ),
    facts.CallHandled: Upsert(
        _sql("handled_call", "system call leg handled_at", f"{_TALK} talked held wrapped handled"),
        _call_handled,
    ),
    facts.Transferred: Upsert(
        _sql("transfer", "system call leg at", f"{_TALK} kind target"),
        _transferred,
    ),
    facts.AgentStateChanged: Upsert(
        _sql("agent_state", "system agent at", "state reason queues previous previous_reason lasted"),
        _agent_state_changed,
    ),
    facts.RecordingStarted: Upsert(
        _sql("recording", "recording", "system call leg began_at"),
        _recording_started,
    ),
    facts.RecordingStopped: Upsert(
        _sql("recording", "recording", "system call began_at stopped_at expected", unless_set="began_at"),
        _recording_stopped,
    ),
}


def rows(system: str, batch: Sequence[facts.Fact], key_of: KeyOf) -> Iterator[tuple[str, list[Row]]]:
    """Group what ``batch`` sets, by statement; within one, in the order of the facts."""
    grouped: dict[type[facts.Fact], list[Row]] = {}
    for fact in batch:
        kind = type(fact)
        if upsert := UPSERTS.get(kind):
            grouped.setdefault(kind, []).append(upsert.row(system, fact, key_of))
    for kind, arguments in grouped.items():
        yield UPSERTS[kind].sql, arguments
