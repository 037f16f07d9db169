"""Figures: exact at every border, the same whatever batches the facts came in, and no label from outside."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ctid.acd.facts import (
    AgentStateChanged,
    Anomaly,
    CallerJoined,
    CallerLeft,
    CallHandled,
    CallMerged,
    CallStarted,
    Fact,
    OfferEnded,
    Resynchronised,
    TalkStarted,
)
from ctid.acd.rules import RING_CYCLES, QueueRule
from ctid.sinks.metrics import MetricsSink
from tests.fakes_facts import BEGIN, abandoned_call, answered_call, cut, floors, seconds, transferred

RULES = {"repair": QueueRule(), "complaint": QueueRule(ring_cycle=seconds(6), service_level_goal=0.95)}
FIVE = seconds(5)
TEAMS = {"201": "hotline", "202": "hotline", "301": None}


class Page:
    """One rendering, to be asked for single figures."""

    def __init__(self, text: bytes) -> None:
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples[name, frozenset(labels.items())]

    def get(self, name: str, **labels: str) -> float | None:
        return self.samples.get((name, frozenset(labels.items())))


def sink(rules: dict[str, QueueRule] | None = None, **more: Any) -> MetricsSink:
    return MetricsSink(rules or RULES, **{"teams": TEAMS, "elapsed": lambda: 0.0, **more})


async def page_after(told: list[Fact], metrics: MetricsSink | None = None) -> Page:
    metrics = metrics or sink()
    await metrics.write(told)
    return Page(metrics.render())


def offer(rang: timedelta, *, queue: str = "repair", cycle: timedelta = FIVE, **more: Any) -> OfferEnded:
    fields = {
        "at": BEGIN + rang,
        "call": "1.1",
        "queue": queue,
        "joined_at": BEGIN,
        "agent": "201",
        "interface": "PJSIP/201",
        "leg": "1.2",
        "outcome": "answered",
        "rang": rang,
        "rings": rang / cycle,
        "verdict": "within" if rang <= 3 * cycle else "late",
        "offered_at": BEGIN,
    }
    return OfferEnded(**{**fields, **more})


def state(at: float, agent: str, now: str, *queues: str, **more: Any) -> AgentStateChanged:
    return AgentStateChanged(at=BEGIN + seconds(at), agent=agent, state=now, queues=queues, **more)  # type: ignore[arg-type]


def joined(at: float, queue: str = "repair", call: str = "1.1") -> CallerJoined:
    when = BEGIN + seconds(at)
    return CallerJoined(
        at=when,
        call=call,
        queue=queue,
        joined_at=when,
        leg=call,
        caller_number="013800138000",
        caller_name="王小明",
        position=1,
    )


def left(at: float, since: float, queue: str = "repair", call: str = "1.1", **more: Any) -> CallerLeft:
    return CallerLeft(
        **{
            "at": BEGIN + seconds(at),
            "call": call,
            "queue": queue,
            "joined_at": BEGIN + seconds(since),
            "outcome": "answered",
            "waited": seconds(at - since),
            "in_time": True,
            **more,
        }
    )


# -- exactness ---------------------------------------------------------------


@pytest.mark.parametrize("cycle", sorted(set(RING_CYCLES.values())))
async def test_three_rings_are_three_rings_in_every_country(cycle: float) -> None:
    rule = QueueRule(ring_cycle=seconds(cycle))
    limit = rule.ring_limit
    told = [
        offer(limit, cycle=rule.ring_cycle),
        offer(limit + timedelta(microseconds=1), cycle=rule.ring_cycle),
    ]
    page = await page_after(list(told), sink({"repair": rule}))
    where = {"queue": "repair", "result": "answered"}
    assert page("ctid_agent_ring_cycles_bucket", le="3.0", **where) == 1
    assert page("ctid_agent_ring_cycles_bucket", le="4.0", **where) == 2
    assert page("ctid_agent_ring_seconds_bucket", le=str(limit.total_seconds()), **where) == 1
    rule_offers = {"queue": "repair", "agent": "201"}
    assert page("ctid_ring_rule_offers_total", result="within", **rule_offers) == 1
    assert page("ctid_ring_rule_offers_total", result="late", **rule_offers) == 1


async def test_a_limit_of_its_own_gets_a_bucket_of_its_own() -> None:
    rules = {"repair": QueueRule(ring_cycle=seconds(4.25)), "complaint": QueueRule()}
    page = await page_after([offer(seconds(12.75))], sink(rules))
    assert page("ctid_agent_ring_seconds_bucket", le="12.75", queue="repair", result="answered") == 1
    assert page("ctid_agent_ring_seconds_bucket", le="12.0", queue="repair", result="answered") == 0


@pytest.mark.parametrize("border", [1, 15, 20, 600])
async def test_a_wait_of_exactly_the_border_is_within_it(border: int) -> None:
    page = await page_after([left(border, 0), left(border + 0.000001, 0)])
    assert page("ctid_call_wait_seconds_bucket", le=f"{border}.0", queue="repair", result="answered") == 1


async def test_an_answered_call() -> None:
    page = await page_after([*answered_call(1), transferred(1)])
    assert page("ctid_calls_offered_total", queue="repair", source="inbound") == 1
    assert page("ctid_calls_finished_total", queue="repair", result="answered") == 1
    assert page("ctid_queue_service_level_events_total", queue="repair", result="met") == 1
    assert page("ctid_call_wait_seconds_sum", queue="repair", result="answered") == 3
    assert page("ctid_post_dial_delay_seconds_sum") == 0.1
    assert page("ctid_call_talk_seconds_sum", queue="repair") == 8
    assert page("ctid_call_hold_seconds_sum", queue="repair") == 2
    assert page("ctid_call_acw_seconds_sum", queue="repair") == 6
    assert page("ctid_call_handle_seconds_sum", queue="repair", direction="inbound") == 16
    assert page("ctid_transfers_total", queue="repair", kind="blind") == 1


@pytest.mark.parametrize(
    ("more", "result", "level", "is_timed"),
    [
        ({"outcome": "abandoned", "in_time": False}, "abandoned", "missed", True),
        ({"outcome": "abandoned", "in_time": None, "short": True}, "short_abandoned", None, True),
        ({"outcome": "timeout", "in_time": False}, "timeout", "missed", True),
        ({"outcome": "exit_key", "in_time": False}, "exit_key", "missed", True),
        ({"outcome": "leave_empty", "in_time": False}, "leave_empty", "missed", True),
        ({"outcome": "withdrawn", "in_time": False}, "withdrawn", "missed", True),
        ({"outcome": "redirected", "in_time": False}, "redirected", "missed", True),
        ({"outcome": "join_empty", "in_time": None}, "blocked", None, False),
        ({"outcome": "full", "in_time": None}, "blocked", None, False),
        ({"outcome": "unknown_end", "in_time": None}, "unknown_end", None, False),
    ],
)
async def test_every_end_of_a_wait(
    more: dict[str, Any], result: str, level: str | None, is_timed: bool
) -> None:
    page = await page_after([left(9, 0, **more)])
    assert page("ctid_calls_finished_total", queue="repair", result=result) == 1
    for other in ("met", "missed"):
        expected = 1 if other == level else 0
        assert page("ctid_queue_service_level_events_total", queue="repair", result=other) == expected
    assert (page.get("ctid_call_wait_seconds_count", queue="repair", result=result) or 0) == is_timed


async def test_the_promise_of_each_queue() -> None:
    page = await page_after([])
    assert page("ctid_queue_service_level_objective_ratio", queue="complaint") == 0.95
    assert page("ctid_queue_service_level_threshold_seconds", queue="repair") == 20


async def test_an_offer_whose_end_was_not_seen_is_in_no_histogram() -> None:
    page = await page_after([offer(seconds(3), outcome="unknown_end", verdict="excluded")])
    assert page("ctid_ring_rule_offers_total", queue="repair", agent="201", result="excluded") == 1
    assert page.get("ctid_agent_ring_seconds_count", queue="repair", result="unknown_end") is None


async def test_a_call_that_the_agent_began_is_outbound() -> None:
    talk = {"call": "1.9", "agent": "201", "interface": "PJSIP/201", "leg": "1.9"}
    times = {"talked": seconds(30), "held": seconds(0), "wrapped": seconds(0), "handled": seconds(30)}
    told = [
        CallStarted(
            at=BEGIN,
            call="1.9",
            leg="1.9",
            channel="PJSIP/201-1",
            caller_number="201",
            caller_name="",
            dialled="138",
        ),
        TalkStarted(at=BEGIN, **talk),
        CallHandled(at=BEGIN, **talk, **times),
        CallHandled(at=BEGIN, **{**talk, "leg": "1.10"}, **times),
    ]
    page = await page_after(list(told))
    assert page("ctid_call_handle_seconds_count", queue="none", direction="outbound") == 1
    assert page("ctid_call_handle_seconds_count", queue="none", direction="inbound") == 1


# -- the floor ---------------------------------------------------------------


async def test_who_waits_and_how_long() -> None:
    now = [100.0]
    metrics = sink(elapsed=lambda: now[0])
    await metrics.write([joined(0), joined(4, call="1.3"), joined(5, "complaint", "1.5")])
    now[0] += 10  # nothing is told meanwhile, but time goes on
    page = Page(metrics.render())
    assert page("ctid_queue_callers_waiting", queue="repair") == 2
    assert page("ctid_queue_longest_wait_seconds", queue="repair") == 15
    assert page("ctid_queue_longest_wait_seconds", queue="complaint") == 10
    await metrics.write([left(16, 0), left(16, 5, "complaint", "another name after a merge"), left(17, 1)])
    page = Page(metrics.render())
    assert page("ctid_queue_callers_waiting", queue="repair") == 1
    assert page("ctid_queue_longest_wait_seconds", queue="repair") == 13
    assert page("ctid_queue_callers_waiting", queue="complaint") == 0
    assert page("ctid_queue_longest_wait_seconds", queue="complaint") == 0


async def test_agents_by_team_and_state() -> None:
    page = await page_after(
        [state(0, "201", "talking", "repair"), state(0, "999", "idle"), state(1, "201", "paused")]
    )
    assert page("ctid_agents", team="hotline", state="paused") == 1
    assert page("ctid_agents", team="hotline", state="talking") == 0
    assert page("ctid_agents", team="hotline", state="logged_out") == 1  # 202 was never seen
    assert page("ctid_agents", team="none", state="logged_out") == 1
    assert page("ctid_agents", team="other", state="idle") == 1


async def test_seconds_in_a_state_grow_while_it_lasts_and_never_shrink() -> None:
    now = [0.0]
    metrics = sink(elapsed=lambda: now[0], reasons=["lunch"])
    await metrics.write([state(0, "201", "idle", "repair")])
    before: dict[Any, float] = {}
    for at, told in [
        (10, []),
        (20, [state(19, "201", "paused", "repair", reason="lunch")]),  # told a second late
        (30, []),
        (40, [state(40, "201", "paused", "repair", reason="老板找我")]),
    ]:
        now[0] = float(at)
        await metrics.write(told)
        page = Page(metrics.render())
        figures = {key: value for key, value in page.samples.items() if key[0].endswith("_total")}
        assert all(figures[key] >= value for key, value in before.items())
        before = figures
    spent = {"agent": "201"}
    total = page("ctid_agent_state_seconds_total", state="idle", reason="", **spent) + page(
        "ctid_agent_state_seconds_total", state="paused", reason="lunch", **spent
    )
    assert total == pytest.approx(40, abs=1.01)
    assert page("ctid_agent_state_seconds_total", state="paused", reason="other", **spent) == 0


async def test_logins_are_not_whom_we_find_there_at_first() -> None:
    told = [
        state(0, "201", "idle"),
        state(0, "202", "logged_out"),
        Resynchronised(at=BEGIN, corrections=2),
        state(5, "202", "idle"),
        state(6, "301", "idle"),  # never seen before: he was not logged in
        state(7, "301", "unreachable"),
        state(8, "301", "idle"),
    ]
    page = await page_after(list(told))
    assert page.get("ctid_agent_logins_total", agent="201") == 0
    assert page("ctid_agent_logins_total", agent="202") == 1
    assert page("ctid_agent_logins_total", agent="301") == 1
    assert page("ctid_resyncs_total") == 1
    assert page("ctid_resync_corrections_total") == 2


async def test_uncovered_is_open_with_nobody_available() -> None:
    """Nobody logged in for 60 s, then a minute of talking, then 30 s of pause."""
    metrics = sink()
    told = [
        state(0, "201", "logged_out"),
        state(60, "201", "idle", "repair"),
        state(90, "201", "talking", "repair"),
        state(120, "201", "paused", "repair"),
        state(150, "201", "idle", "repair"),
        joined(200),
    ]
    page = await page_after(list(told), metrics)
    assert page("ctid_queue_uncovered_seconds_total", queue="repair") == 90
    assert page("ctid_queue_uncovered_seconds_total", queue="complaint") == 200


async def test_two_agents_cover_until_both_are_gone() -> None:
    told = [
        state(0, "201", "idle", "repair"),
        state(0, "202", "idle", "repair"),
        state(10, "201", "logged_out"),
        state(30, "202", "unreachable", "repair"),
        state(40, "202", "idle", "repair"),
    ]
    page = await page_after(list(told))
    assert page("ctid_queue_uncovered_seconds_total", queue="repair") == 10


async def test_a_closed_queue_is_never_uncovered() -> None:
    metrics = sink(is_open=lambda queue, at: queue == "repair")
    page = await page_after([state(0, "201", "logged_out"), joined(60)], metrics)
    assert page("ctid_queue_uncovered_seconds_total", queue="repair") == 60
    assert page("ctid_queue_uncovered_seconds_total", queue="complaint") == 0


# -- the same, however it comes ----------------------------------------------


@settings(max_examples=30, deadline=None)
@given(told=floors(), places=st.lists(st.integers(0, 500), max_size=20))
async def test_batches_do_not_matter(told: list[Fact], places: list[int]) -> None:
    at_once, in_parts = sink(), sink()
    await at_once.write(told)
    for batch in cut(told, places):
        await in_parts.write(batch)
    assert in_parts.render() == at_once.render()
    assert in_parts.golden_text() == at_once.golden_text()


async def test_series_stand_at_zero_from_the_start() -> None:
    page = await page_after([])
    for queue in RULES:
        assert page("ctid_calls_offered_total", queue=queue, source="inbound") == 0
        assert page("ctid_calls_finished_total", queue=queue, result="abandoned") == 0
        assert page("ctid_agent_ring_cycles_bucket", queue=queue, result="answered", le="3.0") == 0
    seen = await page_after([state(0, "201", "idle", "repair")])
    assert seen("ctid_ring_rule_offers_total", queue="repair", agent="201", result="late") == 0


async def test_golden_text_tells_what_happened_and_nothing_else() -> None:
    metrics = sink()
    quiet = metrics.golden_text()
    await metrics.write(abandoned_call(1))
    lines = metrics.golden_text().splitlines()
    assert 'ctid_calls_finished_total{queue="repair",result="abandoned"} 1.0' in lines
    assert not [line for line in lines if line.endswith(" 0.0") or line.startswith("#")]
    assert set(quiet.splitlines()) < set(lines)
    buckets = [line for line in lines if line.startswith("ctid_call_wait_seconds_bucket")]
    assert buckets == ['ctid_call_wait_seconds_bucket{le="10.0",queue="repair",result="abandoned"} 1.0']


# -- labels ------------------------------------------------------------------

NUMBERS = re.compile(r"1380013|6123456|王小明|PJSIP|1700000000")


@settings(max_examples=25, deadline=None)
@given(told=floors())
async def test_no_label_tells_who_called(told: list[Fact]) -> None:
    metrics = sink()
    await metrics.write(
        [*told, Anomaly(at=BEGIN, kind="13800138000", what="王小明"), CallMerged(at=BEGIN, merged="x")]
    )
    metrics.ami_event("Newchannel\nforged", 1)
    metrics.ami_undecodable("13800138000")
    text = metrics.render().decode()
    assert not NUMBERS.search(text)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels.get("queue", "other") in {*RULES, "other", "none"}
            assert sample.labels.get("agent", "other") in {*TEAMS, "other"}
            assert sample.labels.get("team", "other") in {"hotline", "none", "other"}


async def test_names_from_outside_are_bounded() -> None:
    metrics = sink()
    for number in range(1000):
        metrics.ami_event(f"Event{number}", 1)
    text = metrics.render().decode()
    assert text.count("ctid_ami_events_total{") == 201
    assert 'ctid_ami_events_total{event="other"} 800.0' in text


async def test_what_no_fact_tells() -> None:
    metrics = sink()
    metrics.ami_connected(True)
    metrics.ami_event("Newchannel", 3)
    metrics.ami_gap(2)
    metrics.ami_lag(0.25)
    metrics.ami_quarantined("duplicate")
    metrics.ami_undecodable("Hangup")
    metrics.ami_disconnected("dead")
    metrics.ami_action("QueuePause", "ok", 0.01)
    metrics.agi_request("route", "decided", 0.004)
    metrics.agi_request("", "closed", 0)
    metrics.pop_delivery("browser", "shown", 0.01)
    metrics.pop_delivery("browser", "acknowledged", 0.03)
    metrics.recording_filed("truncated", seconds(2.5))
    metrics.sink_dropped("journal")
    metrics.sink_dropped("no such sink")
    metrics.db_error()
    metrics.config_reloaded(datetime.fromtimestamp(1_700_000_000, BEGIN.tzinfo))
    metrics.watch_outbox("journal", lambda: 7)
    page = Page(metrics.render())
    assert page("ctid_ami_connected") == 1
    assert page("ctid_ami_events_total", event="Newchannel") == 3
    assert page("ctid_ami_gaps_total") == 2
    assert page("ctid_ami_lag_seconds") == 0.25
    assert page("ctid_ami_quarantined_total", reason="duplicate") == 1
    assert page("ctid_ami_undecodable_total", event="Hangup") == 1
    assert page("ctid_ami_disconnects_total", reason="dead") == 1
    assert page("ctid_ami_actions_total", action="QueuePause", result="ok") == 1
    assert page("ctid_agi_requests_total", script="route", result="decided") == 1
    assert page("ctid_agi_requests_total", script="other", result="closed") == 1
    assert page("ctid_agi_seconds_bucket", script="route", le="0.005") == 1
    assert page("ctid_pop_deliveries_total", channel="browser", result="shown") == 1
    assert page("ctid_pop_delivery_seconds_count", channel="browser") == 1
    assert page("ctid_recordings_total", result="truncated") == 1
    assert page("ctid_recording_lag_seconds_bucket", le="3.0") == 1
    assert page("ctid_sink_dropped_total", sink="journal") == 1
    assert page("ctid_sink_dropped_total", sink="other") == 1
    assert page("ctid_db_errors_total") == 1
    assert page("ctid_outbox_facts", sink="journal") == 7
    assert page("ctid_config_last_reload_success_timestamp_seconds") == 1_700_000_000


# -- scraping ----------------------------------------------------------------


async def test_a_scrape_sees_a_batch_whole_and_does_not_hold_up_the_loop() -> None:
    rules = {f"queue{number}": QueueRule() for number in range(10)}
    metrics = sink({**rules, "repair": QueueRule()}, teams={str(number): "a" for number in range(50)})
    pages: list[bytes] = []
    done = threading.Event()

    def scrape() -> None:
        while not done.is_set():
            pages.append(metrics.render())

    scraping = asyncio.create_task(asyncio.to_thread(scrape))
    longest = 0.0
    try:
        for number in range(5000):
            if len(pages) >= 8:
                break
            await metrics.write(answered_call(number))
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began)
    finally:
        done.set()
        await scraping
    assert len(pages) >= 8
    for text in pages:
        page = Page(text)
        answered = page("ctid_calls_finished_total", queue="repair", result="answered")
        assert page("ctid_calls_offered_total", queue="repair", source="inbound") == answered
        assert page("ctid_call_handle_seconds_count", queue="repair", direction="inbound") == answered
        assert page("ctid_call_wait_seconds_sum", queue="repair", result="answered") == 3 * answered
    assert longest < 0.5, "a scrape kept the loop waiting"


async def test_writing_can_be_cancelled_while_a_scrape_goes_on() -> None:
    metrics = sink()
    with metrics._lock:
        writing = asyncio.create_task(metrics.write(answered_call(1)))
        await asyncio.sleep(0.01)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    assert (await page_after([], metrics))("ctid_calls_offered_total", queue="repair", source="inbound") == 0
    assert (await page_after(answered_call(1), metrics))(
        "ctid_calls_offered_total", queue="repair", source="inbound"
    ) == 1
