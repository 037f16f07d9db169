"""Recordings in, facts out: text or raw bytes, with sequence numbers or without."""

from __future__ import annotations

import gzip
from datetime import timedelta
from pathlib import Path

from ctid.acd.facts import CallEnded, CallHandled, WrapUpEnded
from ctid.acd.rules import QueueRule
from ctid.replay import events, raw, replay

TRACES = Path(__file__).parent / "traces" / "22"

#: What Asterisk says about every channel.
LEG = b"""Channel: PJSIP/trunk-00000000
ChannelStateDesc: Ring
CallerIDNum: 1
CallerIDName: <unknown>
ConnectedLineNum: <unknown>
ConnectedLineName: <unknown>
Language: en
AccountCode: x
Context: from-trunk
Exten: 5001
Priority: 1
Uniqueid: a.0
Linkedid: a.0
"""
TEXT = (
    b"""#### a note
## +0.014
Event: Newchannel
Privilege: call,all
Timestamp: 1795368691.123003
%s
## +0.020 >>> SENT
>>> Action: Ping

#### [+0.021] another note
## +0.022
Response: Success
Ping: Pong

"""
    % LEG
)
CRLF = LEG.replace(b"\n", b"\r\n")
HANGUP = (
    b"Event: Hangup\r\nPrivilege: call,all\r\nTimestamp: 1795368692.123003\r\nSequenceNumber: %d\r\n"
    + CRLF
    + b"Cause: 16\r\nCause-txt: Normal\r\n\r\n"
)
SKIPPED = (
    b"Event: VarSet\r\nPrivilege: dialplan,all\r\nTimestamp: 1795368692.123003\r\nSequenceNumber: 8\r\n"
    + CRLF
    + b"Variable: X\r\nValue: 1\r\n\r\n"
)


def test_text_becomes_what_a_socket_would_have_delivered() -> None:
    assert raw(TEXT) == (
        b"Event: Newchannel\r\nPrivilege: call,all\r\nTimestamp: 1795368691.123003\r\n"
        + CRLF
        + b"\r\nResponse: Success\r\nPing: Pong\r\n\r\n"
    )
    assert raw(raw(TEXT)) == raw(TEXT)


def test_a_recording_with_numbers_believes_nothing_without_one() -> None:
    plain = raw(TEXT)
    assert [type(event).__name__ for event in events([plain + HANGUP % 7])] == ["Newchannel", "Hangup"]
    assert [type(event).__name__ for event in events([HANGUP % 7 + plain])] == ["Hangup"]
    assert list(events([SKIPPED + plain])) == []


def test_what_lacks_a_header_we_need_is_left_out() -> None:
    assert list(events([b"Event: Hangup\r\nPrivilege: call,all\r\nUniqueid: a.0\r\n\r\n"])) == []


def test_wrap_ups_end_on_the_recordings_own_clock() -> None:
    recording = gzip.decompress((TRACES / "wrapup.txt.gz").read_bytes())
    rules = {"wrap": QueueRule(wrap_up=timedelta(seconds=4))}
    facts = list(replay([raw(recording)], rules, {"PJSIP/1005": "205"}))

    ended = [fact for fact in facts if isinstance(fact, WrapUpEnded)]
    assert [(fact.agent, fact.ended_by, fact.wrapped) for fact in ended] == [
        ("205", "cap", timedelta(seconds=4))
    ]
    assert len([fact for fact in facts if isinstance(fact, CallHandled)]) == 1
    assert len([fact for fact in facts if isinstance(fact, CallEnded)]) == 2
