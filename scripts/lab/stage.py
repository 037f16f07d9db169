"""Everything that a scene needs, started in order and taken down whatever happens.

    async with Stage(folder) as stage:
        figures = await play_all(stage)

PostgreSQL, Asterisk, the daemon, the agents' phones and their screens: all private, on free
ports, and gone afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from ctid.settings import Database
from ctid.store.pool import Pool
from ctid.store.users import Users
from lab import sip
from lab.daemon import Daemon, free_port, toml
from lab.dialog import Moment, PhoneCall
from lab.exchange import TRUNK_IP, Exchange, LabQueue
from lab.floor import AGENTS, CALLER_TONE, LINES, Line, policy_table, tone_of
from lab.phone import Phone
from lab.ports import free_udp_port
from lab.postgres import PrivatePostgres
from lab.screen import Screen

AGENT_IP = "127.0.0.3"


class Stage:
    """One call centre, whole.

    Attributes:
        version: Of Asterisk, 22 or 16.
        exchange, postgres, daemon: Its machines.
        dsn: Of ctid's database.
        phones, screens, tokens: Keyed by agent number; ``tokens`` also holds ``admin``.
    """

    exchange: Exchange
    postgres: PrivatePostgres
    daemon: Daemon
    pool: Pool
    dsn: str

    def __init__(
        self,
        folder: Path,
        *,
        version: int = 22,
        report: Callable[[str], None] = lambda doing: None,
        web_port: int = 0,
        dialplan: str = "",
        variables: Mapping[str, str] | None = None,
        postgres: PrivatePostgres | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        lines: Mapping[str, Line] = LINES,
        agents: Sequence[str] = AGENTS,
        elsewhere: Mapping[str, tuple[str, int]] | None = None,
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            folder: For everything that is written; kept, so that logs can be read.
            report: Told what is being done, in a few words.
            postgres: A running cluster to use; by default one of its own.
            settings: Further tables of ctid.toml.
            lines: The floor: queues, who works in them, and the numbers before them.
            agents: Numbers whose phones and screens are ours.
            elsewhere: Further agents -> address of a phone that somebody else plays (SIPp).
        """
        self.version = version
        self.folder = folder
        self.phones: dict[str, Phone] = {}
        self.screens: dict[str, Screen] = {}
        self.tokens: dict[str, str] = {}
        self._report = report
        self._web_port = web_port
        self._dialplan = dialplan
        self._variables = variables
        self._shared_postgres = postgres
        self._settings = settings
        self.lines = lines
        self.agents = tuple(agents)
        self.elsewhere = dict(elsewhere or {})
        self._stack = contextlib.AsyncExitStack()
        self._numbers = itertools.count(13_800_000_001)

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def agent(self, number: str) -> Phone:
        """Return an agent's phone."""
        return self.phones[number]

    async def caller(self, number: str = "") -> Phone:
        """Return a new phone in the public network, switched on for as long as the stage."""
        return await self._stack.enter_async_context(self.stranger(number))

    def stranger(self, number: str = "") -> Phone:
        """Return a new phone, yet to be switched on, with a number nobody had before."""
        return Phone(number or str(next(self._numbers)), exchange=self._sip, ip=TRUNK_IP, tone=CALLER_TONE)

    async def offered(self, caller: Phone, *, within: float = 10.0, besides: int = 0) -> PhoneCall:
        """Wait until some agent's phone is called for this caller and return that call.

        Args:
            besides: So many offers of him are known already and not meant.

        Raises:
            TimeoutError: No agent's phone was called ``within`` seconds.
        """
        async with asyncio.timeout(within):
            while len(found := self.offers_of(caller)) <= besides:
                await asyncio.sleep(0.005)
        return found[besides]

    def offers_of(self, caller: Phone) -> list[PhoneCall]:
        """Return every call that agents' phones got for this caller, oldest first."""
        calls = [
            call
            for phone in self.phones.values()
            for call in phone.calls
            if sip.user_of(call.invite.first("from")) == caller.user
        ]
        return sorted(calls, key=lambda call: call.clock.invited.monotonic if call.clock.invited else 0.0)

    async def save_note(self, taken: PhoneCall, *, after: float = 0.0) -> float:
        """Save the agent's note ``after`` seconds and return how long the wrap-up was, in seconds."""
        await asyncio.sleep(after)
        assert taken.clock.ended is not None
        agent = taken.phone.user
        give_up = time.monotonic() + 2
        while True:
            status, answer = await self.screens[agent].ask("POST", f"/api/v1/agents/{agent}/wrap-up/end")
            if status < 300:
                break
            # No person is so quick, but a test is: his own phone knows of the end before ctid does.
            if status != 409 or time.monotonic() > give_up:
                raise RuntimeError(f"saving the note of {agent}: {status} {answer}")
            await asyncio.sleep(0.02)
        return Moment.now().since(taken.clock.ended)

    async def open_screens(self) -> None:
        """Open every agent's page; after a restart of ctid, the ones that were cut off."""
        self._report("switching screens on")
        for number in self.agents:
            if number not in self.screens or not self.screens[number].is_connected:
                screen = Screen(self.daemon.url, self.tokens[number])
                self.screens[number] = await self._stack.enter_async_context(screen)

    @property
    def _sip(self) -> tuple[str, int]:
        return self.exchange.sip_address

    async def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        await self._start_postgres()
        fastagi_port, web_port = free_port(), self._web_port or free_port()
        await self._start_exchange(fastagi_port, web_port)
        self._report("migrating the database, starting ctid")
        self.daemon = Daemon(
            self.folder / "ctid",
            asterisk=self.exchange.settings_table(),
            dsn=self.dsn,
            policy=toml(policy_table(self.lines, (*self.agents, *self.elsewhere))),
            fastagi_port=fastagi_port,
            web_port=web_port,
            more=self._settings,
        )
        await asyncio.to_thread(self.daemon.migrate)
        self.pool = await self._stack.enter_async_context(Pool(Database(dsn=self.dsn, pool=4)))
        await self._add_users()
        self._stack.push_async_callback(self.daemon.stop)
        await self.daemon.start()
        await self.open_screens()

    async def _start_postgres(self) -> None:
        self._report("starting PostgreSQL")
        if self._shared_postgres is not None:
            self.postgres = self._shared_postgres
        else:
            self.postgres = PrivatePostgres(self.folder / "postgres", fast=True)
            self._stack.callback(self.postgres.erase)
            await asyncio.to_thread(self.postgres.start)
        name = f"ctid_{free_port()}_{self.version}"
        self.dsn = await asyncio.to_thread(self.postgres.createdb, name)

    async def _start_exchange(self, fastagi_port: int, web_port: int) -> None:
        self._report(f"starting Asterisk {self.version}")
        ports = {number: free_udp_port(AGENT_IP) for number in self.agents}
        self.exchange = Exchange(
            self.version,
            folder=self.folder / "asterisk",
            agents={number: (AGENT_IP, port) for number, port in ports.items()} | self.elsewhere,
            members={line.queue: line.agents for line in self.lines.values() if not line.is_ours},
            queues=[
                LabQueue(line.queue, line.agents, line.strategy, {"timeout": line.timeout})
                for line in self.lines.values()
                if line.is_ours
            ],
            fastagi_port=fastagi_port,
            pop_url=f"http://127.0.0.1:{web_port}/pop?leg=%s",
            variables=self._variables,
            dialplan=self._dialplan,
        )
        self._stack.callback(self.exchange.stop)
        await asyncio.to_thread(self.exchange.start)
        for number, port in ports.items():
            phone = Phone(number, exchange=self._sip, ip=AGENT_IP, port=port, tone=tone_of(number))
            self.phones[number] = await self._stack.enter_async_context(phone)

    async def _add_users(self) -> None:
        users = Users(self.pool)
        everybody = (*self.agents, *self.elsewhere)
        for number in everybody:
            await users.create_user(number, role="agent", agent=number)
        await users.create_user("admin", role="admin")
        for name in (*everybody, "admin"):
            self.tokens[name] = await users.issue_token(name)
