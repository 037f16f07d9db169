"""The pretend Asterisk keeps its books as the real one does: held against what 22.10 wrote.

The CEL below was copied from the file of a real 22.10 with ``config/asterisk`` and ``dialplan``, played
by ``lab.scenes``; the queue_log from there and from recorded traces (time-out, key, refusal: 16 and
22), with other seconds. Of each record: kind, which leg, application.
"""

from __future__ import annotations

import json

import pytest

from ctid.books import cel, queue_log
from lab.books import KeptBooks
from lab.channels import member_of
from lab.switchboard import BOOT, Switchboard

STREAMS = ("STREAM_BEGIN", "STREAM_END")

#: The files of a real Asterisk, in order: C is the caller's leg, A and B are agents' legs.
ANSWERED = """CHAN_START C|ANSWER C Answer|CtidCall C CELGenUserEvent|APP_START C Queue|CHAN_START A|\
ANSWER A AppQueue|BRIDGE_ENTER A AppQueue|BRIDGE_ENTER C Queue|BRIDGE_EXIT C Queue|BRIDGE_EXIT A AppQueue|\
APP_END C Queue|HANGUP C|CHAN_END C|HANGUP A AppQueue|CHAN_END A AppQueue|LINKEDID_END A AppQueue"""
ABANDONED = """CHAN_START C|ANSWER C Answer|CtidCall C CELGenUserEvent|APP_START C Queue|CHAN_START A|\
HANGUP A AppQueue|CHAN_END A AppQueue|APP_END C Queue|HANGUP C|CHAN_END C|LINKEDID_END C"""
#: Of transfers, leg by leg: which leg leaves first is a race between Asterisk's threads.
BLIND = {
    "A": "BLINDTRANSFER AppQueue|BRIDGE_EXIT AppQueue|HANGUP AppQueue|CHAN_END AppQueue",
    "C": "BRIDGE_EXIT Queue|APP_END Queue|APP_START Queue",
}
ATTENDED = {
    "A": "BRIDGE_EXIT AppQueue|ATTENDEDTRANSFER AppQueue|HANGUP AppQueue|CHAN_END AppQueue",
    "B": "BRIDGE_EXIT AppDial|BRIDGE_ENTER AppDial",
    "O": "BRIDGE_EXIT Dial|APP_END Dial|HANGUP|CHAN_END|LINKEDID_END",
}


class Scene:
    """One caller on a fresh switchboard."""

    def __init__(self) -> None:
        self.books = KeptBooks()
        self.board = Switchboard(books=self.books)
        for phone in ("PJSIP/1001", "PJSIP/1002"):
            self.board.login(phone, "sales")
        self.names = {self.board.call("13800000001", exten="4001"): "C"}
        (self.caller,) = self.names
        self.board.route(self.caller, "sales", business="repair", recording="some-uuid")
        self.board.join(self.caller, "sales")

    def ring(self, phone: str = "PJSIP/1001", name: str = "A") -> str:
        """The queue rings a phone."""
        leg = self.board.ring(self.caller, phone)
        self.names[leg] = name
        return leg

    def talk(self) -> str:
        """An agent answers after 2 s and talks for 3 s."""
        leg = self.ring()
        self.board.wait(2)
        self.board.answer(leg)
        self.board.wait(3)
        return leg

    def told(self, since: int = 0) -> str:
        """What CEL has, short."""
        records = [cel.parse(f"{line}\n".encode()) for line in self.books.cel[since:]]
        kinds = [
            (record.user_kind or record.kind, self.names[record.uniqueid], record.application)
            for record in records
            if record is not None and record.kind not in STREAMS
        ]
        return "|".join(" ".join(filter(None, kind)) for kind in kinds)

    def told_by_leg(self, since: int) -> dict[str, str]:
        """The same, leg by leg."""
        by_leg: dict[str, list[str]] = {}
        for text in self.told(since).split("|"):
            kind, leg, *application = text.split(" ")
            by_leg.setdefault(leg, []).append(" ".join([kind, *application]))
        return {leg: "|".join(kinds) for leg, kinds in by_leg.items()}

    def lines(self) -> list[str]:
        """What queue_log has about the caller, without instant and ids."""
        kept = [line.split("|", 2) for line in self.books.queue_log]
        return [text for _, call, text in kept if call == self.caller]


@pytest.fixture
def scene() -> Scene:
    """A caller waits in ``sales``."""
    return Scene()


def test_an_answered_call(scene: Scene) -> None:
    leg = scene.talk()
    scene.board.hang_up(scene.caller)
    assert scene.told() == ANSWERED
    assert scene.lines() == [
        "sales|NONE|ENTERQUEUE||13800000001|1",
        f"sales|1001|CONNECT|2|{leg}|2",
        "sales|1001|COMPLETECALLER|2|3|1",
    ]


def test_the_agent_hangs_up(scene: Scene) -> None:
    scene.board.hang_up(scene.talk())
    assert scene.lines()[-1] == "sales|1001|COMPLETEAGENT|2|3|1"


def test_abandoned_while_a_phone_rings(scene: Scene) -> None:
    scene.ring()
    scene.board.wait(2.5)
    scene.board.hang_up(scene.caller)
    assert scene.told() == ABANDONED
    assert scene.lines()[1:] == ["sales|1001|RINGCANCELED|2500", "sales|NONE|ABANDON|1|1|2"]


def test_rung_out_then_timed_out(scene: Scene) -> None:
    leg = scene.ring()
    scene.board.wait(4)
    scene.board.no_answer(leg)
    scene.ring()
    scene.board.wait(4)
    scene.board.leave(scene.caller, "TIMEOUT")
    assert scene.lines()[1:] == [
        "sales|1001|RINGNOANSWER|4000",
        "sales|1001|RINGNOANSWER|4000",
        "sales|NONE|EXITWITHTIMEOUT|1|1|8",
    ]


def test_refused_then_the_key(scene: Scene) -> None:
    leg = scene.ring()
    scene.board.wait(0.7)
    scene.board.refuse(leg)
    scene.ring()
    scene.board.wait(1.7)
    scene.board.leave(scene.caller, "KEY")
    assert scene.lines()[1:] == [
        "sales|1001|RINGNOANSWER|0",
        "sales|1001|RINGCANCELED|1700",
        "sales|NONE|EXITWITHKEY|0|1|1|2",
    ]


def test_a_blind_transfer(scene: Scene) -> None:
    leg = scene.talk()
    since = len(scene.books.cel)
    scene.board.blind_transfer(leg, "support")
    assert scene.told_by_leg(since) == BLIND
    assert scene.lines()[-2:] == [
        "sales|1001|BLINDTRANSFER|8006|ctid-agents|2|3|1",
        "support|NONE|ENTERQUEUE||13800000001|1",
    ]


def test_an_attended_transfer(scene: Scene) -> None:
    leg = scene.talk()
    bridge = scene.board.channels[leg].bridge
    own, other = scene.board.consult(leg, "PJSIP/1002")
    scene.names |= {own: "O", other: "B"}
    scene.board.consulted(own, other)
    since = len(scene.books.cel)
    scene.board.attended_transfer(leg, own, other)
    assert scene.told_by_leg(since) == ATTENDED
    assert scene.lines()[-1] == f"sales|1001|ATTENDEDTRANSFER|BRIDGE|{bridge}|2|3|1"


def test_a_record_has_fourteen_quoted_fields(scene: Scene) -> None:
    """As CSV_QUOTE writes them, and as our reader reads them."""
    (line,) = [line for line in scene.books.cel if "CtidCall" in line]
    assert line.startswith('"CtidCall","')
    assert line.count('","') == 13
    record = cel.parse(f"{line}\n".encode())
    assert record is not None
    assert (record.kind, record.user_kind) == ("USER_DEFINED", "CtidCall")
    assert record.extra == {"extra": "some-uuid repair 0 sales"}
    assert json.loads(line.split('","')[12].replace('""', '"')) == record.extra


def test_a_pause_everywhere_is_one_line_more_than_queues(scene: Scene) -> None:
    scene.board.pause("PJSIP/1001", "meal")
    scene.board.pause("PJSIP/1001", None)
    assert [line.split("|", 1)[1] for line in scene.books.queue_log[-4:]] == [
        "NONE|NONE|1001|PAUSEALL|meal",
        "NONE|sales|1001|PAUSE|meal",
        "NONE|NONE|1001|UNPAUSEALL|",
        "NONE|sales|1001|UNPAUSE|",
    ]


def test_a_killed_asterisk_says_nothing_but_queuestart(scene: Scene) -> None:
    """F02: no HANGUP, no LINKEDID_END; the count of channels begins anew."""
    scene.talk()
    since = len(scene.books.cel)
    scene.board.restart(3)
    assert scene.books.cel[since:] == []
    line = queue_log.parse(scene.books.queue_log[-1].encode())
    assert line is not None
    assert (line.call, line.queue, line.agent, line.verb) == ("NONE", "NONE", "NONE", "QUEUESTART")
    assert scene.board.boot > BOOT
    assert scene.board.call().endswith(".1")


def test_members_are_named_by_their_number() -> None:
    assert member_of("PJSIP/1001") == "1001"
    assert member_of("Local/2001@ctid-agents/n") == "2001"
