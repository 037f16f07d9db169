"""The real daemon on a scripted Asterisk and a private PostgreSQL: killed, loaded, watched, audited.

async with ScriptedStage(folder, postgres=postgres, rate=8) as stage:
    found = await ctid_kill(stage, count=1000, seed=1)
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from lab.audit_truth import differences
from lab.daemon import Daemon, DaemonFailed, toml
from lab.postgres import PrivatePostgres
from lab.scripted_exchange import ScriptedExchange

SETTLED_WITHIN = 60.0


class ScriptedStage:
    """One scripted Asterisk, one daemon, one database.

    Attributes:
        exchange, daemon, dsn: Its parts.
    """

    def __init__(
        self,
        folder: Path,
        *,
        postgres: PrivatePostgres,
        seed: int = 1,
        rate: float = 0.0,
        write_timeout_ms: float = 0.0,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.exchange = ScriptedExchange(folder / "exchange", seed=seed, write_timeout_ms=write_timeout_ms)
        self._rate = rate
        self._postgres = postgres
        self._database = f"scripted_{uuid4().hex[:12]}"
        self.dsn = postgres.createdb(self._database)
        self.daemon = Daemon(
            folder / "ctid",
            asterisk=self.exchange.settings_table(),
            dsn=self.dsn,
            policy=toml(self.exchange.policy()),
            more=settings,
        )

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.daemon.migrate)
        await asyncio.to_thread(self.exchange.start)
        try:
            await self.daemon.start()
            await self.tell("rate", self._rate)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def _end(self) -> None:
        with contextlib.suppress(DaemonFailed):
            await self.daemon.kill()
        await asyncio.to_thread(self.exchange.kill)
        await asyncio.to_thread(self._postgres.dropdb, self._database)

    async def tell(self, command: str, *numbers: float) -> dict[str, Any]:
        """Give the scripted Asterisk a command; see ``lab.scripted``."""
        return await asyncio.to_thread(self.exchange.tell, command, *numbers)

    async def until_calls(self, count: int) -> None:
        """Wait until so many calls are over."""
        while (await self.tell("stats"))["told"]["call"] < count:
            await asyncio.sleep(0.1)

    async def settled(self, within: float = SETTLED_WITHIN) -> list[str]:
        """Compare again and again until nothing differs; return what still does at the end."""
        give_up = time.monotonic() + within
        while found := await differences(self.dsn, self.exchange.truth):
            if time.monotonic() > give_up:
                break
            await asyncio.sleep(0.5)
        return found


@dataclass
class Killed:
    """How a campaign went.

    Attributes:
        kills: Of these, ``unready`` before it was ready.
        calls, visits, talks: In the truth journal.
        differences: What PostgreSQL says otherwise.
    """

    kills: int = 0
    unready: int = 0
    calls: int = 0
    visits: int = 0
    talks: int = 0
    differences: list[str] = field(default_factory=list)


async def ctid_kill(stage: ScriptedStage, count: int, seed: int, *, within: float = SETTLED_WITHIN) -> Killed:
    """Kill the daemon ``count`` times at random moments of its life, then audit.

    A third of the lives end before they are ready: in the imports, at the lock, while the
    snapshot is read, while the books are caught up with. The others live up to two seconds more.
    """
    dice = random.Random(seed)
    done = Killed()
    for _ in range(count):
        ready = dice.random() > 1 / 3
        if stage.daemon.is_running:
            await stage.daemon.kill()
            done.kills += 1
        await stage.daemon.start(ready=ready)
        done.unready += not ready
        await asyncio.sleep(dice.uniform(0.0, 2.0 if ready else 1.5))
    if not ready:
        await stage.daemon.until_ready()
    told = (await stage.tell("quiesce"))["told"]
    done.calls, done.visits, done.talks = told["call"], told["visit"], told["talk"]
    done.differences = await stage.settled(within)
    return done
