"""Names of phones, and what ends of calls say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ctid.acd.call import Call, Leg, announced, ended, interface_of, with_participants

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("channel", "interface"),
    [
        ("PJSIP/201-0000001a", "PJSIP/201"),
        ("PJSIP/my-trunk-0000001a", "PJSIP/my-trunk"),
        ("Local/1002@from-agent-00000000;2", "Local/1002@from-agent"),
        ("PJSIP/201-0000001a<ZOMBIE>", "PJSIP/201"),
        ("Surrogate", "Surrogate"),
    ],
)
def test_interface_of(channel: str, interface: str) -> None:
    assert interface_of(channel) == interface


def test_a_call_never_lasts_less_than_nothing() -> None:
    call = Call(linkedid="c", leg="c", channel="PJSIP/trunk-1", began_at=AT)
    fact = ended(call, AT - timedelta(seconds=1))
    assert (fact.at, fact.lasted) == (AT, timedelta(0))
    assert announced(call).at == AT


def test_participants_are_noted_once() -> None:
    call = Call(linkedid="c", leg="c", channel="x", began_at=AT)
    with_one = with_participants(call, "PJSIP/1")
    assert with_participants(with_one, "PJSIP/1") is with_one
    assert ended(with_participants(with_one, "PJSIP/0"), AT).participants == ("PJSIP/0", "PJSIP/1")


def test_local_channels_are_nobodys_phone() -> None:
    leg = Leg(uniqueid="1", channel="Local/1@x-1;1", call="1", interface="Local/1@x")
    assert leg.is_local
