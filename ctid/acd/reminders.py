"""What is open now, said once more in facts: for whoever was not there when it began.

A sink that lives in memory (pops, metrics) is empty after a restart, while the core is not.
These facts are old news for the journal and must not be given to it.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ctid.acd.agent import Agent
from ctid.acd.call import announced
from ctid.acd.facts import AgentStateChanged, Fact, WrapUpStarted
from ctid.acd.offer import made, rung
from ctid.acd.queue_entry import joined
from ctid.acd.tables import Tables
from ctid.acd.talk import started


def reminders(t: Tables) -> Iterator[Fact]:
    """Say what is open: each beginning that has no end yet, and what every agent does."""
    for call in t.calls.values():
        if call.is_known:
            # Found under way: whoever is told gives an agent the pop back of the call he is in.
            yield announced(msgspec.structs.replace(call, is_adopted=True))
            if call.routed is not None:
                yield call.routed
    for entry in t.entries.values():
        yield joined(entry, 0, transferred=t.calls[entry.call].is_transferred)
    for agent in t.agents.values():
        yield from _agent(agent)
    for offer in t.offers.values():
        yield made(offer)
        if offer.rang_at is not None:
            yield rung(offer, offer.rang_at)
    for talk in t.talks.values():
        yield started(talk)


def _agent(agent: Agent) -> Iterator[Fact]:
    if agent.since is None:
        return
    yield AgentStateChanged(
        at=agent.since,
        agent=agent.number,
        state=agent.state,
        reason=agent.reason,
        previous=agent.state,
        previous_reason=agent.reason,
        queues=agent.queues,
    )
    wrap = agent.wrap
    if wrap is not None and wrap.call:
        yield WrapUpStarted(
            at=wrap.began_at,
            call=wrap.call,
            agent=agent.number,
            queue=wrap.queue,
            leg=wrap.leg,
            until=wrap.until,
        )
