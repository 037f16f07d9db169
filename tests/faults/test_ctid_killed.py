"""F25: ctid dies by kill -9 again and again, at any moment; not one call may be missing or wrong.

Judged by the truth journal of the scripted Asterisk, in SQL of its own (``lab.audit_truth``).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.audit_truth import differences
from lab.postgres import PrivatePostgres
from lab.scripted_stage import ScriptedStage, ctid_kill
from lab.truth import read

LIES = (
    ("visit", "outcome", "full"),
    ("visit", "agent", "9"),
    ("visit", "queue", "none"),
    ("talk", "agent", "9"),
    ("talk", "assisted", True),
    ("call", "merged", "x"),
    ("call", "end", "unseen"),
)

pytestmark = pytest.mark.timeout(180)


async def test_without_a_kill_nothing_differs(tmp_path: Path, postgres: PrivatePostgres) -> None:
    async with ScriptedStage(tmp_path, postgres=postgres, seed=2, rate=8) as stage:
        await stage.until_calls(60)
        await stage.tell("quiesce")
        assert await stage.settled(10) == []


async def test_the_audit_sees_every_kind_of_lie(tmp_path: Path, postgres: PrivatePostgres) -> None:
    """A journal that tells of calls, visits and talks otherwise must not pass."""
    async with ScriptedStage(tmp_path, postgres=postgres, seed=3, rate=8) as stage:
        await stage.until_calls(25)
        await stage.tell("quiesce")
        assert await stage.settled(10) == []
        records = read(stage.exchange.truth)
        for kind in ("call", "visit", "talk"):
            one = next(record for record in records if record["kind"] == kind)
            others = [record for record in records if record is not one]
            late = one | {"ended": one["began"][:11] + "23:59:59.000000+00:00"}
            assert await differences(stage.dsn, others)
            assert await differences(stage.dsn, [*others, late])
            assert await differences(stage.dsn, [*records, one | {"call": "nobody"}])
        for kind, name, value in LIES:
            one = next(it for it in records if it["kind"] == kind and it.get(name) != value)
            others = [record for record in records if record is not one]
            assert await differences(stage.dsn, [*others, one | {name: value}]), (kind, name)


async def test_killed_fifteen_times(tmp_path: Path, postgres: PrivatePostgres) -> None:
    """F25: fifteen deaths in the middle of calls, a third of them while it starts."""
    async with ScriptedStage(tmp_path, postgres=postgres, seed=4, rate=8) as stage:
        done = await ctid_kill(stage, count=15, seed=4, within=30)
        assert done.kills == 15
        assert done.calls > 50
        assert done.differences == []
