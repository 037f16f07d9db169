"""One leader in a process of its own, to be frozen: ``python leading.py DSN LEASE_SECONDS``.

Says on its output what it is: ``leading EPOCH``, and in the end ``lost``.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import structlog

from ctid.errors import LeadLost
from ctid.settings import Database, Leader
from ctid.store.leader import Leadership


async def main(dsn: str, lease: float) -> None:
    lead = Leadership(Database(dsn=dsn), Leader(lease=timedelta(seconds=lease)))
    await lead.acquire(asyncio.Event())
    print("leading", lead.epoch, flush=True)
    try:
        await lead.run()
    except LeadLost:
        print("lost", lead.epoch, flush=True)


structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
asyncio.run(main(sys.argv[1], float(sys.argv[2])))
