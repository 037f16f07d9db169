"""A pretend Asterisk that speaks in typed events: for tests of the core and for ``bench scale``.

It knows just enough to say what a real one says, in the order a real one says it, and to
list its channels, queues and members when asked. Everything it says is kept in ``said``, and
written into its ``books`` as a real one writes it (``lab.books`` tells what that is).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ctid.acd.facts import SetPause
from ctid.ami import events as ami
from ctid.ami.events import AmiEvent, Snapshot
from lab.books import Books, Clerk, KeptBooks, whole_seconds
from lab.channels import Channel, Seat, Visit, member_of
from lab.listing import listed

#: What ``queue_log`` calls the ways to leave; the key is QUEUESTATUS.
_VERBS = {
    "": "ABANDON",
    "KEY": "EXITWITHKEY",
    "TIMEOUT": "EXITWITHTIMEOUT",
    "LEAVEEMPTY": "EXITEMPTY",
    "LEAVEUNAVAIL": "EXITEMPTY",
    "WITHDRAW": "WITHDRAW",
}
BOOT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


@dataclass
class Switchboard:
    """The exchange. Every method says events; time only passes by ``wait``."""

    at: datetime = BOOT + timedelta(hours=1)
    boot: datetime = BOOT
    channels: dict[str, Channel] = field(default_factory=dict)
    seats: dict[tuple[str, str], Seat] = field(default_factory=dict)
    said: list[AmiEvent] = field(default_factory=list)
    count: int = 0
    bridges: int = 0
    books: Books = field(default_factory=KeptBooks)
    system: str = "pbx"

    def __post_init__(self) -> None:
        self.clerk = Clerk(self.books)
        self.clerk.queue(self.boot, "", "", "", "QUEUESTART")

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)

    def _say(self, event: AmiEvent) -> None:
        self.said.append(event)
        self.at += timedelta(microseconds=7)

    def take(self) -> list[AmiEvent]:
        """Return what was said since the last time."""
        said, self.said = self.said, []
        return said

    def _about(self, channel: Channel) -> dict[str, object]:
        return {
            "at": self.at,
            "channel": channel.name,
            "uniqueid": channel.uniqueid,
            "linkedid": channel.linkedid,
        }

    # -- legs -----------------------------------------------------------------

    def leg(self, interface: str, linkedid: str = "", number: str = "", exten: str = "s") -> str:
        """A channel comes into being."""
        self.count += 1
        uniqueid = f"{self.system}-{int(self.at.timestamp())}.{self.count}"
        channel = Channel(
            uniqueid, f"{interface}-{self.count:08x}", linkedid or uniqueid, number=number, exten=exten
        )
        channel.state = "Down" if linkedid else "Ring"
        channel.is_outgoing = bool(linkedid)
        channel.context = "ctid-inbound" if interface == "PJSIP/trunk" else "ctid-agents"
        self.channels[uniqueid] = channel
        self._say(
            ami.Newchannel(
                **self._about(channel),  # type: ignore[arg-type]
                state=channel.state,
                caller_number=number,
                exten=exten,
            )
        )
        self.clerk.cel("CHAN_START", channel, self.at)
        return uniqueid

    def call(self, number: str = "13800138000", exten: str = "5001") -> str:
        """An outside caller arrives."""
        return self.leg("PJSIP/trunk", number=number, exten=exten)

    def route(self, caller: str, line: str, *, business: str = "", recording: str = "") -> None:
        """The dialplan answers and tells what was decided (dialplan/ctid-queue.conf)."""
        channel = self.channels[caller]
        channel.context, channel.app = "ctid-queue", ("Answer", "")
        self.up(caller)
        self.tell(caller, "CtidCall", line=line, recording=recording, business=business, vip="0")
        text = f"{recording} {business} 0 {line}"
        channel.app = ("CELGenUserEvent", f"CtidCall,{text}")
        self.clerk.cel("CtidCall", channel, self.at, user="CtidCall", extra=text)
        channel.app = ("", "")

    def up(self, uniqueid: str) -> None:
        """The leg is answered."""
        self._newstate(uniqueid, "Up")

    def _newstate(self, uniqueid: str, state: str) -> None:
        channel = self.channels[uniqueid]
        channel.state = state
        self._say(ami.Newstate(**self._about(channel), state=state))  # type: ignore[arg-type]
        if state == "Up":
            self.clerk.cel("ANSWER", channel, self.at)

    def bridge(self, *uniqueids: str, name: str = "") -> str:
        """Put legs together; they leave where they were."""
        self.bridges += 1
        name = name or f"bridge-{self.bridges}"
        for uniqueid in uniqueids:
            channel = self.channels[uniqueid]
            self.unbridge(uniqueid)
            channel.bridge = name
            size = sum(other.bridge == name for other in self.channels.values())
            self._say(ami.BridgeEnter(**self._about(channel), bridge=name, bridge_size=size))  # type: ignore[arg-type]
            self._bridge_cel("BRIDGE_ENTER", channel, name)
        return name

    def unbridge(self, uniqueid: str) -> None:
        """Take the leg out of its bridge."""
        channel = self.channels[uniqueid]
        if channel.bridge:
            name = channel.bridge
            self._say(ami.BridgeLeave(**self._about(channel), bridge=name))  # type: ignore[arg-type]
            channel.bridge = ""
            self._bridge_cel("BRIDGE_EXIT", channel, name)

    def _company(self, channel: Channel, bridge: str) -> list[Channel]:
        return [one for one in self.channels.values() if one.bridge == bridge and one is not channel]

    def _bridge_cel(self, kind: str, channel: Channel, bridge: str) -> None:
        peers = ",".join(one.name for one in self._company(channel, bridge))
        self.clerk.cel(
            kind, channel, self.at, peer=peers, bridge_id=bridge, bridge_technology="simple_bridge"
        )

    def hold(self, uniqueid: str) -> None:
        """The phone puts the other side on hold."""
        channel = self.channels[uniqueid]
        self._say(ami.Hold(**self._about(channel)))  # type: ignore[arg-type]
        for one in self._company(channel, channel.bridge or "?"):
            self.clerk.stream(one, self.at, begins=True)

    def unhold(self, uniqueid: str) -> None:
        """The phone takes the other side back."""
        channel = self.channels[uniqueid]
        self._say(ami.Unhold(**self._about(channel)))  # type: ignore[arg-type]
        for one in self._company(channel, channel.bridge or "?"):
            self.clerk.stream(one, self.at, begins=False)

    def wants_to_go(self, uniqueid: str, cause: int = 16) -> None:
        """The far end asks to hang up."""
        channel = self.channels[uniqueid]
        self._say(ami.HangupRequest(**self._about(channel), cause=cause))  # type: ignore[arg-type]
        for one in (channel, *self._company(channel, channel.bridge or "?")):
            one.hangup_source = one.hangup_source or channel.name

    def gone(self, uniqueid: str, cause: int = 16) -> None:
        """The leg is hung up."""
        self._complete(uniqueid)
        self.unbridge(uniqueid)
        channel = self.channels.pop(uniqueid)
        self._say(ami.Hangup(**self._about(channel), cause=cause, cause_text="Normal Clearing"))  # type: ignore[arg-type]
        is_last = not any(one.linkedid == channel.linkedid for one in self.channels.values())
        self.clerk.hangup(channel, self.at, cause, is_last=is_last)
        if channel.caller or channel.state == "Up":
            self._device(channel, 1)

    # -- queues ---------------------------------------------------------------

    def _in_queue(self, uniqueid: str) -> dict[str, object]:
        channel = self.channels[uniqueid]
        return {**self._about(channel), "queue": channel.queue}

    def waiting(self, queue: str) -> list[Channel]:
        """Who waits, in order of joining."""
        return [channel for channel in self.channels.values() if channel.queue == queue]

    def join(self, uniqueid: str, queue: str, position: int = 0) -> None:
        """The leg enters a queue."""
        channel = self.channels[uniqueid]
        if channel.app[0] == "Queue":
            self.clerk.cel("APP_END", channel, self.at)
        channel.queue = channel.application = queue
        channel.app, channel.context = ("Queue", f"{queue},tb(ctid-offer^s^1),,,60,,,"), "ctid-wait"
        channel.joined_at = self.at
        count = len(self.waiting(queue))
        channel.position = position or count
        self._say(
            ami.QueueCallerJoin(
                **self._in_queue(uniqueid),  # type: ignore[arg-type]
                position=position or count,
                count=count,
                caller_number=channel.number,
            )
        )
        self.clerk.cel("APP_START", channel, self.at)
        self.clerk.stream(channel, self.at, begins=True)
        self.clerk.queue(self.at, uniqueid, queue, "", "ENTERQUEUE", "", channel.number, channel.position)

    def ring(self, caller: str, interface: str, *, signal: bool = True) -> str:
        """The caller's queue rings a member; without ``signal`` the phone stays dumb."""
        waiting = self.channels[caller]
        uniqueid = self.leg(interface.removesuffix("/n"), waiting.linkedid)
        phone = self.channels[uniqueid]
        phone.caller, phone.dialled_by, phone.rung_at = caller, interface, self.at
        phone.app, phone.exten = ("AppQueue", "(Outgoing Line)"), waiting.exten
        self._say(
            ami.AgentCalled(
                **self._in_queue(caller),  # type: ignore[arg-type]
                interface=interface,
                dest_channel=phone.name,
                dest_uniqueid=uniqueid,
            )
        )
        self._dial(ami.DialBegin, phone)
        if signal:
            self._newstate(uniqueid, "Ringing")
            self._dial(ami.DialState, phone, dial_status="RINGING")
            self._device(phone, 6)
        return uniqueid

    def _dial(self, kind: type[ami.DialEvent], phone: Channel, **more: str) -> None:
        caller = self.channels.get(phone.caller)
        self._say(
            kind(
                at=self.at,
                uniqueid=phone.caller,
                linkedid=caller.linkedid if caller else "",
                dest_channel=phone.name,
                dest_uniqueid=phone.uniqueid,
                dest_linkedid=phone.linkedid,
                **more,
            )
        )

    def _device(self, channel: Channel, status: int) -> None:
        interface = channel.name.rpartition("-")[0]
        for seat in self.seats.values():
            if seat.interface == interface:
                seat.status = status
                self._say(ami.QueueMemberStatus(**self._seat(seat)))  # type: ignore[arg-type]

    def picked_up(self, phone: str) -> None:
        """The phone is answered; the caller is not connected yet."""
        self._newstate(phone, "Up")
        self._dial(ami.DialEnd, self.channels[phone], dial_status="ANSWER")
        caller = self.channels[phone].caller
        self._cancel(caller, but=phone)
        self._say(ami.QueueCallerLeave(**self._in_queue(caller)))  # type: ignore[arg-type]

    def connect(self, phone: str) -> None:
        """Agent and caller are joined."""
        channel = self.channels[phone]
        caller = channel.caller
        self._say(
            ami.AgentConnect(
                **self._in_queue(caller),  # type: ignore[arg-type]
                interface=channel.dialled_by,
                dest_channel=channel.name,
                dest_uniqueid=phone,
            )
        )
        self._taken(channel)
        if self.channels[caller].state != "Up":
            self._newstate(caller, "Up")
        self._device(channel, 2)
        self.bridge(phone, caller)

    def _taken(self, phone: Channel) -> None:
        caller = self.channels[phone.caller]
        self.clerk.stream(caller, self.at, begins=False)
        held = whole_seconds(caller.joined_at or self.at, self.at)
        rang = int((self.at - (phone.rung_at or self.at)).total_seconds())
        caller.visit = Visit(
            caller.queue, member_of(phone.dialled_by), phone.uniqueid, self.at, held, rang, caller.position
        )
        caller.queue, caller.dialstatus = "", "ANSWER"
        self._note(caller, caller.visit.queue, caller.visit.member, "CONNECT", held, phone.uniqueid, rang)

    def _note(self, caller: Channel, queue: str, member: str, *words: str | int) -> None:
        self.clerk.queue(self.at, caller.uniqueid, queue, member, *words)

    def _complete(self, uniqueid: str) -> None:
        """One of the two hangs up: the queue is done with them."""
        channel = self.channels[uniqueid]
        caller = channel if channel.visit else self.channels.get(channel.caller, channel)
        visit = caller.visit
        if visit is not None and uniqueid in (caller.uniqueid, visit.phone):
            by = "COMPLETECALLER" if caller is channel else "COMPLETEAGENT"
            self._done(caller, by)

    def _done(self, caller: Channel, verb: str, *words: str | int) -> None:
        visit, caller.visit = caller.visit, None
        if visit is None:
            return
        self._say(
            ami.AgentComplete(
                at=self.at,
                queue=visit.queue,
                member=visit.member,
                interface=f"PJSIP/{visit.member}",
                uniqueid=caller.uniqueid,
                linkedid=caller.linkedid,
                dest_uniqueid=visit.phone,
            )
        )
        talked = whole_seconds(visit.connected_at, self.at)
        self._note(caller, visit.queue, visit.member, verb, *words, visit.held, talked, visit.position)

    def answer(self, phone: str) -> None:
        """The agent picks up and talks."""
        self.picked_up(phone)
        self.connect(phone)

    def _cancel(self, caller: str, but: str = "") -> None:
        for phone in [one for one in self.channels.values() if one.caller == caller]:
            if phone.uniqueid != but and phone.state != "Up":
                if not but:
                    self._rang(phone, "RINGCANCELED", self._rung_ms(phone))
                    self.channels[caller].dialstatus = "CANCEL"
                self._dial(ami.DialEnd, phone, dial_status="CANCEL")
                self._dial(ami.DialEnd, phone, dial_status="CANCEL")
                self.gone(phone.uniqueid, 26 if but else 0)

    def _rung_ms(self, phone: Channel) -> int:
        return int((self.at - (phone.rung_at or self.at)).total_seconds() * 1000)

    def _rang(self, phone: Channel, verb: str, milliseconds: int) -> None:
        caller = self.channels[phone.caller]
        self._note(caller, caller.queue, member_of(phone.dialled_by), verb, milliseconds)

    def _missed(self, channel: Channel, milliseconds: int) -> None:
        self._say(
            ami.AgentRingNoAnswer(
                **self._in_queue(channel.caller),  # type: ignore[arg-type]
                interface=channel.dialled_by,
                dest_uniqueid=channel.uniqueid,
                ring_ms=milliseconds,
            )
        )
        self._rang(channel, "RINGNOANSWER", milliseconds)
        self.channels[channel.caller].dialstatus = "NOANSWER"

    def no_answer(self, phone: str) -> None:
        """The phone rings out."""
        channel = self.channels[phone]
        self._missed(channel, self._rung_ms(channel) // 1000 * 1000)
        self._dial(ami.DialEnd, channel, dial_status="NOANSWER")
        self._dial(ami.DialEnd, channel, dial_status="CANCEL")
        self.gone(phone, 0)

    def refuse(self, phone: str, cause: int = 17) -> None:
        """The phone says no by itself."""
        channel = self.channels[phone]
        self.wants_to_go(phone, cause)
        self._dial(ami.DialEnd, channel, dial_status="NOANSWER")
        self._missed(channel, 0)
        self.gone(phone, cause)

    def leave(self, caller: str, status: str = "") -> None:
        """The caller leaves unanswered: by key, or with a QUEUESTATUS."""
        if status in ("TIMEOUT", "LEAVEEMPTY"):
            for phone in [one for one in self.channels.values() if one.caller == caller]:
                self.no_answer(phone.uniqueid)
        self._cancel(caller)
        if status != "KEY":
            self._say(ami.QueueCallerAbandon(**self._in_queue(caller)))  # type: ignore[arg-type]
        self._say(ami.QueueCallerLeave(**self._in_queue(caller)))  # type: ignore[arg-type]
        queue = self._left(self.channels[caller], status)
        if status == "KEY":
            self.tell(caller, "ExitKey", queue=queue, digit="0")
        elif status:
            channel = self.channels[caller]
            self._say(
                ami.QueueStatusVariable(**self._about(channel), variable="QUEUESTATUS", value=status)  # type: ignore[arg-type]
            )
            self.tell(caller, "QueueExit", queue=queue, status=status)
            channel.app = ("CELGenUserEvent", f"QueueExit,{queue} {status}")
            self.clerk.cel("QueueExit", channel, self.at, user="QueueExit", extra=f"{queue} {status}")
            channel.app = ("Playback", "vm-goodbye")

    def _left(self, channel: Channel, status: str) -> str:
        queue, place = channel.queue, 1 + self.waiting(channel.queue).index(channel)
        waited = whole_seconds(channel.joined_at or self.at, self.at)
        self.clerk.stream(channel, self.at, begins=False)
        words: list[str | int] = [place, channel.position, waited]
        if status == "KEY":
            words.insert(0, "0")
        if status == "WITHDRAW":
            words.append("")
        self._note(channel, queue, "", _VERBS[status], *words)
        if status or not channel.hangup_source:
            self.clerk.cel("APP_END", channel, self.at)
            channel.app, channel.application = ("Playback", "vm-goodbye"), ""
        channel.queue = ""
        return queue

    def tell(self, uniqueid: str, name: str, **more: str) -> None:
        """The dialplan sends a UserEvent."""
        self._say(ami.UserEvent(**self._about(self.channels[uniqueid]), name=name, **more))  # type: ignore[arg-type]

    def hang_up(self, uniqueid: str) -> None:
        """Somebody puts the phone down, and whoever he talked with is hung up too."""
        channel = self.channels[uniqueid]
        company = [one for one in self.channels.values() if channel.bridge and one.bridge == channel.bridge]
        self.wants_to_go(uniqueid)
        if channel.queue:
            self.leave(uniqueid)
        for one in (channel, *company):
            self._complete(one.uniqueid)
        for one in company:
            self.unbridge(one.uniqueid)
        for one in company or [channel]:
            self.gone(one.uniqueid)

    # -- transfers ------------------------------------------------------------

    def blind_transfer(self, phone: str, queue: str, exten: str = "8006") -> None:
        """The agent sends his caller into another queue, and is out (22/blind_transfer_refer)."""
        agent = self.channels[phone]
        caller = self.channels[agent.caller]
        bridge = agent.bridge
        self._say(
            ami.BlindTransfer(
                at=self.at,
                result="Success",
                transferer=phone,
                transferee=caller.uniqueid,
                extension=exten,
                context="ctid-agents",
            )
        )
        self.clerk.cel(
            "BLINDTRANSFER",
            agent,
            self.at,
            extension=exten,
            context="ctid-agents",
            bridge_id=bridge,
            transferee_channel_name=caller.name,
            transferee_channel_uniqueid=caller.uniqueid,
        )
        self._done(caller, "BLINDTRANSFER", exten, "ctid-agents")
        self.unbridge(caller.uniqueid)
        self.unbridge(phone)
        self.gone(phone)
        self.join(caller.uniqueid, queue)

    def consult(self, phone: str, colleague: str) -> tuple[str, str]:
        """The agent, with his caller on hold, calls a colleague; return both new legs."""
        return self.dial(self.channels[phone].name.rpartition("-")[0], colleague)

    def dial(self, mine: str, colleague: str) -> tuple[str, str]:
        """One phone calls another and it rings; return both legs."""
        own = self.leg(mine, number=member_of(mine), exten=member_of(colleague))
        asking = self.channels[own]
        asking.app = ("Dial", f"{colleague},30")
        self.clerk.cel("APP_START", asking, self.at)
        other = self.leg(colleague, own)
        asked = self.channels[other]
        asked.caller, asked.app = own, ("AppDial", "(Outgoing Line)")
        self._dial(ami.DialBegin, asked)
        self._newstate(other, "Ringing")
        self._dial(ami.DialState, asked, dial_status="RINGING")
        self._device(asked, 6)
        return own, other

    def consulted(self, own: str, other: str) -> None:
        """The colleague answers the agent."""
        self._newstate(other, "Up")
        self._dial(ami.DialEnd, self.channels[other], dial_status="ANSWER")
        self.channels[own].dialstatus = "ANSWER"
        self._newstate(own, "Up")
        self._device(self.channels[other], 2)
        self.bridge(other, own)

    def attended_transfer(self, phone: str, own: str, other: str) -> None:
        """The agent joins his caller with the colleague, and is out (22/attended_transfer_refer)."""
        agent, asked, asking = self.channels[phone], self.channels[other], self.channels[own]
        caller, bridge, second = self.channels[agent.caller], agent.bridge, asking.bridge
        self.unbridge(other)
        self.unbridge(phone)
        asked.linkedid, asked.caller = caller.linkedid, caller.uniqueid
        self.bridge(other, name=bridge)
        self._say(
            ami.AttendedTransfer(
                at=self.at,
                result="Success",
                orig_transferer=phone,
                second_transferer=own,
                transferee=caller.uniqueid,
                transfer_target=other,
                dest_type="Bridge",
            )
        )
        self.clerk.cel(
            "ATTENDEDTRANSFER",
            agent,
            self.at,
            bridge1_id=bridge,
            channel2_name=asking.name,
            channel2_uniqueid=own,
            bridge2_id=second,
            transferee_channel_name=caller.name,
            transferee_channel_uniqueid=caller.uniqueid,
            transfer_target_channel_name=asked.name,
            transfer_target_channel_uniqueid=other,
        )
        self.unbridge(own)
        self._done(caller, "ATTENDEDTRANSFER", "BRIDGE", bridge)
        self.gone(own)
        self.gone(phone)

    # -- members --------------------------------------------------------------

    def _seat(self, seat: Seat) -> dict[str, object]:
        return {
            "at": self.at,
            "queue": seat.queue,
            "member": seat.member,
            "interface": seat.interface,
            "status": seat.status,
            "paused": seat.paused,
            "reason": seat.reason,
        }

    def login(self, interface: str, *queues: str) -> None:
        """The phone becomes a member."""
        for queue in queues:
            seat = self.seats[queue, interface] = Seat(queue, interface)
            self._say(ami.QueueMemberAdded(**self._seat(seat)))  # type: ignore[arg-type]
            self.clerk.queue(self.at, "MANAGER", queue, interface, "ADDMEMBER")

    def logout(self, interface: str, *queues: str) -> None:
        """The phone is a member no more."""
        for queue in queues:
            seat = self.seats.pop((queue, interface))
            self._say(ami.QueueMemberRemoved(**self._seat(seat)))  # type: ignore[arg-type]
            self.clerk.queue(self.at, "MANAGER", queue, interface, "REMOVEMEMBER")

    def pause(self, interface: str, reason: str | None, *queues: str) -> None:
        """Pause with a reason, or unpause with ``None``; everywhere, or in some queues."""
        verb = "UNPAUSE" if reason is None else "PAUSE"
        why = (reason,) if reason else ()
        if not queues:
            self.clerk.queue(self.at, "", "", member_of(interface), f"{verb}ALL", *why)
        for seat in self.seats.values():
            if seat.interface == interface and (not queues or seat.queue in queues):
                seat.paused, seat.reason = reason is not None, reason or ""
                self._say(ami.QueueMemberPause(**self._seat(seat)))  # type: ignore[arg-type]
                self.clerk.queue(self.at, "", seat.queue, seat.member, verb, *why)

    def obey(self, command: SetPause) -> None:
        """Do what ctid asked."""
        self.pause(command.interface, command.reason if command.paused else None)

    def phone_status(self, interface: str, status: int) -> None:
        """The device state changes."""
        for seat in self.seats.values():
            if seat.interface == interface:
                seat.status = status
                self._say(ami.QueueMemberStatus(**self._seat(seat)))  # type: ignore[arg-type]

    def restart(self, down: float = 1.0) -> None:
        """Asterisk dies and another one starts: no leg says good-bye, and the count begins anew.

        Members stay, paused or not (``persistentmembers``).
        """
        self.channels.clear()
        self.said.clear()
        self.count = 0
        self.wait(down)
        self.boot = self.at.replace(microsecond=0)
        for seat in self.seats.values():
            seat.status = 1
        self.clerk.queue(self.at, "", "", "", "QUEUESTART")

    # -- lists ----------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Answer CoreShowChannels and QueueStatus."""
        return listed(self)
