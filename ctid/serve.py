"""The life of one daemon: wait for the lead, lead, let go of it.

host lock --> lead --> Daemon --SIGTERM--> stop --> lead and lock given back   exit 0
                          |
                          +--LeadLost, StaleEpoch--> abandon                   exit 75
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from ctid import descriptors, log
from ctid.daemon import Daemon
from ctid.errors import LeadLost, StaleEpoch
from ctid.lock import HostLock
from ctid.notify import Watchdog, notify
from ctid.routing.policy import Policy
from ctid.settings import Settings, Web
from ctid.store.leader import Leadership
from ctid.store.pool import Pool
from ctid.web.standby import StandbyServer

_log = structlog.get_logger()

LOST: Final = 75
"""Exit code EX_TEMPFAIL of sysexits.h: start again, and stand by."""
STOP_WITHIN: Final = 9.8
"""Seconds from SIGTERM; past it not even a stuck disk keeps the process."""
ABANDON_WITHIN: Final = 4.5
"""The same from learning that the lead is lost."""
ANSWER_AFTER: Final = 0.5
"""Who stands by for less has no need of a page that says so."""
GOODBYE: Final = timedelta(seconds=0.5)
"""So long PostgreSQL has to close the pool's connections."""


async def serve(loaded: Settings, policy: Policy, config: Path | None = None) -> int:
    """Stand by, lead, and run until SIGTERM or SIGINT; return the exit code. SIGHUP: the policy anew."""
    log.configure(loaded.log)
    descriptors.raise_limit()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _told_to_stop, stop)
    try:
        async with AsyncExitStack() as stack:
            pool = await Pool(loaded.database).open()
            stack.push_async_callback(pool.close, within=GOODBYE)
            lock = stack.enter_context(HostLock(loaded.state_dir))
            lead = await _stand_by(loaded, lock, stop)
            if lead is None:
                return 0
            stack.push_async_callback(lead.release)
            return await _run(loaded, policy, pool, lead, stop, config)
    except OSError as error:
        _log.error("can not start", why=str(error), remedy="run `ctid check`")
        return 1


async def _stand_by(loaded: Settings, lock: HostLock, stop: asyncio.Event) -> Leadership | None:
    """Wait for the host's lock, then for the lead; ``None``: told to stop first."""
    lead: Leadership | None = None

    def state() -> str:
        return lock.state or (lead.state if lead else "")

    answers = asyncio.create_task(_answer_meanwhile(loaded.web, state))
    # Standing by is all that is wanted of this process now; there is no queue that could stand still.
    alive = asyncio.create_task(Watchdog(lambda: True, state).run())
    try:
        if not await lock.acquire(stop):
            return None
        lead = Leadership(loaded.database, loaded.leader, predecessor=lock.predecessor)
        lock.sign(lead.identity.holder)
        return lead if await lead.acquire(stop) else None
    finally:
        for task in (answers, alive):
            task.cancel()
        await asyncio.wait({answers, alive})


async def _answer_meanwhile(settings: Web, state: Callable[[], str]) -> None:
    await asyncio.sleep(ANSWER_AFTER)
    notify("READY=1", f"STATUS={state()}")
    server = StandbyServer(settings, state=state)
    try:
        await server.start()
    except OSError as error:
        _log.info("no answer to /readyz while standing by", why=str(error))
        return
    try:
        await asyncio.Event().wait()
    finally:
        await server.close()


async def _run(
    loaded: Settings, policy: Policy, pool: Pool, lead: Leadership, stop: asyncio.Event, config: Path | None
) -> int:
    """Run the daemon to its end; return the exit code."""
    code = 0
    is_started = False
    daemon: Daemon | None = None
    try:
        async with asyncio.TaskGroup() as group:
            beats = group.create_task(lead.run(), name="Leadership")
            daemon = Daemon(loaded, policy, pool, group, lead=lead, config=config)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, daemon.reload.ask)
            await daemon.start()
            is_started = True
            # What was made up to here lives as long as we do. Looking through it again and again (100,000
            # objects) is what most stalls of the loop were made of.
            gc.collect()
            gc.freeze()
            notify("READY=1", "STATUS=leading")
            await stop.wait()
            notify("STOPPING=1")
            _log.info("stopping")
            await daemon.stop()
            beats.cancel()
    except* OSError as errors:
        for error in errors.exceptions:
            what = "can not go on" if is_started else "can not start"
            _log.error(what, why=str(error), remedy="run `ctid check`")
        code = 1
    except* (LeadLost, StaleEpoch) as lost:
        _end_at_the_latest(ABANDON_WITHIN, LOST)
        _log.error("the lead is lost; stopping at once", why=str(lost.exceptions[0]))
        code = LOST
        if daemon is not None:
            await daemon.abandon()
    return code


def _told_to_stop(stop: asyncio.Event) -> None:
    if not stop.is_set():
        stop.set()
        _end_at_the_latest(STOP_WITHIN, 1)


def _end_at_the_latest(seconds: float, code: int) -> None:
    """End the process even if a thread hangs in the kernel, on a disk that does not answer."""

    def end() -> None:
        _log.error("still not at an end; ending hard", after_seconds=seconds)
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
