"""What is kept, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ctid.acd.rules import QueueRule
from ctid.acd.tables import RECENT, Tables

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("interface", "number"),
    [
        ("PJSIP/1001", "1001"),
        ("Local/1001@agents/n", "1001"),
        ("Local/1001@agents", "1001"),
        ("PJSIP/known", "201"),
        ("strange", "strange"),
    ],
)
def test_owner(interface: str, number: str) -> None:
    tables = Tables({}, {"PJSIP/known": "201"}, QueueRule())
    assert tables.owner(interface) == tables.owner(interface) == number


def test_hung_up_legs_are_remembered_for_a_bounded_while() -> None:
    tables = Tables({}, {}, QueueRule())
    for number in range(RECENT + 10):
        tables.forget(str(number), AT)
    assert len(tables.gone) == RECENT
    assert "9" not in tables.gone
    assert "10" in tables.gone


def test_calls_no_queue_gave_are_judged_by_nobodys_rule() -> None:
    tables = Tables({"sales": QueueRule(rings=1)}, {}, QueueRule(rings=9))
    assert (tables.rule("sales").rings, tables.rule("other").rings, tables.rule("").rings) == (1, 9, 3)


def test_agents_nobody_knows_fall_silent_without_a_word() -> None:
    tables = Tables({}, {}, QueueRule())
    tables.silent("leg", "1001", AT)
    tables.rung_out("leg", "1001", AT)
    assert tables.touched == {}
