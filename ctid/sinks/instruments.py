"""The names on ``/metrics``: part of the public contract (renaming one is a breaking change).

Labels come from configured sets only, anything else becomes ``other``; no caller's number,
no channel, no Uniqueid. Histograms are by queue only: agent times bucket would explode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final, get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from ctid.acd.facts import OfferOutcome
from ctid.acd.rules import QueueRule
from ctid.store.ledger import LEDGERS

WAIT: Final = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600)
RING: Final = (1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 13.5, 14, 15, 18, 20, 25, 30, 45, 60)
CYCLES: Final = (1, 2, 3, 4, 5, 6, 8, 10)
DIAL: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10)
HANDLE: Final = (15, 30, 60, 90, 120, 180, 240, 300, 420, 600, 900, 1200, 1800, 3600)
HOLD: Final = (0, 5, 10, 15, 30, 45, 60, 90, 120, 180, 300, 600)
ACW: Final = (0, 5, 10, 15, 30, 45, 60, 90, 120, 180, 300)
LAG: Final = (1, 2, 3, 5, 10, 20, 30, 60, 120, 300)
POP: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5)
STALL: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
AGI: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5)

OTHER: Final = "other"
NO_QUEUE: Final = "none"
NO_TEAM: Final = "none"

#: Result of ctid_calls_finished_total that each outcome of a queue visit counts as.
FINISHED: Final = {
    "answered": "answered",
    "abandoned": "abandoned",
    "timeout": "timeout",
    "exit_key": "exit_key",
    "leave_empty": "leave_empty",
    "join_empty": "blocked",
    "full": "blocked",
    "withdrawn": "withdrawn",
    "redirected": "redirected",
    "unknown_end": "unknown_end",
}
#: Results of ctid_calls_finished_total whose wait is measured.
WAITED: Final = tuple(sorted({*FINISHED.values(), "short_abandoned"} - {"blocked", "unknown_end"}))
#: Outcomes of an offer whose ringing is measured.
RANG: Final = tuple(outcome for outcome in get_args(OfferOutcome) if outcome != "unknown_end")
VERDICTS: Final = ("within", "late", "no_answer", "declined", "excluded")
STATES: Final = ("logged_out", "idle", "ringing", "talking", "wrapping_up", "paused", "unreachable")
RECORDING_RESULTS: Final = ("complete", "repaired", "truncated", "missing", "empty")

#: Of ctid.ami.guard.Findings and ctid.ami.client.LinkObserver; an unlisted one only starts late.
QUARANTINE_REASONS: Final = (
    "torn",
    "damaged",
    "stray",
    "unnumbered",
    "unstamped",
    "unexpected",
    "duplicate",
    "contradicted",
    "neighbour",
    "incomplete",
    "foreign_reply",
    "late_reply",
)
DISCONNECT_REASONS: Final = ("refused", "unreachable", "dead", "closed", "framing", "astray", "lost")
ANOMALIES: Final = ("orphan_event", "unseen_join")


class Instruments:
    """Every metric family, on a registry of its own.

    Series that are known beforehand stand at 0 from the start, so that the first event
    shows in ``rate()``.
    """

    def __init__(self, rules: Mapping[str, QueueRule], teams: Iterable[str], sinks: Sequence[str]) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._calls(rules)
        self._rings(rules)
        self._handling(rules)
        self._queues_now(rules)
        self._agents(teams)
        self._recordings_and_pops()
        self._link()
        self._daemon(sinks)
        self._guards()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def _calls(self, rules: Mapping[str, QueueRule]) -> None:
        self.offered = self._counter(
            "ctid_calls_offered",
            "Stays in a queue that began, by where the caller came from.",
            "queue",
            "source",
        )
        self.finished = self._counter(
            "ctid_calls_finished", "Stays in a queue that ended, by how.", "queue", "result"
        )
        self.service_level = self._counter(
            "ctid_queue_service_level_events",
            "Stays in a queue that met or missed the service level.",
            "queue",
            "result",
        )
        self._objective = self._gauge(
            "ctid_queue_service_level_objective_ratio", "Callers to be answered in time, 0 to 1.", "queue"
        )
        self._threshold = self._gauge(
            "ctid_queue_service_level_threshold_seconds",
            "A wait up to and including this is in time.",
            "queue",
        )
        self.waited = self._histogram(
            "ctid_call_wait_seconds",
            "Wait of callers from joining to the end of it.",
            WAIT,
            "queue",
            "result",
        )
        for queue, rule in rules.items():
            for source in ("inbound", "transfer"):
                self.offered.labels(queue, source)
            for result in (*WAITED, "blocked", "unknown_end"):
                self.finished.labels(queue, result)
            for result in ("met", "missed"):
                self.service_level.labels(queue, result)
            self.promise(queue, rule)
            for result in WAITED:
                self.waited.labels(queue, result)

    def promise(self, queue: str, rule: QueueRule) -> None:
        """Tell what the service level of a queue is."""
        self._objective.labels(queue).set(rule.service_level_goal)
        self._threshold.labels(queue).set(rule.service_level_within.total_seconds())

    def _rings(self, rules: Mapping[str, QueueRule]) -> None:
        limits = {rule.ring_limit.total_seconds() for rule in rules.values()}
        self.rang = self._histogram(
            "ctid_agent_ring_seconds",
            "Ringing of one agent's phone, from its first sign to the end.",
            sorted({*map(float, RING), *limits}),
            "queue",
            "result",
        )
        self.cycles = self._histogram(
            "ctid_agent_ring_cycles",
            "The same in rings of the bell: le=3.0 is three rings in every country.",
            CYCLES,
            "queue",
            "result",
        )
        self.ring_rule = self._counter(
            "ctid_ring_rule_offers", "Offers to agents judged by the ring rule.", "queue", "agent", "result"
        )
        self.dial_delay = self._histogram(
            "ctid_post_dial_delay_seconds",
            "From calling an agent's phone to its first sign of ringing.",
            DIAL,
        )
        for queue in rules:
            for result in RANG:
                self.rang.labels(queue, result)
                self.cycles.labels(queue, result)

    def _handling(self, rules: Mapping[str, QueueRule]) -> None:
        self.talked = self._histogram(
            "ctid_call_talk_seconds", "Talking per handled call, without hold.", HANDLE, "queue"
        )
        self.held = self._histogram("ctid_call_hold_seconds", "Hold per handled call.", HOLD, "queue")
        self.wrapped = self._histogram("ctid_call_acw_seconds", "Wrap-up per handled call.", ACW, "queue")
        self.handled = self._histogram(
            "ctid_call_handle_seconds", "Talking, hold and wrap-up per call.", HANDLE, "queue", "direction"
        )
        self.transfers = self._counter(
            "ctid_transfers", "Callers given to somebody else by an agent.", "queue", "kind"
        )
        for queue in (*rules, NO_QUEUE):
            for family in (self.talked, self.held, self.wrapped):
                family.labels(queue)
            for direction in ("inbound", "outbound"):
                self.handled.labels(queue, direction)
            for kind in ("blind", "attended"):
                self.transfers.labels(queue, kind)

    def _queues_now(self, rules: Mapping[str, QueueRule]) -> None:
        self.waiting = self._gauge("ctid_queue_callers_waiting", "Callers waiting now.", "queue")
        self.longest_wait = self._gauge(
            "ctid_queue_longest_wait_seconds", "Wait so far of who waits longest.", "queue"
        )
        self.uncovered = self._counter(
            "ctid_queue_uncovered_seconds", "Time open with no agent available.", "queue"
        )
        for queue in rules:
            for family in (self.waiting, self.longest_wait, self.uncovered):
                family.labels(queue)

    def _agents(self, teams: Iterable[str]) -> None:
        self.agents = self._gauge("ctid_agents", "Agents by what they do now.", "team", "state")
        self.state_seconds = self._counter(
            "ctid_agent_state_seconds", "What agents spent their time on.", "agent", "state", "reason"
        )
        self.logins = self._counter("ctid_agent_logins", "Times an agent logged in.", "agent")
        for team in teams:
            for state in STATES:
                self.agents.labels(team, state)

    def _recordings_and_pops(self) -> None:
        self.recordings = self._counter(
            "ctid_recordings", "Recordings filed, by what became of them.", "result"
        )
        self.recording_lag = self._histogram(
            "ctid_recording_lag_seconds", "From the end of a recording to its filing.", LAG
        )
        self.pops = self._counter(
            "ctid_pop_deliveries", "Screen pops by where to and what became of them.", "channel", "result"
        )
        self.pop_seconds = self._histogram(
            "ctid_pop_delivery_seconds", "From the ringing of the agent to his pop.", POP, "channel"
        )
        for result in RECORDING_RESULTS:
            self.recordings.labels(result)

    def _link(self) -> None:
        self.ami_connected = self._gauge("ctid_ami_connected", "1: logged in to Asterisk and in step.")
        self.ami_events = self._counter("ctid_ami_events", "Events that Asterisk sent.", "event")
        self.ami_lag = self._gauge("ctid_ami_lag_seconds", "Age of the newest event when it was read.")
        self.ami_gaps = self._counter("ctid_ami_gaps", "Events that Asterisk numbered and we never got.")
        self.ami_undecodable = self._counter(
            "ctid_ami_undecodable", "Events that could not be read and were skipped.", "event"
        )
        self.ami_quarantined = self._counter(
            "ctid_ami_quarantined", "Events not believed: forged, or damaged by a forged one.", "reason"
        )
        self.ami_disconnects = self._counter(
            "ctid_ami_disconnects", "Connections to Asterisk lost, or refused.", "reason"
        )
        self.ami_actions = self._counter(
            "ctid_ami_actions", "What we asked Asterisk to do, and how it went.", "action", "result"
        )
        self.ami_action_seconds = self._histogram(
            "ctid_ami_action_seconds", "Time to Asterisk's reply, or to giving up.", AGI
        )
        for reason in QUARANTINE_REASONS:
            self.ami_quarantined.labels(reason)
        for reason in DISCONNECT_REASONS:
            self.ami_disconnects.labels(reason)
        self.agi_requests = self._counter(
            "ctid_agi_requests", "Questions of the dialplan, by how they ended.", "script", "result"
        )
        self.agi_seconds = self._histogram("ctid_agi_seconds", "Time to the answer.", AGI, "script")
        self.agi_seconds.labels("route")
        for result in ("decided", "late", "failed", "lost"):
            self.agi_requests.labels("route", result)

    def _daemon(self, sinks: Sequence[str]) -> None:
        self.anomalies = self._counter("ctid_anomalies", "Events that did not fit what was believed.", "kind")
        self.resyncs = self._counter("ctid_resyncs", "Comparisons with Asterisk's own picture.")
        self.corrections = self._counter(
            "ctid_resync_corrections", "How much of ours was wrong, all comparisons together."
        )
        self.outbox = self._gauge("ctid_outbox_facts", "Facts not yet delivered.", "sink")
        self._spool()
        self.dropped = self._counter("ctid_sink_dropped", "Facts a sink lost for want of room.", "sink")
        self.leads = self._gauge("ctid_leader", "1: this daemon leads, 0: it stands by.")
        self.leader_epoch = self._gauge(
            "ctid_leader_epoch", "Number of the lead that facts are written under; 0: not known yet."
        )
        self.db_errors = self._counter("ctid_db_errors", "Uses of PostgreSQL that failed.")
        self.build = self._gauge("ctid_build_info", "Always 1.", "version")
        for sink in sinks:
            self.dropped.labels(sink)
        for kind in ANOMALIES:
            self.anomalies.labels(kind)

    def _guards(self) -> None:
        self.reloaded = self._gauge(
            "ctid_config_last_reload_success_timestamp_seconds", "When the settings were last read."
        )
        self.reload_good = self._gauge(
            "ctid_config_last_reload_successful",
            "1: the settings were read; 0: they are wrong and the old ones stay.",
        )
        self.loop_stalls = self._histogram(
            "ctid_loop_stall_seconds",
            "How late the event loop comes to what is due; a hundred looks a second.",
            STALL,
        )
        self.loop_stall_max = self._gauge(
            "ctid_loop_stall_max_seconds", "The longest stall of the event loop within the last minute."
        )
        self.tasks = self._gauge("ctid_tasks", "Tasks of the event loop.")

    def _spool(self) -> None:
        self.spool_facts = self._gauge("ctid_spool_facts", "Facts on our disk, not yet in PostgreSQL.")
        self.spool_age = self._gauge("ctid_spool_age_seconds", "How long the oldest of them has waited.")
        self.spool_bytes = self._gauge("ctid_spool_bytes", "Size of the spool on our disk.")
        self.spool_full = self._gauge(
            "ctid_spool_full",
            "1: the spool takes nothing: its disk is broken or full, or its cap reached.",
        )
        self.spool_corrupt = self._counter("ctid_spool_corrupt", "Records of the spool found damaged.")
        self.ledger_mismatches = self._gauge(
            "ctid_ledger_mismatches",
            "Rows that contradict Asterisk's own books (queue_log, CEL) and could not be mended.",
            "ledger",
        )
        self.ledger_repaired = self._counter(
            "ctid_ledger_repaired", "Rows mended from Asterisk's own books.", "ledger"
        )
        for ledger in LEDGERS:
            self.ledger_mismatches.labels(ledger)
            self.ledger_repaired.labels(ledger)


class Sorted(Collector):
    """A registry whose series come in one order, however they came about."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[prometheus_client.Metric]:
        """Yield every family; within one, series by their labels."""
        for family in self._registry.collect():
            # All series of a family have the same labels, ``le`` apart; and sorting is stable:
            # buckets, count and sum of one series stay as they are.
            names = sorted({*family.samples[0].labels} - {"le"}) if family.samples else []
            family.samples.sort(key=partial(_values, names))
            yield family


def _values(names: Sequence[str], sample: Sample) -> list[str]:
    return [sample.labels[name] for name in names]
