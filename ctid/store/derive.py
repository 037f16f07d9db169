"""Which row a fact sets in which derived table.

Every fact sets its own columns of one row and nothing else, and sets values, never sums.
So facts may be applied again, and in any order, with the same outcome. Where two facts set the
same, a recovered one (from Asterisk's own books) wins over one that was heard, and one that was
heard over a guess (an end nobody saw, a call found half-way).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ctid.acd import facts
from ctid.store.upserts import KeyOf, Part, Row, RowOf, Upsert, upsert_of


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

_PARTS: Final[dict[type[facts.Fact], tuple[Part, RowOf]]] = {
    facts.CallStarted: (
        Part(
            table="call",
            key="system call",
            columns="leg channel caller_number caller_key caller_name dialled adopted began_at",
            # Found in a snapshot: a later sight of a call that was seen before.
            guess="(new.adopted and old.adopted is not null"
            " and (not old.adopted or old.began_at <= new.began_at))",
        ),
        _call_started,
    ),
    facts.CallRouted: (
        Part(table="call", key="system call", columns="line business vip recording"),
        _call_routed,
    ),
    facts.CallEnded: (
        Part(
            table="call",
            key="system call",
            columns="began_at ended_at lasted answered participants cause cause_text end_reason",
            unless_set="began_at",
            guess="(new.end_reason = 'unseen' and old.end_reason <> 'unseen')",
        ),
        _call_ended,
    ),
    facts.CallMerged: (Part(table="call", key="system call", columns="merged_into"), _call_merged),
    facts.CallerJoined: (
        Part(
            table="queue_visit",
            key="system call queue joined_at",
            columns="leg caller_number caller_key caller_name position source",
        ),
        _caller_joined,
    ),
    facts.CallerLeft: (
        Part(
            table="queue_visit",
            key="system call queue joined_at",
            columns="left_at outcome waited short in_time agent interface agent_leg first_ring_to_answer",
            guess="(new.outcome = 'unknown_end' and old.outcome <> 'unknown_end')",
        ),
        _caller_left,
    ),
    facts.OfferMade: (
        Part(
            table="offer",
            key="system call leg",
            columns=f"{_OFFER} offered_at",
            shared=f"{_OFFER} offered_at",
        ),
        _offer_made,
    ),
    facts.OfferRang: (
        Part(table="offer", key="system call leg", columns=f"{_OFFER} rang_at dial_delay", shared=_OFFER),
        _offer_rang,
    ),
    facts.OfferEnded: (
        Part(
            table="offer",
            key="system call leg",
            columns=f"{_OFFER} offered_at ended_at outcome rang rings verdict ring_estimated",
            shared=f"{_OFFER} offered_at",
            guess="(new.outcome = 'unknown_end' and old.outcome <> 'unknown_end')",
        ),
        _offer_ended,
    ),
    facts.TalkStarted: (
        Part(table="talk", key="system call leg began_at", columns=_TALK, shared=_TALK),
        _talk_started,
    ),
    facts.TalkEnded: (
        Part(
            table="talk",
            key="system call leg began_at",
            columns=f"{_TALK} ended_at talked held holds ended_by assisted",
            shared=_TALK,
            guess="(new.ended_by = 'unknown_end' and old.ended_by <> 'unknown_end')",
        ),
        _talk_ended,
    ),
    facts.CallHandled: (
        Part(
            table="handled_call",
            key="system call leg handled_at",
            columns=f"{_TALK} talked held wrapped handled",
        ),
        _call_handled,
    ),
    facts.Transferred: (
        Part(table="transfer", key="system call leg at", columns=f"{_TALK} kind target"),
        _transferred,
    ),
    facts.AgentStateChanged: (
        Part(
            table="agent_state",
            key="system agent at",
            columns="state reason queues previous previous_reason lasted",
            is_marked=False,
        ),
        _agent_state_changed,
    ),
    facts.RecordingStarted: (
        Part(table="recording", key="recording", columns="system call leg began_at", shared="system call"),
        _recording_started,
    ),
    facts.RecordingStopped: (
        Part(
            table="recording",
            key="recording",
            columns="system call began_at stopped_at expected",
            shared="system call",
            unless_set="began_at",
        ),
        _recording_stopped,
    ),
}

#: Facts that are not here live in the journal only.
UPSERTS: Final[dict[type[facts.Fact], Upsert]] = {
    kind: upsert_of(kind.__name__, part, row) for kind, (part, row) in _PARTS.items()
}


def rows(system: str, batch: Sequence[facts.Fact], key_of: KeyOf) -> Iterator[tuple[str, list[Row]]]:
    """Group what ``batch`` sets, by statement; within one, in the order of the facts."""
    grouped: dict[str, list[Row]] = {}
    for fact in batch:
        if upsert := UPSERTS.get(type(fact)):
            sql = upsert.recovered if fact.recovered else upsert.heard
            grouped.setdefault(sql, []).append(upsert.row(system, fact, key_of))
    yield from grouped.items()
