"""Places in queues that come, go and were never there."""

from __future__ import annotations

from ctid.acd.facts import AgentStateChanged, OfferMade
from ctid.ami import events as ami
from tests.fakes_floor import SALES, Watched


def test_who_is_rung_is_a_member() -> None:
    watched = Watched()
    caller = watched.board.call()
    watched.board.join(caller, "sales")
    watched.board.ring(caller, SALES)
    watched.see()
    assert watched.told(AgentStateChanged)[0].queues == ("sales",)
    assert watched.told(OfferMade)[0].agent == "1001"


def test_removing_what_was_never_there_says_nothing() -> None:
    watched = Watched()
    watched.board.said.append(ami.QueueMemberRemoved(at=watched.board.at, queue="sales", interface=SALES))
    assert watched.see() == []


def test_a_pause_of_somebody_unknown_makes_him_known() -> None:
    watched = Watched()
    watched.board.said.append(
        ami.QueueMemberPause(at=watched.board.at, queue="sales", interface=SALES, paused=True, reason="lunch")
    )
    assert watched.state("1001") == "paused"


def test_a_new_penalty_is_kept_and_says_nothing() -> None:
    watched = Watched()
    watched.board.login(SALES, "sales")
    watched.see()
    watched.board.said.append(
        ami.QueueMemberPenalty(at=watched.board.at, queue="sales", interface=SALES, status=1, penalty=3)
    )
    assert watched.see() == []
    assert watched.centre._tables.members["sales", SALES].penalty == 3


def test_an_agent_with_two_phones_stays_in_the_queue_with_one() -> None:
    watched = Watched(agents={SALES: "201", "PJSIP/2001": "201"})
    watched.board.login(SALES, "sales")
    watched.board.login("PJSIP/2001", "sales", "support")
    watched.board.logout(SALES, "sales")
    watched.see()
    assert watched.told(AgentStateChanged)[-1].queues == ("sales", "support")
    watched.board.logout("PJSIP/2001", "sales", "support")
    assert watched.state("201") == "logged_out"
