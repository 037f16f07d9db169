"""A thousand callers, and no number of any of them in a log or a metric (S15, S27)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.places import ROOT

FIRST = 13_912_340_000
CALLERS = 1000

SCRIPT = """
import asyncio, sys
from pathlib import Path
import msgspec, structlog
from ctid.acd.facts import Anomaly
from ctid.acd.rules import QueueRule
from ctid.errors import SinkUnavailable
from ctid.log import configure
from ctid.settings import Database, Log
from ctid.sinks.journal import JournalSink
from ctid.sinks.metrics import MetricsSink
from ctid.store.pool import Pool
from ctid.store.segments import SegmentLog
from tests.fakes_floor import SALES, SUPPORT, Watched

FIRST, CALLERS = int(sys.argv[2]), int(sys.argv[3])
EVIL = "\\r\\n{} \\x1b[2J\\u202e"
configure(Log(format=sys.argv[1], level="debug"))
log = structlog.get_logger()

def pipeline():
    watched = Watched({"sales": QueueRule()})
    for phone in (SALES, SUPPORT):
        watched.board.login(phone, "sales")
    watched.snapshot()
    for n in range(CALLERS):
        number = str(FIRST + n)
        leg = watched.board.call(number)
        watched.board.channels[leg].name = f"Local/{number}@trunk-0000001a"
        watched.board.join(leg, "sales")
        phone = watched.board.ring(leg, (SALES, SUPPORT)[n % 2])
        if n % 3:
            watched.board.answer(phone)
        if n % 50 == 0:
            watched.snapshot()
        watched.board.hang_up(leg)
        watched.see()
    return watched.facts

async def main():
    facts = pipeline()
    metrics = MetricsSink({"sales": QueueRule()}, teams={"1001": None})
    await metrics.write(facts)
    for fact in facts:
        # More than ctid ever logs: every fact whole, in each way that it could come.
        log.info("fact", fact=fact, text=repr(fact), raw=msgspec.json.encode(fact))
        if isinstance(fact, Anomaly):
            log.info("anomaly", kind=fact.kind, what=fact.what, call=fact.call)
    for n in range(CALLERS):
        number = str(FIRST + n)
        many = [{number: (number, f"sip:{number}@h")}]
        log.error(f"failed for {number}", why=EVIL.format(number), many=many)
        try:
            raise KeyError(EVIL.format(number))
        except KeyError:
            log.exception("failed")
    async with Pool(Database(dsn="postgresql://127.0.0.1:1/nowhere", timeout="1s")) as pool:
        try:
            # The log is not opened: our own disk is away as well.
            spool = SegmentLog(Path("nowhere"), segment_bytes=1 << 20, cap_bytes=1 << 20)
            await JournalSink(pool, spool, system="ast", normalise=str).write(facts[:100])
        except SinkUnavailable as error:
            log.warning("away", why=str(error))
    sys.stdout.buffer.write(metrics.render())

asyncio.run(main())
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_s15_a_thousand_numbers_and_none_is_shown(form: str, tmp_path: Path) -> None:
    """S15, S27: core, metrics and log together, with more logged than ctid ever does."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, form, str(FIRST), str(CALLERS)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT}"},
        capture_output=True,
        check=False,
        timeout=55,
    )
    said, page = done.stderr.decode(), done.stdout.decode()
    assert done.returncode == 0, said[-2000:]
    assert "ctid_calls_offered_total" in page
    assert said.count("139****") > 5 * CALLERS, "nothing was logged at all"
    prefix = str(FIRST)[:7]
    hits = [line for line in (said + page).splitlines() if prefix in line]
    assert hits == []
    assert not any(character in said for character in "\r\x1b\u202e")
