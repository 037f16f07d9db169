"""A simulated telephone: a real SIP/UDP user agent with real audio, for callers and agents.

It registers or sits at a static contact, rings and answers by a plan, transfers, holds, takes
text MESSAGEs, and keeps its own clocks (``lab.dialog.CallClock``), which judge ctid's figures.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Self, cast

from lab import sip
from lab.dialog import CallState, Moment, PhoneCall
from lab.rtp import RtpStream
from lab.sip import SipMessage

_REMEMBERED = 300  # answers kept for retransmitted requests
_FIRST_RETRY = 0.5  # seconds, T1 of RFC 3261
_GIVE_UP = 8.0  # seconds; a loopback that needs longer is broken


@dataclass(frozen=True, slots=True)
class Plan:
    """What a phone does with an incoming call.

    Attributes:
        ring_after: Seconds until the bell rings (a push client may take some).
        answer_after: Seconds of ringing, then it answers; ``None``: never.
        refuse: Status to refuse with instead, after ``ring_after``; empty: it does not.
        ring_status: ``"180 Ringing"``, or ``"183 Session Progress"``, or empty: silent.
    """

    ring_after: float = 0.0
    answer_after: float | None = None
    refuse: str = ""
    ring_status: str = "180 Ringing"


IGNORE = Plan()
"""Rings and never answers."""


@dataclass(frozen=True, slots=True)
class TextMessage:
    """A SIP MESSAGE that arrived.

    Attributes:
        content_type: As sent, e.g. ``text/plain``.
    """

    at: Moment
    sender: str
    content_type: str
    text: str


class Phone(asyncio.DatagramProtocol):
    """One telephone.

    Attributes:
        plan: How the next incoming calls are treated; may be replaced at any time.
        calls: Every incoming call, oldest first.
        messages: Every text message, oldest first.
        mangle: What becomes of each packet on its way out; ``b""``: it is lost. For rude tests.
    """

    def __init__(
        self,
        user: str,
        *,
        exchange: tuple[str, int],
        ip: str,
        port: int = 0,
        plan: Plan = IGNORE,
        tone: float = 440,
    ) -> None:
        self.user = user
        self.exchange = exchange
        self.ip = ip
        self.port = port
        self.plan = plan
        self.calls: list[PhoneCall] = []
        self.messages: list[TextMessage] = []
        self.mangle: Callable[[bytes], bytes] = lambda packet: packet
        self._tone = tone
        self._dialogs: dict[str, PhoneCall] = {}
        self._pending: dict[str, asyncio.Future[SipMessage]] = {}
        self._answers: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._arrived: asyncio.Queue[PhoneCall] = asyncio.Queue()
        self._texts: asyncio.Queue[TextMessage] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def contact(self) -> str:
        return f"<sip:{self.user}@{self.ip}:{self.port}>"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self.ip, self.port))
        self._transport = transport
        self.port = cast("tuple[str, int]", transport.get_extra_info("sockname"))[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for call in list(self._dialogs.values()):
            call.finish("phone switched off")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()

    # -- what a person does ---------------------------------------------------

    def uri(self, extension: str) -> str:
        """Return the address of an extension at our exchange."""
        return f"sip:{extension}@{self.exchange[0]}:{self.exchange[1]}"

    async def register(self, password: str) -> None:
        """Tell the exchange where we are.

        Raises:
            PermissionError: It does not want us.
        """
        request = self._outside("REGISTER", self.uri(self.user), f"<{self.uri(self.user)}>")
        request.headers.append(("expires", "3600"))
        response = await self.transact(request)
        if response.status == 401:
            again = self._outside("REGISTER", self.uri(self.user), f"<{self.uri(self.user)}>")
            proof = sip.digest(
                response.first("www-authenticate"),
                user=self.user,
                password=password,
                method="REGISTER",
                uri=self.uri(self.user),
            )
            again.headers += [("expires", "3600"), ("authorization", proof)]
            response = await self.transact(again)
        if response.status != 200:
            raise PermissionError(f"REGISTER of {self.user}: {response.start}")

    async def dial(
        self, extension: str, *, name: str = "", number: str = "", headers: Sequence[tuple[str, str]] = ()
    ) -> PhoneCall:
        """Call an extension and return at once, before anything rings."""
        return await self.send_invite(self.uri(extension), name=name, from_user=number, headers=headers)

    async def send_invite(
        self,
        target: str,
        *,
        name: str = "",
        from_user: str = "",
        to: str = "",
        headers: Sequence[tuple[str, str]] = (),
    ) -> PhoneCall:
        """Call a raw URI; ``from_user``, ``target`` and ``to`` go on the wire as they are.

        That is what the forged-event tests need: ``from_user="1%0d%0aEvent%3a ..."``.
        """
        rtp = RtpStream(self.ip, self._tone)
        await rtp.open()
        caller = f"<sip:{from_user or self.user}@{self.ip}>;tag={sip.token(4)}"
        invite = self._outside(
            "INVITE", target, to or f"<{target}>", f"{sip.quoted(name)} {caller}" if name else caller
        )
        invite.headers += headers
        invite.headers.append(("content-type", "application/sdp"))
        call = PhoneCall(self, invite, rtp, outgoing=True)
        invite.body = call.offer("sendrecv")
        self._dialogs[invite.call_id] = call
        call.clock.invited = Moment.now()
        self._spawn(self._keep_inviting(call))
        return call

    async def incoming(self, timeout: float = 30) -> PhoneCall:
        """Wait for the next incoming call not yet taken from here.

        Raises:
            TimeoutError: None within ``timeout`` seconds.
        """
        return await asyncio.wait_for(self._arrived.get(), timeout)

    async def text(self, timeout: float = 5) -> TextMessage:
        """Wait for the next text message not yet taken from here.

        Raises:
            TimeoutError: None within ``timeout`` seconds.
        """
        return await asyncio.wait_for(self._texts.get(), timeout)

    # -- the wire -------------------------------------------------------------

    def send(self, message: SipMessage) -> None:
        """Put one message on the wire."""
        self._put(message.encode())

    def answer(self, request: SipMessage, response: SipMessage) -> None:
        """Send a response, and again should the request be repeated."""
        packet = response.encode()
        self._answers[(request.branch, request.method)] = packet
        while len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
        self._put(packet)

    async def transact(self, request: SipMessage) -> SipMessage:
        """Send a request, repeat it as long as nothing comes, and return the final response.

        Raises:
            TimeoutError: Nothing final within 8 seconds.
        """
        final = asyncio.get_running_loop().create_future()
        # A CANCEL has its INVITE's branch (RFC 3261, 9.1), hence the method in the key.
        key = request.branch + request.method
        self._pending[key] = final
        try:
            async with asyncio.timeout(_GIVE_UP):
                wait = _FIRST_RETRY
                while True:
                    self.send(request)
                    done, _ = await asyncio.wait([final], timeout=wait)
                    if done:
                        return cast("SipMessage", final.result())
                    wait *= 2
        finally:
            del self._pending[key]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            message = sip.parse(data)
        except ValueError:
            return
        if not message.is_request:
            self._received_response(message)
        elif packet := self._answers.get((message.branch, message.method)):
            self._put(packet)
        else:
            self._received_request(message)

    def error_received(self, exc: Exception) -> None:
        """The exchange is not there (any more): whoever waits will time out."""

    def _put(self, packet: bytes) -> None:
        packet = self.mangle(packet)
        if packet and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(packet, self.exchange)

    def _received_response(self, response: SipMessage) -> None:
        final = self._pending.get(response.branch + response.method)
        if final is not None:
            if response.status >= 200 and not final.done():
                final.set_result(response)
            return
        call = self._dialogs.get(response.call_id)
        if call and call.outgoing and response.branch == call.invite.branch and response.method == "INVITE":
            call.received_response(response)

    def _received_request(self, request: SipMessage) -> None:
        call = self._dialogs.get(request.call_id)
        if request.method == "INVITE" and not sip.tag_of(request.first("to")):
            if call is None:
                self._take(request)
        elif request.method == "ACK":
            if call:
                call.acknowledged()
        elif request.method == "MESSAGE":
            self._take_text(request)
        elif call is None:
            status = "200 OK" if request.method == "OPTIONS" else "481 Call/Transaction Does Not Exist"
            self.answer(request, sip.reply(request, status, contact=self.contact, to_tag=sip.token(4)))
        else:
            self._within(call, request)

    def _within(self, call: PhoneCall, request: SipMessage) -> None:
        body = b""
        if request.method in {"INVITE", "UPDATE"}:
            direction = call.listen_to(request.body) if request.body else "sendrecv"
            if request.body or request.method == "INVITE":
                body = call.offer(sip.ANSWER_DIRECTION[direction])
        self.answer(request, sip.reply(request, "200 OK", contact=self.contact, body=body))
        if request.method == "BYE":
            call.finish("the other side hung up")
        elif request.method == "CANCEL" and call.state is CallState.RINGING:
            call.respond("487 Request Terminated")
            call.finish("cancelled")
        elif request.method == "NOTIFY":
            call.notified.append(request.body.decode("ascii", "replace").strip())
            if "terminated" in request.first("subscription-state") and " 200 " in f"{call.notified[-1]} ":
                self._spawn(call.hang_up())

    def _take(self, invite: SipMessage) -> None:
        call = PhoneCall(self, invite, RtpStream(self.ip, self._tone), outgoing=False)
        call.clock.invited = Moment.now()
        self._dialogs[invite.call_id] = call
        self.answer(invite, sip.reply(invite, "100 Trying", contact=self.contact))
        self._spawn(self._follow(self.plan, call))

    async def _follow(self, plan: Plan, call: PhoneCall) -> None:
        await call.rtp.open()
        call.listen_to(call.invite.body)
        self.calls.append(call)
        self._arrived.put_nowait(call)
        await asyncio.sleep(plan.ring_after)
        if plan.refuse:
            await call.refuse(plan.refuse)
            return
        if plan.ring_status:
            call.ring(plan.ring_status)
        if plan.answer_after is not None:
            await asyncio.sleep(plan.answer_after)
            await call.answer()

    def _take_text(self, request: SipMessage) -> None:
        self.answer(request, sip.reply(request, "200 OK", contact=self.contact, to_tag=sip.token(4)))
        text = TextMessage(
            Moment.now(),
            request.first("from"),
            request.first("content-type"),
            request.body.decode("utf-8", "replace"),
        )
        self.messages.append(text)
        self._texts.put_nowait(text)

    async def _keep_inviting(self, call: PhoneCall) -> None:
        wait = _FIRST_RETRY
        self.send(call.invite)
        while wait < _GIVE_UP:
            await asyncio.sleep(wait)
            if call.progress or call.state is not CallState.CALLING:
                return
            self.send(call.invite)
            wait *= 2
        call.finish("no reply from the exchange")

    def _outside(self, method: str, target: str, to: str, caller: str = "") -> SipMessage:
        address = f"<sip:{self.user}@{self.exchange[0]}>;tag={sip.token(4)}"
        headers = [
            ("via", f"SIP/2.0/UDP {self.ip}:{self.port};branch=z9hG4bK{sip.token()};rport"),
            ("max-forwards", "70"),
            ("from", caller or address),
            ("to", to),
            ("call-id", sip.token()),
            ("cseq", f"1 {method}"),
            ("contact", self.contact),
            ("allow", sip.ALLOW),
            ("supported", "replaces"),
        ]
        return SipMessage(f"{method} {target} SIP/2.0", headers)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
