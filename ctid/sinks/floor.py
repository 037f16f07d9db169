"""Who waits and what every agent does, as time goes by: the gauges, and the counters of seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from ctid.acd.facts import AgentState, AgentStateChanged
from ctid.sinks.instruments import OTHER, STATES, Instruments

#: An agent in one of these can be reached by a caller, sooner or later.
_COVERS = frozenset({"idle", "ringing", "talking", "wrapping_up"})


class _Doing(msgspec.Struct, frozen=True, gc=False):
    state: AgentState
    reason: str
    queues: frozenset[str]


class FloorTime:
    """Follows facts; time is an argument, and only ever goes forward."""

    def __init__(
        self,
        instruments: Instruments,
        *,
        queues: Collection[str],
        teams: Mapping[str, str],
        reasons: frozenset[str],
        is_open: Callable[[str, datetime], bool],
    ) -> None:
        self._instruments = instruments
        self._queues = frozenset(queues)
        self._teams = teams
        self._reasons = reasons
        self._is_open = is_open
        self._waiting: Counter[tuple[str, datetime]] = Counter()
        self._doing: dict[str, _Doing] = {}
        self._since: dict[str, datetime] = {}
        self._uncovered_since: dict[str, datetime] = {}  # empty until the first agent is seen
        self._members: Counter[str] = Counter()
        self._is_known = False

    def joined(self, queue: str, at: datetime) -> None:
        """A caller waits since ``at``."""
        self._waiting[queue, at] += 1

    def left(self, queue: str, joined_at: datetime) -> None:
        """The caller who waited since ``joined_at`` does so no more."""
        # Not by call: a consult call's name may change while it waits (CallMerged).
        self._waiting[queue, joined_at] -= 1
        if self._waiting[queue, joined_at] <= 0:
            del self._waiting[queue, joined_at]

    def changed(self, fact: AgentStateChanged, agent: str, queues: Sequence[str]) -> None:
        """An agent does something else now.

        Args:
            agent, queues: As they are labelled.
        """
        before = self._doing.get(fact.agent)
        if before:
            self._spend(fact.agent, agent, fact.at)
        else:
            self._since[fact.agent] = fact.at
            self._expect(agent)
        known = before.queues if before else frozenset()
        self._cover_until(fact.at, known.union(queues) if self._uncovered_since else self._queues)
        # Whom the first snapshot shows has logged in before we watched.
        was_out = before.state == "logged_out" if before else self._is_known
        if was_out and fact.state != "logged_out":
            self._instruments.logins.labels(agent).inc()
        self._doing[fact.agent] = _Doing(fact.state, fact.reason, frozenset(queues))
        self._members.subtract(before.queues if before and before.state in _COVERS else ())
        self._members.update(queues if fact.state in _COVERS else ())

    def _expect(self, label: str) -> None:
        """Let all of an agent's series stand at 0, so that a rate over his first pause is not lost."""
        for state in STATES:
            self._instruments.state_seconds.labels(label, state, "")
        for reason in self._reasons:
            self._instruments.state_seconds.labels(label, "paused", reason)
        self._instruments.logins.labels(label)

    def resynchronised(self) -> None:
        """Every agent who is there has been told of."""
        self._is_known = True

    def reckon(self, now: datetime) -> None:
        """Bring every gauge and every running second up to ``now``."""
        for number in self._doing:
            self._spend(number, number if number in self._teams else OTHER, now)
        if self._uncovered_since:
            self._cover_until(now, self._queues)
        self._count_waiting(now)
        self._count_agents()

    def _spend(self, number: str, label: str, until: datetime) -> None:
        doing, since = self._doing[number], self._since[number]
        # A reason is what somebody typed: only the configured ones become labels.
        reason = doing.reason if not doing.reason or doing.reason in self._reasons else OTHER
        counter = self._instruments.state_seconds.labels(label, doing.state, reason)
        if until > since:
            counter.inc((until - since).total_seconds())
            self._since[number] = until

    def _cover_until(self, now: datetime, queues: Collection[str]) -> None:
        for queue in self._queues.intersection(queues):
            since = self._uncovered_since.setdefault(queue, now)
            if now <= since:
                continue
            if self._members[queue] <= 0 and self._is_open(queue, since):
                self._instruments.uncovered.labels(queue).inc((now - since).total_seconds())
            self._uncovered_since[queue] = now

    def _count_waiting(self, now: datetime) -> None:
        longest: dict[str, timedelta] = {}
        callers: Counter[str] = Counter()
        for (queue, at), count in self._waiting.items():
            callers[queue] += count
            longest[queue] = max(longest.get(queue, timedelta(0)), now - at)
        for queue in {*self._queues, *callers}:
            self._instruments.waiting.labels(queue).set(callers[queue])
            self._instruments.longest_wait.labels(queue).set(longest.get(queue, timedelta(0)).total_seconds())

    def _count_agents(self) -> None:
        counted = Counter(
            (self._teams.get(number, OTHER), doing.state) for number, doing in self._doing.items()
        )
        unseen = Counter(team for number, team in self._teams.items() if number not in self._doing)
        for team in {*self._teams.values(), *(team for team, _ in counted)}:
            for state in STATES:
                extra = unseen[team] if state == "logged_out" else 0
                self._instruments.agents.labels(team, state).set(counted[team, state] + extra)
