"""A whole call centre to break: every connection of ctid goes through a proxy, every part can be killed.

async with Rig(folder, seed=7) as rig:
    rig.call(rate=3, seconds=5)
    await rig.daemon.kill()
    await rig.daemon.start()
    assert await rig.audited() == []
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import quote, urlsplit

from lab.daemon import Daemon, toml
from lab.exchange import Exchange, LabQueue
from lab.floor import LINES, Line, policy_table
from lab.load import Callers, Crew, call, crowd
from lab.postgres import PrivatePostgres
from lab.proxy import FaultProxy
from lab.proxy_judges import AmiJudge, CommitFault, FrameFault, PostgresJudge
from tests.faults import auditor, books

AGENTS = {
    "quick": [str(number) for number in range(3001, 3009)],
    "slow": [str(number) for number in range(3011, 3017)],
    "brief": [str(number) for number in range(3021, 3027)],
    "deaf": ["3031", "3032"],
    "busy": ["3041"],
}
"""Temper -> numbers; all of them are members of the queue ``load``."""

DIDS = {"load": "4901", "lonely": "4902"}
"""Queue -> the number before it; nobody works in ``lonely``."""

_LONELY_SHARE = 0.15


class Switch(Protocol):
    """Asterisk, real (``lab.exchange.Exchange``) or scripted, as far as faults need it."""

    queue_log: Path
    cel: Path
    recordings: Path
    ami_port: int

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def settings_table(self) -> dict[str, object]: ...


class Rig:
    """PostgreSQL, Asterisk, callers, agents and ctid.

    Attributes:
        exchange, postgres, daemon: May be killed and started again.
        ami, database: Proxies before Asterisk's AMI and PostgreSQL.
        frame_faults, commit_fault: What these do to frames and to COMMITs.
        dsn: Of ctid's database, past the proxy.
        chance: Seeded; faults take their times from it.
    """

    exchange: Exchange
    daemon: Daemon

    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 1,
        version: int = 22,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; nothing runs yet. ``settings`` are further tables of ctid.toml."""
        self.folder = folder
        self.seed = seed
        self.version = version
        self.chance = random.Random(seed)
        self.frame_faults: list[FrameFault] = []
        self.commit_fault = CommitFault()
        self.postgres = PrivatePostgres(folder / "postgres", fast=True)
        self.ami = FaultProxy(judge=lambda: AmiJudge(self.frame_faults))
        self.calls_made = 0
        self._environment = environment
        self._settings = dict(settings or {})
        self._batch = 0
        self._callers: list[Callers] = []
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # -- callers ---------------------------------------------------------------

    def call(self, *, rate: float, seconds: float) -> None:
        """Let a mixed crowd call for so long; returns at once."""
        for queue, did in DIDS.items():
            share = _LONELY_SHARE if queue == "lonely" else 1 - _LONELY_SHARE
            groups = crowd(
                seed=self.seed * 10_000 + self._batch, batch=self._batch, rate=rate * share, seconds=seconds
            )
            folder = self.folder / "callers" / f"{self._batch:04d}"
            self._callers.append(call(groups, exchange=self.exchange.sip_address, did=did, folder=folder))
            self.calls_made += sum(group.calls for group in groups)
            self._batch += 1

    @property
    def are_calling(self) -> bool:
        """Whether callers are under way."""
        return any(callers.are_calling for callers in self._callers)

    async def quiet(self) -> None:
        """Wait until all callers are through and Asterisk has no channel left."""
        for callers in self._callers:
            await callers.finish()
        self._callers.clear()
        give_up = time.monotonic() + 30
        while "\n0 active channels" not in "\n" + await asyncio.to_thread(
            self.exchange.cli, "core show channels count"
        ):
            if time.monotonic() > give_up:
                raise TimeoutError("Asterisk still has channels")
            await asyncio.sleep(0.2)

    def hang_up_all(self) -> None:
        """Switch all callers' phones off at once, as they are when Asterisk died under them."""
        for callers in self._callers:
            callers.stop()
        self._callers.clear()

    # -- the truth -------------------------------------------------------------

    def books(self) -> books.Books:
        """Read what everybody else wrote."""
        return books.read(
            cel=self.exchange.cel,
            queue_log=self.exchange.queue_log,
            recordings=self.exchange.recordings,
            callers=[self.folder / "callers"],
        )

    def assert_lively(self) -> None:
        """Else no difference means nothing: the books must hold something of each kind."""
        seen = self.books()
        verbs = Counter(line.verb for line in seen.queue_lines)
        assert verbs["CONNECT"] >= 5, verbs
        assert verbs["ABANDON"] >= 1, verbs
        assert sum("UP" in caller.times for caller in seen.callers) >= 10
        assert any(books.recorded_files(seen.recordings))

    async def audited(self, *, within: float = 15.0) -> list[str]:
        """Return the differences, waiting until there are none, but not for ever."""
        give_up = time.monotonic() + within
        while True:
            differences = await auditor.audit(self.dsn, await asyncio.to_thread(self.books))
            if not differences or time.monotonic() > give_up:
                return differences
            await asyncio.sleep(1)

    # -- building it -----------------------------------------------------------

    async def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        await self._start_database()
        await self._stack.enter_async_context(self.ami)
        crew = Crew(self.folder / "agents", AGENTS)
        numbers = list(crew.addresses)
        self.exchange = Exchange(
            self.version,
            folder=self.folder / "asterisk",
            agents=crew.addresses,
            queues=[LabQueue("load", numbers, "rrmemory", {"timeout": 2}), LabQueue("lonely")],
        )
        self.ami.target = ("127.0.0.1", self.exchange.ami_port)
        self._stack.callback(self.exchange.stop)
        await asyncio.to_thread(self.exchange.start)
        self._stack.enter_context(crew.at_work(self.exchange.sip_address))
        self._stack.callback(self.hang_up_all)
        self._make_daemon(numbers)
        await asyncio.to_thread(self.daemon.migrate)
        self._stack.push_async_callback(self.daemon.kill)
        await self.daemon.start()

    async def _start_database(self) -> None:
        self._stack.callback(self.postgres.erase)
        await asyncio.to_thread(self.postgres.start)
        self.dsn = await asyncio.to_thread(self.postgres.createdb, "ctid")
        # A path of a Unix socket has at most 107 bytes: not below a test's folder.
        sockets = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ctid-pg-")))
        self.database = FaultProxy(
            self.postgres.socket / ".s.PGSQL.5432",
            listen=sockets / ".s.PGSQL.5432",
            judge=lambda: PostgresJudge(self.commit_fault),
        )
        await self._stack.enter_async_context(self.database)
        user = urlsplit(self.dsn).username
        self._proxied_dsn = f"postgresql://{user}@/ctid?host={quote(str(sockets), safe='')}&port=5432"

    def _make_daemon(self, numbers: list[str]) -> None:
        lines = {
            "load": Line(DIDS["load"], "load", "consultation", tuple(numbers), wrap_up=0),
            "lonely": Line(DIDS["lonely"], "lonely", "repair", (), wrap_up=0),
            "overflow": replace(LINES["overflow"], agents=()),
        }
        policy = policy_table(lines, numbers)
        policy["site"]["timeout"] = "3s"
        assert not isinstance(self.ami.address, Path)
        self.daemon = Daemon(
            self.folder / "ctid",
            asterisk=self.exchange.settings_table() | {"port": self.ami.address[1]},
            dsn=self._proxied_dsn,
            policy=toml(policy),
            fastagi_port=self.exchange.fastagi_port,
            more={"pops": {"sip_message": False}, **self._settings},
            environment=self._environment,
        )
