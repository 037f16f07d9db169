"""Status, state and how a change is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from ctid.acd.agent import Agent, AgentStatus, Member, place, settle
from ctid.acd.facts import WRAP_UP_REASON

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)
SEAT = Member(agent="1", queue="q", interface="PJSIP/1")
replace = msgspec.structs.replace


def test_status_is_what_he_declared() -> None:
    seated = place(Agent(number="1"), None, SEAT)
    paused = place(seated, SEAT, replace(SEAT, paused=True, reason="lunch"))
    ours = place(seated, SEAT, replace(SEAT, paused=True, reason=WRAP_UP_REASON))
    assert Agent(number="1").status is AgentStatus.LOGGED_OUT
    assert seated.status is AgentStatus.AVAILABLE
    assert paused.status is AgentStatus.PAUSED
    assert ours.status is AgentStatus.AVAILABLE


def test_a_change_is_told_once() -> None:
    seated, first = settle(place(Agent(number="1"), None, SEAT), AT)
    again, second = settle(seated, AT + timedelta(seconds=1))
    assert first is not None
    assert (first.state, first.previous, first.lasted) == ("idle", "logged_out", timedelta(0))
    assert (again, second) == (seated, None)


@pytest.mark.parametrize("late", [timedelta(0), timedelta(seconds=-5)])
def test_time_never_goes_back_and_never_stands_still(late: timedelta) -> None:
    seated, first = settle(place(Agent(number="1"), None, SEAT), AT)
    _, second = settle(replace(seated, rings=frozenset({"leg"})), AT + late)
    assert first is not None
    assert second is not None
    assert second.at == first.at + timedelta(microseconds=1)
    assert second.lasted == timedelta(microseconds=1)
