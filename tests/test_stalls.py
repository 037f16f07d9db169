"""The loop that stands still is seen, measured and shown (F26, Q7)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from ctid import stalls
from ctid.sinks.metrics import MetricsSink
from ctid.stalls import StallMonitor


@contextlib.asynccontextmanager
async def watched(monitor: StallMonitor) -> AsyncIterator[None]:
    task = asyncio.create_task(monitor.run())
    await asyncio.sleep(3 * stalls.TICK)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def stand_still(seconds: float) -> None:
    """What no coroutine may do."""
    time.sleep(seconds)


async def test_a_stall_is_as_long_as_it_was() -> None:
    """Q7: 0.3 s of standing still are told as 0.3 s."""
    seen: list[float] = []
    monitor = StallMonitor(seen.append)
    async with watched(monitor):
        stand_still(0.3)
        await asyncio.sleep(2 * stalls.TICK)
    assert 0.3 - 2 * stalls.TICK <= max(seen) < 0.6
    assert monitor.worst == max(seen)


async def test_who_stands_in_the_way_is_logged_while_it_lasts() -> None:
    """F26: the second thread shows the function, and not once per stall."""
    monitor = StallMonitor()
    with capture_logs() as logs:
        async with watched(monitor):
            for _ in range(3):
                stand_still(0.25)
                await asyncio.sleep(0.05)
    said = [entry for entry in logs if entry["event"] == "the event loop stands still"]
    assert len(said) == 1
    assert said[0]["seconds"] >= stalls.STALL
    assert any(line.startswith("stand_still ") for line in said[0]["at"])
    assert not any("0.25" in line for line in said[0]["at"]), "values of variables may be secrets"


def test_the_worst_is_of_the_last_minute() -> None:
    """Q7: an old stall is forgotten, a smaller one since is not."""
    now = [0.0]
    monitor = StallMonitor(clock=lambda: now[0])
    for at, late in ((0, 0.5), (10, 0.2), (20, 0.3), (30, 0.001)):
        monitor.saw(at, late)
    assert monitor.worst == 0.5
    monitor.saw(61, 0.0)
    assert monitor.worst == 0.3
    monitor.saw(81, 0.0)
    assert monitor.worst == 0.001
    monitor.saw(200, 0.0)
    assert monitor.worst == 0.0


def test_a_frozen_loop_is_not_ready_until_it_ran_a_while() -> None:
    """F26: just woken up, ctid does not claim to be well."""
    now = [100.0]
    monitor = StallMonitor(clock=lambda: now[0])
    assert monitor.why_not_ready() == ""
    monitor.saw(100.0, 30.0)
    now[0] = 100.5
    assert "0.5 s ago" in monitor.why_not_ready()
    now[0] = 100.0 + stalls.TRUST_AFTER
    assert monitor.why_not_ready() == ""


@pytest.mark.parametrize("late", [0.004, 0.25])
async def test_it_is_on_the_page(late: float) -> None:
    """Q7: as a histogram, and the worst of the last minute as a gauge."""
    sink = MetricsSink({}, teams={})
    monitor = StallMonitor(sink.loop_late)
    sink.watch_loop(lambda: monitor.worst)
    monitor.saw(1.0, late)
    page = sink.render().decode()
    assert f"ctid_loop_stall_max_seconds {late}" in page
    assert f'ctid_loop_stall_seconds_bucket{{le="0.1"}} {float(late <= 0.1)}' in page
    assert "ctid_loop_stall_seconds_count 1.0" in page
