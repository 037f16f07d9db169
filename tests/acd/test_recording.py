"""A recording has a name, a beginning and an end, in any order of the first two."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ctid.acd.recording import Recording, mute, name, start, stop

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)
LATER = AT + timedelta(seconds=10)
BLANK = Recording(recording="", call="c", leg="l")


@pytest.mark.parametrize("is_named_first", [True, False])
def test_it_starts_when_asterisk_says_so_under_the_first_name(is_named_first: bool) -> None:
    if is_named_first:
        named, nothing = name(BLANK, "uuid")
        running, fact = start(named, AT)
    else:
        begun, nothing = start(BLANK, AT)
        running, fact = name(begun, "uuid")
    assert nothing is None
    assert fact is not None
    assert (fact.at, fact.recording) == (AT, "uuid")
    assert name(running, "other") == (running, None)
    assert start(running, LATER) == (running, None)
    stopped = stop(running, LATER)
    assert stopped is not None
    assert stopped.expected == LATER - AT


def test_what_has_no_name_or_never_ran_says_nothing() -> None:
    nameless, _ = start(BLANK, AT)
    muted, fact = mute(nameless, AT, muted=True)
    _, other = mute(muted, LATER, muted=False)
    assert (fact, other, stop(nameless, LATER)) == (None, None, None)
    assert stop(name(BLANK, "uuid")[0], LATER) is None


def test_a_clock_that_steps_back_makes_no_negative_silence() -> None:
    running, _ = start(name(BLANK, "uuid")[0], AT)
    muted, _ = mute(running, LATER, muted=True)
    _, fact = mute(muted, AT, muted=False)
    assert fact is not None
    assert getattr(fact, "muted", None) == timedelta(0)
