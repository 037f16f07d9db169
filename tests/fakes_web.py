"""Fakes for the web tests: users without PostgreSQL, and a whole web daemon on one free port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry

from ctid.acd.facts import (
    CallerJoined,
    CallHandled,
    CallRouted,
    OfferEnded,
    OfferMade,
    OfferOutcome,
)
from ctid.desk import Desk
from ctid.errors import StoreUnavailable
from ctid.settings import Metrics, Phone, Web
from ctid.sinks.pop import Background, Pop, pop_id
from ctid.sinks.pop_book import PopBook
from ctid.sinks.pop_url import PopUrl
from ctid.sinks.pops import PopSink
from ctid.store.calls import OneCall
from ctid.store.pool import Pool
from ctid.store.users import Grant, User, hash_of
from ctid.tickets.desk import TicketDesk
from ctid.web.api.tickets import TicketsApi
from ctid.web.client import Limits
from ctid.web.hub import Hub
from ctid.web.messages import AgentCard, FloorState, QueueCard
from ctid.web.routes import Route
from ctid.web.server import MetricsServer, WebServer
from ctid.web.sessions import Sessions
from ctid.web.sign_in import SignIns

KEY = b"k" * 32


class FakeUsers:
    """Users in memory, with tokens only; can be told to be away. Unrealistic: answers at once."""

    def __init__(self) -> None:
        self.grants: dict[str, Grant] = {}
        self.is_away = False
        self.marked: list[list[str]] = []

    def add(self, token: str, user: User) -> str:
        self._put(Grant(hash=hash_of(token), user=user, expires_at=datetime.now(UTC) + timedelta(days=9)))
        return token

    async def grants_of(self, hashes: Sequence[str]) -> list[Grant]:
        self._answer()
        return [self.grants[key] for key in hashes if key in self.grants]

    async def open_session(self, token_hash: str, session_hash: str, expires_at: datetime) -> bool:
        self._answer()
        opener = self.grants.get(token_hash)
        if opener is None:
            return False
        self._put(
            Grant(
                hash=session_hash,
                user=opener.user,
                expires_at=expires_at,
                parent=token_hash,
                is_session=True,
            )
        )
        return True

    async def mark_used(self, hashes: Sequence[str]) -> None:
        self._answer()
        self.marked.append(list(hashes))

    async def password_of(self, name: str) -> str | None:
        self._answer()
        return None

    async def open_session_of(self, *_: Any) -> None:
        self._answer()

    async def set_password(self, *_: Any, **__: Any) -> bool:
        self._answer()
        return False

    async def note(self, *_: Any) -> int:
        self._answer()
        return 1

    async def revoke_token(self, token_hash: str) -> bool:
        self._answer()
        gone = [key for key, grant in self.grants.items() if token_hash in (key, grant.parent)]
        for key in gone:
            del self.grants[key]
        return bool(gone)

    def _answer(self) -> None:
        if self.is_away:
            raise StoreUnavailable("away")

    def _put(self, grant: Grant) -> None:
        self.grants[grant.hash] = grant


class FakeHistory:
    """Callers' background; ``delay`` seconds slow, or down."""

    def __init__(self) -> None:
        self.of_number: dict[str, Background] = {}
        self.delay = 0.0
        self.is_away = False
        self.asked: list[str] = []

    async def of(self, number: str) -> Background:
        self.asked.append(number)
        await asyncio.sleep(self.delay)
        if self.is_away:
            raise StoreUnavailable("away")
        return self.of_number.get(number, Background())


class FakePhones:
    """SIP phones that remember what they were sent."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        self.delay = 0.0
        self.error: Exception | None = None

    async def message(self, interface: str, text: str) -> None:
        await asyncio.sleep(self.delay)
        if self.error:
            raise self.error
        self.texts.append((interface, text))


def moment(seconds: float = 0.0) -> datetime:
    """Return a time ``seconds`` from now, Asterisk's clock being ours."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def routed(call: str, *, vip: bool = False, business: str = "repair", line: str = "hotline") -> CallRouted:
    return CallRouted(at=moment(), call=call, line=line, business=business, vip=vip, recording="")


def joined(call: str, number: str = "13812345678", name: str = "", queue: str = "repair") -> CallerJoined:
    return CallerJoined(
        at=moment(),
        call=call,
        queue=queue,
        joined_at=moment(),
        leg=call,
        caller_number=number,
        caller_name=name,
        position=1,
    )


def offer(
    call: str,
    agent: str,
    leg: str = "",
    *,
    number: str = "13812345678",
    name: str = "王小明",
    waited: float = 12.0,
    queue: str = "repair",
) -> OfferMade:
    at = moment()
    return OfferMade(
        at=at,
        call=call,
        queue=queue,
        joined_at=at - timedelta(seconds=waited),
        agent=agent,
        interface=f"PJSIP/{agent}",
        leg=leg or f"{call}-{agent}",
        caller_number=number,
        caller_name=name,
    )


def ended(made: OfferMade, outcome: OfferOutcome) -> OfferEnded:
    return OfferEnded(
        at=moment(),
        call=made.call,
        queue=made.queue,
        joined_at=made.joined_at,
        agent=made.agent,
        interface=made.interface,
        leg=made.leg,
        outcome=outcome,
        rang=timedelta(seconds=3),
        rings=0.6,
        verdict="within" if outcome == "answered" else "excluded",
        offered_at=made.at,
    )


def handled(made: OfferMade) -> CallHandled:
    second = timedelta(seconds=1)
    return CallHandled(
        at=moment(),
        call=made.call,
        agent=made.agent,
        interface=made.interface,
        leg=made.leg,
        queue=made.queue,
        talked=second,
        held=second,
        wrapped=second,
        handled=3 * second,
    )


def pop_of(made: OfferMade) -> Pop:
    """Return the pop an offer opens, without anything that is known otherwise."""
    return Pop(
        id=pop_id(KEY, made),
        call=made.call,
        leg=made.leg,
        agent=made.agent,
        interface=made.interface,
        queue=made.queue,
        caller_number=made.caller_number,
        caller_name=made.caller_name,
        joined_at=made.joined_at,
        offered_at=made.at,
        waited_seconds=0.0,
    )


def a_floor() -> FloorState:
    return FloorState(
        queues=(
            QueueCard(queue="complaint", waiting=0, agents=1, idle=1),
            QueueCard(queue="repair", waiting=3, longest_since=moment(-42), agents=4, idle=1, talking=1),
        ),
        agents=(
            AgentCard(agent="201", name="李娜", state="idle", since=moment(-65), queues=("repair",)),
            AgentCard(agent="202", name="张伟", state="talking", since=moment(-185), queues=("repair",)),
            AgentCard(agent="203", name="Ann O'Brien", state="paused", reason="lunch", since=moment(-600)),
            AgentCard(agent="204", name="王芳", state="wrapping_up", since=moment(-20), until=moment(40)),
        ),
    )


@dataclass
class WebDaemon:
    """Everything behind the pages, real, with fakes where other programs would be."""

    limits: Limits = field(default_factory=Limits)
    wrapping_up: set[str] = field(default_factory=set)
    ready: dict[str, str] = field(default_factory=dict)
    observed: list[tuple[str, str, float]] = field(default_factory=list)
    port: int = 0
    max_clients: int = 500
    tickets: TicketDesk | None = None
    calls: dict[str, OneCall] = field(default_factory=dict)
    phone: Phone | None = None
    pool: Pool | None = None
    """Then who may sign in, tickets and the audit log are real, too."""
    proxies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.users = FakeUsers()
        self.history = FakeHistory()
        self.phones = FakePhones()
        self.floor = a_floor()
        self.book = PopBook()
        self.hub = Hub(book=self.book, floor=lambda: self.floor, limits=self.limits)
        self.sessions = Sessions(
            self.users,
            on_end=self.hub.end_session,
            on_change=self.hub.renew_session,
            in_use=self.hub.sessions_in_use,
        )
        self.sign_ins = SignIns(self.users, self.sessions, self.users)
        if self.pool:
            self.desk = Desk(
                self.pool,
                hub=self.hub,
                book=self.book,
                normalise=str,
                registry=CollectorRegistry(),
                system=lambda: "ast",
                end_wrap_up=self.end_wrap_up,
            )
            self.sessions, self.sign_ins = self.desk.sessions, self.desk.sign_ins
        self.pops = PopSink(
            book=self.book,
            screens=self.hub,
            url=PopUrl("http://127.0.0.1/pop/{id}"),
            key=KEY,
            phones=self.phones,
            history=self.history,
            observe=lambda *what: self.observed.append(what),
        )
        self.web = WebServer(
            Web(
                port=self.port,
                max_clients=self.max_clients,
                phone=self.phone,
                trusted_proxies=self.proxies,
            ),
            hub=self.hub,
            sessions=self.sessions,
            sign_ins=self.sign_ins,
            book=self.book,
            pops=self.pops,
            floor=lambda: self.floor,
            end_wrap_up=self.end_wrap_up,
            checks={"asterisk": self.check_asterisk, "database": self.check_database},
            more=self._more(),
            version="1.2.3",
        )
        self.metrics = MetricsServer(Metrics(port=0), render=lambda: b"ctid_up 1\n")
        for agent, role in (("201", "agent"), ("202", "agent"), ("", "leader")):
            name = f"agent{agent}" if agent else "leader"
            self.users.add(
                f"token-{agent or 'leader'}", User(name=name, role=role, agent=agent, language="en")
            )

    def _more(self) -> Sequence[Route]:
        if self.pool:
            return self.desk.routes
        return self._tickets_api().routes() if self.tickets else ()

    def _tickets_api(self) -> TicketsApi:
        assert self.tickets
        return TicketsApi(
            self.tickets,
            book=self.book,
            call_of=self.call_of,
            system=lambda: "ast",
            end_wrap_up=self.end_wrap_up,
        )

    async def call_of(self, call: str) -> OneCall | None:
        return self.calls.get(call)

    async def end_wrap_up(self, agent: str) -> bool:
        if agent not in self.wrapping_up:
            return False
        self.wrapping_up.discard(agent)
        return True

    async def check_asterisk(self) -> str:
        return self.ready.get("asterisk", "")

    async def check_database(self) -> str:
        return self.ready.get("database", "")

    @property
    def url(self) -> str:
        return self.web.url


@asynccontextmanager
async def running(daemon: WebDaemon) -> AsyncIterator[WebDaemon]:
    """Run the daemon for the time of the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(daemon.hub.run()),
            group.create_task(daemon.sessions.run()),
            group.create_task(daemon.pops.run()),
        ]
        await daemon.web.start()
        await daemon.metrics.start()
        try:
            yield daemon
        finally:
            await daemon.web.close()
            await daemon.metrics.close()
            for task in tasks:
                task.cancel()


class Screen:
    """One WebSocket client that reads a message at a time."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def next(self, wanted: str = "") -> dict[str, Any]:
        """Return the next message, of the type if one is given; others are skipped."""
        async with asyncio.timeout(15):
            while True:
                frame = await self.socket.receive()
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    raise ConnectionError(f"closed: {self.socket.close_code} {frame.extra}")
                message: dict[str, Any] = json.loads(frame.data)
                if wanted in ("", message["type"]):
                    return message

    async def closed(self) -> int | None:
        """Read until the server closes; return its code."""
        async with asyncio.timeout(15):
            while (await self.socket.receive()).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                pass
        return self.socket.close_code

    async def tell(self, **command: Any) -> dict[str, Any]:
        """Send a command with id 7 and return what it is answered with."""
        await self.socket.send_str(json.dumps({"id": 7, **command}))
        while (answer := await self.next()).get("type") not in ("ack", "error"):
            pass
        return answer


@asynccontextmanager
async def screen(url: str, token: str) -> AsyncIterator[Screen]:
    """Sign a screen in by token and read past its first state."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/ws") as socket:
        await socket.send_str(json.dumps({"type": "auth", "token": token}))
        yield Screen(socket)
