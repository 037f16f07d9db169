"""The floor put away and taken up again goes on as if nothing had happened."""

from __future__ import annotations

import random

import msgspec
import pytest

from ctid.acd.centre import Centre
from ctid.acd.facts import Fact
from ctid.acd.rules import QueueRule
from ctid.acd.state import State
from ctid.ami.events import AmiEvent
from tests.fakes_floor import Watched
from tests.fakes_gap import live
from tests.test_traces import RECORDED, RULES

SMALL = [name for name in RECORDED if "load" not in name]
AGENTS = {"PJSIP/1001": "1", "PJSIP/1005": "5"}


def through_the_disk(state: State) -> State:
    """Return what is read back of what was written."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)


def tell(centre: Centre, said: list[AmiEvent]) -> list[Fact]:
    """Feed events, and the clock as the pump would; return the facts."""
    facts: list[Fact] = []
    for event in said:
        due = centre.next_deadline()
        if due is not None and due <= event.at:
            facts += centre.tick(event.at).facts
        facts += centre.receive(event).facts
    return facts


@pytest.mark.parametrize("name", SMALL)
def test_a_restart_anywhere_changes_nothing(name: str) -> None:
    """F25: invariant vi: after a crash and a restore the rest gives exactly the same facts."""
    said = live(name)
    for cut in sorted(random.Random(name).sample(range(len(said) + 1), min(12, len(said) + 1))):
        first, second = Centre(RULES, AGENTS), Centre(RULES, AGENTS)
        tell(first, said[:cut])
        second.restore(through_the_disk(first.state()))
        assert through_the_disk(second.state()) == through_the_disk(first.state())
        assert second.floor() == first.floor()
        assert tell(second, said[cut:]) == tell(first, said[cut:]), cut


def test_what_is_remembered_is_bounded() -> None:
    """Of thousands of calls that are over, the record keeps the last names, and not more."""
    said = live("22/load_25cps") if "22/load_25cps" in RECORDED else live("16/load_25cps")
    centre = Centre(RULES, {})
    tell(centre, said)
    state = centre.state()
    assert len(state.heard) == 1024
    assert not state.calls
    assert not state.legs
    assert len(msgspec.msgpack.encode(state)) < 1_000_000


def test_a_queue_of_todays_policy_is_there_all_the_same() -> None:
    """The policy changed while we were away: a new queue, and a phone that has an owner now."""
    yesterday, today = Centre(RULES, {}), Centre(RULES | {"new": QueueRule()}, {"PJSIP/9": "99"})
    yesterday.receive(live("22/answered")[0])
    today.restore(through_the_disk(yesterday.state()))
    state = today.state()
    assert "new" in state.waiting
    assert state.owners["PJSIP/9"] == "99"
    assert len(state.legs) == 1


def test_what_was_heard_is_known_after_a_restart() -> None:
    """F08: the books repeat what was heard before the restart; that is no news after it either."""
    said = live("22/answered")
    first, second = Centre(RULES, {}), Centre(RULES, {})
    tell(first, said[:12])
    second.restore(through_the_disk(first.state()))
    assert second.recover(said[:12]).facts == ()


def test_every_table_is_in_the_record() -> None:
    """A table that somebody adds is put away too, or it is named here."""
    today = {"rules", "default_rule"}
    at_hand = {"facts", "commands", "touched"}
    tables = set(vars(Centre(RULES, {})._tables))
    assert tables - today - at_hand == set(State.__struct_fields__)


@pytest.mark.parametrize("is_snapshot", [True, False])
def test_a_phone_changes_hands_at_a_restart(is_snapshot: bool) -> None:
    """The policy gave it to somebody else while we were away: he has the place, the other one none."""
    yesterday = Watched(RULES, {"PJSIP/9": "9"})
    yesterday.board.login("PJSIP/9", "sales")
    yesterday.snapshot()
    today = Watched(RULES, {"PJSIP/9": "10"})
    today.board = yesterday.board
    today.centre.restore(through_the_disk(yesterday.centre.state()))
    if is_snapshot:
        today.snapshot()
    else:
        today.board.pause("PJSIP/9", "lunch")
        today.see()
    agents = today.centre.state().agents
    assert {number: agent.queues for number, agent in agents.items()} == {"9": (), "10": ("sales",)}
    today.board.logout("PJSIP/9", "sales")
    today.see()
    assert today.centre.state().agents["10"].queues == ()
    assert [agent.places for agent in today.centre.state().agents.values()] == [0, 0]
