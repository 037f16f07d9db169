"""Fan-out to all screens: a frame is built once and written to each, never awaited.

    hub = Hub(book=book, floor=floor)      # implements ctid.sinks.pops.Screens
    group.create_task(hub.run())
    hub.floor_changed()                    # after each event that led to facts; cheap

One slow screen costs nobody else anything (``ctid.web.client``). The floor is computed
only while somebody looks, at most four times a second, and sent as differences.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from ctid.sinks.pop import PopMessage
from ctid.sinks.pop_book import PopBook
from ctid.web import frames
from ctid.web.client import Client, Limits
from ctid.web.messages import (
    AgentCard,
    Beat,
    DeskSnapshot,
    FloorChanged,
    FloorSnapshot,
    FloorState,
    FromServer,
    Hello,
    QueueCard,
    SignedIn,
    TicketNews,
    encode,
)

CLOSE_SECONDS: Final = 0.3
"""At a restart, so long screens may take to read that they are to come back."""


class Hub:
    """Every connected screen.

    Args:
        book: Whose pops are open; read when a screen connects.
        floor: Returns the floor as it is; called at most every ``limits.floor_seconds``.
        limits: See there.
        now: ctid's clock.

    Attributes:
        boot: Changes when ctid restarts.
    """

    def __init__(
        self,
        *,
        book: PopBook,
        floor: Callable[[], FloorState],
        limits: Limits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.boot = secrets.token_hex(8)
        self.limits = limits or Limits()
        self._book = book
        self._read_floor = floor
        self._now = now
        self._clients: set[Client] = set()
        self._screens_of_user: Counter[str] = Counter()
        self._pop_screens: defaultdict[str, set[Client]] = defaultdict(set)
        self._floor_screens: set[Client] = set()
        self._floor = FloorState()
        self._version = 0
        self._is_floor_stale = True
        self._seq = 0
        self._is_closed = False
        self._emptied = asyncio.Event()
        self._emptied.set()

    def __len__(self) -> int:
        return len(self._clients)

    def show(self, agent: str, message: PopMessage) -> int:
        """Send to every screen of ``agent`` and return how many; never waits, never raises."""
        self._seq += 1
        screens = self._pop_screens.get(agent)
        if not screens:
            return 0
        frame = _frame(replace(message, seq=self._seq))  # type: ignore[arg-type]
        return sum(client.write(frame) for client in tuple(screens))

    def tell(self, message: TicketNews, *, persons: Collection[str], roles: Collection[str]) -> int:
        """Send to every screen of these persons (agent's number or user's name) and of these roles."""
        screens = [
            client
            for client in self._clients
            if not client.roles.isdisjoint(roles)
            or client.user in persons
            or (client.agent and client.agent in persons)
        ]
        frame = _frame(message) if screens else b""
        return sum(client.write(frame) for client in screens)

    def floor_changed(self) -> None:
        """Something may look different now."""
        self._is_floor_stale = True

    def connections_of(self, user: str) -> int:
        """Count the screens of one user."""
        return self._screens_of_user[user]

    def attach(self, client: Client, user: SignedIn) -> None:
        """Take a screen in, subscribe it to what its user may see, and send all of its state."""
        self._clients.add(client)
        self._emptied.clear()
        self._screens_of_user[client.user] += 1
        client.topics = set(client.allowed)
        self._index(client)
        topics = tuple(sorted(client.topics))
        client.write(_frame(Hello(boot=self.boot, seq=self._seq, now=self._now(), user=user, topics=topics)))
        self.sync(client)
        if self._is_closed:
            client.drop(1012, "restarting, connect again")

    def detach(self, client: Client) -> None:
        """Forget a screen; harmless if it is forgotten already."""
        if client not in self._clients:
            return
        self._clients.remove(client)
        if not self._clients:
            self._emptied.set()
        self._screens_of_user[client.user] -= 1
        if not self._screens_of_user[client.user]:
            del self._screens_of_user[client.user]
        client.topics = set()
        self._index(client)

    def subscribe(self, client: Client, topics: Collection[str]) -> None:
        """Set what the screen listens to and send the state of it."""
        client.topics = {topic for topic in client.allowed if topic in topics}
        self._index(client)
        self.sync(client)

    def sync(self, client: Client) -> None:
        """Send everything the screen would show after a reload."""
        if "pops" in client.topics:
            desk = self._book.desk(client.agent, self._now())
            client.write(_frame(DeskSnapshot(seq=self._seq, desk=desk)))
        if "floor" in client.topics:
            if len(self._floor_screens) == 1:
                self._look()  # nobody looked until now
            self._send_floor(client)

    def reply(self, client: Client, message: FromServer) -> None:
        """Send to one screen."""
        client.write(_frame(message))

    def end_session(self, session: str) -> None:
        """Close the screens of a session that was revoked, signed out or changed."""
        for client in [client for client in self._clients if client.session == session]:
            client.drop(1008, "signed out")

    def renew_session(self, session: str) -> None:
        """Have the screens of a session come back: what its user may do is different now."""
        for client in [client for client in self._clients if client.session == session]:
            client.drop(1012, "your rights have changed, connect again")

    def sessions_in_use(self) -> set[str]:
        """Return the keys of the sessions that have a screen open."""
        return {client.session for client in self._clients}

    async def run(self) -> None:
        """Send the floor and the beats, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_floor())
            group.create_task(self._beat())

    async def close(self) -> None:
        """Tell every screen to come back later, let no new one in, cut off who does not listen."""
        self._is_closed = True
        for client in tuple(self._clients):
            client.drop(1012, "restarting, connect again")
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._emptied.wait()
        for client in tuple(self._clients):
            client.transport.abort()

    def _index(self, client: Client) -> None:
        screens = self._pop_screens[client.agent]
        screens.discard(client)
        if "pops" in client.topics and client.agent:
            screens.add(client)
        if not screens:
            del self._pop_screens[client.agent]
        if "floor" in client.topics:
            self._floor_screens.add(client)
        else:
            self._floor_screens.discard(client)

    async def _watch_floor(self) -> None:
        while True:
            await asyncio.sleep(self.limits.floor_seconds)
            if self._floor_screens:
                self._send_changes()

    def _send_changes(self) -> None:
        change = self._look() if self._is_floor_stale else None
        frame = _frame(change) if change else b""
        for client in tuple(self._floor_screens):
            if client.is_behind:
                client.floor_version = -1
            elif change and client.floor_version == change.version - 1:
                client.floor_version = change.version
                client.write(frame)
            elif client.floor_version != self._version:
                self._send_floor(client)

    def _look(self) -> FloorChanged | None:
        """Read the floor; return the difference, if there is one."""
        self._is_floor_stale = False
        old, self._floor = self._floor, self._read_floor()
        if old == self._floor:
            return None
        self._version += 1
        return difference(old, self._floor, self._version)

    def _send_floor(self, client: Client) -> None:
        client.floor_version = self._version
        client.write(_frame(FloorSnapshot(version=self._version, floor=self._floor)))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.limits.beat_seconds)
            frame = _frame(Beat(now=self._now()))
            for client in tuple(self._clients):
                client.write(frame)


def difference(old: FloorState, new: FloorState, version: int) -> FloorChanged:
    """Return what leads from ``old`` to ``new``."""
    old_queues = {card.queue: card for card in old.queues}
    old_agents = {card.agent: card for card in old.agents}
    queues: dict[str, QueueCard] = {card.queue: card for card in new.queues}
    agents: dict[str, AgentCard] = {card.agent: card for card in new.agents}
    return FloorChanged(
        version=version,
        queues=tuple(card for name, card in queues.items() if old_queues.get(name) != card),
        agents=tuple(card for name, card in agents.items() if old_agents.get(name) != card),
        gone_queues=tuple(name for name in old_queues if name not in queues),
        gone_agents=tuple(name for name in old_agents if name not in agents),
        exchange=new.exchange,
    )


def _frame(message: FromServer) -> bytes:
    return frames.text(encode(message))
