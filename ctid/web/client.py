"""One connected screen: what it listens to, and how much it may be behind.

Writing never waits. A frame goes to the transport as it is; the transport buffers what the
peer does not read. Behind by more than ``soft_bytes``: the floor is coalesced (skipped now,
sent whole later). By more than ``hard_bytes``, or not read anything for ``stalled_seconds``:
the screen is cut off with 1013 and gets its state when it comes back.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ctid.store.users import Role
from ctid.web import frames
from ctid.web.messages import Topic


@dataclass(frozen=True, slots=True)
class Limits:
    """What one screen may ask of us.

    Attributes:
        burst, per_second: Messages from the client; more closes with 1008.
        strikes: Messages that can not be read, then 1008.
        unauthenticated_seconds, unauthenticated_per_address: Before a token or cookie is shown.
        per_user: Connections of one user; more are refused.
        beat_seconds: Pings, and the ``beat`` message.
    """

    message_bytes: int = 16 * 1024
    burst: int = 40
    per_second: float = 20.0
    strikes: int = 10
    unauthenticated_seconds: float = 5.0
    unauthenticated_per_address: int = 64
    per_user: int = 50
    soft_bytes: int = 64 * 1024
    hard_bytes: int = 1024 * 1024
    stalled_seconds: float = 20.0
    beat_seconds: float = 15.0
    floor_seconds: float = 0.25
    linger_seconds: float = 1.0


@dataclass(eq=False, slots=True)
class Client:
    """A screen that is signed in.

    Attributes:
        session: Key of the session it hangs on.
        allowed: Topics it may listen to.
        floor_version: What it has; -1: it needs a snapshot.
    """

    transport: asyncio.Transport
    limits: Limits
    session: str
    user: str
    roles: frozenset[Role]
    agent: str
    allowed: frozenset[Topic] = frozenset()
    topics: set[Topic] = field(default_factory=set)
    floor_version: int = -1
    is_dropped: bool = False
    _behind_since: float | None = None

    @property
    def is_open(self) -> bool:
        return not self.is_dropped and not self.transport.is_closing()

    @property
    def is_behind(self) -> bool:
        """More is buffered for it than the floor is worth."""
        return self.transport.get_write_buffer_size() > self.limits.soft_bytes

    def write(self, frame: bytes) -> bool:
        """Send a frame without waiting; False if the screen is gone or had to be dropped."""
        if not self.is_open:
            return False
        self.transport.write(frame)
        if self._is_hopeless():
            self.drop(1013, "too slow, connect again")
            return False
        return True

    def drop(self, code: int, reason: str) -> None:
        """Close; a peer that does not read the close frame in time is cut off."""
        if not self.is_open:
            return
        self.is_dropped = True
        self.transport.write(frames.close(code, reason))
        loop = asyncio.get_running_loop()
        loop.call_later(self.limits.linger_seconds, self.transport.abort)

    def _is_hopeless(self) -> bool:
        waiting = self.transport.get_write_buffer_size()
        if waiting == 0:
            self._behind_since = None
            return False
        now = asyncio.get_running_loop().time()
        if self._behind_since is None:
            self._behind_since = now
        return waiting > self.limits.hard_bytes or now - self._behind_since > self.limits.stalled_seconds
