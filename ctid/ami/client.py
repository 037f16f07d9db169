"""The connection to Asterisk: log in, keep in step, notice death, come back.

    down --connect--> login --Success--> session (session.py)
     ^                  |                   |
     |                  | refused: wait     | lost: wait
     |                  | 10 s .. 60 s      | 0.5 s .. 30 s
     +------------------+-------------------+

panoramisk connects and logs in; this is the only file that knows it. Its own reading,
pinging, reconnecting and repeating are replaced through its public ``protocol_factory``:
it cuts characters in two, never notices a dead peer, and sends an Originate again
whose answer was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import panoramisk
import structlog
from panoramisk.ami_protocol import AMIProtocol
from panoramisk.message import Message

from ctid.ami.actions import Action, Reply
from ctid.ami.batches import Batches, LinkObserver, Unobserved
from ctid.ami.events import LinkLost
from ctid.ami.framing import CONTROL, Frame
from ctid.ami.session import Lost, Session
from ctid.errors import ActionFailed, ActionRefused, ActionTimedOut, AmiDown, AsteriskError
from ctid.settings import Asterisk

__all__ = ["AmiLink", "Batches", "LinkObserver", "Unobserved"]

_log = structlog.get_logger()

CONNECT_TIMEOUT: Final = 10.0
#: Seconds to wait before the next try: the first time, and at most.
BACK_OFF: Final = (0.5, 30.0)
#: The same after a refused login: Asterisk counts these, and so do intrusion detectors.
BACK_OFF_REFUSED: Final = (10.0, 60.0)
_BACK_OFFS: Final = {"refused": BACK_OFF_REFUSED, "cut": (2.0, 30.0)}


class _Wire(AMIProtocol):
    """panoramisk's protocol, with our reading in place of its own."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def data_received(self, data: bytes) -> None:
        self._connection.received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.closed = True
        self._connection.end(
            Lost("lost", f"connection lost: {exc}" if exc else "Asterisk closed the connection")
        )

    def close(self) -> None:
        # The inherited one would queue unanswered actions to be sent again.
        self.closed = True
        self.transport.abort()


class _Connection(panoramisk.Manager):
    """One connection, from attempt to loss; never reconnects by itself.

    Attributes:
        lost: Resolves to the reason.
    """

    def __init__(self, settings: Asterisk, secret: str) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            loop=loop,
            host=settings.host,
            port=settings.port,
            username=settings.account.username,
            secret=secret,
            events="on",
            protocol_factory=lambda: _Wire(self),
        )
        self.lost: asyncio.Future[Lost] = loop.create_future()
        self.received: Callable[[bytes], None] = lambda data: None

    def connection_made(self, f: asyncio.Future[tuple[asyncio.Transport, AMIProtocol]]) -> None:
        # Whoever awaits connect() sees the failure; the inherited one would try again by itself.
        if not f.cancelled() and f.exception() is None:
            super().connection_made(f)

    def end(self, lost: Lost) -> None:
        """Give the connection up."""
        if not self.lost.done():
            self.lost.set_result(lost)
        self.close()

    def ping(self) -> None:
        """Do nothing: the link pings, with a deadline."""

    @property
    def login_ids(self) -> list[str]:
        """ActionIDs under which the login was sent."""
        return list(self.protocol.responses) if self.protocol else []

    async def log_in(self, timeout: timedelta) -> Lost | None:  # noqa: ASYNC109
        """Wait for the answer to the login that panoramisk sent; ``None``: we are in."""
        login = self.authenticated_future
        assert login is not None, "panoramisk logs in as soon as it is connected"
        user = self.config["username"]
        either: list[asyncio.Future[Any]] = [login, self.lost]
        await asyncio.wait(either, timeout=timeout.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        if login.done():
            message = login.result()
            return None if message.success else Lost("refused", _refusal(user, message.message))
        if self.lost.done():
            return Lost(
                "cut", f"Asterisk hung up on the login of {user}; see permit and deny in manager.conf"
            )
        return Lost("dead", "Asterisk accepted the connection, but does not answer")

    def write(self, data: bytes) -> None:
        """Put bytes on the wire."""
        if self.protocol is not None and not self.lost.done():
            self.protocol.transport.write(data)

    def answer_login(self, frame: Frame) -> None:
        """Hand the reply to the login to panoramisk."""
        if self.protocol:
            self.protocol.handle_message(Message(frame.headers))


def _refusal(user: str, words: str) -> str:
    return (
        f"Asterisk refused the login of {user}: {words}; compare asterisk.account.secret_file with "
        f"secret, permit and deny of [{user}] in manager.conf, then: manager reload"
    )


class AmiLink:
    """Asterisk, as the rest of ctid sees it.

    Args:
        settings: Where it is and how to log in.
        observer: For metrics.
        limit: Deliveries waiting for their reader before they are given up.

    Attributes:
        batches: What arrived, in order; one list per read.
        connected: Logged in, and Asterisk is fully booted.
        in_sync: A snapshot was delivered, and events since are believed.
        boot: Identity of this run of Asterisk: when it started, UTC; ``None`` before the first login.
        system: Asterisk's ``systemname``.
    """

    def __init__(
        self, settings: Asterisk, *, observer: LinkObserver | None = None, limit: int = 20_000
    ) -> None:
        self.batches = Batches()
        self.connected = False
        self._settings = settings
        self._observer: LinkObserver = observer or Unobserved()
        self._limit = limit
        self._closing = asyncio.Event()
        self._connection: _Connection | None = None
        self._session: Session | None = None

    @property
    def in_sync(self) -> bool:
        return self.connected and self._session is not None and self._session.in_sync

    @property
    def boot(self) -> datetime | None:
        return self._session.boot if self._session else None

    @property
    def system(self) -> str:
        return self._session.system if self._session else ""

    async def run(self) -> None:
        """Connect, log in, stay in step, come back; for ever, or until ``close``."""
        wait = 0.0
        while not self._closing.is_set():
            lost = await self._connect_once()
            self._observer.disconnected(lost.kind)
            if self._closing.is_set():
                return
            wait = _next_wait(wait, lost)
            # Never sooner than told after a refusal; otherwise not all daemons at once.
            pause = wait if lost.kind == "refused" else wait * (0.5 + secrets.randbelow(1000) / 2000)
            _log.warning("no connection to Asterisk", why=lost.why, next_try_seconds=round(pause, 1))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._closing.wait()

    async def _connect_once(self) -> Lost:
        """Connect, log in, and stay until it is over; tell why it is."""
        try:
            secret = self._settings.account.secret().get_secret_value()
        except OSError as error:
            return Lost("refused", f"asterisk.account.secret_file can not be read: {error}")
        if CONTROL.search(self._settings.account.username + secret):
            return Lost("refused", "asterisk.account: user name or secret has a line break in it")
        self._connection = connection = _Connection(self._settings, secret)
        session = Session(
            self._settings,
            batches=self.batches,
            limit=self._limit,
            observer=self._observer,
            write=connection.write,
            end=connection.end,
            answer_login=connection.answer_login,
        )
        connection.received = session.received
        try:
            return await self._log_in_and_stay(connection, session)
        finally:
            connection.end(Lost("closed", "closed by us"))
            session.abandon(AmiDown("the connection to Asterisk is gone"))

    async def _log_in_and_stay(self, connection: _Connection, session: Session) -> Lost:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await connection.connect()
        except OSError as error:  # TimeoutError is one
            address = f"{self._settings.host}:{self._settings.port}"
            return Lost("unreachable", f"{address} can not be reached: {error or 'no answer'}")
        session.expect_login(connection.login_ids)
        lost = await connection.log_in(self._settings.action_timeout)
        if lost:
            return lost
        self._session = session
        try:
            async with asyncio.TaskGroup() as group:
                life = group.create_task(self._live(session))
                lost = await connection.lost
                life.cancel()
            lost.was_in_step = session.in_sync
            return lost
        finally:
            self._leave(connection)

    async def _live(self, session: Session) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(session.run())
            await session.booted.wait()
            self.connected = True
            self._observer.connected(True)
            _log.info("connected to Asterisk", host=self._settings.host, port=self._settings.port)

    def _leave(self, connection: _Connection) -> None:
        if not self.connected:
            return
        self.connected = False
        self._observer.connected(False)
        done = connection.lost.done() and not connection.lost.cancelled()
        why = connection.lost.result().why if done else "closed by us"
        self.batches.put_nowait([LinkLost(at=datetime.now(UTC), why=why)])

    async def act(self, action: Action, *, timeout: timedelta | None = None) -> Reply:  # noqa: ASYNC109
        """Send one action and wait for its answer. It is sent once; nothing is ever repeated.

        Args:
            timeout: Instead of ``asterisk.action_timeout``.

        Raises:
            AmiDown: There is no connection and it was not sent; or the connection went
                away before the answer, and it may have happened.
            ActionRefused: It is not safe to send.
            ActionFailed: Asterisk said no.
            ActionTimedOut: It said nothing in time; the action may have happened.
        """
        name, begun, result = type(action).__name__, time.monotonic(), "down"
        try:
            if not self.connected or self._session is None:
                raise AmiDown(f"{name}: not connected to Asterisk")
            reply = await self._session.act(action, timeout or self._settings.action_timeout)
            result = "ok"
            return reply
        except AsteriskError as error:
            result = _RESULTS.get(type(error), result)
            raise
        finally:
            self._observer.action(name, result, time.monotonic() - begun)

    def request_snapshot(self, why: str) -> None:
        """Ask for a snapshot soon; it takes its place in ``batches``.

        One at a time, and no more than one in five seconds; without a connection the next
        login brings one anyway.
        """
        if self._session is not None:
            self._session.request_snapshot(why)

    async def close(self) -> None:
        """End ``run``; whoever waits for an answer gets ``AmiDown``."""
        self._closing.set()
        if self._connection is not None:
            self._connection.end(Lost("closed", "closed by us"))


_RESULTS: Final = {ActionFailed: "failed", ActionTimedOut: "timed_out", ActionRefused: "refused"}


def _next_wait(wait: float, lost: Lost) -> float:
    """Return the seconds to wait before the next try, after having waited ``wait`` before this one."""
    least, most = _BACK_OFFS.get(lost.kind, BACK_OFF)
    return least if lost.was_in_step else min(max(wait * 2, least), most)
