"""The one place where things move: batches into the core, facts to the outboxes, commands to Asterisk.

The core reads no clock and sleeps never; this loop does both for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from ctid.acd.centre import Centre
from ctid.acd.facts import Anomaly, Command, RequestSnapshot, SetPause, Step
from ctid.ami.actions import QueuePause
from ctid.ami.batches import Delivery
from ctid.ami.client import AmiLink
from ctid.ami.events import Snapshot
from ctid.errors import ActionFailed, AsteriskError
from ctid.sinks.base import Outbox

_log = structlog.get_logger()


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


class Pump:
    """Feeds the core until cancelled.

    Args:
        link: Where batches come from.
        centre: The core.
        outboxes: Who gets the facts; none of them can block.
        orders: Who gets the commands.
        changed: Told after each batch and tick.
        snapshotted: Shown each snapshot before the core has it.
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
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._link = link
        self._centre = centre
        self._outboxes = outboxes
        self._orders = orders
        self._changed = changed
        self._snapshotted = snapshotted
        self._now = now

    async def run(self) -> None:
        """Move things, for ever."""
        while True:
            batch = await self._next_batch()
            for event in batch:
                if isinstance(event, Snapshot):
                    self._snapshotted(event)
                self._apply(self._centre.receive(event))
            deadline = self._centre.next_deadline()
            if deadline is not None and deadline <= self._now():
                self._apply(self._centre.tick(self._now()))
            self._changed()

    def end_wrap_up(self, agent: str) -> bool:
        """The agent's note is saved. False: he is not wrapping up."""
        step = self._centre.end_wrap_up(agent, self._now())
        self._apply(step)
        self._changed()
        return bool(step.facts)

    async def _next_batch(self) -> Sequence[Delivery]:
        deadline = self._centre.next_deadline()
        if deadline is None:
            return await self._link.batches.get()
        try:
            async with asyncio.timeout(max(timedelta(0), deadline - self._now()).total_seconds()):
                return await self._link.batches.get()
        except TimeoutError:
            return ()

    def _apply(self, step: Step) -> None:
        for fact in step.facts:
            if isinstance(fact, Anomaly):
                _log.info("anomaly", kind=fact.kind, what=fact.what, call=fact.call)
            for outbox in self._outboxes:
                outbox.put(fact)
        for command in step.commands:
            self._orders.give(command)
