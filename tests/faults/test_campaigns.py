"""Every fault a few times under real calls, audited; ``scripts/faults`` does the same for hours.

The auditor reads SIPp's logs, queue_log, CEL, the recordings and PostgreSQL, and shares no code
with ctid: no difference means that nothing was lost and nothing is there twice.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.campaigns import CAMPAIGNS, run
from tests.faults.rig import Rig

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SEED = 20_261


async def differences(folder: Path, name: str) -> list[str]:
    """What differs after the small count of a campaign."""
    campaign = CAMPAIGNS[name]
    found, done = [], 0
    async with Rig(folder, seed=SEED) as rig:
        async for result in run(campaign, rig, count=campaign.quick):
            found += result.differences
            done += result.faults
            assert result.calls >= 20
        rig.assert_lively()
    assert done >= campaign.quick
    return found


async def test_nothing_differs_without_a_fault(tmp_path: Path) -> None:
    """Else the auditor, or ctid, is wrong already."""
    async with Rig(tmp_path, seed=SEED) as rig:
        rig.call(rate=5, seconds=8)
        await rig.quiet()
        assert await rig.audited() == []
        assert len(rig.books().callers) == 40
        assert rig.books().torn == 0
        rig.assert_lively()


async def test_ctid_is_killed(tmp_path: Path) -> None:
    """F25: kill -9 at any time; AGI callers fall back meanwhile (F34)."""
    assert await differences(tmp_path, "ctid-kill") == []


async def test_the_host_is_lost(tmp_path: Path) -> None:
    """F28, F25: ctid dies and its disk with it; who takes over has PostgreSQL and the books, nothing else."""
    assert await differences(tmp_path, "host-loss") == []


async def test_ctid_is_stopped_and_started(tmp_path: Path) -> None:
    """F27: SIGTERM under calls, exit code 0, nothing lost."""
    assert await differences(tmp_path, "ctid-stop") == []


async def test_ctid_is_frozen(tmp_path: Path) -> None:
    """F26, F07: SIGSTOP for seconds; Asterisk may have cut it off meanwhile."""
    assert await differences(tmp_path, "ctid-freeze") == []


async def test_postgresql_is_stopped_at_once(tmp_path: Path) -> None:
    """F12 immediate stops, F45 backends killed."""
    assert await differences(tmp_path, "pg-stop") == []


async def test_postgresql_is_away_for_long(tmp_path: Path) -> None:
    """F12: an outage, time-compressed."""
    assert await differences(tmp_path, "pg-outage") == []


async def test_connections_die_at_commit(tmp_path: Path) -> None:
    """F13: cut after PostgreSQL did the COMMIT and before ctid is told, or just before."""
    assert await differences(tmp_path, "commit-cut") == []


async def test_ami_is_cut(tmp_path: Path) -> None:
    """F03: RST, FIN, or in the middle of a frame."""
    assert await differences(tmp_path, "ami-reset") == []


async def test_frames_are_lost(tmp_path: Path) -> None:
    """F08, F09: one event of Asterisk's never arrives."""
    assert await differences(tmp_path, "frame-loss") == []


async def test_asterisk_is_killed(tmp_path: Path) -> None:
    """F02, F18: kill -9 under calls, started again on the same folders."""
    assert await differences(tmp_path, "asterisk-kill") == []
