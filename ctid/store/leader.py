"""Becoming the leader, staying it, and learning in time that one is it no longer.

    standby --lock free, or its holder dead or silent--> leading(epoch)
       |                                                 |      ^
       | PostgreSQL away, nobody                 session |      | epoch in the row
       | ever seen to lead                          lost v      | still ours
       v                                             leading, without a lock
    provisional --PostgreSQL back, nobody else leads--> leading(epoch)
       |                                                 |
       +-- somebody else leads --> LeadLost <-- another epoch in the row

Provisional: calls are served and facts kept, but without an epoch none is applied.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import timedelta
from typing import Final

import structlog

from ctid.errors import LeadLost, StoreError
from ctid.settings import Database, Leader
from ctid.store.lease import Identity, Lease, Standing
from ctid.store.pool import OwnConnection

_log = structlog.get_logger()

PATIENCE_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.5
BEATS_PER_LEASE: Final = 5


class Watch:
    """Whether the leader gives signs of life, judged by looking again and again.

    Only our own clock and what changed count: after an outage of PostgreSQL, or a pause of
    ours, a leader gets his first chance before his silence means anything.

    Attributes:
        is_alive: The last sign of life was not there when we first looked.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._lease = self._patience = lease_seconds
        self._sign: object = None
        self._locked_by = 0
        self._looked_at = self._since = -1e9
        self.is_lock_old = False
        self.is_alive = False

    def saw(self, standing: Standing, at: float) -> None:
        """Take note of a look at ``at``, seconds of a steady clock."""
        sign = (standing.epoch, standing.holder, standing.beat_at)
        if sign != self._sign:
            self.is_alive = self._sign is not None and bool(standing.holder)
            self._since = at
            if self.is_alive:
                self._patience = self._lease
        elif at - self._looked_at > self._lease / 2:
            self._since = at
        self.is_lock_old = standing.locked_by == self._locked_by
        self._sign, self._locked_by, self._looked_at = sign, standing.locked_by, at

    def missed(self) -> None:
        """PostgreSQL is away: whoever leads has yet to come back, too."""
        self._patience = 2 * self._lease
        self._looked_at = -1e9

    @property
    def is_silent(self) -> bool:
        """No sign of life for so long that he has lost the lead."""
        return self._looked_at - self._since >= self._patience


class Leadership:
    """The lead among all daemons with one name and one database.

    Attributes:
        identity: Who we are in the row.
        epoch: The number of our lead, in the row and with every fact; ``None``: not known (yet).
        is_leader: Ours is the lead, be it provisionally.
    """

    def __init__(
        self,
        database: Database,
        settings: Leader,
        *,
        predecessor: str = "",
        identity: Identity | None = None,
        patience: timedelta = timedelta(seconds=PATIENCE_SECONDS),
    ) -> None:
        """Prepare; connects to nothing yet.

        Args:
            predecessor: Holder's id that is certainly dead: the last one in our state folder.
            patience: So long PostgreSQL may be away before we lead without it.
        """
        self.identity = identity or Identity.own()
        self.epoch: int | None = None
        self.is_leader = False
        self._database = database
        self._name = settings.name
        self._predecessor = predecessor
        self._patience = patience.total_seconds()
        self._lease_seconds = settings.lease.total_seconds()
        self._beat_seconds = self._lease_seconds / BEATS_PER_LEASE
        self._within = min(database.timeout, settings.lease, patience)
        self._watch = Watch(self._lease_seconds)
        self._lease: Lease | None = None
        self._is_locked = False
        self._own_backends: set[int] = set()
        self._other: Standing | None = None
        self._cut_off = ""

    @property
    def state(self) -> str:
        """``leading``, ``provisional``, or who leads instead."""
        if self.is_leader:
            return "provisional" if self.epoch is None else "leading"
        return f"standby: {self._other or 'looking for who leads'}"

    async def acquire(self, stop: asyncio.Event) -> bool:
        """Wait until we lead. False: ``stop`` was set first.

        Never longer than ``patience`` if PostgreSQL is away and nobody was seen to lead.
        """
        told = asyncio.create_task(stop.wait())
        work = asyncio.create_task(self._become_leader())
        try:
            await asyncio.wait({told, work}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
            work.cancel()
            await asyncio.wait({told, work})
        if not work.cancelled():
            work.result()
        if self.is_leader and not stop.is_set():
            return True
        await self.release()
        return False

    async def run(self) -> None:
        """Stay the leader, until cancelled.

        Raises:
            LeadLost: Somebody else leads.
        """
        while True:
            if self._lease is not None and self._is_locked and self.epoch is not None:
                await self._beat(self._lease, self.epoch)
            elif not await self._regain():
                await asyncio.sleep(min(LOOK_SECONDS, self._beat_seconds))

    async def release(self) -> None:
        """Let the next one lead at once, if PostgreSQL is there to be told. Never raises."""
        lease, self._lease = self._lease, None
        if lease is not None:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    if self._is_locked and self.epoch is not None:
                        await lease.clear(self.epoch)
            except (StoreError, TimeoutError) as error:
                _log.warning("the next leader has to wait for the lease", why=str(error) or "no answer")
            await lease.connection.close()
        self.is_leader = self._is_locked = False

    # -- becoming it -------------------------------------------------------------

    async def _become_leader(self) -> None:
        began = time.monotonic()
        while not await self._attempt():
            if self._cut_off and self._other is None and time.monotonic() - began >= self._patience:
                self.is_leader = True
                _log.warning("leading provisionally: facts wait for PostgreSQL", why=self._cut_off)
                return
            await asyncio.sleep(min(LOOK_SECONDS, self._beat_seconds))

    async def _attempt(self) -> bool:
        """Look, and take the lead if it is to be had."""
        try:
            lease = await self._connected()
            seen = await self._look(lease)
            if not self._may_take(seen):
                self._note_other(seen)
                return False
            epoch = await lease.take(seen, self.identity, above=self.epoch or 0)
        except StoreError as error:
            await self._cut(str(error))
            return False
        if epoch is not None:
            self._lead(epoch)
        return epoch is not None

    def _may_take(self, seen: Standing) -> bool:
        # Who has had the lock for one look only may be on his way to the row.
        if seen.locked_by and not self._watch.is_lock_old:
            return False
        if not seen.holder:
            return not seen.locked_by or self._watch.is_silent
        is_dead = seen.holder in (self._predecessor, self.identity.holder) or self.identity.knows_dead(seen)
        return is_dead or self._watch.is_silent

    def _note_other(self, seen: Standing) -> None:
        is_news = self._other is None or (self._other.epoch, self._other.holder) != (seen.epoch, seen.holder)
        if not self.is_leader and is_news:
            _log.info("standing by", leader=str(seen), epoch=seen.epoch)
        self._other = seen

    def _lead(self, epoch: int) -> None:
        self.epoch, self.is_leader, self._is_locked = epoch, True, True
        _log.info("leading", name=self._name, epoch=epoch)

    # -- staying it --------------------------------------------------------------

    async def _beat(self, lease: Lease, epoch: int) -> None:
        try:
            if not await lease.beat(epoch, self.identity):
                await self._cut("another epoch is in the row")
                return
        except StoreError as error:
            await self._cut(str(error))
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._beat_seconds):
                await lease.connection.ended.wait()
        if lease.connection.ended.is_set():
            await self._cut("PostgreSQL ended the session")

    async def _regain(self) -> bool:
        """Look who leads after we lost sight of it, or never knew; True: we, with a lock.

        Raises:
            LeadLost: Somebody else.
        """
        if self.epoch is not None and await self._is_ours_still(self.epoch):
            return self._is_locked
        if not await self._attempt():
            # Provisional, or after a restored backup, we have no claim: one sign of life decides.
            if self._watch.is_alive and self._other is not None:
                raise LeadLost(str(self._other))
            return False
        return True

    async def _is_ours_still(self, epoch: int) -> bool:
        """Lock again if the row still has our epoch; False: what it has is older than that.

        Raises:
            LeadLost: It has a newer one.
        """
        try:
            lease = await self._connected()
            seen = await self._look(lease)
            if seen.epoch > epoch:
                raise LeadLost(f"{seen}, epoch {seen.epoch}; ours was {epoch}")
            if seen.epoch < epoch:
                return False
            ghost = seen.locked_by if seen.locked_by in self._own_backends else 0
            self._is_locked = await lease.lock(evicting=ghost)
        except StoreError as error:
            await self._cut(str(error))
        if self._is_locked:
            _log.info("leading on", epoch=epoch)
        return True

    async def _connected(self) -> Lease:
        if self._lease is None:
            name = f"ctid leader {self._name}"[:63]
            connection = await OwnConnection.open(self._database, name=name, within=self._within)
            self._lease = Lease(connection, self._name)
            self._own_backends.add(connection.pid)
        return self._lease

    async def _look(self, lease: Lease) -> Standing:
        seen = await lease.look()
        self._cut_off = ""
        self._watch.saw(seen, time.monotonic())
        return seen

    async def _cut(self, why: str) -> None:
        if not self._cut_off:
            _log.warning("lead not confirmed by PostgreSQL", why=why, state=self.state)
        self._cut_off = why
        self._is_locked = False
        if self.epoch is not None:
            self._watch = Watch(self._lease_seconds)  # our own beats are no sign of anybody else
        self._watch.missed()
        lease, self._lease = self._lease, None
        if lease is not None:
            await lease.connection.close()
