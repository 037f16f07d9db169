"""The one place where things move: batches into the core, facts to the outboxes, commands to Asterisk.

The core reads no clock and sleeps never; this loop does both for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog

from ctid.acd.centre import Centre
from ctid.acd.echoes import CLOCKS_APART, without_echoes
from ctid.acd.facts import Anomaly, Command, RequestSnapshot, SetPause, Step
from ctid.ami.actions import QueuePause
from ctid.ami.batches import Delivery
from ctid.ami.client import AmiLink
from ctid.ami.events import AmiEvent, Gap, Snapshot
from ctid.errors import ActionFailed, AsteriskError
from ctid.memory import Input, NoteSaved, Recovered, Tick, apply
from ctid.sinks.base import Outbox

_log = structlog.get_logger()

_SEQUENCE_PATIENCE: Final = timedelta(seconds=5)
"""A missing number is told some time after the event should have come."""


class Changed(Protocol):
    """Told after each batch that the floor may look different; never blocks."""

    def __call__(self) -> None: ...


class Orders:
    """Carries out the core's commands, without making it wait.

    Actions of one AMI session are executed in the order they are sent, so each is sent
    at once and its answer awaited apart.
    """

    def __init__(self, link: AmiLink, group: asyncio.TaskGroup) -> None:
        self._link = link
        self._group = group

    def give(self, command: Command) -> None:
        """Start carrying out one command."""
        match command:
            case RequestSnapshot(why=why):
                self._link.request_snapshot(why)
            case SetPause():
                self._group.create_task(self._pause(command))

    async def _pause(self, command: SetPause) -> None:
        action = QueuePause(interface=command.interface, paused=command.paused, reason=command.reason)
        try:
            await self._link.act(action)
        except ActionFailed as error:
            # Not in any queue any more, most likely; the snapshot tells.
            _log.warning("pause refused by Asterisk", agent=command.agent, why=str(error))
            self._link.request_snapshot("pause refused")
        except AsteriskError as error:
            # Never sent again blindly: after the reconnect the core compares and asks anew.
            _log.warning("pause not confirmed", agent=command.agent, why=str(error))


class Missed(Protocol):
    """Where to read what happened while nobody listened."""

    async def __call__(self, since: datetime, until: datetime) -> Sequence[AmiEvent]: ...


async def nothing_missed(since: datetime, until: datetime) -> Sequence[AmiEvent]:
    """Say so where there are no books to read."""
    return ()


class Pump:
    """Feeds the core until cancelled.

    Args:
        link: Where batches come from.
        centre: The core.
        outboxes: Who gets the facts; none of them can block.
        orders: Who gets the commands.
        changed: Told after each batch and tick.
        snapshotted: Shown each snapshot before the core has it.
        note: Writes down every input before the core has it.
        missed: Reads in Asterisk's books what AMI did not tell.
        doubtful_since: Asked for when an empty core must make good from.
    """

    def __init__(
        self,
        *,
        link: AmiLink,
        centre: Centre,
        outboxes: Sequence[Outbox],
        orders: Orders,
        changed: Changed,
        snapshotted: Callable[[Snapshot], None] = lambda snapshot: None,
        note: Callable[[Sequence[Input]], None] = lambda inputs: None,
        missed: Missed = nothing_missed,
        doubtful_since: Callable[[], datetime | None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._link = link
        self._centre = centre
        self._outboxes = outboxes
        self._orders = orders
        self._changed = changed
        self._snapshotted = snapshotted
        self._note = note
        self._missed = missed
        self._now = now
        self._doubtful_from_start = doubtful_since
        self._doubtful_since: datetime | None = None

    async def run(self) -> None:
        """Move things, for ever."""
        while True:
            batch = await self._next_batch()
            if batch:
                self._take(await self._completed(batch))
            deadline = self._centre.next_deadline()
            if deadline is not None and deadline <= self._now():
                self._take([Tick(self._now())])
            self._changed()

    def end_wrap_up(self, agent: str) -> bool:
        """The agent's note is saved. False: he is not wrapping up."""
        was_open = self._take([NoteSaved(self._now(), agent)])
        self._changed()
        return was_open

    async def _next_batch(self) -> Sequence[Delivery]:
        deadline = self._centre.next_deadline()
        wait = None if deadline is None else max(timedelta(0), deadline - self._now()).total_seconds()
        try:
            async with asyncio.timeout(wait):
                return await self._link.batches.get()
        except TimeoutError:
            return ()

    async def _completed(self, batch: Sequence[Delivery]) -> Sequence[Input]:
        """Put before a snapshot what the books tell of the time that it must make good for.

        Without it the snapshot would close and adopt with times that nobody saw.
        """
        self._note_doubt(batch)
        place = next((i for i, one in enumerate(batch) if isinstance(one, Snapshot)), None)
        since = self._doubtful_since
        if place is None or since is None:
            return batch
        self._doubtful_since = None
        snapshot, later = batch[place], batch[place + 1 :]
        # AMI tells everything since the login, which was before the snapshot was asked for; of what is
        # younger than the login the books are news only where they are no echo.
        heard = [one for one in later if isinstance(one, AmiEvent)]
        found = without_echoes(await self._missed(since, snapshot.at + CLOCKS_APART), heard)
        told: list[Input] = [Recovered(len(found)), *found] if found else []
        # What AMI told of the time before the snapshot was asked for has its own instants; they are better
        # than those that the snapshot would have to make up.
        early = [one for one in later if one.at < snapshot.at]
        late = [one for one in later if one.at >= snapshot.at]
        return [*batch[:place], *told, *early, snapshot, *late]

    def _note_doubt(self, batch: Sequence[Delivery]) -> None:
        """Remember from when on AMI may not have told everything."""
        doubts = [one.at - _SEQUENCE_PATIENCE for one in batch if isinstance(one, Gap)]
        last_at = self._centre.last_at
        if last_at is not None and self._centre.is_behind:
            doubts.append(last_at - CLOCKS_APART)
        if (from_start := self._doubtful_from_start()) is not None:
            doubts.append(from_start)
        if self._doubtful_since is not None:
            doubts.append(self._doubtful_since)
        self._doubtful_since = min(doubts, default=None)

    def _take(self, inputs: Sequence[Input]) -> bool:
        """Write inputs down, tell the core, pass on what follows; tell whether anything did."""
        self._note(inputs)
        for one in inputs:
            if isinstance(one, Snapshot):
                self._snapshotted(one)
        followed = False
        for step in apply(self._centre, inputs):
            followed = followed or bool(step.facts)
            self._apply(step)
        return followed

    def _apply(self, step: Step) -> None:
        for fact in step.facts:
            if isinstance(fact, Anomaly):
                _log.info("anomaly", kind=fact.kind, what=fact.what, call=fact.call)
            for outbox in self._outboxes:
                outbox.put(fact)
        for command in step.commands:
            self._orders.give(command)
