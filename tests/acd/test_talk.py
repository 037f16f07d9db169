"""The agent's own clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ctid.acd.facts import ZERO
from ctid.acd.talk import Stage, Talk, end, handled, hold, resume

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)
TALK = Talk(agent="1", interface="PJSIP/1", call="c", leg="l", carrier="l", queue="q", began_at=AT)


@given(st.lists(st.tuples(st.sampled_from("hur"), st.integers(min_value=-2, max_value=60)), max_size=20))
def test_talk_and_hold_fill_the_time_whatever_comes(signs: list[tuple[str, int]]) -> None:
    talk, at = TALK, AT
    for sign, seconds in signs:
        at += timedelta(seconds=seconds)
        talk, fact = hold(talk, at) if sign == "h" else resume(talk, at)
        assert fact is None or fact.at == at
        assert talk.stage is (Stage.HOLDING if sign == "h" else Stage.TALKING)
    at = max(at, AT)
    ended = end(talk, at, "caller")

    assert ended.talked >= ZERO
    assert ended.held >= ZERO
    if all(seconds >= 0 for _, seconds in signs):
        assert ended.talked + ended.held == at - AT
    assert handled(ended).handled == ended.talked + ended.held


def test_an_end_before_the_beginning_is_the_beginning() -> None:
    assert end(TALK, AT - timedelta(seconds=3), "agent").at == AT
