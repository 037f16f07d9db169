"""A pretend Asterisk that speaks in typed events: for tests of the core and for ``bench scale``.

It knows just enough to say what a real one says, in the order a real one says it, and to
list its channels, queues and members when asked. Everything it says is kept in ``said``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ctid.acd.facts import SetPause
from ctid.ami import events as ami
from ctid.ami.events import AmiEvent, Snapshot

BOOT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


@dataclass
class Channel:
    """One leg."""

    uniqueid: str
    name: str
    linkedid: str
    state: str = "Down"
    bridge: str = ""
    queue: str = ""
    application: str = ""
    joined_at: datetime | None = None
    caller: str = ""
    dialled_by: str = ""
    number: str = ""


@dataclass
class Seat:
    """One phone in one queue."""

    queue: str
    interface: str
    paused: bool = False
    reason: str = ""
    status: int = 1


@dataclass
class Switchboard:
    """The exchange. Every method says events; time only passes by ``wait``."""

    at: datetime = BOOT + timedelta(hours=1)
    boot: datetime = BOOT
    channels: dict[str, Channel] = field(default_factory=dict)
    seats: dict[tuple[str, str], Seat] = field(default_factory=dict)
    said: list[AmiEvent] = field(default_factory=list)
    count: int = 0

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
        uniqueid = f"pbx-{int(self.at.timestamp())}.{self.count}"
        channel = Channel(uniqueid, f"{interface}-{self.count:08x}", linkedid or uniqueid, number=number)
        channel.state = "Down" if linkedid else "Ring"
        self.channels[uniqueid] = channel
        self._say(
            ami.Newchannel(
                **self._about(channel),  # type: ignore[arg-type]
                state=channel.state,
                caller_number=number,
                exten=exten,
            )
        )
        return uniqueid

    def call(self, number: str = "13800138000", exten: str = "5001") -> str:
        """An outside caller arrives."""
        return self.leg("PJSIP/trunk", number=number, exten=exten)

    def up(self, uniqueid: str) -> None:
        """The leg is answered."""
        self._newstate(uniqueid, "Up")

    def _newstate(self, uniqueid: str, state: str) -> None:
        channel = self.channels[uniqueid]
        channel.state = state
        self._say(ami.Newstate(**self._about(channel), state=state))  # type: ignore[arg-type]

    def bridge(self, *uniqueids: str, name: str = "") -> str:
        """Put legs together; they leave where they were."""
        self.count += 1
        name = name or f"bridge-{self.count}"
        for uniqueid in uniqueids:
            channel = self.channels[uniqueid]
            self.unbridge(uniqueid)
            channel.bridge = name
            size = sum(other.bridge == name for other in self.channels.values())
            self._say(ami.BridgeEnter(**self._about(channel), bridge=name, bridge_size=size))  # type: ignore[arg-type]
        return name

    def unbridge(self, uniqueid: str) -> None:
        """Take the leg out of its bridge."""
        channel = self.channels[uniqueid]
        if channel.bridge:
            self._say(ami.BridgeLeave(**self._about(channel), bridge=channel.bridge))  # type: ignore[arg-type]
            channel.bridge = ""

    def hold(self, uniqueid: str) -> None:
        """The phone puts the other side on hold."""
        self._say(ami.Hold(**self._about(self.channels[uniqueid])))  # type: ignore[arg-type]

    def unhold(self, uniqueid: str) -> None:
        """The phone takes the other side back."""
        self._say(ami.Unhold(**self._about(self.channels[uniqueid])))  # type: ignore[arg-type]

    def wants_to_go(self, uniqueid: str, cause: int = 16) -> None:
        """The far end asks to hang up."""
        self._say(ami.HangupRequest(**self._about(self.channels[uniqueid]), cause=cause))  # type: ignore[arg-type]

    def gone(self, uniqueid: str, cause: int = 16) -> None:
        """The leg is hung up."""
        self.unbridge(uniqueid)
        channel = self.channels.pop(uniqueid)
        self._say(ami.Hangup(**self._about(channel), cause=cause, cause_text="Normal Clearing"))  # type: ignore[arg-type]
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
        channel.queue = channel.application = queue
        channel.joined_at = self.at
        count = len(self.waiting(queue))
        self._say(
            ami.QueueCallerJoin(
                **self._in_queue(uniqueid),  # type: ignore[arg-type]
                position=position or count,
                count=count,
                caller_number=channel.number,
            )
        )

    def ring(self, caller: str, interface: str, *, signal: bool = True) -> str:
        """The caller's queue rings a member; without ``signal`` the phone stays dumb."""
        waiting = self.channels[caller]
        uniqueid = self.leg(interface.removesuffix("/n"), waiting.linkedid)
        phone = self.channels[uniqueid]
        phone.caller, phone.dialled_by = caller, interface
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
        self.channels[caller].queue = ""
        if self.channels[caller].state != "Up":
            self._newstate(caller, "Up")
        self._device(channel, 2)
        self.bridge(phone, caller)

    def answer(self, phone: str) -> None:
        """The agent picks up and talks."""
        self.picked_up(phone)
        self.connect(phone)

    def _cancel(self, caller: str, but: str = "") -> None:
        for phone in [one for one in self.channels.values() if one.caller == caller]:
            if phone.uniqueid != but and phone.state != "Up":
                self._dial(ami.DialEnd, phone, dial_status="CANCEL")
                self._dial(ami.DialEnd, phone, dial_status="CANCEL")
                self.gone(phone.uniqueid, 26 if but else 0)

    def no_answer(self, phone: str) -> None:
        """The phone rings out."""
        channel = self.channels[phone]
        self._say(
            ami.AgentRingNoAnswer(
                **self._in_queue(channel.caller),  # type: ignore[arg-type]
                interface=channel.dialled_by,
                dest_uniqueid=phone,
            )
        )
        self._dial(ami.DialEnd, channel, dial_status="NOANSWER")
        self._dial(ami.DialEnd, channel, dial_status="CANCEL")
        self.gone(phone, 0)

    def refuse(self, phone: str, cause: int = 17) -> None:
        """The phone says no by itself."""
        channel = self.channels[phone]
        self.wants_to_go(phone, cause)
        self._dial(ami.DialEnd, channel, dial_status="NOANSWER")
        self.gone(phone, cause)

    def leave(self, caller: str, status: str = "") -> None:
        """The caller leaves unanswered: by key, or with a QUEUESTATUS."""
        if status != "KEY":
            self._cancel(caller)
            self._say(ami.QueueCallerAbandon(**self._in_queue(caller)))  # type: ignore[arg-type]
        else:
            self._cancel(caller)
        self._say(ami.QueueCallerLeave(**self._in_queue(caller)))  # type: ignore[arg-type]
        channel = self.channels[caller]
        queue, channel.queue = channel.queue, ""
        if status not in ("", "KEY"):
            self._say(
                ami.QueueStatusVariable(**self._about(channel), variable="QUEUESTATUS", value=status)  # type: ignore[arg-type]
            )
            self.tell(caller, "QueueExit", queue=queue, status=status)

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
        for one in company:
            self.unbridge(one.uniqueid)
        for one in company or [channel]:
            self.gone(one.uniqueid)

    # -- members --------------------------------------------------------------

    def _seat(self, seat: Seat) -> dict[str, object]:
        return {
            "at": self.at,
            "queue": seat.queue,
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

    def logout(self, interface: str, *queues: str) -> None:
        """The phone is a member no more."""
        for queue in queues:
            seat = self.seats.pop((queue, interface))
            self._say(ami.QueueMemberRemoved(**self._seat(seat)))  # type: ignore[arg-type]

    def pause(self, interface: str, reason: str | None, *queues: str) -> None:
        """Pause with a reason, or unpause with ``None``; everywhere, or in some queues."""
        for seat in self.seats.values():
            if seat.interface == interface and (not queues or seat.queue in queues):
                seat.paused, seat.reason = reason is not None, reason or ""
                self._say(ami.QueueMemberPause(**self._seat(seat)))  # type: ignore[arg-type]

    def obey(self, command: SetPause) -> None:
        """Do what ctid asked."""
        self.pause(command.interface, command.reason if command.paused else None)

    def phone_status(self, interface: str, status: int) -> None:
        """The device state changes."""
        for seat in self.seats.values():
            if seat.interface == interface:
                seat.status = status
                self._say(ami.QueueMemberStatus(**self._seat(seat)))  # type: ignore[arg-type]

    # -- lists ----------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Answer CoreShowChannels and QueueStatus."""
        queues = sorted(
            {seat.queue for seat in self.seats.values()} | {c.queue for c in self.channels.values()}
        )
        return Snapshot(
            at=self.at,
            boot=self.boot,
            system="pbx",
            channels=tuple(
                ami.ShownChannel(
                    channel=one.name,
                    uniqueid=one.uniqueid,
                    linkedid=one.linkedid,
                    state=one.state,
                    caller_number=one.number,
                    bridge=one.bridge,
                    application="Queue" if one.application else "AppQueue",
                    application_data=f"{one.application},,,,60" if one.application else "(Outgoing Line)",
                )
                for one in self.channels.values()
            ),
            queues=tuple(ami.ShownQueue(queue=queue) for queue in queues if queue),
            members=tuple(
                ami.ShownMember(
                    queue=seat.queue,
                    interface=seat.interface,
                    status=seat.status,
                    paused=seat.paused,
                    reason=seat.reason,
                )
                for seat in self.seats.values()
            ),
            entries=tuple(
                ami.ShownEntry(
                    queue=queue,
                    channel=one.name,
                    uniqueid=one.uniqueid,
                    position=position,
                    wait=int((self.at - one.joined_at).total_seconds()) if one.joined_at else 0,
                    caller_number=one.number,
                )
                for queue in queues
                if queue
                for position, one in enumerate(self.waiting(queue), 1)
            ),
        )
