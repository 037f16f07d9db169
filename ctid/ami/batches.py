"""What leaves the link: batches for the core, numbers for the metrics."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ctid.ami.events import AmiEvent, Gap, LinkLost, Snapshot

Delivery = AmiEvent | Snapshot | LinkLost | Gap


class Batches(asyncio.Queue[list[Delivery]]):
    """The queue of what arrived; counts the deliveries in it.

    Attributes:
        deliveries: Events, snapshots and losses waiting, over all batches.
        taken: Batches taken out, ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self.deliveries = 0
        self.taken = 0

    def _put(self, item: list[Delivery]) -> None:
        self.deliveries += len(item)
        super()._put(item)

    def _get(self) -> list[Delivery]:
        item: list[Delivery] = super()._get()
        self.deliveries -= len(item)
        self.taken += 1
        return item

    def take_all(self) -> int:
        """Empty it; return how many deliveries are gone."""
        gone = self.deliveries
        while not self.empty():
            self.get_nowait()
        return gone


class LinkObserver(Protocol):
    """Told what happens on the link; for metrics. Must neither block nor raise."""

    def event(self, name: str, count: int) -> None:
        """``count`` events of this name came; those that are skipped are all ``other``."""

    def quarantined(self, reason: str) -> None:
        """A frame was not believed; the reasons are listed in ``guard.Findings``."""

    def gap(self, n: int) -> None:
        """``n`` events are lost: never received, or dropped because their reader fell behind."""

    def undecodable(self, name: str) -> None:
        """An event or list item of this name could not be read."""

    def lag(self, seconds: float) -> None:
        """Age of the newest event when it was read."""

    def connected(self, is_connected: bool) -> None:
        """Logged in, and Asterisk is up; or no longer."""

    def disconnected(self, reason: str) -> None:
        """A try, or a connection, ended: see ``session.Lost.kind``."""

    def action(self, name: str, result: str, seconds: float) -> None:
        """An action of ours: ``ok``, ``failed``, ``timed_out`` or ``down``."""


class Unobserved:
    """Nobody watches."""

    def event(self, name: str, count: int) -> None: ...
    def quarantined(self, reason: str) -> None: ...
    def gap(self, n: int) -> None: ...
    def undecodable(self, name: str) -> None: ...
    def lag(self, seconds: float) -> None: ...
    def connected(self, is_connected: bool) -> None: ...
    def disconnected(self, reason: str) -> None: ...
    def action(self, name: str, result: str, seconds: float) -> None: ...
