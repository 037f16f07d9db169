"""The whole floor: what Asterisk says goes in, what we conclude comes out.

Pure but for its own dicts: no clock, no I/O, no log. Every event finds its records by key,
so its cost does not depend on how many calls, agents or queues there are. The records are
frozen; the modules named in ``_STEPS`` replace them, and write down the facts on the way.

The order that can be relied on (asterisk.md, section 5): Newchannel < QueueCallerJoin <
AgentCalled < DialBegin, and DialEnd < QueueCallerLeave < AgentConnect < BridgeEnter. No other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from ctid.acd import legs, members, reconcile, recordings, talks, visits, wrap_ups
from ctid.acd.facts import Step
from ctid.acd.floor import Floor, idle_agents, picture, waiting_counts
from ctid.acd.linkage import leg_of
from ctid.acd.rules import QueueRule
from ctid.acd.tables import Tables
from ctid.ami import events
from ctid.ami.events import AmiEvent, Hold, LinkLost, Snapshot, Unhold

_NOTHING: Final = Step()


def _hold(t: Tables, event: Hold) -> None:
    talks.on_hold(t, leg_of(t, event), event)


def _unhold(t: Tables, event: Unhold) -> None:
    talks.on_unhold(t, leg_of(t, event), event)


#: What each event does. The rest of ``ctid.ami.events`` says nothing about the floor.
_STEPS: Final[dict[type, Callable[[Tables, Any], None]]] = {
    events.Newchannel: legs.on_newchannel,
    events.Newstate: legs.on_newstate,
    events.Rename: legs.on_rename,
    events.HangupRequest: legs.on_hangup_request,
    events.Hangup: legs.on_hangup,
    events.BridgeEnter: legs.on_bridge_enter,
    events.BridgeLeave: legs.on_bridge_leave,
    events.DialBegin: legs.on_dial_begin,
    events.DialState: legs.on_dial_state,
    events.DialEnd: legs.on_dial_end,
    events.LocalBridge: legs.on_local_bridge,
    events.LocalOptimizationBegin: legs.on_local_optimization,
    events.ChanSpyStart: legs.on_spy,
    events.QueueCallerJoin: visits.on_join,
    events.QueueCallerLeave: visits.on_leave,
    events.QueueCallerAbandon: visits.on_abandon,
    events.QueueStatusVariable: visits.on_status,
    events.AgentCalled: visits.on_called,
    events.AgentConnect: visits.on_connect,
    events.AgentRingNoAnswer: visits.on_ring_no_answer,
    events.UserEvent: visits.on_user_event,
    events.Hold: _hold,
    events.Unhold: _unhold,
    events.BlindTransfer: talks.on_blind_transfer,
    events.AttendedTransfer: talks.on_attended_transfer,
    events.QueueMemberStatus: members.on_change,
    events.QueueMemberAdded: members.on_change,
    events.QueueMemberPenalty: members.on_change,
    events.QueueMemberPause: members.on_pause,
    events.QueueMemberRemoved: members.on_removed,
    events.MixMonitorStart: recordings.on_start,
    events.MixMonitorStop: recordings.on_stop,
    events.MixMonitorMute: recordings.on_mute,
    LinkLost: reconcile.on_link_lost,
    Snapshot: reconcile.on_snapshot,
}


class Centre:
    """The floor of one Asterisk server."""

    def __init__(
        self,
        rules: Mapping[str, QueueRule],
        agents: Mapping[str, str],
        *,
        default_rule: QueueRule | None = None,
    ) -> None:
        """Begin with an empty floor.

        Args:
            rules: Per queue; queues not named here are judged by ``default_rule``.
            agents: Agent's number by his phone, e.g. ``{"PJSIP/1001": "201"}``; the number
                of a phone not named here is the part of its name after the slash.
            default_rule: Of every other queue.
        """
        self._tables = Tables(rules, agents, default_rule or QueueRule())

    def receive(self, event: AmiEvent | Snapshot | LinkLost) -> Step:
        """Apply one event. Never raises: what does not fit gives an ``Anomaly``."""
        step = _STEPS.get(type(event))
        if step is None:
            return _NOTHING
        t = self._tables
        step(t, event)
        t.last_at = event.at
        return self._step()

    def tick(self, at: datetime) -> Step:
        """End what was to end by now."""
        wrap_ups.expire(self._tables, at)
        return self._step()

    def next_deadline(self) -> datetime | None:
        """When ``tick`` is next needed; ``None`` while nothing runs out."""
        return wrap_ups.next_cap(self._tables)

    def end_wrap_up(self, agent: str, at: datetime) -> Step:
        """The agent saved his note. Says nothing if he was not writing one."""
        t = self._tables
        known = t.agents.get(agent)
        if known is not None:
            wrap_ups.finish(t, known, at, "saved")
        return self._step()

    def adopt(self, rules: Mapping[str, QueueRule], agents: Mapping[str, str]) -> list[str]:
        """Go by another policy from the next event on; return the phones that keep their agent."""
        return self._tables.adopt(rules, agents)

    def floor(self) -> Floor:
        """Return the floor as it is now."""
        return picture(self._tables)

    def waiting_counts(self) -> dict[str, int]:
        """Return how many wait, by queue; queues without callers are left out."""
        return waiting_counts(self._tables)

    def idle_agents(self) -> dict[str, set[str]]:
        """Return who could take a call at once, by queue."""
        return idle_agents(self._tables)

    def _step(self) -> Step:
        t = self._tables
        if t.touched:
            t.settle()
        if not t.facts and not t.commands:
            return _NOTHING
        step = Step(tuple(t.facts), tuple(t.commands))
        t.facts.clear()
        t.commands.clear()
        return step
