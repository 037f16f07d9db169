"""Every outcome, end to end, judged by the phones' own clocks; on 22, and a part of it on 16."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import pytest_asyncio

from lab import ledger, scenes
from lab.ledger import Entry
from lab.scenes import Figure
from lab.stage import Stage

pytestmark = pytest.mark.timeout(120, func_only=True)

ON_16 = (
    scenes.one_ring,
    scenes.abandoned_waiting,
    scenes.abandoned_ringing,
    scenes.second_agent,
    scenes.hold_and_resume,
    scenes.blind_transfer,
    scenes.attended_transfer,
)


def wrong(entries: Sequence[Entry]) -> list[Entry]:
    """What ctid says otherwise than the phones."""
    assert entries
    return [entry for entry in entries if not entry.is_right]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def figures(centre: Stage) -> list[Figure]:
    """What the phones saw of all scenes, played at once."""
    return await scenes.play_all(centre)


async def test_figures_agree_with_the_phones_clocks(centre: Stage, figures: list[Figure]) -> None:
    """F31: both transfers among the scenes."""
    assert not wrong(await ledger.compare(centre.pool, figures))


async def test_metrics_agree_with_the_phones(centre: Stage, figures: list[Figure]) -> None:
    assert not wrong(await ledger.compare_metrics(centre, figures))


async def test_each_pop_reached_exactly_the_ringing_agent(centre: Stage, figures: list[Figure]) -> None:
    assert not wrong(await ledger.compare_pops(centre, figures))


async def test_caller_and_agent_are_on_channels_of_their_own(centre: Stage, figures: list[Figure]) -> None:
    assert not wrong(await ledger.compare_recordings(centre, figures))


async def test_asterisk_16_gives_the_same_figures(centre16: Stage) -> None:
    seen = await asyncio.gather(*(scene(centre16) for scene in ON_16))
    figures = [figure for part in seen for figure in part]
    assert not wrong(await ledger.compare(centre16.pool, figures))
    assert not wrong(await ledger.compare_recordings(centre16, figures))
