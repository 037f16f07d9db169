"""Records of both books find together; what is over is known to be over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ctid.books.cel import CelEvent
from ctid.books.groups import Group, Groups
from ctid.books.queue_log import QueueLine
from tests.fakes_books import recorded

BEGIN = datetime(2026, 11, 25, 8, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def cel(seconds: float, kind: str, leg: str, call: str) -> CelEvent:
    return CelEvent(
        at=at(seconds),
        kind=kind,
        number="",
        name="",
        exten="",
        context="",
        channel=f"PJSIP/{leg}-00000001",
        application="",
        arguments="",
        uniqueid=leg,
        linkedid=call,
        peer="",
        user_kind="",
        extra={},
    )


def line(seconds: float, call: str, verb: str = "ENTERQUEUE") -> QueueLine:
    return QueueLine(at(seconds), call, "sales", "NONE", verb, ())


def only(groups: Groups) -> Group:
    (group,) = groups
    return group


def test_a_call_is_closed_with_its_end() -> None:
    groups = Groups()
    groups.add([cel(0, "CHAN_START", "1", "1"), cel(5, "HANGUP", "1", "1")], [line(1, "1")])
    assert not only(groups).is_closed
    groups.add([cel(5, "LINKEDID_END", "1", "1")], ())
    group = only(groups)
    assert (group.is_closed, group.is_whole, group.is_lost) == (True, True, False)
    assert (group.began_at, group.last_at, len(group.lines)) == (at(0), at(5), 1)


def test_calls_become_one_group_when_a_leg_changes_over() -> None:
    """A consult call is closed with the call it was transferred into."""
    groups = Groups()
    groups.add([cel(0, "CHAN_START", "1", "1"), cel(1, "CHAN_START", "2", "2")], [line(2, "2"), line(1, "1")])
    assert len(list(groups)) == 2
    groups.add([cel(3, "BRIDGE_ENTER", "2", "1")], ())
    group = only(groups)
    assert (group.calls, group.open) == ({"1", "2"}, {"1", "2"})
    assert [one.call for one in group.lines] == ["1", "2"]
    assert (group.began_at, group.last_at) == (at(0), at(3))
    groups.add([cel(4, "LINKEDID_END", "2", "2")], ())
    assert not group.is_closed
    groups.add([cel(5, "LINKEDID_END", "1", "1")], [line(5, "2", "COMPLETECALLER")])
    assert group.is_closed
    assert len(group.lines) == 3


def test_a_real_transfer_is_one_group() -> None:
    records, lines = recorded("22/attended_transfer_refer")
    groups = Groups()
    groups.add(records, lines)
    group = next(group for group in groups if len(group.calls) > 1)
    assert group.is_closed
    assert group.is_whole


def test_asterisk_died_in_what_was_open_before() -> None:
    """F02: QUEUESTART proves that what was open is over; what began after it lives."""
    groups = Groups()
    groups.add([cel(0, "CHAN_START", "open", "open")], ())
    groups.add([cel(0, "CHAN_START", "over", "over"), cel(1, "LINKEDID_END", "over", "over")], ())
    groups.add([cel(30, "CHAN_START", "new", "new")], ())
    groups.add((), [QueueLine(at(20), "NONE", "NONE", "NONE", "QUEUESTART", ())])
    lost = {min(group.calls): group.is_lost for group in groups}
    assert lost == {"open": True, "over": False, "new": False}


def test_a_line_may_come_before_its_record() -> None:
    groups = Groups()
    groups.add((), [line(0, "1"), line(3, "1", "ABANDON"), line(1, "nobody")])
    assert list(groups) == []
    groups.add([cel(0, "CHAN_START", "1", "1")], ())
    assert [one.verb for one in only(groups).lines] == ["ENTERQUEUE", "ABANDON"]


def test_lines_that_nobody_claims_are_bounded() -> None:
    groups = Groups()
    groups.add((), [line(n, f"stray {n}") for n in range(30_000)])
    assert len(groups._stray) == 10_000
    groups.add((), [line(1, "NONE", "CONFIGRELOAD")])
    assert len(groups._stray) == 10_000


def test_taken_is_forgotten() -> None:
    """Nothing is left of a group that is done with; its place in the reading goes with it."""
    groups = Groups()
    groups.add([cel(0, "CHAN_START", "1", "1"), cel(1, "LINKEDID_END", "1", "1")], (), 7)
    groups.add([cel(2, "CHAN_START", "2", "2")], (), 9)
    first = min(groups, key=lambda group: group.mark)
    assert first.mark == 7
    groups.take(first)
    assert [group.mark for group in groups] == [9]
    assert list(groups._of_leg) == ["2"]


def test_merged_groups_keep_the_earlier_mark() -> None:
    groups = Groups()
    groups.add([cel(0, "CHAN_START", "1", "1")], (), 3)
    groups.add([cel(0, "CHAN_START", "2", "2")], (), 5)
    groups.add([cel(1, "BRIDGE_ENTER", "1", "2")], (), 6)
    assert only(groups).mark == 3


def test_half_a_call_is_not_whole() -> None:
    """Its beginning was in a file that is gone: it can not be judged."""
    groups = Groups()
    groups.add([cel(3, "BRIDGE_ENTER", "1", "1"), cel(5, "LINKEDID_END", "1", "1")], ())
    assert only(groups).is_closed
    assert not only(groups).is_whole
