"""Facts into figures for Prometheus.

Exact by construction: every figure is set from facts alone, whatever batches they come
in; the gauges of the floor follow the same facts. What no fact tells (the AMI link,
FastAGI, pops, the archive) comes in by one method each.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import singledispatchmethod
from typing import Final, Protocol

from prometheus_client import generate_latest

from ctid.acd import facts
from ctid.acd.facts import Fact
from ctid.acd.rules import QueueRule
from ctid.sinks.floor import FloorTime
from ctid.sinks.instruments import (
    FINISHED,
    NO_QUEUE,
    NO_TEAM,
    OTHER,
    RANG,
    VERDICTS,
    WAITED,
    Instruments,
    Sorted,
)

#: What a name from outside must look like to become a label, and how many we take.
_LABEL: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,39}")
_MOST_LABELS: Final = 200
_MOST_EXPECTED: Final = 500
_LOCK_SECONDS: Final = 0.002
_PATIENCE_SECONDS: Final = 0.1
_LE: Final = re.compile(r'le="[^"]*",?')
_CONSTANT: Final = (
    "ctid_build_info",
    "ctid_queue_service_level_objective",
    "ctid_queue_service_level_threshold",
)
#: Results of a pop after which somebody, or something, had it.
_ARRIVED: Final = frozenset({"acknowledged", "sent", "found"})


class SpoolFigures(Protocol):
    """What the journal says of its spool; quick, and safe in any thread."""

    @property
    def backlog(self) -> int: ...
    @property
    def backlog_age(self) -> float: ...
    @property
    def spool_bytes(self) -> int: ...
    @property
    def is_spool_full(self) -> bool: ...
    @property
    def spool_corrupt(self) -> int: ...


class MetricsSink:
    """Counts facts; renders ``/metrics``.

    ``write`` and the observing methods belong to the event loop, ``render`` to a thread:
    a scrape sees a batch of facts whole or not at all, and never holds up the loop.
    """

    name = "metrics"

    def __init__(
        self,
        rules: Mapping[str, QueueRule],
        *,
        teams: Mapping[str, str | None],
        reasons: Collection[str] = (),
        sinks: Sequence[str] = ("journal", "metrics", "pops", "archive"),
        version: str = "",
        is_open: Callable[[str, datetime], bool] = lambda queue, at: True,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start at zero.

        Args:
            rules: How each queue is judged; its keys are the only queues with a label.
            teams: Team of each agent, keyed by agent's number; ``None``: he has none.
            reasons: Pause reasons with a label of their own.
            sinks: Names of all sinks.
            version: Of ctid, for ``ctid_build_info``.
            is_open: Whether a queue is open; closed queues are never uncovered.
            elapsed: Seconds on any steady clock; between facts, time goes on by it.
        """
        self._rules = rules
        self._teams = {agent: team or NO_TEAM for agent, team in teams.items()}
        self._sinks = frozenset(sinks)
        self._lock = threading.Lock()
        self._is_written = threading.Event()
        self._is_written.set()
        self._elapsed = elapsed
        self._written: tuple[datetime, float] | None = None
        self._names: dict[str, set[str]] = {}
        self._expected: set[tuple[str, str]] = set()
        self._caller_legs: dict[str, str] = {}
        self._outbound: set[tuple[str, str]] = set()
        self._outboxes: dict[str, Callable[[], int]] = {}
        self._spool: SpoolFigures | None = None
        self._corrupt = 0
        self.instruments = Instruments(rules, {*self._teams.values()}, sinks)
        self._floor = FloorTime(
            self.instruments,
            queues=rules.keys(),
            teams=self._teams,
            reasons=frozenset(reasons),
            is_open=is_open,
        )
        self.instruments.build.labels(version).set(1)

    # -- facts -----------------------------------------------------------------

    async def write(self, facts: Sequence[Fact]) -> None:
        """Count facts; never raises."""
        # A scrape is being rendered in its thread, which no asyncio.Event can tell us about.
        self._is_written.clear()
        try:
            while not self._lock.acquire(blocking=False):  # noqa: ASYNC110
                await asyncio.sleep(_LOCK_SECONDS)
        finally:
            self._is_written.set()
        try:
            for fact in facts:
                self._take(fact)
            if facts:
                newest = max(fact.at for fact in facts)
                known = self._written[0] if self._written else newest
                self._written = (max(newest, known), self._elapsed())
        finally:
            self._lock.release()

    @singledispatchmethod
    def _take(self, fact: Fact) -> None:
        """Count one fact; most kinds tell no figure."""

    @_take.register
    def _(self, fact: facts.CallStarted) -> None:
        self._caller_legs[fact.call] = fact.leg

    @_take.register
    def _(self, fact: facts.CallEnded) -> None:
        self._caller_legs.pop(fact.call, None)

    @_take.register
    def _(self, fact: facts.CallMerged) -> None:
        self._caller_legs.pop(fact.merged, None)

    @_take.register
    def _(self, fact: facts.CallerJoined) -> None:
        self.instruments.offered.labels(self._queue(fact.queue), fact.source).inc()
        self._floor.joined(self._queue(fact.queue), fact.joined_at)

    @_take.register
    def _(self, fact: facts.CallerLeft) -> None:
        queue = self._queue(fact.queue)
        result = "short_abandoned" if fact.outcome == "abandoned" and fact.short else FINISHED[fact.outcome]
        self.instruments.finished.labels(queue, result).inc()
        if fact.in_time is not None:
            self.instruments.service_level.labels(queue, "met" if fact.in_time else "missed").inc()
        if result in WAITED:
            self.instruments.waited.labels(queue, result).observe(fact.waited.total_seconds())
        self._floor.left(queue, fact.joined_at)

    @_take.register
    def _(self, fact: facts.OfferRang) -> None:
        self.instruments.dial_delay.observe(fact.after.total_seconds())

    @_take.register
    def _(self, fact: facts.OfferEnded) -> None:
        queue = self._queue(fact.queue)
        self.instruments.ring_rule.labels(queue, self._agent(fact.agent), fact.verdict).inc()
        if fact.outcome in RANG:
            self.instruments.rang.labels(queue, fact.outcome).observe(fact.rang.total_seconds())
            self.instruments.cycles.labels(queue, fact.outcome).observe(fact.rings)

    @_take.register
    def _(self, fact: facts.TalkStarted) -> None:
        if not fact.queue and self._caller_legs.get(fact.call) == fact.leg:
            self._outbound.add((fact.agent, fact.leg))

    @_take.register
    def _(self, fact: facts.TalkEnded) -> None:
        if fact.assisted:
            self._outbound.discard((fact.agent, fact.leg))

    @_take.register
    def _(self, fact: facts.CallHandled) -> None:
        queue = self._queue(fact.queue)
        direction = "outbound" if (fact.agent, fact.leg) in self._outbound else "inbound"
        self._outbound.discard((fact.agent, fact.leg))
        self.instruments.talked.labels(queue).observe(fact.talked.total_seconds())
        self.instruments.held.labels(queue).observe(fact.held.total_seconds())
        self.instruments.wrapped.labels(queue).observe(fact.wrapped.total_seconds())
        self.instruments.handled.labels(queue, direction).observe(fact.handled.total_seconds())

    @_take.register
    def _(self, fact: facts.Transferred) -> None:
        self.instruments.transfers.labels(self._queue(fact.queue), fact.kind).inc()

    @_take.register
    def _(self, fact: facts.AgentStateChanged) -> None:
        agent = self._agent(fact.agent)
        for queue in fact.queues:
            self._expect_offers(self._queue(queue), agent)
        self._floor.changed(fact, agent, [self._queue(queue) for queue in fact.queues])

    @_take.register
    def _(self, fact: facts.Resynchronised) -> None:
        self.instruments.resyncs.inc()
        self.instruments.corrections.inc(fact.corrections)
        self._floor.resynchronised()

    @_take.register
    def _(self, fact: facts.Anomaly) -> None:
        self.instruments.anomalies.labels(self._name("anomaly", fact.kind)).inc()

    def _expect_offers(self, queue: str, agent: str) -> None:
        """Let an agent's series in a queue stand at 0 before his first offer, on all but huge floors."""
        if (queue, agent) in self._expected or len(self._expected) >= _MOST_EXPECTED:
            return
        self._expected.add((queue, agent))
        for verdict in VERDICTS:
            self.instruments.ring_rule.labels(queue, agent, verdict)

    # -- what no fact tells ----------------------------------------------------

    def ami_event(self, name: str, count: int = 1) -> None:
        """Count events as Asterisk sent them, used or not."""
        self.instruments.ami_events.labels(self._name("event", name)).inc(count)

    def ami_gap(self, n: int) -> None:
        """Count events that Asterisk numbered and we never got."""
        self.instruments.ami_gaps.inc(n)

    def ami_quarantined(self, reason: str) -> None:
        """Count a frame that was not believed."""
        self.instruments.ami_quarantined.labels(self._name("quarantine", reason)).inc()

    def ami_undecodable(self, name: str) -> None:
        """Count an event that could not be read."""
        self.instruments.ami_undecodable.labels(self._name("event", name)).inc()

    def ami_lag(self, seconds: float) -> None:
        """Tell the age of the newest event when it was read."""
        self.instruments.ami_lag.set(seconds)

    def ami_connected(self, is_connected: bool) -> None:
        """Tell whether we are logged in and in step."""
        self.instruments.ami_connected.set(is_connected)

    def ami_disconnected(self, reason: str) -> None:
        """Count a lost, or refused, connection."""
        self.instruments.ami_disconnects.labels(self._name("disconnect", reason)).inc()

    def ami_action(self, name: str, result: str, seconds: float) -> None:
        """Count what we asked Asterisk to do, and how it went."""
        self.instruments.ami_actions.labels(self._name("action", name), self._name("outcome", result)).inc()
        self.instruments.ami_action_seconds.observe(seconds)

    def agi_request(self, script: str, result: str, seconds: float) -> None:
        """Count one question of the dialplan."""
        script = self._name("script", script)
        self.instruments.agi_requests.labels(script, self._name("agi", result)).inc()
        self.instruments.agi_seconds.labels(script).observe(seconds)

    def pop_delivery(self, channel: str, result: str, seconds: float) -> None:
        """Count one try to show a pop; ``seconds`` since the agent's phone rang."""
        channel = self._name("channel", channel)
        self.instruments.pops.labels(channel, self._name("pop", result)).inc()
        if result in _ARRIVED:
            self.instruments.pop_seconds.labels(channel).observe(seconds)

    def recording_filed(self, result: str, lag: timedelta) -> None:
        """Count a recording; ``lag`` since Asterisk stopped it."""
        self.instruments.recordings.labels(self._name("recording", result)).inc()
        self.instruments.recording_lag.observe(lag.total_seconds())

    def sink_dropped(self, sink: str, fact: Fact | None = None) -> None:
        """Count a fact lost for want of room; fits ``Outbox``'s ``on_drop``."""
        self.instruments.dropped.labels(sink if sink in self._sinks else OTHER).inc()

    def watch_outbox(self, sink: str, pending: Callable[[], int]) -> None:
        """Ask ``pending`` at every scrape; it must be quick and safe in any thread."""
        self._outboxes[sink] = pending

    def watch_lead(self, is_leader: Callable[[], bool], epoch: Callable[[], int | None]) -> None:
        """Ask both at every scrape; they must be quick and safe in any thread."""
        self.instruments.leads.set_function(is_leader)
        self.instruments.leader_epoch.set_function(lambda: epoch() or 0)

    def ledger(self, mismatches: Mapping[str, int], repaired: Mapping[str, int]) -> None:
        """How many rows contradict Asterisk's books, by ledger; how many were mended since the last time."""
        for name, count in mismatches.items():
            self.instruments.ledger_mismatches.labels(name).set(count)
            self.instruments.ledger_repaired.labels(name).inc(repaired.get(name, 0))

    def watch_spool(self, spool: SpoolFigures) -> None:
        """Ask for these figures at every scrape."""
        self._spool = spool

    def db_error(self) -> None:
        """Count a use of PostgreSQL that failed."""
        self.instruments.db_errors.inc()

    def config_reloaded(self, at: datetime) -> None:
        """Tell when the settings were last read."""
        self.instruments.reloaded.set(at.timestamp())
        self.instruments.reload_good.set(1)

    def config_refused(self) -> None:
        """Tell that the settings are wrong now; the old ones stay."""
        self.instruments.reload_good.set(0)

    def adopt(self, rules: Mapping[str, QueueRule]) -> None:
        """Tell the service levels of other rules; a queue that is new stays without a label."""
        for queue in rules.keys() & self._rules.keys():
            self.instruments.promise(queue, rules[queue])

    def loop_late(self, seconds: float) -> None:
        """Take down how late the event loop was; for ``StallMonitor``."""
        self.instruments.loop_stalls.observe(seconds)

    def watch_loop(self, worst: Callable[[], float]) -> None:
        """Ask at every scrape for the longest stall of the last minute; it must be quick and thread-safe."""
        self.instruments.loop_stall_max.set_function(worst)

    def loop_tasks(self, count: int) -> None:
        """So many tasks are there."""
        self.instruments.tasks.set(count)

    # -- out -------------------------------------------------------------------

    def render(self) -> bytes:
        """Return the whole page, text format 0.0.4. Takes tens of milliseconds: call it in a thread."""
        with self._scraping() as page:
            return generate_latest(page)

    async def scrape(self) -> bytes:
        """Return the whole page without holding up the loop."""
        return await asyncio.to_thread(self.render)

    def golden_text(self) -> str:
        """Return what facts alone led to, for comparing with an expected file.

        Zeros are left out, and of a histogram the buckets that nothing fell into.
        """
        with self._scraping() as page:
            lines = generate_latest(page).decode().splitlines()
        kept: list[str] = []
        before: tuple[str, str] = ("", "0.0")
        for line in lines:
            series, _, value = line.rpartition(" ")
            if line.startswith(("#", *_CONSTANT)):
                continue
            bucket = _LE.sub("", series)
            if value != (before[1] if bucket == before[0] else "0.0"):
                kept.append(line)
            before = (bucket, value) if bucket != series else ("", "0.0")
        return "\n".join([*kept, ""])

    @contextmanager
    def _scraping(self) -> Iterator[Sorted]:
        # Facts first: scrape upon scrape must not keep them waiting.
        self._is_written.wait(_PATIENCE_SECONDS)
        with self._lock:
            if self._written:
                at, then = self._written
                self._floor.reckon(at + timedelta(seconds=self._elapsed() - then))
            for sink, pending in self._outboxes.items():
                self.instruments.outbox.labels(sink).set(pending())
            if self._spool:
                self._scrape_spool(self._spool)
            yield Sorted(self.instruments.registry)

    def _scrape_spool(self, spool: SpoolFigures) -> None:
        show = self.instruments
        show.spool_facts.set(spool.backlog)
        show.spool_age.set(spool.backlog_age)
        show.spool_bytes.set(spool.spool_bytes)
        show.spool_full.set(spool.is_spool_full)
        corrupt = spool.spool_corrupt
        show.spool_corrupt.inc(max(0, corrupt - self._corrupt))
        self._corrupt = corrupt

    # -- labels ----------------------------------------------------------------

    def _queue(self, queue: str) -> str:
        if not queue:
            return NO_QUEUE
        return queue if queue in self._rules else OTHER

    def _agent(self, agent: str) -> str:
        return agent if agent in self._teams else OTHER

    def _name(self, family: str, name: str) -> str:
        """Admit a name of Asterisk's, or of our code's, while there is room for it."""
        known = self._names.setdefault(family, set())
        if name in known:
            return name
        if len(known) >= _MOST_LABELS or not _LABEL.fullmatch(name):
            return OTHER
        known.add(name)
        return name
