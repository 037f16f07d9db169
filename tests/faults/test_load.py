"""Bursts, steady load and a short soak of the daemon, told by a scripted Asterisk (Q6, Q7, Q11)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lab.postgres import PrivatePostgres
from lab.scripted_stage import ScriptedStage
from lab.strain import Strain, burst, regression, soak

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def stage(tmp_path: Path, postgres: PrivatePostgres) -> AsyncIterator[ScriptedStage]:
    """A daemon, and an Asterisk that cuts off who takes nothing for 100 ms."""
    async with ScriptedStage(tmp_path, postgres=postgres, write_timeout_ms=100) as stage:
        yield stage


def nothing_lost(strain: Strain) -> None:
    """Every event was read, none of them late enough to be cut off, and every fact is stored."""
    assert (strain.lost, strain.cut, strain.logins) == (0, 0, 0), strain
    assert strain.differences == []
    assert strain.stalls <= strain.box_stalls, strain


async def test_a_burst_of_20000_events_in_two_seconds(stage: ScriptedStage) -> None:
    """F07: at Asterisk's default write timeout the daemon is not cut off."""
    strain = await burst(stage, 20_000, 2.0)
    assert strain.events >= 20_000
    assert strain.took < 4.0, "the scripted Asterisk was too slow for this to mean anything"
    nothing_lost(strain)


async def test_5000_events_a_second_for_20_seconds(stage: ScriptedStage) -> None:
    strain = await burst(stage, 100_000, 20.0)
    assert strain.events >= 100_000
    assert strain.took < 24.0, "the scripted Asterisk was too slow for this to mean anything"
    nothing_lost(strain)


async def test_who_does_not_read_is_cut_off(stage: ScriptedStage) -> None:
    """F07: the write timeout of the scripted Asterisk is real: a frozen daemon is cut, and comes back."""
    stage.daemon.signal(signal.SIGSTOP)
    try:
        told = await stage.tell("burst", 40_000, 2.0)
    finally:
        stage.daemon.signal(signal.SIGCONT)
    assert told["cut"] == 1
    async with asyncio.timeout(20):
        while (await stage.tell("stats"))["logins"] < 2:
            await asyncio.sleep(0.1)


async def test_a_short_soak_keeps_its_size(stage: ScriptedStage) -> None:
    """F40: calls leave no series behind. Slow growth is for a longer run of ``lab.strain.soak``."""
    looks = await soak(stage, 0.5, rate=10.0, every=2.0)
    assert looks.new_series == []
    assert (await stage.tell("stats"))["calls"] > 200
    assert looks.spread(lambda one: one.fds) <= 5
    assert looks.spread(lambda one: one.rss_mib) < 30
    assert looks.spread(lambda one: one.tasks) <= 30


def test_the_regression_is_the_slope() -> None:
    assert regression([(0, 1.0), (1, 3.0), (2, 5.0)]) == 2.0
    assert regression([(0, 1.0)]) == 0.0
