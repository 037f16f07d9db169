"""Pops: one per ringing offer, to exactly the ringing agent, at once.

Facts turn into messages in the ``PopBook``; the messages are shown before anything that
could take time. History comes from a look-up begun when the caller joined the queue, and
the text for the SIP phone goes out from workers: neither can hold back a screen.

    book = PopBook()
    hub = Hub(book=book, ...)            # ctid.web.hub, is the Screens
    pops = PopSink(book=book, screens=hub, url=PopUrl(f"{public_url}/pop/{{id}}"),
                   key=key, phones=..., history=..., observe=...)
    group.create_task(pops.run()); group.create_task(Outbox(pops).run())
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Protocol, TypeVar

from msgspec.structs import replace

from ctid.acd.facts import (
    CallEnded,
    CallerJoined,
    CallHandled,
    CallRouted,
    CallStarted,
    Fact,
    OfferEnded,
    OfferMade,
    TalkEnded,
    TalkStarted,
)
from ctid.errors import AsteriskError, StoreError
from ctid.sinks.pop import Background, Pop, PopMessage, PopOffered, pop_id, shown
from ctid.sinks.pop_book import PopBook
from ctid.sinks.pop_url import PopUrl

T = TypeVar("T")

Channel = Literal["browser", "phone", "history"]
Result = Literal["shown", "acknowledged", "absent", "sent", "failed", "late", "stale", "dropped", "found"]

PHONE_WORKERS: Final = 16
HISTORY_WORKERS: Final = 4
"""The pool's other connections are for who writes."""
BACKLOG: Final = 1_000
"""Texts or look-ups waiting for a worker; more are dropped and counted."""
REMEMBERED_CALLS: Final = 20_000
SWEEP_SECONDS: Final = 5.0
SECOND_CHANCE: Final = 10.0
"""So many times history_timeout for a look-up somebody is waiting for."""


class Screens(Protocol):
    """The browsers of the agents."""

    def show(self, agent: str, message: PopMessage) -> int:
        """Show ``message`` on every screen of ``agent``; return how many. Never waits, never raises."""


class Phones(Protocol):
    """The SIP phones of the agents."""

    async def message(self, interface: str, text: str) -> None:
        """Send a text to the phone known to the queue as ``interface``, e.g. ``PJSIP/201``.

        Raises:
            AsteriskError: It was not sent, or nobody knows.
        """


class CallerHistory(Protocol):
    """What was before."""

    async def of(self, number: str) -> Background:
        """Return the last calls and the open tickets of a number.

        Raises:
            StoreError: PostgreSQL is away or too slow.
        """


class PopSink:
    """Turns facts into pops and delivers them.

    Args:
        book: The pops; shared with the web hub, which reads it when a screen (re)connects.
        screens: Told at once, synchronously.
        url: Address of a pop, for the text on the phone.
        key: Secret from which unguessable pop ids are derived; the same after a restart,
            the same ids.
        phones: ``None``: no texts (settings.pops.sip_message is off).
        history: ``None``: pops come without.
        history_timeout: One look-up may take this long (settings.pops.history_timeout).
        phone_timeout: One text may take this long.
        observe: Called with (channel, result, seconds since Asterisk rang the agent, or
            for ``history`` since the look-up began); never negative.
        now: The clock to compare with Asterisk's.
    """

    name = "pops"

    def __init__(
        self,
        *,
        book: PopBook,
        screens: Screens,
        url: PopUrl,
        key: bytes,
        phones: Phones | None = None,
        history: CallerHistory | None = None,
        history_timeout: timedelta = timedelta(milliseconds=200),
        phone_timeout: timedelta = timedelta(seconds=2),
        observe: Callable[[str, str, float], None] = lambda channel, result, seconds: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._book = book
        self._screens = screens
        self._url = url
        self._key = key
        self._phones = phones
        self._history = history
        self._history_timeout = history_timeout.total_seconds()
        self._phone_timeout = phone_timeout.total_seconds()
        self._observe = observe
        self._now = now
        self._routes: dict[str, CallRouted] = {}
        self._adopted: dict[str, CallStarted] = {}  # calls that began before we were watching
        self._backgrounds: dict[str, Background] = {}
        self._wanted: dict[str, None] = {}  # calls whose look-up is queued or running
        self._texts: asyncio.Queue[Pop] = asyncio.Queue(BACKLOG)
        self._look_ups: asyncio.Queue[tuple[str, str]] = asyncio.Queue(BACKLOG)

    async def write(self, facts: Sequence[Fact]) -> None:
        """Show what the facts mean. Awaits nothing, never raises.

        What was found in Asterisk's books and is over already opens no pop. What still rings, or
        is talked about by now, does, late. Where ``facts`` end between an offer and its end, the pop
        is shown and withdrawn.
        """
        talking = {fact.leg for fact in facts if isinstance(fact, TalkStarted)}
        talking -= {fact.leg for fact in facts if isinstance(fact, TalkEnded)}
        over = {fact.leg for fact in facts if isinstance(fact, OfferEnded) and fact.leg not in talking}
        for fact in facts:
            if not (isinstance(fact, OfferMade) and fact.recovered and fact.leg in over):
                self._take(fact)

    async def run(self) -> None:
        """Send texts, look callers up and close old pops, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(PHONE_WORKERS if self._phones else 0):
                group.create_task(_drain(self._texts, self._text))
            for _ in range(HISTORY_WORKERS if self._history else 0):
                group.create_task(_drain(self._look_ups, self._look_up))
            group.create_task(self._sweep())

    def acknowledge(self, agent: str, pop_id: str) -> None:
        """A screen of ``agent`` says that the pop is visible."""
        pop = self._book.find(pop_id)
        if pop is not None and pop.agent == agent:
            self._count("browser", "acknowledged", pop)

    def dismiss(self, agent: str, pop_id: str) -> bool:
        """The agent put one of his pops away; tell his other screens. False: not his, or ringing."""
        messages = self._book.dismissed(agent, pop_id)
        self._show(messages)
        return bool(messages)

    def _take(self, fact: Fact) -> None:
        match fact:
            case CallRouted():
                _keep(self._routes, fact.call, fact)
                self._show(self._book.routed(fact.call, line=fact.line, business=fact.business, vip=fact.vip))
            case CallStarted(adopted=True):
                _keep(self._adopted, fact.call, fact)
            case TalkStarted():
                self._talk(fact)
            case CallerJoined():
                self._want(fact.call, fact.caller_number)
            case OfferMade():
                self._offer(fact)
            case OfferEnded():
                self._show(self._book.ended(fact))
            case CallHandled():
                self._show(self._book.handled(fact.leg))
            case CallEnded():
                self._routes.pop(fact.call, None)
                self._adopted.pop(fact.call, None)
                self._backgrounds.pop(fact.call, None)
                self._wanted.pop(fact.call, None)

    def _offer(self, fact: OfferMade) -> None:
        messages = self._book.offered(self._pop(fact))
        self._show(messages)
        if not messages:
            return
        pop = messages[-1].pop
        if self._phones is not None:
            self._queue_text(pop)
        if pop.background is None:
            self._want(fact.call, fact.caller_number)

    def _talk(self, fact: TalkStarted) -> None:
        """Give an agent his pop back who talks since before ctid, or its connection, was lost."""
        self._show(self._book.talking(fact.leg, fact.at))
        call = self._adopted.get(fact.call)
        if call is None or not fact.queue:
            return
        offer = OfferMade(
            at=fact.at,
            call=fact.call,
            queue=fact.queue,
            joined_at=fact.at,
            agent=fact.agent,
            interface=fact.interface,
            leg=fact.leg,
            caller_number=call.caller_number,
            caller_name=call.caller_name,
        )
        messages = self._book.found_talking(replace(self._pop(offer), state="answered", ended_at=fact.at))
        self._show(messages)
        if messages:
            self._want(fact.call, call.caller_number)

    def _pop(self, fact: OfferMade) -> Pop:
        route = self._routes.get(fact.call)
        return Pop(
            id=pop_id(self._key, fact),
            call=fact.call,
            leg=fact.leg,
            agent=fact.agent,
            interface=fact.interface,
            queue=fact.queue,
            caller_number=shown(fact.caller_number),
            caller_name=shown(fact.caller_name),
            joined_at=fact.joined_at,
            offered_at=fact.at,
            waited_seconds=max(0.0, (fact.at - fact.joined_at).total_seconds()),
            line=route.line if route else "",
            business=route.business if route else "",
            vip=bool(route and route.vip),
            background=self._backgrounds.get(fact.call),
        )

    def _show(self, messages: Sequence[PopMessage]) -> None:
        for message in messages:
            screens = self._screens.show(message.pop.agent, message)
            if isinstance(message, PopOffered):
                self._count("browser", "shown" if screens else "absent", message.pop)

    def _count(self, channel: Channel, result: Result, pop: Pop) -> None:
        self._observe(channel, result, max(0.0, (self._now() - pop.offered_at).total_seconds()))

    def _queue_text(self, pop: Pop) -> None:
        try:
            self._texts.put_nowait(pop)
        except asyncio.QueueFull:
            self._count("phone", "dropped", pop)

    async def _text(self, pop: Pop) -> None:
        now = self._book.of_leg(pop.leg)
        if self._phones is None or now is None or now.state != "ringing":
            self._count("phone", "stale", pop)
            return
        try:
            async with asyncio.timeout(self._phone_timeout):
                await self._phones.message(pop.interface, self._wording(now))
        except TimeoutError:
            self._count("phone", "late", pop)
        except AsteriskError:
            self._count("phone", "failed", pop)
        else:
            self._count("phone", "sent", pop)

    def _wording(self, pop: Pop) -> str:
        # No words in it, so it needs no translation.
        who = " ".join(part for part in (pop.caller_name, pop.caller_number) if part)
        vip = "[VIP] " if pop.vip else ""
        return f"{vip}{who} · {pop.queue} · {self._url.fill(pop)}"

    def _want(self, call: str, number: str) -> None:
        if self._history is None or not number or call in self._wanted or call in self._backgrounds:
            return
        try:
            self._look_ups.put_nowait((call, number))
        except asyncio.QueueFull:
            self._observe("history", "dropped", 0.0)
        else:
            _keep(self._wanted, call, None)

    async def _look_up(self, wanted: tuple[str, str]) -> None:
        call, number = wanted
        try:
            if not await self._ask(call, number, self._history_timeout) and self._book.legs_of(call):
                # A pop stands there without: PostgreSQL gets a second, longer chance.
                await self._ask(call, number, self._history_timeout * SECOND_CHANCE)
        finally:
            self._wanted.pop(call, None)  # after a failure the next offer of this call tries again

    async def _ask(self, call: str, number: str, seconds: float) -> bool:
        if self._history is None or call not in self._wanted:
            return True  # the caller has gone meanwhile
        clock = asyncio.get_running_loop().time
        began = clock()
        result: Result = "found"
        try:
            async with asyncio.timeout(seconds):
                self._found(call, await self._history.of(number))
        except TimeoutError:
            result = "late"
        except StoreError:
            result = "failed"
        self._observe("history", result, clock() - began)
        return result == "found"

    def _found(self, call: str, background: Background) -> None:
        if call in self._wanted:
            _keep(self._backgrounds, call, background)
        for leg in self._book.legs_of(call):
            self._show(self._book.enriched(leg, background))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._show(self._book.expired(self._now()))


async def _drain(queue: asyncio.Queue[T], work: Callable[[T], Awaitable[None]]) -> None:
    while True:
        await work(await queue.get())


def _keep(calls: dict[str, T], call: str, value: T) -> None:
    """Remember per call, but not for ever: an end may be lost."""
    calls[call] = value
    while len(calls) > REMEMBERED_CALLS:
        del calls[next(iter(calls))]
