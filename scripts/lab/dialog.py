"""One call as a simulated phone lives it, and the clock that judges ctid's figures.

outgoing:  CALLING --2xx--> UP --BYE, either side--> ENDED
           CALLING --3xx..6xx, CANCEL--------------> ENDED
incoming:  RINGING --we answer, ACK--> UP --BYE----> ENDED
           RINGING --we refuse, CANCEL-------------> ENDED
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from lab import sip
from lab.rtp import RtpStream
from lab.sip import SipMessage

if TYPE_CHECKING:
    from lab.phone import Phone


class CallState(enum.Enum):
    """Where one call stands."""

    CALLING = "calling"
    RINGING = "ringing"
    UP = "up"
    ENDED = "ended"


class CallFailedError(Exception):
    """The other side would not have it; the text is its status line, or who ended it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on this phone's own clocks; durations come from ``monotonic``."""

    monotonic: float
    wall: float

    @classmethod
    def now(cls) -> Moment:
        return cls(time.monotonic(), time.time())

    def since(self, earlier: Moment) -> float:
        """Seconds from ``earlier`` to this."""
        return self.monotonic - earlier.monotonic


@dataclass(slots=True)
class CallClock:
    """When things happened, as seen at the phone; ``None``: never.

    Attributes:
        invited: INVITE received, or first sent.
        ringing: 180 or 183, sent or received.
        answered: 200 sent, or received.
        ended: BYE, CANCEL or refusal, sent or received.
        holds: (held, resumed); the last may be open.
    """

    invited: Moment | None = None
    ringing: Moment | None = None
    answered: Moment | None = None
    ended: Moment | None = None
    holds: list[tuple[Moment, Moment | None]] = field(default_factory=list)

    @property
    def rang(self) -> float:
        """Seconds of ringing, answered or not; 0 if it never rang."""
        end = self.answered or self.ended
        return end.since(self.ringing) if end and self.ringing else 0.0

    @property
    def held(self) -> float:
        """Seconds on hold; a hold still open counts to the end of the call."""
        return sum(((up or self.ended or Moment.now()).since(down) for down, up in self.holds), start=0.0)

    @property
    def talked(self) -> float:
        """Seconds from answer to end, without hold; 0 if never answered."""
        if self.answered is None:
            return 0.0
        return (self.ended or Moment.now()).since(self.answered) - self.held


class PhoneCall:
    """A dialog and its audio. Made by ``Phone``, not directly.

    Attributes:
        invite: The INVITE that began it, headers and all.
        progress: Status codes before the final one, in order.
        why: How it ended; empty while it lives.
    """

    def __init__(self, phone: Phone, invite: SipMessage, rtp: RtpStream, *, outgoing: bool) -> None:
        self.phone = phone
        self.invite = invite
        self.rtp = rtp
        self.outgoing = outgoing
        self.clock = CallClock()
        self.state = CallState.CALLING if outgoing else CallState.RINGING
        self.progress: list[int] = []
        self.notified: list[str] = []
        self.why = ""
        self._up = asyncio.Event()
        self._ended = asyncio.Event()
        self._rang = asyncio.Event()
        self._sequence = invite.sequence[0] if outgoing else 100
        self._version = 0
        self._tag = sip.tag_of(invite.first("from")) if outgoing else sip.token(4)
        if outgoing:
            self.local, self.remote = invite.first("from"), invite.first("to")
            self.target, self.route = invite.start.split()[1], []
        else:
            self.local, self.remote = f"{invite.first('to')};tag={self._tag}", invite.first("from")
            self.target = sip.uri_of(invite.first("contact"))
            self.route = invite.all("record-route")

    # -- what a person does ---------------------------------------------------

    async def answered(self, timeout: float = 30) -> PhoneCall:
        """Wait until both can talk.

        Raises:
            CallFailedError: It ended before.
            TimeoutError: Neither within ``timeout`` seconds.
        """
        await asyncio.wait_for(self._up.wait(), timeout)
        if self.clock.answered is None:
            raise CallFailedError(self.why)
        return self

    async def rung(self, timeout: float = 30) -> PhoneCall:
        """Wait until the phone rings (or the call is over)."""
        await asyncio.wait_for(self._rang.wait(), timeout)
        return self

    async def ended(self, timeout: float = 60) -> PhoneCall:
        """Wait until it is over."""
        await asyncio.wait_for(self._ended.wait(), timeout)
        return self

    async def answer(self) -> None:
        """Take an incoming call, until the ACK; does nothing unless it still rings."""
        if self.state is not CallState.RINGING or self.clock.answered:
            return
        self.clock.answered = Moment.now()
        self.rtp.start()
        self._rang.set()
        body = self.offer("sendrecv")
        for wait in (0.5, 1.0, 2.0, 4.0):  # RFC 3261, 13.3.1.4: we repeat it, not the transaction
            self.respond("200 OK", body=body)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._up.wait(), wait)
                return
        self.finish("our answer was not acknowledged")

    async def refuse(self, status: str = "486 Busy Here") -> None:
        """Decline an incoming call."""
        if self.state is CallState.RINGING:
            self.respond(status)
            self.finish(status)

    def ring(self, status: str = "180 Ringing") -> None:
        """Tell the caller that the bell rings (or, with 183, that it is on its way)."""
        if self.state is CallState.RINGING:
            self.clock.ringing = self.clock.ringing or Moment.now()
            self.respond(status)
            self._rang.set()

    async def hang_up(self) -> None:
        """End it in whichever way fits: BYE, CANCEL or 603."""
        if self.state is CallState.ENDED:
            return
        if self.state is CallState.UP:
            self.finish("we hung up")
            await self.phone.transact(self.request("BYE"))
        elif self.outgoing:
            self.clock.ended = self.clock.ended or Moment.now()
            await self.phone.transact(self._cancel())
            await self.ended(8)
        else:
            await self.refuse("603 Decline")

    async def cancel(self) -> int:
        """Send CANCEL whatever happened meanwhile; return the status it was answered with."""
        return (await self.phone.transact(self._cancel())).status

    async def hold(self) -> None:
        """Put the other side on hold (re-INVITE, sendonly)."""
        await self._renegotiate("sendonly")
        self.rtp.sending = False
        self.clock.holds.append((Moment.now(), None))

    async def resume(self) -> None:
        """Take the other side back."""
        await self._renegotiate("sendrecv")
        self.rtp.sending = True
        began, _ = self.clock.holds.pop()
        self.clock.holds.append((began, Moment.now()))

    async def transfer(self, target: str) -> None:
        """Send the other side to the URI ``target`` (REFER); we are out when it says so."""
        await self._refer(f"<{target}>")

    async def transfer_to(self, consulted: PhoneCall) -> None:
        """Join the other side with the one we ``consulted`` (REFER with Replaces)."""
        remote, local = sip.tag_of(consulted.remote), sip.tag_of(consulted.local)
        replaces = quote(f"{consulted.invite.call_id};to-tag={remote};from-tag={local}", safe="")
        await self._refer(f"<{sip.uri_of(consulted.remote)}?Replaces={replaces}>")

    def press(self, digits: str) -> None:
        """Send DTMF."""
        self.rtp.press(digits)

    # -- what the wire needs; for Phone ----------------------------------------

    def respond(self, status: str, *, body: bytes = b"") -> None:
        """Answer the INVITE of an incoming call."""
        message = sip.reply(self.invite, status, contact=self.phone.contact, to_tag=self._tag, body=body)
        self.phone.answer(self.invite, message)

    def offer(self, direction: str) -> bytes:
        """Return our session description."""
        self._version += 1
        return sip.session_description(self.phone.ip, self.rtp.port, direction, self._version)

    def listen_to(self, body: bytes) -> str:
        """Send audio where ``body`` says; return its direction."""
        address, direction = sip.media_of(body)
        if address:
            self.rtp.remote = address
        return direction

    def request(
        self, method: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"", *, sequence: int = 0
    ) -> SipMessage:
        """Build a request within the dialog."""
        if not sequence:
            self._sequence += 1
            sequence = self._sequence
        lines = [
            ("via", f"SIP/2.0/UDP {self.phone.ip}:{self.phone.port};branch=z9hG4bK{sip.token()};rport"),
            *(("route", hop) for hop in self.route),
            ("max-forwards", "70"),
            ("from", self.local),
            ("to", self.remote),
            ("call-id", self.invite.call_id),
            ("cseq", f"{sequence} {method}"),
            ("contact", self.phone.contact),
            ("allow", sip.ALLOW),
            ("supported", "replaces"),
            *headers,
        ]
        if body:
            lines.append(("content-type", "application/sdp"))
        return SipMessage(f"{method} {self.target} SIP/2.0", lines, body)

    def finish(self, why: str) -> None:
        """Note the end; harmless when it has ended."""
        if self.state is CallState.ENDED:
            return
        self.state = CallState.ENDED
        self.why = why
        self.clock.ended = self.clock.ended or Moment.now()
        self.rtp.close()
        for waiter in (self._up, self._ended, self._rang):
            waiter.set()

    def acknowledged(self) -> None:
        """The ACK to our 200 came: both can talk."""
        if self.state is CallState.RINGING and self.clock.answered:
            self.state = CallState.UP
            self._up.set()

    def received_response(self, response: SipMessage) -> None:
        """Take a response to the first INVITE of an outgoing call."""
        if response.status < 200:
            self._progressed(response)
        elif response.status < 300:
            self._accepted(response)
        else:
            self.remote = response.first("to")
            self.phone.send(self._acknowledge_refusal(response))
            self.finish(response.start.removeprefix("SIP/2.0 "))

    def _progressed(self, response: SipMessage) -> None:
        self.progress.append(response.status)
        if response.status > 100:
            self.clock.ringing = self.clock.ringing or Moment.now()
            self._rang.set()
        if response.body:
            self.listen_to(response.body)

    def _accepted(self, response: SipMessage) -> None:
        self.remote = response.first("to")
        self.target = sip.uri_of(response.first("contact")) or self.target
        self.route = list(reversed(response.all("record-route")))
        self.phone.send(self.request("ACK", sequence=self.invite.sequence[0]))
        if self.state is CallState.CALLING:
            self.clock.answered = Moment.now()
            self.listen_to(response.body)
            self.rtp.start()
            self.state = CallState.UP
            self._up.set()
            self._rang.set()

    def _of_invite(self, method: str, to: str) -> SipMessage:
        # CANCEL and the ACK of a refusal belong to the INVITE's own transaction (RFC 3261, 9.1 and 17.1.1.3).
        kept = {"via", "max-forwards", "from", "call-id"}
        headers = [(key, value) for key, value in self.invite.headers if key in kept]
        headers += [("to", to), ("cseq", f"{self.invite.sequence[0]} {method}")]
        return SipMessage(f"{method} {self.invite.start.split()[1]} SIP/2.0", headers)

    def _cancel(self) -> SipMessage:
        return self._of_invite("CANCEL", self.invite.first("to"))

    def _acknowledge_refusal(self, response: SipMessage) -> SipMessage:
        return self._of_invite("ACK", response.first("to"))

    async def _renegotiate(self, direction: str) -> None:
        request = self.request("INVITE", body=self.offer(direction))
        response = await self.phone.transact(request)
        self.phone.send(self.request("ACK", sequence=request.sequence[0]))
        if response.status >= 300:
            raise CallFailedError(response.start)
        self.listen_to(response.body)

    async def _refer(self, refer_to: str) -> None:
        headers = [("refer-to", refer_to), ("referred-by", self.phone.contact)]
        response = await self.phone.transact(self.request("REFER", headers))
        if response.status >= 300:
            raise CallFailedError(response.start)
