"""Queues, agents, channels and events that nobody foresaw: taken in, shown plainly, never fatal."""

from __future__ import annotations

import gzip
from datetime import timedelta
from pathlib import Path

import pytest

from ctid.acd.facts import (
    Anomaly,
    CallEnded,
    CallerJoined,
    CallerLeft,
    CallHandled,
    CallStarted,
    Fact,
    Held,
    TalkEnded,
    TalkStarted,
)
from ctid.ami import events as ami
from ctid.replay import raw, replay
from tests.fakes_floor import SALES, SUPPORT, Watched

SECOND = timedelta(seconds=1)
TRACES = Path(__file__).parents[1] / "traces"


@pytest.fixture
def watched() -> Watched:
    watched = Watched()
    watched.board.login(SALES, "sales")
    watched.board.login(SUPPORT, "sales")
    watched.snapshot()
    return watched


def recorded(name: str) -> bytes:
    return raw(gzip.decompress((TRACES / f"{name}.txt.gz").read_bytes()))


@pytest.mark.parametrize(
    "interface",
    ["DAHDI/i1/5551234", "IAX2/branch", "SIP/1001", "Local/1001@anything/n", "Motif/x@y", "nothing", "/"],
)
def test_unknown_technology(interface: str) -> None:
    """F11: a member on a channel of any kind, in a queue that no policy names, is rung and talks."""
    watched = Watched({}, {})
    watched.snapshot()
    watched.board.login(interface, "新队列")
    watched.talk(interface, "新队列")
    caller = next(iter(watched.board.channels))
    watched.board.hang_up(caller)
    watched.see()
    for one in list(watched.board.channels):
        watched.board.hang_up(one)
    watched.see()
    assert [fact.outcome for fact in watched.told(CallerLeft)] == ["answered"]
    assert len(watched.told(CallEnded)) == len(watched.told(CallStarted)) == 1
    assert watched.centre.floor().calls == ()


def test_unknown_caller_technology_and_a_linkedid_never_seen(watched: Watched) -> None:
    """B21, F11: an event of a call we never saw begins it, is told, and asks for a snapshot."""
    watched.board.said.append(
        ami.Newstate(at=watched.board.at, channel="Skinny/7@x-1", uniqueid="7.7", linkedid="3.3", state="Up")
    )
    watched.see()
    assert [fact.kind for fact in watched.told(Anomaly)] == ["orphan_event"]
    assert len(watched.commands) == 1
    for _ in range(3):
        watched.board.wait(10)
        watched.snapshot()
    assert [(fact.call, fact.end_reason) for fact in watched.told(CallEnded)] == [("3.3", "unseen")]


def test_agent_logs_out_while_he_talks(watched: Watched) -> None:
    """F29: his call goes on, and is his to its end; then he is logged out."""
    caller, _ = watched.talk()
    watched.board.logout(SALES, "sales")
    assert watched.state("1001") == "talking"
    watched.board.wait(5)
    watched.board.hang_up(caller)
    watched.see()
    (ended,) = watched.told(TalkEnded)
    assert abs(ended.talked - 5 * SECOND) < SECOND / 10
    assert watched.state("1001") == "logged_out"


def test_pause_while_nobody_listened(watched: Watched) -> None:
    """F29: paused, or back, while the connection was down: never silently in the wrong state."""
    watched.centre.receive(ami.LinkLost(at=watched.board.at, why="test"))
    watched.board.pause(SALES, "lunch")
    watched.board.take()
    watched.board.wait(3)
    watched.snapshot()
    assert watched.state("1001") == "paused"
    watched.centre.receive(ami.LinkLost(at=watched.board.at, why="test"))
    watched.board.pause(SALES, None)
    watched.board.take()
    watched.board.wait(3)
    watched.snapshot()
    assert watched.state("1001") == "idle"


@pytest.mark.parametrize("name", ["22/answered", "16/answered", "22/hold_unhold", "22/blind_transfer_refer"])
def test_agent_complete_is_not_needed(name: str) -> None:
    """F30: late, wrong or missing, AgentComplete changes no fact: times come from the legs themselves."""
    said = recorded(name)
    blocks = said.split(b"\r\n\r\n")
    without = [block for block in blocks if not block.startswith(b"Event: AgentComplete\r\n")]
    assert len(without) < len(blocks)
    wrong = [
        block.replace(b"TalkTime: ", b"TalkTime: 999").replace(b"Reason: ", b"Reason: x") for block in blocks
    ]
    right = list(replay([said]))
    assert list(replay([b"\r\n\r\n".join(without)])) == right
    assert list(replay([b"\r\n\r\n".join(wrong)])) == right


@pytest.mark.parametrize("is_optimised", [True, False])
def test_a_chain_of_two_hundred_local_channels(watched: Watched, is_optimised: bool) -> None:
    """F32: one call with two people, however many channels lie between them; none is left over."""
    board = watched.board
    caller = board.call()
    halves = []
    for number in range(200):
        one = board.leg(f"Local/{number}@chain", caller)
        two = board.leg(f"Local/{number}@chain", caller)
        board.said.append(ami.LocalBridge(at=board.at, one=one, two=two))
        halves.append((one, two))
    phone = board.leg("PJSIP/1002", caller)
    board.up(phone)
    board.up(caller)
    ends = [caller, *(half for pair in halves for half in pair), phone]
    for left, right in zip(ends[::2], ends[1::2], strict=True):
        board.bridge(left, right)
    watched.see()
    if is_optimised:
        for one, two in halves:
            board.said.append(ami.LocalOptimizationBegin(at=board.at, one=one, two=two))
            board.gone(one)
            board.gone(two)
        board.bridge(caller, phone)
        watched.see()
    board.wait(3)
    for uniqueid in list(board.channels):
        board.gone(uniqueid)
    watched.see()
    assert [fact.call for fact in watched.told(CallStarted)] == [caller]
    (ended,) = watched.told(CallEnded)
    assert not [name for name in ended.participants if name.startswith("Local/")]
    assert watched.centre.floor().calls == ()
    assert watched.told(Anomaly) == []


def test_parked_and_taken_back_by_another(watched: Watched) -> None:
    """F33: a parked caller is in a bridge with nobody; who takes him back talks, and it is one call."""
    board = watched.board
    caller, phone = watched.talk()
    board.wait(4)
    board.bridge(caller, name="parking")
    board.hang_up(phone)
    watched.see()
    board.wait(10)
    other = board.leg(SUPPORT, caller, exten="701")
    board.up(other)
    board.bridge(other, caller)
    watched.see()
    assert watched.state("1002") == "talking"
    board.wait(2)
    board.hang_up(caller)
    for one in list(board.channels):
        board.hang_up(one)
    watched.see()
    assert [fact.call for fact in watched.told(CallStarted)] == [caller]
    assert [fact.agent for fact in watched.told(TalkEnded)] == ["1001", "1002"]
    assert abs(watched.told(TalkEnded)[1].talked - 2 * SECOND) < SECOND / 10
    assert watched.told(CallEnded)[-1].lasted >= 16 * SECOND


@pytest.mark.parametrize(
    "name",
    [
        f"{version}/chanspy_{how}"
        for version in (16, 22)
        for how in ("listen", "whisper", "barge", "originate")
    ],
)
def test_who_listens_in_is_no_call(name: str) -> None:
    """F33: one caller and one agent, whoever listens in, whispers or barges in."""
    facts: list[Fact] = list(replay([recorded(name)]))
    assert len([fact for fact in facts if isinstance(fact, CallStarted)]) == 1
    assert len({fact.agent for fact in facts if isinstance(fact, TalkStarted)}) == 1


def test_a_call_of_twenty_six_hours(watched: Watched) -> None:
    """B56: over midnight and a day, with a hold of an hour; nothing overflows or turns negative."""
    caller, phone = watched.talk()
    watched.board.wait(25 * 3600)
    watched.board.hold(phone)
    watched.board.wait(3600)
    watched.board.unhold(phone)
    for _ in range(3):
        watched.board.wait(30)
        watched.snapshot()
    watched.board.hang_up(caller)
    watched.see()
    (ended,) = watched.told(TalkEnded)
    assert abs(ended.talked - timedelta(hours=25, seconds=90)) < SECOND
    assert abs(ended.held - timedelta(hours=1)) < SECOND
    assert watched.told(CallEnded)[0].lasted > timedelta(hours=26)
    assert len(watched.told(Held)) == 1
    assert abs(watched.told(CallHandled)[0].handled - timedelta(hours=26, seconds=90)) < SECOND


@pytest.mark.parametrize(
    ("given", "shown", "number", "own"),
    [
        ("王小明", "[报修][VIP]王小明", "138", "王小明"),
        (r"O'Brien \"王\" \\", "[报修]O'Brien 王", "138", "O'Brien 王"),
        ("n" * 79, "[报修]138", "138", "n" * 79),
        ("", "[报修]138", "138", ""),
        ("", "138", "138", "138"),
        ("old", "from the customer list", "138", "from the customer list"),
        ("a|b", "a|b", "138", "a|b"),
        ("given", "", "138", "given"),
        ("", "", "", ""),
    ],
)
def test_a_callers_own_name(watched: Watched, given: str, shown: str, number: str, own: str) -> None:
    """B15, B17: without what the dialplan puts before it, takes out of it, or shows instead."""
    board = watched.board
    caller = board.call(number)
    new = board.said.pop()
    assert isinstance(new, ami.Newchannel)
    board.said.append(ami.Newchannel(**board._about(board.channels[caller]), caller_name=given))  # type: ignore[arg-type]
    board.join(caller, "sales")
    told = board.said.pop()
    assert isinstance(told, ami.QueueCallerJoin)
    fields = {name: getattr(told, name) for name in told.__struct_fields__}
    board.said.append(ami.QueueCallerJoin(**fields | {"caller_name": shown, "caller_number": number}))
    watched.see()
    assert [(fact.caller_name, fact.caller_number) for fact in watched.told(CallerJoined)] == [(own, number)]
