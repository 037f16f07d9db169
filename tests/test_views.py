"""Read models: what screens show and what routing sees is the core's own picture."""

from pathlib import Path

import pytest

from ctid.ami.events import LinkLost
from ctid.routing import policy as policies
from ctid.views import FloorViews
from tests.fakes_floor import Watched

POLICY = policies.load(Path(__file__).parents[1] / "config" / "policy.toml")


@pytest.fixture
def floor() -> Watched:
    """A floor with the example's queues and agent 1001 in one of them and in his own."""
    watched = Watched(POLICY.rules(), POLICY.interfaces())
    watched.board.login("PJSIP/1001", "repair", "agent-1001")
    watched.see()
    return watched


def views_of(watched: Watched, *, is_connected: bool = True) -> FloorViews:
    return FloorViews(watched.centre, POLICY, is_connected=lambda: is_connected)


def test_everybody_of_the_policy_is_shown_though_asterisk_told_of_one(floor: Watched) -> None:
    state = views_of(floor).state()
    agents = {card.agent: card for card in state.agents}
    assert agents.keys() == POLICY.agents.keys()
    assert (agents["1001"].state, agents["1001"].name) == ("idle", POLICY.agents["1001"].name)
    assert {card.state for number, card in agents.items() if number != "1001"} == {"logged_out"}
    assert agents["1001"].queues == ("repair",)


def test_queues_have_people_s_names_and_personal_ones_stay_out(floor: Watched) -> None:
    cards = {card.queue: card for card in views_of(floor).state().queues}
    assert cards.keys() == set(POLICY.queues)
    assert cards["repair"].titles == {"zh-CN": "报修", "en": "Repair"}
    assert (cards["repair"].agents, cards["repair"].idle) == (1, 1)
    assert cards["repair"].answer_within_seconds == 15.0


def test_a_waiting_caller_is_counted_from_when_he_joined(floor: Watched) -> None:
    floor.board.join(floor.board.call(), "repair")
    floor.see()
    card = next(card for card in views_of(floor).state().queues if card.queue == "repair")
    waiting = next(queue for queue in floor.centre.floor().queues if queue.queue == "repair").waiting
    assert card.waiting == 1
    assert card.longest_since == waiting[0].joined_at


def test_routing_sees_who_is_free(floor: Watched) -> None:
    seen = views_of(floor).for_routing()
    assert seen.idle["repair"] == {"1001"}
    assert seen.is_idle("1001")
    assert not seen.is_idle("1002")


def test_a_lost_exchange_is_told(floor: Watched) -> None:
    floor.take(floor.centre.receive(LinkLost(at=floor.board.at, why="test")))
    assert views_of(floor, is_connected=False).state().exchange == "lost"
    assert views_of(floor).state().exchange == "in_sync"
