"""What Asterisk's books say, in the words of AMI: so that the same core can conclude from either.

The books know less: neither when a phone began to ring, nor holds, nor pauses of members.
They know the rest to the microsecond, since CEL is written at the same moments as AMI
events; queue_log, in whole seconds, says how each stay in a queue ended, and finds its exact
instant in the CEL beside it.

Pure: records of whole calls in, events out, in order of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from ctid.acd.call import interface_of
from ctid.ami import events as ami
from ctid.ami.events import AmiEvent
from ctid.ami.framing import CONTROL
from ctid.books.cel import CelEvent
from ctid.books.pieces import SLACK, Leg, Stay, cause_of, legs_of, note_exits, note_partings, number, stays_of
from ctid.books.queue_log import QueueLine

#: How a stay ended, by the verb of queue_log: what QUEUESTATUS would have said; empty: nothing.
_EXITS: Final = {
    "ABANDON": "",
    "EXITWITHKEY": "KEY",
    "EXITWITHTIMEOUT": "TIMEOUT",
    "EXITEMPTY": "LEAVEEMPTY",
    "WITHDRAW": "WITHDRAW",
}


def events_of(records: Sequence[CelEvent], lines: Sequence[QueueLine]) -> list[AmiEvent]:
    """Say in AMI's words what happened.

    Args:
        records: CEL of one or more calls, each from its beginning; in any order.
        lines: queue_log of the same calls, in the order of the file; others are left out.

    Returns:
        Events in order of time; a call that is not over yet just ends where the books end.
    """
    return _Telling(sorted(records, key=lambda record: record.at), lines).all()


class _Telling:
    """One translation."""

    def __init__(self, records: Sequence[CelEvent], lines: Sequence[QueueLine]) -> None:
        self.records = records
        self.legs = legs_of(records)
        self.stays = stays_of(records, lines, self.legs)
        self.by_channel = {leg.channel: leg for leg in self.legs.values()}
        self.dialling: dict[str, str] = {}
        self.halves: dict[str, str] = {}
        self.behind: dict[str, str] = {}
        self.rung_out: set[str] = set()
        self.optimized: set[str] = set()
        self.said: list[tuple[datetime, int, int, AmiEvent]] = []
        note_partings(records, self.by_channel)
        note_exits(self.legs, self.stays)

    def all(self) -> list[AmiEvent]:
        for record in self.records:
            tell = getattr(self, f"_{record.kind.lower()}", None)
            if tell is not None:
                tell(record)
        for uniqueid, stays in self.stays.items():
            for stay in stays:
                self._stay(self.legs[uniqueid], stay)
        for leg in self.legs.values():
            if leg.parting_at is not None:
                self._say(0, ami.HangupRequest(**_about(leg, leg.parting_at), cause=leg.cause))
        return [event for *_, event in sorted(self.said, key=lambda one: one[:3])]

    def _say(self, rank: int, event: AmiEvent) -> None:
        """Say it; of what happened at the same instant, the lower rank first."""
        self.said.append((event.at, rank, len(self.said), event))

    # -- CEL, one method per kind of record ------------------------------------

    def _chan_start(self, record: CelEvent) -> None:
        leg = self.legs[record.uniqueid]
        self._say(
            2,
            ami.Newchannel(
                **_of(record),
                caller_number=_plain(record.number),
                caller_name=CONTROL.sub("", record.name),
                exten=_plain(record.exten),
                context=record.context,
            ),
        )
        if leg.is_dialled or (leg.is_bare and self._dialler(leg) not in {"", *self.behind}):
            self._dial(leg)  # not bare for ever: a Dial() that has rung nobody yet rings this one
        elif leg.is_offered or leg.is_bare:
            self._offer(leg)
        self._pair(record)

    def _offer(self, leg: Leg) -> None:
        found = self._waiting(leg)
        if found is None:
            return
        caller, stay = found
        self._say(
            3,
            ami.AgentCalled(
                **_about(caller, leg.began_at),
                queue=stay.queue,
                interface=interface_of(leg.channel),
                dest_channel=leg.channel,
                dest_uniqueid=leg.uniqueid,
            ),
        )

    def _waiting(self, leg: Leg) -> tuple[Leg, Stay] | None:
        """The caller a queue rings this leg for: of its call, the last to join before."""
        found = [
            (stay.began_at, uniqueid, stay)
            for uniqueid, stays in self.stays.items()
            for stay in stays
            if uniqueid != leg.uniqueid
            and self.legs[uniqueid].linkedid(leg.began_at) == leg.linkedid(leg.began_at)
            and stay.lines
            and stay.began_at <= leg.began_at
            and self._is_waiting(stay, leg.began_at)
        ]
        if not found:
            return None
        _, uniqueid, stay = max(found, key=lambda one: one[0])
        return self.legs[uniqueid], stay

    def _is_waiting(self, stay: Stay, at: datetime) -> bool:
        """Neither gone from the queue nor connected; Queue() itself lasts as long as the talk."""
        if stay.ended_at is not None and at > stay.ended_at:
            return False
        connects = (line for line in stay.lines if line.verb == "CONNECT" and line.data[1:])
        phones = (self.legs.get(line.data[1]) for line in connects)
        return all(phone is None or at <= (phone.bridged_at or at) for phone in phones)

    def _dialler(self, leg: Leg) -> str:
        linkedid = leg.linkedid(leg.began_at)
        return next((uniqueid for uniqueid, of in reversed(self.dialling.items()) if of == linkedid), "")

    def _dial(self, leg: Leg) -> None:
        linkedid, dialler = leg.linkedid(leg.began_at), self._dialler(leg)
        if dialler:
            self.behind[dialler] = leg.uniqueid
            self._say(
                3,
                ami.DialBegin(
                    at=leg.began_at,
                    uniqueid=dialler,
                    linkedid=linkedid,
                    dest_channel=leg.channel,
                    dest_uniqueid=leg.uniqueid,
                    dest_linkedid=linkedid,
                ),
            )

    def _pair(self, record: CelEvent) -> None:
        name, mark, _ = record.channel.rpartition(";")
        if not mark:
            return
        other = self.halves.setdefault(name, record.uniqueid)
        if other != record.uniqueid:
            self._say(3, ami.LocalBridge(at=record.at, one=other, two=record.uniqueid))

    def _app_start(self, record: CelEvent) -> None:
        if record.application == "Dial":
            self.dialling[record.uniqueid] = record.linkedid

    def _app_end(self, record: CelEvent) -> None:
        if record.application == "Dial":
            self.dialling.pop(record.uniqueid, None)

    def _answer(self, record: CelEvent) -> None:
        self._say(2, ami.Newstate(**_of(record), state="Up"))
        leg = self.legs[record.uniqueid]
        is_originated = record.application == "AppDial2" and leg.bridged_at is None
        if record.application == "ChanSpy" or is_originated:
            # An originated leg that talks with nobody listens: its application is not told.
            self._say(3, ami.ChanSpyStart(at=record.at, spyer=record.uniqueid))

    def _bridge_enter(self, record: CelEvent) -> None:
        self._say(2, ami.BridgeEnter(**_of(record), bridge=_text(record, "bridge_id") or record.linkedid))

    def _bridge_exit(self, record: CelEvent) -> None:
        self._say(2, ami.BridgeLeave(**_of(record), bridge=_text(record, "bridge_id") or record.linkedid))

    def _hangup(self, record: CelEvent) -> None:
        self._say(2, ami.Hangup(**_of(record), cause=cause_of(record)))

    def _local_optimize(self, record: CelEvent) -> None:
        # Asterisk 16 writes only this, at the end; 22 both.
        if record.uniqueid not in self.optimized:
            self._local_optimize_begin(record)

    def _local_optimize_begin(self, record: CelEvent) -> None:
        self.optimized.add(record.uniqueid)
        two = _text(record, "local_two_uniqueid")
        source = self.behind.get(two, "")
        self._say(
            2,
            ami.LocalOptimizationBegin(at=record.at, one=record.uniqueid, two=two, source_uniqueid=source),
        )

    def _blindtransfer(self, record: CelEvent) -> None:
        self._say(
            2,
            ami.BlindTransfer(
                at=record.at,
                result="Success",
                transferer=record.uniqueid,
                transferee=_text(record, "transferee_channel_uniqueid"),
                extension=_text(record, "extension"),
                context=_text(record, "context"),
            ),
        )

    def _attendedtransfer(self, record: CelEvent) -> None:
        self._say(
            2,
            ami.AttendedTransfer(
                at=record.at,
                result="Success",
                orig_transferer=record.uniqueid,
                second_transferer=_text(record, "channel2_uniqueid"),
                transferee=_text(record, "transferee_channel_uniqueid"),
                transfer_target=_text(record, "transfer_target_channel_uniqueid"),
            ),
        )

    def _user_defined(self, record: CelEvent) -> None:
        text = _text(record, "extra")
        if record.user_kind == "CtidCall":
            recording, business, vip, line = (text.split(" ", 3) + [""] * 4)[:4]
            self._say(
                2,
                ami.UserEvent(
                    **_of(record),
                    name="CtidCall",
                    recording=recording,
                    business=business,
                    vip=vip,
                    line=line,
                ),
            )
            if recording:
                self._say(3, ami.MixMonitorStart(**_of(record)))
        elif record.user_kind == "QueueExit":
            queue, _, status = text.rpartition(" ")
            self._say(3, ami.UserEvent(**_of(record), name="QueueExit", queue=queue, status=status))

    # -- queue_log ---------------------------------------------------------------

    def _stay(self, caller: Leg, stay: Stay) -> None:
        for line in stay.lines:
            if line.verb == "ENTERQUEUE":
                self._say(
                    2,
                    ami.QueueCallerJoin(
                        **_about(caller, stay.began_at),
                        queue=stay.queue,
                        position=number(line.data[-1:]),
                        caller_number=_plain(line.data[1]) if len(line.data) > 2 else "",
                    ),
                )
            elif line.verb == "CONNECT":
                self._connect(caller, stay, line)
            elif line.verb == "RINGNOANSWER":
                self._no_answer(caller, stay, line)
            elif line.verb in _EXITS:
                self._exit(caller, stay, line)

    def _connect(self, caller: Leg, stay: Stay, line: QueueLine) -> None:
        phone = self.legs.get(line.data[1]) if len(line.data) > 1 else None
        if phone is None:
            return
        # One before the bridge, as AMI has it.
        at = phone.bridged_at or phone.answered_at or line.at
        self._say(
            1,
            ami.AgentConnect(
                **_about(caller, at),
                queue=stay.queue,
                interface=interface_of(phone.channel),
                dest_channel=phone.channel,
                dest_uniqueid=phone.uniqueid,
            ),
        )

    def _no_answer(self, caller: Leg, stay: Stay, line: QueueLine) -> None:
        """Find the phone that rang out: queue_log names a person, not a channel."""
        rang = timedelta(milliseconds=number(line.data[:1]))
        found = [
            (abs(leg.gone_at - leg.began_at - rang), leg.uniqueid)
            for leg in self.legs.values()
            if leg.is_offered
            and leg.linkedid(leg.began_at) == caller.linkedid(leg.began_at)
            and leg.answered_at is None
            and leg.gone_at is not None
            and abs(leg.gone_at - line.at) <= SLACK
            and leg.uniqueid not in self.rung_out
        ]
        if not found:
            return
        phone = self.legs[min(found)[1]]
        self.rung_out.add(phone.uniqueid)
        assert phone.gone_at is not None
        if rang >= timedelta(seconds=1) and phone.parting_at is None:
            # Whether a phone rang is not written; that it rang so long, is.
            self._say(4, ami.Newstate(**_about(phone, phone.began_at), state="Ringing"))
        self._say(
            1,
            ami.AgentRingNoAnswer(
                **_about(caller, phone.gone_at),
                queue=stay.queue,
                interface=interface_of(phone.channel),
                dest_uniqueid=phone.uniqueid,
            ),
        )

    def _exit(self, caller: Leg, stay: Stay, line: QueueLine) -> None:
        at = stay.ended_at or caller.gone_at or line.at
        about = {**_about(caller, at), "queue": stay.queue}
        status = _EXITS[line.verb]
        if status == "KEY":
            self._say(1, ami.QueueCallerLeave(**about))
            return
        self._say(1, ami.QueueCallerAbandon(**about))
        if status:
            self._say(1, ami.QueueStatusVariable(**_about(caller, at), variable="QUEUESTATUS", value=status))


def _of(record: CelEvent) -> dict[str, Any]:
    return {
        "at": record.at,
        "channel": record.channel,
        "uniqueid": record.uniqueid,
        "linkedid": record.linkedid,
    }


def _text(record: CelEvent, key: str) -> str:
    return _plain(str(record.extra.get(key, "")))


def _plain(text: str) -> str:
    """Return a number or the like, or nothing if there is a control character in it.

    Callers can send them (a SIP user part is percent-decoded), and the books keep them; on AMI they
    damage the event, which is quarantined. What is cut off or blanked out might pass for a
    number that somebody has, so the whole is worth nothing; the call is counted all the same.
    A name is another matter: AMI, too, only leaves such characters out.
    """
    return "" if CONTROL.search(text) else text


def _about(leg: Leg, at: datetime) -> dict[str, Any]:
    return {"at": at, "channel": leg.channel, "uniqueid": leg.uniqueid, "linkedid": leg.linkedid(at)}
