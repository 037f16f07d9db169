"""The whole floor: what Asterisk says goes in, what we conclude comes out.

Pure but for its own dicts: no clock, no I/O, no log. Every event finds its records by key,
so its cost does not depend on how many calls, agents or queues there are. The records are
frozen; the modules named in ``_STEPS`` replace them, and write down the facts on the way.

The order that can be relied on (asterisk.md, section 5): Newchannel < QueueCallerJoin <
AgentCalled < DialBegin, and DialEnd < QueueCallerLeave < AgentConnect < BridgeEnter. No other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from ctid.acd import legs, members, reconcile, recordings, talks, visits, wrap_ups
from ctid.acd.facts import Command, Fact, Step
from ctid.acd.floor import Floor, idle_agents, picture, waiting_counts
from ctid.acd.linkage import leg_of, news
from ctid.acd.reminders import reminders
from ctid.acd.rules import QueueRule
from ctid.acd.state import State, restore, state_of
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
        if not isinstance(event, (LinkLost, Snapshot)):
            t.heard.append(event)
        return self._step()

    def recover(self, events: Sequence[AmiEvent]) -> Step:
        """Apply what Asterisk's books tell of a time when we did not listen.

        What we heard all the same is left out. The facts are marked ``recovered``.

        Args:
            events: In order of time, from shortly before we lost touch.
        """
        facts: list[Fact] = []
        commands: list[Command] = []
        for event in news(self._tables, events):
            step = self.receive(event)
            facts += step.facts
            commands += step.commands
        told = (msgspec.structs.replace(fact, recovered=True) for fact in facts)
        return Step(tuple(told), tuple(commands))

    @property
    def last_at(self) -> datetime | None:
        """When the last event was that it was told of; ``None``: none yet."""
        return self._tables.last_at

    @property
    def system(self) -> str:
        """Asterisk's ``systemname``, as the last snapshot told it."""
        return self._tables.system

    @property
    def boot(self) -> datetime | None:
        """When that Asterisk started; ``None``: no snapshot was taken yet."""
        return self._tables.boot

    @property
    def is_behind(self) -> bool:
        """The link was lost (or is new), and no snapshot was taken since."""
        return not self._tables.is_synced

    def state(self) -> State:
        """Return all that is known, to be put away; use it before the next event."""
        return state_of(self._tables)

    def reminders(self) -> tuple[Fact, ...]:
        """Say once more what is open, for sinks that were not there when it began."""
        return tuple(reminders(self._tables))

    def restore(self, state: State) -> None:
        """Begin where another centre stopped."""
        restore(self._tables, state)

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
