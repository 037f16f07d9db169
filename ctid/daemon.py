"""Composition root: builds every part, runs them in one TaskGroup, drains on a signal.

link ──batches──▶ pump ──▶ centre ──facts──▶ outboxes ──▶ journal, metrics, pops, archive
  ▲                 └──commands──▶ orders ──┐
  └──────────────────actions────────────────┘
FastAGI ──▶ router(policy, floor)      web, /metrics ──▶ read models
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import structlog

from ctid import __version__, readiness, settings
from ctid.acd.centre import Centre
from ctid.acd.facts import Fact
from ctid.adapters import LinkFigures, SipTexts
from ctid.agi.routes import Router
from ctid.agi.server import FastAgiServer
from ctid.ami.client import AmiLink
from ctid.ami.events import Snapshot
from ctid.desk import Desk
from ctid.errors import SettingsError, StoreError
from ctid.leftovers import Leftovers
from ctid.notify import Progress, Watchdog
from ctid.proof import Proof
from ctid.pump import Orders, Pump
from ctid.reload import Reload
from ctid.routing import policy as policies
from ctid.routing.policy import Policy
from ctid.routing.writing import last_good_routes
from ctid.settings import Settings
from ctid.sinks.archive import ArchiveSink
from ctid.sinks.base import Outbox, Sink
from ctid.sinks.history import StoredHistory
from ctid.sinks.journal import JournalSink
from ctid.sinks.metrics import MetricsSink
from ctid.sinks.pop_book import PopBook
from ctid.sinks.pop_url import PopUrl
from ctid.sinks.pops import PopSink
from ctid.stalls import StallMonitor
from ctid.store import calls, migrate
from ctid.store.leader import Leadership
from ctid.store.pool import Pool
from ctid.store.segments import SegmentLog
from ctid.store.whole import write_whole
from ctid.views import FloorViews
from ctid.web.hub import Hub
from ctid.web.phones import phone_problems
from ctid.web.server import MetricsServer, WebServer

_log = structlog.get_logger()

DRAIN_SECONDS: Final = 5.0
"""At a stop, so long facts may take to where they are safe."""
STOP_SECONDS: Final = 6.5
"""At a stop, whatever is away, facts are given up so long after its begin: exit follows within 10 s."""
CATCH_UP_SECONDS: Final = 0.5
"""PostgreSQL that takes no fact for so long is not waited for at a stop."""
CLOSE_SECONDS: Final = 1.5


def read(config: Path) -> tuple[Settings, Policy | None, list[str]]:
    """Read settings and policy, and collect what is wrong beyond the settings' own form.

    Raises:
        SettingsError: The settings themselves; nothing else can be looked at then.
    """
    loaded = settings.load(config)
    policy, problems = None, []
    try:
        policy = policies.load(loaded.policy)
    except SettingsError as error:
        problems += error.problems
    for account in filter(None, (loaded.asterisk.account, loaded.asterisk.dialler)):
        try:
            account.secret()
        except OSError as error:
            problems.append(
                f"{config}: asterisk: {account.secret_file}: {error.strerror}; "
                f"write the secret of AMI user {account.username} into it (mode 0600)"
            )
    problems += phone_problems(loaded.web, config)
    return loaded, policy, problems


def prepare(config: Path) -> tuple[Settings, Policy]:
    """Read settings and policy.

    Raises:
        SettingsError: All problems of both files at once.
    """
    loaded, policy, problems = read(config)
    if problems or policy is None:
        raise SettingsError(problems)
    return loaded, policy


class Daemon:
    """Every part of ctid, wired together."""

    def __init__(
        self,
        loaded: Settings,
        policy: Policy,
        pool: Pool,
        group: asyncio.TaskGroup,
        *,
        lead: Leadership,
        config: Path | None = None,
    ) -> None:
        self._settings = loaded
        self._lead = lead
        self._is_stopping = False
        self._group = group
        self._tasks: list[asyncio.Task[None]] = []
        self._pool = pool
        self._policy = policy
        rules = policy.rules()
        self.metrics = MetricsSink(
            rules,
            teams={number: agent.team or "" for number, agent in policy.agents.items()},
            reasons=policy.site.pause_reasons,
            version=__version__,
            is_open=lambda queue, at: self._policy.is_queue_open(queue, at),
        )
        self.stalls = StallMonitor(self.metrics.loop_late, count=self.metrics.loop_tasks)
        self.metrics.watch_loop(lambda: self.stalls.worst)
        pool.on_error = self.metrics.db_error
        self.metrics.watch_lead(lambda: lead.is_leader, lambda: lead.epoch)
        self.link = AmiLink(loaded.asterisk, observer=LinkFigures(self.metrics))
        self.centre = Centre(rules, policy.interfaces())
        self.views = FloorViews(self.centre, policy, is_connected=lambda: self.link.in_sync)
        self._build_sinks()
        self._build_listeners()
        self._build_guards(config)

    def _build_sinks(self) -> None:
        loaded, pool = self._settings, self._pool
        self.book = PopBook()
        self.hub = Hub(book=self.book, floor=self.views.state)
        self.pops = PopSink(
            book=self.book,
            screens=self.hub,
            url=PopUrl(f"{loaded.web.public_url.rstrip('/')}/pop/{{id}}"),
            key=_pop_key(loaded.state_dir),
            phones=SipTexts(self.link) if loaded.pops.sip_message else None,
            history=StoredHistory(pool, normalise=self._policy.number, limit=loaded.pops.history),
            history_timeout=loaded.pops.history_timeout,
            observe=self.metrics.pop_delivery,
        )
        self.journal = JournalSink(
            pool,
            SegmentLog(
                loaded.state_dir / "spool",
                segment_bytes=loaded.spool.segment_mib << 20,
                cap_bytes=loaded.spool.cap_mib << 20,
            ),
            epoch=lambda: self._lead.epoch,
            leader=loaded.leader.name,
            # What is concluded before the first snapshot is concluded of what is remembered.
            system=lambda: self.centre.system or self.link.system,
            boot=lambda: self.centre.boot or self.link.boot,
            normalise=self._policy.number,
            on_refused=self.metrics.sink_dropped,
        )
        self.metrics.watch_spool(self.journal)
        self.archive = ArchiveSink(
            pool, loaded.asterisk.recordings, loaded.archive, on_filed=self.metrics.recording_filed
        )
        sinks: tuple[Sink, ...] = (self.pops, self.metrics, self.journal, self.archive)
        self.outboxes = [Outbox(sink, on_drop=self._dropped) for sink in sinks]
        for outbox in self.outboxes:
            self.metrics.watch_outbox(outbox.sink.name, lambda outbox=outbox: outbox.pending)  # type: ignore[misc]
        self.proof = Proof(
            loaded,
            pool,
            self.centre,
            rules=lambda: self._policy.rules(),
            agents=lambda: self._policy.interfaces(),
            system=lambda: self.centre.system,
            is_in_sync=lambda: self.link.in_sync,
            journal=self.journal,
            outbox=self._outbox_of(self.journal),
            put=self._put_mended,
            noted=self.metrics,
        )

    def _outbox_of(self, sink: Sink) -> Outbox:
        return next(outbox for outbox in self.outboxes if outbox.sink is sink)

    def _build_listeners(self) -> None:
        loaded = self._settings
        self.desk = Desk(
            self._pool,
            hub=self.hub,
            book=self.book,
            normalise=self._policy.number,
            registry=self.metrics.instruments.registry,
            system=lambda: self.centre.system or self.link.system,
            end_wrap_up=self._end_wrap_up,
        )
        self.leftovers = Leftovers(
            self._pool,
            self._policy.rules(),
            system=lambda: self.link.system,
            put=self._put_leftover,
            written=self._written,
        )
        self.pump = Pump(
            link=self.link,
            centre=self.centre,
            outboxes=self.outboxes,
            orders=Orders(self.link, self._group),
            changed=self.hub.floor_changed,
            snapshotted=self._snapshotted,
            note=self.proof.note,
            missed=self.proof.missed,
            doubtful_since=lambda: self.proof.doubtful_since,
        )
        self.web = WebServer(
            loaded.web,
            hub=self.hub,
            sessions=self.desk.sessions,
            sign_ins=self.desk.sign_ins,
            book=self.book,
            pops=self.pops,
            floor=self.views.state,
            end_wrap_up=self._end_wrap_up,
            more=self.desk.routes,
            checks=readiness.checks(
                asterisk=self._asterisk,
                ask_database=self._database,
                spool=lambda: "the spool is full" if self.journal.is_spool_full else "",
                loop=self.stalls.why_not_ready,
                leader=self._leader,
            ),
            version=__version__,
        )
        self.scrapes = MetricsServer(loaded.metrics, render=self.metrics.render)
        self.router = Router(
            self._policy, self.views.for_routing, self._last_agent, lambda: datetime.now(UTC)
        )
        self.fastagi = FastAgiServer(
            loaded.fastagi, self.router.route, self.router.default, observe=self.metrics.agi_request
        )

    def _build_guards(self, config: Path | None) -> None:
        batches = self.link.batches
        self.watchdog = Watchdog(
            # A pump that reads a day of the books before it takes the next batch is not stuck.
            Progress(waiting=batches.qsize, taken=lambda: batches.taken + self.proof.steps),
            status=lambda: self._asterisk() or "in sync with Asterisk",
        )
        self.reload = Reload(
            config,
            self._settings,
            self._policy,
            keep=self._keep_routes,
            adopt=[self._adopt],
            observe=self._reloaded,
        )

    def _keep_routes(self, policy: Policy) -> None:
        """For a day without ctid."""
        file = self._settings.state_dir / "last-good-routes.json"
        # Read by Asterisk's user (scripts/agi) on a day without us; there is no caller in it.
        write_whole(file, last_good_routes(policy).encode(), mode=0o644)

    def _adopt(self, policy: Policy) -> list[str]:
        """Go by another policy from now on; return what of it waits for a restart."""
        self._policy = policy
        self.router.adopt(policy)
        self.views.adopt(policy)
        self.metrics.adopt(policy.rules())
        kept = self.centre.adopt(policy.rules(), policy.interfaces())
        self.hub.floor_changed()
        return [f"policy: agents: {phone}: is in a queue, and stays with its agent" for phone in kept]

    def _reloaded(self, is_good: bool) -> None:
        if is_good:
            self.metrics.config_reloaded(datetime.now(UTC))
        else:
            self.metrics.config_refused()

    async def start(self) -> None:
        """Listen, connect, and tell where.

        Raises:
            OSError: A port is taken, or the state folder can not be written.
        """
        self._settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._keep_routes(self._policy)
        await self.journal.open()
        self._remember(await self.proof.open())
        await self.fastagi.start()
        await self.web.start()
        await self.scrapes.start()
        parts: list[Runs] = [
            self.pump,
            self.leftovers,
            self.link,
            self.hub,
            *self.desk.parts,
            self.pops,
            self.archive,
            self.stalls,
            self.watchdog,
            self.reload,
            self.journal,
            self.proof,
            *self.outboxes,
        ]
        self._tasks = [self._group.create_task(part.run(), name=type(part).__name__) for part in parts]
        self.metrics.config_reloaded(datetime.now(UTC))
        _log.info(
            "ctid runs",
            version=__version__,
            web=self.web.url,
            fastagi=self.fastagi.port,
            metrics=self.scrapes.port,
            pid=os.getpid(),
        )

    def _remember(self, facts: Sequence[Fact]) -> None:
        """What an earlier life concluded last may not be written yet; what is open, nobody else knows."""
        for fact in facts:
            self._put_leftover(fact)
        for fact in self.centre.reminders():
            for sink in (self.pops, self.metrics):
                self._outbox_of(sink).put(fact)

    async def _written(self) -> None:
        """Wait until all that was concluded so far is in PostgreSQL."""
        await self._outbox_of(self.journal).drained()
        await self.journal.drained()

    def _snapshotted(self, snapshot: Snapshot) -> None:
        if not self.proof.is_restored:
            self.leftovers.shown(snapshot)

    async def stop(self) -> None:
        """Refuse new calls first (the dialplan then falls back at once), then write what is known.

        Takes at most ``STOP_SECONDS`` and ``CLOSE_SECONDS``, whatever is away.
        """
        give_up = asyncio.get_running_loop().time() + STOP_SECONDS
        self._is_stopping = True
        await self.fastagi.close()
        await self.link.close()
        await self._drain(give_up)
        await self._close()

    async def abandon(self) -> None:
        """Let go of everything at once: whatever this daemon still did would be wrong."""
        self._is_stopping = True
        await self.link.close()
        await asyncio.gather(self.fastagi.abort(), self._close())

    async def _drain(self, give_up: float) -> None:
        """Wait until the core has seen what Asterisk told, and the facts are where they are safe."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(loop.time() + DRAIN_SECONDS, give_up)):
                while not self.link.batches.empty():  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                for outbox in self.outboxes:
                    await outbox.drained()
                await self._catch_up()
        except TimeoutError:
            _log.error("facts not delivered", pending={o.sink.name: o.pending for o in self.outboxes})
        if self.journal.backlog:
            _log.warning("facts stay in the spool for the next start", facts=self.journal.backlog)

    async def _catch_up(self) -> None:
        """Let PostgreSQL have what is in the spool, for as long as it gets on with it."""
        before = self.journal.backlog + 1
        while 0 < (left := self.journal.backlog) < before:
            before = left
            with suppress(TimeoutError):
                async with asyncio.timeout(CATCH_UP_SECONDS):
                    await self.journal.drained()

    async def _close(self) -> None:
        """Close the pages, sending the screens away with 1012, end all work, and close the spool."""
        for task in self._tasks:
            task.cancel()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(self.web.close(), self.scrapes.close())
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await self.proof.close()
                await self.journal.close()
        except TimeoutError:
            _log.warning("not all was closed in good order")

    def _put_leftover(self, fact: Fact) -> None:
        """Only for the record: no screen and no counter of this run knows what it is about."""
        for outbox in self.outboxes:
            if outbox.sink in (self.journal, self.archive):
                outbox.put(fact)

    def _put_mended(self, fact: Fact, is_counted: bool) -> None:
        """A fact from the books: for the record, and for the counters if they lack it."""
        self._put_leftover(fact)
        if not is_counted:
            self._outbox_of(self.metrics).put(fact)

    def _dropped(self, sink: str, fact: object) -> None:
        self.metrics.sink_dropped(sink)
        if sink == JournalSink.name:
            _log.error("journal is full: a fact is lost", kind=type(fact).__name__)

    async def _end_wrap_up(self, agent: str) -> bool:
        """Say yes only when it survives us.

        Raises:
            LogUnavailable: It happened, but can not be written down.
        """
        done = self.pump.end_wrap_up(agent)
        if done:
            await self.proof.durable()
        return done

    def _asterisk(self) -> str:
        return "" if self.link.in_sync else "no AMI connection, or not in sync yet"

    async def _database(self) -> str:
        try:
            await migrate.check(self._pool)
        except StoreError as error:
            return str(error)
        return ""

    def _leader(self) -> str:
        if self._is_stopping:
            return "stopping"
        return "" if self._lead.is_leader else self._lead.state

    async def _last_agent(self, caller: str, since: datetime) -> str | None:
        return await calls.last_agent_of(self._pool, caller, since=since)


class Runs(Protocol):
    """A part with work of its own."""

    async def run(self) -> None:
        """Work until cancelled."""


def _pop_key(folder: Path) -> bytes:
    """Return the secret that pop ids are derived from; made at the first start."""
    file = folder / "pop.key"
    try:
        return file.read_bytes()
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        key = secrets.token_bytes(32)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(key)
        return key
