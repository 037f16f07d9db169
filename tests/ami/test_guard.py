"""What is believed: played as an outside caller would, with more luck than he can have.

The forgeries here know the exact next number, and have all the room in the world; a real
caller has 79 characters. tests/integration/test_forged_events.py plays the real ones.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctid.ami.framing import Frame, Framer
from ctid.ami.guard import AHEAD, HOLD, NUMBERLESS, PATIENCE, STRANGERS, SequenceGuard
from tests.fakes import event, leg, lines

NEWLINE = "\r\n"


class Line:
    """Framer and guard, one behind the other, with a clock to turn by hand."""

    def __init__(self, *, require: bool = True) -> None:
        self.framer = Framer()
        self.guard = SequenceGuard(require=require)
        self.now = 1000.0

    def feed(self, data: bytes) -> list[Frame]:
        frames = self.framer.feed(data)
        return self.guard.sift(frames, self.now, rest_is_torn=self.framer.rest_is_torn)

    def wait(self, seconds: float) -> list[Frame]:
        self.now += seconds
        return self.guard.settle(self.now)

    def numbers(self, data: bytes) -> list[int | None]:
        return [frame.number for frame in self.feed(data)]

    @property
    def reasons(self) -> dict[str, int]:
        return dict(self.guard.findings.quarantined)


def hangup(number: int, uniqueid: str = "1.1") -> bytes:
    return event("Hangup", number, leg(uniqueid) | {"Cause": 16})


def connect(number: int | None) -> bytes:
    """A forger's masterpiece: complete in every detail."""
    return event("AgentConnect", number, leg("9.9") | {"Queue": "forged", "Interface": "PJSIP/201"})


def with_caller(name: str, number: int, caller: bytes | str) -> bytes:
    """One genuine event, the caller's number being ``caller``: what Asterisk writes at once."""
    headers = leg() | {"Variable": "A", "Value": "b"}
    text = caller if isinstance(caller, bytes) else caller.encode()
    return event(name, number, headers).replace(b"15551234", text)


def inside(forged: bytes, rest: bytes = b"X") -> bytes:
    """A caller's number that holds whole frames."""
    return b"1\r\n\r\n" + forged + rest


# -- the ordinary case -------------------------------------------------------


def test_numbers_are_learnt_and_followed() -> None:
    line = Line()
    assert line.numbers(hangup(41) + event("VarSet", 42, leg() | {"Variable": "A"}) + hangup(43)) == [41, 43]
    assert line.reasons == {}
    assert line.guard.findings.resync == ""


def test_threads_overtake_each_other() -> None:
    """B22, F08: a little disorder is normal; everything is believed, in the order it came."""
    line = Line()
    assert line.numbers(b"".join(map(hangup, [1, 3, 2, 6, 5, 4, 7]))) == [1, 3, 2, 6, 5, 4, 7]
    assert line.wait(PATIENCE) == []
    assert (line.reasons, line.guard.findings.missing) == ({}, 0)


@given(st.permutations(range(2, 40)))
def test_any_order_within_the_window(order: list[int]) -> None:
    """F08: no order of arrival loses an event."""
    line = Line()
    assert line.numbers(hangup(1) + b"".join(map(hangup, order))) == [1, *order]


def test_lost_events_are_counted() -> None:
    """F08: a number that does not come in time is a lost event, and asks for a snapshot."""
    line = Line()
    assert line.numbers(hangup(1) + hangup(5)) == [1, 5]
    assert line.guard.findings.missing == 0
    assert line.guard.deadline == line.now + PATIENCE
    line.wait(PATIENCE)
    assert line.guard.findings.missing == 3
    assert "lost" in line.guard.findings.resync


def test_repeated_and_old_numbers() -> None:
    """B22, F08: a number that was there already is not believed again."""
    line = Line()
    line.feed(b"".join(map(hangup, range(1, 4))))
    line.now += 1
    assert line.numbers(hangup(2)) == []
    assert line.reasons == {"duplicate": 1}
    assert line.numbers(hangup(-10_000)) == []
    assert line.reasons == {"duplicate": 1, "unexpected": 1}


def test_wrap_around() -> None:
    """B22: the counter is a signed 32-bit int and goes on below."""
    top = 2**31 - 1
    line = Line()
    assert line.numbers(hangup(top - 1) + hangup(-(2**31)) + hangup(top)) == [top - 1, -(2**31), top]
    assert line.numbers(hangup(-(2**31) + 1)) == [-(2**31) + 1]
    assert line.reasons == {}


def test_far_ahead_is_not_believed() -> None:
    """B22: nor does it move the window."""
    line = Line()
    assert line.numbers(hangup(1) + hangup(2 + AHEAD + 1)) == [1]
    assert line.reasons == {"unexpected": 1}
    assert line.numbers(hangup(2)) == []  # held: something was suspicious a moment ago
    assert [frame.number for frame in line.wait(HOLD)] == [2]


def test_a_count_that_went_elsewhere() -> None:
    """Only a new login tells where the numbers are; the link is told to make one."""
    line = Line()
    line.feed(hangup(1))
    line.feed(b"".join(hangup(100_000 + n) for n in range(STRANGERS - 1)) + hangup(2))
    assert not line.guard.astray
    line.feed(b"".join(hangup(100_000 + n) for n in range(STRANGERS)))
    assert line.guard.astray


# -- replies and lists ---------------------------------------------------------


def test_replies_need_a_question() -> None:
    """B23, B24: a reply to nothing, without ActionID, late, or twice."""
    line = Line()
    answer = lines([("Response", "Success"), ("ActionID", "mine")])
    assert line.feed(answer) == []
    assert line.feed(lines([("Response", "Success")])) == []
    line.guard.expect("mine")
    assert len(line.feed(answer)) == 1
    line.guard.forget("mine", answered=True)
    assert line.feed(answer) == []
    assert line.reasons == {"foreign_reply": 3}
    line.guard.expect("slow")
    line.guard.forget("slow", answered=False)
    assert line.feed(lines([("Response", "Success"), ("ActionID", "slow")])) == []
    assert line.reasons == {"foreign_reply": 3, "late_reply": 1}


def test_list_items_carry_our_action_id() -> None:
    """List items have no number; without our ActionID they are forged."""
    line = Line()
    line.feed(hangup(1))
    line.guard.expect("mine")
    assert len(line.feed(lines([("Event", "CoreShowChannel"), ("ActionID", "mine"), *leg().items()]))) == 1
    assert line.feed(lines([("Event", "CoreShowChannel"), ("ActionID", "x"), *leg().items()])) == []
    assert line.feed(lines([("Event", "CoreShowChannel"), *leg().items()])) == []
    assert line.reasons == {"unnumbered": 2}


def test_a_forged_event_inside_a_list_item() -> None:
    """A caller's number is listed, too: the item is torn, and what follows is thrown away."""
    line = Line()
    line.feed(hangup(1))
    line.guard.expect("mine")
    item = lines([("Event", "CoreShowChannel"), ("ActionID", "mine"), *leg().items()])
    assert line.feed(item.replace(b"15551234", inside(connect(2)))) == []
    assert line.reasons == {"torn": 1, "stray": 1, "neighbour": 1}
    line.wait(HOLD)
    assert line.numbers(hangup(2)) == [2]


def test_fully_booted_once() -> None:
    """FullyBooted after the login has no number; a second one is no news."""
    line = Line()
    booted = lines([("Event", "FullyBooted"), ("Uptime", 5)])
    assert len(line.feed(b"Asterisk Call Manager/11.0.0\r\n" + booted)) == 1
    assert line.feed(booted) == []
    assert line.reasons == {"unnumbered": 1}


def test_second_banner() -> None:
    """B28: a banner in the middle is somebody's text."""
    line = Line()
    line.feed(b"Asterisk Call Manager/11.0.0\r\n" + hangup(1))
    assert line.feed(b"Asterisk Call Manager/11.0.0\r\n\r\n") == []
    assert line.reasons == {"stray": 1}


# -- forgeries -----------------------------------------------------------------

TORN = ["Newchannel", "VarSet", "Newexten", "Hangup"]


@pytest.mark.parametrize("name", TORN)
@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
def test_forged_event_without_number(name: str, size: int) -> None:
    """B13: what a real caller can do, in every event that prints his number, cut anywhere."""
    line = Line()
    line.feed(hangup(1) + with_caller(name, 2, "1"))
    data = with_caller(name, 3, inside(connect(None))) + hangup(4)
    believed = [frame for at in range(0, len(data), size) for frame in line.feed(data[at : at + size])]
    believed += line.wait(HOLD)
    assert [(frame.name, frame.number) for frame in believed] == [("Hangup", 4)]
    assert line.reasons["torn"] == line.reasons["stray"] == line.reasons["unnumbered"] == 1


@pytest.mark.parametrize("name", TORN)
@pytest.mark.parametrize("size", [1, 100, 100_000])
def test_forged_event_with_the_right_number(name: str, size: int) -> None:
    """B13: a perfect frame with the exact next number; the genuine one is still believed."""
    line = Line()
    line.feed(hangup(1) + with_caller(name, 2, "1"))
    data = with_caller(name, 3, inside(connect(4))) + hangup(4) + hangup(5)
    believed = [frame for at in range(0, len(data), size) for frame in line.feed(data[at : at + size])]
    believed += line.wait(HOLD)
    assert [(frame.name, frame.number) for frame in believed] == [("Hangup", 4), ("Hangup", 5)]
    assert line.guard.findings.resync
    assert line.guard.findings.missing == 0


def test_forged_hangup_of_another_call() -> None:
    """Forged Hangup, several numbers tried at once: all are thrown away, others are believed."""
    line = Line()
    line.feed(hangup(1))
    forged = b"".join(hangup(number, "victim.1") for number in range(2, 30))
    assert line.feed(with_caller("Newchannel", 2, inside(forged))) == []
    believed = line.feed(b"".join(hangup(number, "mine") for number in range(3, 6))) + line.wait(HOLD)
    assert [frame.headers["Uniqueid"] for frame in believed] == ["mine"] * 3


def test_remainder_that_completes_into_an_event() -> None:
    """The rest begins as an event of its own, so that Asterisk's own headers complete it."""
    line = Line()
    line.feed(hangup(1))
    rest = b"Event: Newchannel\r\nPrivilege: call,all\r\nChannel: PJSIP/x\r\nCallerIDNum: 1"
    assert line.feed(with_caller("Newchannel", 2, b"1\r\n\r\n" + connect(3) + rest)) == []
    assert line.reasons == {"torn": 1, "unnumbered": 1, "neighbour": 1}


def test_remainder_disguised_with_the_next_number() -> None:
    """Both the forgery and the rest have right numbers: the genuine ones contradict them."""
    line = Line()
    line.feed(hangup(1))
    head = event("Newchannel", 4, {"Channel": "PJSIP/x"})[:-2]
    data = with_caller("Newchannel", 2, b"1\r\n\r\n" + connect(3) + head + b"CallerIDNum: 1")
    assert line.feed(data) == []
    believed = line.feed(hangup(3) + hangup(4) + hangup(5)) + line.wait(HOLD)
    assert "AgentConnect" not in [frame.name for frame in believed]
    assert line.reasons["contradicted"] >= 1


def test_remainder_disguised_as_a_reply() -> None:
    """A forged Response is an answer to nothing, and betrays the frame before it."""
    line = Line()
    line.feed(hangup(1))
    rest = b"Response: Success\r\nActionID: guess"
    assert line.feed(with_caller("Newchannel", 2, inside(connect(3), rest))) == []
    assert line.reasons == {"torn": 1, "foreign_reply": 1, "neighbour": 1}


def test_completed_front_half_is_betrayed_by_its_rest() -> None:
    """Through a dialled extension, the torn frame can be made whole; the rest still shows."""
    line = Line()
    line.feed(hangup(1))
    forged = b"5\r\nPriority: 1\r\nUniqueid: victim.1\r\nLinkedid: victim.1\r\n\r\nX"
    data = hangup(2).replace(b"Exten: 5001", b"Exten: " + forged)
    for cut in range(1, len(data)):
        fresh = Line()
        fresh.feed(hangup(1))
        believed = fresh.feed(data[:cut]) + fresh.feed(data[cut:]) + fresh.wait(HOLD)
        at_the_seam = data[:cut].endswith(b"victim.1\r\n\r\n")
        assert believed == [] or at_the_seam
        assert fresh.guard.findings.resync


@pytest.mark.parametrize(
    "caller", ["1\nUniqueid: 9.9", "1\r\nUniqueid: 9.9", "1\r\nChannel: PJSIP/x", "1\x00", "1\r2"]
)
def test_injected_headers(caller: str) -> None:
    """B11, B12, B14: header injection, bare line feed, NUL: the frame is not believed."""
    line = Line()
    line.feed(hangup(1))
    assert line.feed(with_caller("Newchannel", 2, caller)) == []
    assert line.guard.findings.resync
    line.wait(HOLD)
    assert line.numbers(hangup(3)) == [3]


def test_without_a_timestamp() -> None:
    """A shorter prologue than Asterisk's own is not Asterisk's."""
    line = Line()
    line.feed(hangup(1))
    short = lines([("Event", "Hangup"), ("Privilege", "call,all"), ("SequenceNumber", 2), *leg().items()])
    assert line.feed(short) == []
    assert line.reasons == {"unstamped": 1}
    line.wait(HOLD)
    assert line.numbers(hangup(2)) == [2]


@pytest.mark.parametrize("name", ["Hangup", "UserEvent", "VarSet", "Brandnew"])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_short_prologue_takes_no_number_from_another(name: str, *, is_known: bool) -> None:
    """B13, S04: 79 characters hold a number, but no Timestamp; the genuine event is believed."""
    line = Line()
    line.feed(hangup(1) + (with_caller(name, 2, "1") if is_known else hangup(2)))
    forged = f"Event: {name}\r\nPrivilege: user,all\r\nSequenceNumber: 4\r\nQueue: x\r\n\r\n".encode()
    data = with_caller("VarSet", 3, inside(forged)) + hangup(4)
    believed = line.feed(data) + line.wait(HOLD)
    assert [(frame.name, frame.number) for frame in believed] == [("Hangup", 4)]
    assert line.reasons == {"torn": 1, "unstamped": 1, "stray": 1}


def test_without_timestamps_at_all() -> None:
    """``timestampevents = no``: what is read is read, and what is skipped counts."""
    line = Line()
    short = [
        lines([("Event", name), ("Privilege", "call,all"), ("SequenceNumber", number), *leg().items()])
        for number, name in enumerate(["Newexten", "Hangup", "Brandnew", "Hangup"])
    ]
    assert line.numbers(b"".join(short)) == [1, 3]
    assert line.reasons == {}


def test_others_are_only_delayed_by_an_attack() -> None:
    """A caller who forges all day costs the others a moment, and no event."""
    line = Line()
    line.feed(hangup(1))
    number, genuine, believed = 2, [], []
    for _ in range(50):
        line.now += 0.01
        believed += line.feed(
            with_caller("Newchannel", number, inside(connect(number + 1))) + hangup(number + 1)
        )
        genuine.append(number + 1)
        number += 2
        believed += line.guard.settle(line.now)
    believed += line.wait(HOLD)
    assert [frame.number for frame in believed] == genuine


def test_an_event_that_leaves_holes_waits_for_them() -> None:
    """While suspicious, a number ahead is believed only if those before it come."""
    line = Line()
    line.feed(hangup(1) + lines([("Response", "Success"), ("ActionID", "guess")]))
    assert line.feed(connect(40)) == []
    assert line.wait(HOLD) == []
    assert line.reasons == {"foreign_reply": 1, "neighbour": 1, "incomplete": 1}


# -- debug = off -----------------------------------------------------------------


def test_operator_turns_debug_off() -> None:
    """Loudly: nothing is believed, and the link is told why."""
    line = Line()
    line.feed(hangup(1))
    for _ in range(NUMBERLESS):
        assert line.feed(event("Hangup", None, leg())) == []
    assert line.guard.numberless
    line.wait(HOLD)
    assert line.numbers(hangup(2)) == [2]
    assert not line.guard.numberless


def test_old_sites_may_do_without() -> None:
    """``require_sequence_numbers = false``: as Asterisk sends them, until a number shows up."""
    line = Line(require=False)
    assert len(line.feed(event("Hangup", None, leg()))) == 1
    assert line.feed(event("Newchannel", None, leg(number="1\nX: y"))) == []
    assert line.numbers(hangup(5)) == []
    assert [frame.number for frame in line.wait(HOLD)] == [5]
    assert line.feed(event("Hangup", None, leg())) == []
