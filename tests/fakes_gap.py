"""A recorded trace with a hole in it: what AMI did not tell is read in the books, as the pump does it."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from datetime import datetime, timedelta

from ctid.acd.centre import Centre
from ctid.acd.echoes import CLOCKS_APART, without_echoes
from ctid.acd.facts import Fact
from ctid.acd.queue_entry import Stage
from ctid.acd.rules import QueueRule
from ctid.ami.events import AmiEvent, LinkLost, ShownChannel, ShownEntry, Snapshot
from ctid.books.groups import Groups
from ctid.books.queue_log import QueueLine
from ctid.books.translation import events_of
from ctid.replay import events, raw
from tests.fakes_books import TRACES, recorded


def live(name: str) -> list[AmiEvent]:
    """Return what AMI said in a trace."""
    return list(events([raw(gzip.decompress((TRACES / f"{name}.txt.gz").read_bytes()))]))


#: What AMI says when a line of queue_log is written.
_SAME = {
    "ENTERQUEUE": ("QueueCallerJoin",),
    "CONNECT": ("AgentConnect",),
    "RINGNOANSWER": ("AgentRingNoAnswer",),
    "ABANDON": ("QueueCallerAbandon",),
    "EXITWITHTIMEOUT": ("QueueCallerAbandon",),
    "EXITEMPTY": ("QueueCallerAbandon",),
    "EXITWITHKEY": ("QueueCallerLeave",),
}


class Window:
    """A trace of which AMI did not tell the events from ``begin`` up to ``end``.

    Everything else is as it was recorded: the books as far as they were written by then, and the
    snapshot that is taken after the login shows the floor as somebody saw it who missed nothing.
    """

    def __init__(self, name: str, rules: Mapping[str, QueueRule], agents: Mapping[str, str]) -> None:
        self.said = live(name)
        self.records, self.lines = recorded(name)
        self.rules = rules
        self.agents = agents

    def whole(self) -> list[Fact]:
        """Return the facts of who missed nothing."""
        centre = Centre(self.rules, self.agents)
        _begin(centre, self.said[0].at)
        return [fact for event in self.said for fact in centre.receive(event).facts]

    def facts(
        self, begin: int, end: int, *, asked: int | None = None, has_snapshot: bool = True, times: int = 1
    ) -> list[Fact]:
        """Return the facts of who missed ``said[begin:end]`` and looked it up ``times`` times.

        Args:
            asked: A snapshot was asked for before this event; as a rule before the first after the login.
        """
        asked = end if asked is None else asked
        centre = Centre(self.rules, self.agents)
        _begin(centre, self.said[0].at)
        facts = [fact for event in self.said[:begin] for fact in centre.receive(event).facts]
        since = (centre.last_at or self.said[0].at) - CLOCKS_APART
        until = self.said[-1].at + timedelta(seconds=1)
        if asked < len(self.said):
            until = self.said[asked].at - timedelta(microseconds=1)
        facts += centre.receive(LinkLost(at=since + CLOCKS_APART, why="cut")).facts
        missed = without_echoes(self.books(since, until + CLOCKS_APART), self.said[end:])
        for _ in range(times):
            facts += centre.recover(missed).facts
        facts += [fact for event in self.said[end:asked] for fact in centre.receive(event).facts]
        if has_snapshot:
            facts += centre.receive(self.snapshot(asked, until)).facts
        facts += [fact for event in self.said[asked:] for fact in centre.receive(event).facts]
        return facts

    def books(self, since: datetime, until: datetime) -> list[AmiEvent]:
        """Return what the books tell of a time, as ``Reading.missed`` does, when it has just passed."""
        groups = Groups()
        groups.add(
            [record for record in self.records if record.at <= until],
            [line for line in self.lines if self._written_at(line) <= until],
        )
        told: list[AmiEvent] = []
        for group in groups:
            told += [one for one in events_of(group.records, group.lines) if since < one.at < until]
        return sorted(told, key=lambda one: one.at)

    def _written_at(self, line: QueueLine) -> datetime:
        """Return when a line was written: it tells the second only, AMI says the same to the microsecond."""
        kinds = _SAME.get(line.verb, ())
        same = (
            event.at
            for event in self.said
            if type(event).__name__ in kinds
            and getattr(event, "uniqueid", "") == line.call
            and line.at <= event.at + CLOCKS_APART
            and event.at < line.at + timedelta(seconds=1.1)
        )
        return next(same, line.at)

    def snapshot(self, end: int, at: datetime) -> Snapshot:
        """Return the lists as Asterisk would have shown them before ``said[end]``."""
        centre = Centre(self.rules, self.agents)
        _begin(centre, self.said[0].at)
        for event in self.said[:end]:
            centre.receive(event)
        state = centre.state()
        queue_of = {talk.peer: talk.queue for talk in state.talks.values() if talk.queue and talk.peer}
        queue_of |= {entry.leg: entry.queue for entry in state.entries.values()}
        return Snapshot(
            at=at,
            boot=self.said[0].at - timedelta(days=1),
            system="",
            channels=tuple(
                ShownChannel(
                    channel=leg.channel,
                    uniqueid=leg.uniqueid,
                    linkedid=leg.call,
                    state="Up" if leg.is_up else "Ringing" if leg.is_ringing else "Down",
                    bridge=leg.bridge,
                    application="Queue" if leg.uniqueid in queue_of else "",
                    application_data=queue_of.get(leg.uniqueid, ""),
                )
                for leg in state.legs.values()
            ),
            queues=(),
            members=(),
            entries=tuple(
                ShownEntry(
                    queue=entry.queue,
                    channel=state.legs[entry.leg].channel,
                    uniqueid=entry.leg,
                    position=place,
                    wait=int((at - entry.joined_at).total_seconds()),
                )
                for place, entry in enumerate(state.entries.values(), 1)
                if entry.stage is Stage.WAITING
            ),
        )


def _begin(centre: Centre, at: datetime) -> None:
    boot = at - timedelta(days=1)
    centre.receive(Snapshot(at=boot, boot=boot, system="", channels=(), queues=(), members=(), entries=()))
