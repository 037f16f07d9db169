"""What is true now, as dicts of frozen records; only the centre's own modules touch it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from ctid.acd.agent import Agent, Member, settle
from ctid.acd.call import Call, Leg, announced
from ctid.acd.echoes import REMEMBERED, Echo
from ctid.acd.facts import Anomaly, Command, Fact, RequestSnapshot
from ctid.acd.offer import Offer
from ctid.acd.queue_entry import QueueEntry
from ctid.acd.recording import Recording
from ctid.acd.rules import QueueRule
from ctid.acd.talk import Talk
from ctid.ami.events import AmiEvent

_replace = msgspec.structs.replace

#: Legs hung up lately, kept to tell a late event from an unknown leg. More hang-ups than
#: this within the time of one snapshot would need 800 calls a second.
RECENT: Final = 4096

_NO_WRAP_UP: Final = QueueRule()


class Tables:
    """Every dict of the floor, and what the event at hand leads to.

    Attributes:
        legs, seen, shown, out: Keyed by Uniqueid; live legs, the last event of each, the last
            snapshot with it, and when it last left a queue.
        calls: Keyed by Linkedid.
        entries, offers, talks, recordings: Keyed by the Uniqueid of the leg they live on
            (caller, rung phone, agent's carrier, recorded leg).
        bridges: Legs by bridge. phones_up: Legs by phone.
        waiting: Per queue, the callers' legs and ranks.
        agents: Keyed by number. owners: Agent's number by phone.
        members, told: Keyed by (queue, interface); places in queues, and the last word about each.
        arrivals: Callers who joined so far; ranks those who wait.
        gone: The latest ``RECENT`` legs hung up, and when.
        heirs: Of the latest ``RECENT`` calls that lost a leg to another, which one.
        missed: Legs (and ``queue LEG``) that the last snapshot lacked, and since when.
        caps: Heap of (instant, agent, leg): when wrap-ups end.
        is_synced: A snapshot was taken since the connection came up, so a leg we do not
            know is an anomaly and not news.
        heard: The last events, to know an echo of them.
        facts, commands, touched: Gathered for the event at hand.
    """

    def __init__(
        self, rules: Mapping[str, QueueRule], agents: Mapping[str, str], default_rule: QueueRule
    ) -> None:
        self.rules = rules
        self.default_rule = default_rule
        self.legs: dict[str, Leg] = {}
        self.seen: dict[str, datetime] = {}
        self.shown: dict[str, datetime] = {}
        self.out: dict[str, datetime] = {}
        self.calls: dict[str, Call] = {}
        self.entries: dict[str, QueueEntry] = {}
        self.offers: dict[str, Offer] = {}
        self.talks: dict[str, Talk] = {}
        self.recordings: dict[str, Recording] = {}
        self.bridges: dict[str, set[str]] = {}
        self.phones_up: dict[str, set[str]] = {}
        self.waiting: dict[str, dict[str, float]] = {queue: {} for queue in rules}
        self.agents: dict[str, Agent] = {}
        self.owners: dict[str, str] = dict(agents)
        self.members: dict[tuple[str, str], Member] = {}
        self.told: dict[tuple[str, str], datetime] = {}
        self.arrivals = 0
        self.gone: dict[str, datetime] = {}
        self.heirs: dict[str, str] = {}
        self.caps: list[tuple[datetime, str, str]] = []
        self.last_at: datetime | None = None
        self.lost_at: datetime | None = None
        self.boot: datetime | None = None
        self.system = ""
        self.missed: dict[str, datetime] = {}
        self.is_synced = False
        self.is_asked = False
        self.heard: deque[AmiEvent | Echo] = deque(maxlen=REMEMBERED)
        self.facts: list[Fact] = []
        self.commands: list[Command] = []
        self.touched: dict[str, datetime] = {}

    def rule(self, queue: str) -> QueueRule:
        """The queue's own rule, or the default; calls no queue gave have no wrap-up."""
        if not queue:
            return _NO_WRAP_UP
        return self.rules.get(queue, self.default_rule)

    def adopt(self, rules: Mapping[str, QueueRule], agents: Mapping[str, str]) -> list[str]:
        """Judge by other rules, and know more phones; return those that keep their agent.

        A phone that is in a queue, or up, belongs to calls and to a state that are the old
        agent's: it can not change hands under him.
        """
        self.rules = rules
        for queue in rules:
            self.waiting.setdefault(queue, {})
        used = {interface for _, interface in self.members} | self.phones_up.keys()
        kept = []
        for phone, number in agents.items():
            if phone in used and self.owners.get(phone, number) != number:
                kept.append(phone)
            else:
                self.owners[phone] = number
        return sorted(kept)

    def anomaly(self, at: datetime, call: str, kind: str, what: str) -> None:
        """Tell that something did not fit, and ask Asterisk, once until it has answered."""
        self.facts.append(Anomaly(at=at, call=call, kind=kind, what=what))
        if not self.is_asked:
            self.is_asked = True
            self.commands.append(RequestSnapshot(why=kind))

    # -- agents ---------------------------------------------------------------

    def owner(self, interface: str) -> str:
        """The agent whose phone it is; the part of its name after the slash if nobody said."""
        number = self.owners.get(interface)
        if number is None:
            number = interface.partition("/")[2].partition("@")[0] or interface
            self.owners[interface] = number
        return number

    def agent(self, number: str) -> Agent:
        """The agent's record, made on first sight."""
        return self.agents.get(number) or Agent(number=number)

    def put(self, agent: Agent, at: datetime) -> None:
        """Keep the agent; what he does now is reported when the event has been applied."""
        self.agents[agent.number] = agent
        self.touched[agent.number] = at

    def ring(self, uniqueid: str, number: str, at: datetime) -> None:
        """One of the agent's legs rings."""
        agent = self.agent(number)
        self.put(_replace(agent, rings=agent.rings | {uniqueid}), at)

    def line_up(self, uniqueid: str, number: str, at: datetime) -> None:
        """One of the agent's legs was answered."""
        agent = self.agent(number)
        self.put(_replace(agent, rings=agent.rings - {uniqueid}, lines=agent.lines | {uniqueid}), at)

    def rung_out(self, uniqueid: str, number: str, at: datetime) -> None:
        """One of the agent's legs rings no more; if it was picked up, it stays up."""
        agent = self.agents.get(number)
        if agent is not None and uniqueid in agent.rings:
            self.put(_replace(agent, rings=agent.rings - {uniqueid}), at)

    def silent(self, uniqueid: str, number: str, at: datetime) -> None:
        """One of the agent's legs neither rings nor talks any more."""
        agent = self.agents.get(number)
        if agent is not None and (uniqueid in agent.rings or uniqueid in agent.lines):
            self.put(_replace(agent, rings=agent.rings - {uniqueid}, lines=agent.lines - {uniqueid}), at)

    # -- calls ----------------------------------------------------------------

    def announce(self, linkedid: str) -> None:
        """Tell of the call, once it shows substance."""
        call = self.calls.get(linkedid)
        if call is not None and not call.is_known:
            self.facts.append(announced(call))
            self.calls[linkedid] = _replace(call, is_known=True)

    def forget(self, uniqueid: str, at: datetime) -> None:
        """Remember a hung-up leg just long enough to know its late events."""
        self.seen.pop(uniqueid, None)
        self.shown.pop(uniqueid, None)
        self.out.pop(uniqueid, None)
        self.missed.pop(f"queue {uniqueid}", None)
        self.missed.pop(uniqueid, None)
        self.gone[uniqueid] = at
        if len(self.gone) > RECENT:
            del self.gone[next(iter(self.gone))]

    def note_heir(self, linkedid: str, heir: str) -> None:
        """Remember which call took legs of this one."""
        self.heirs.pop(linkedid, None)
        self.heirs[linkedid] = heir
        if len(self.heirs) > RECENT:
            del self.heirs[next(iter(self.heirs))]

    # -- the event at hand ----------------------------------------------------

    def settle(self) -> None:
        """Report every agent who does something else after this event."""
        for number, at in self.touched.items():
            agent, changed = settle(self.agents[number], at)
            if changed is not None:
                self.agents[number] = agent
                self.facts.append(changed)
        self.touched.clear()
