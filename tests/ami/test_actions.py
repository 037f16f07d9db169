"""Actions to bytes: exactly the intended lines, or nothing."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ctid.ami.actions import (
    MAX_LINE,
    MAX_LINES,
    Action,
    BlindTransfer,
    CoreShowChannels,
    CoreStatus,
    GetVar,
    Hangup,
    MessageSend,
    MixMonitorMute,
    Originate,
    Ping,
    QueueAdd,
    QueuePause,
    QueuePenalty,
    QueueRemove,
    QueueStatus,
    Redirect,
    serialize,
)
from ctid.errors import ActionRefused


def written(action: Action) -> list[tuple[str, str]]:
    """Read the wire as Asterisk does: lines up to the first empty one, nothing after it."""
    head, end, rest = serialize(action, "id").partition(b"\r\n\r\n")
    assert (end, rest) == (b"\r\n\r\n", b"")
    return [
        (name, value) for name, _, value in (line.partition(": ") for line in head.decode().split("\r\n"))
    ]


@pytest.mark.parametrize(
    ("action", "wanted"),
    [
        (Ping(), []),
        (CoreShowChannels(), []),
        (QueueStatus(queue="sales"), [("Queue", "sales")]),
        (CoreStatus(), []),
        (
            QueuePause(interface="PJSIP/201", paused=True, reason="午休"),
            [("Interface", "PJSIP/201"), ("Paused", "true"), ("Reason", "午休")],
        ),
        (
            QueuePause(interface="PJSIP/201", paused=False, queue="q"),
            [("Interface", "PJSIP/201"), ("Paused", "false"), ("Queue", "q")],
        ),
        (
            QueueAdd(queue="q", interface="PJSIP/201", member_name="王", penalty=2),
            [
                ("Queue", "q"),
                ("Interface", "PJSIP/201"),
                ("MemberName", "王"),
                ("Penalty", "2"),
                ("Paused", "false"),
            ],
        ),
        (QueueRemove(queue="q", interface="PJSIP/201"), [("Queue", "q"), ("Interface", "PJSIP/201")]),
        (QueuePenalty(interface="PJSIP/201", penalty=0), [("Interface", "PJSIP/201"), ("Penalty", "0")]),
        (
            MixMonitorMute(channel="PJSIP/t-1", state=True),
            [("Channel", "PJSIP/t-1"), ("Direction", "both"), ("State", "1")],
        ),
        (
            GetVar(channel="PJSIP/t-1", variable="CHANNEL(state)"),
            [("Variable", "CHANNEL(state)"), ("Channel", "PJSIP/t-1")],
        ),
        (Hangup(channel="PJSIP/t-1"), [("Channel", "PJSIP/t-1"), ("Cause", "16")]),
        (
            Originate(
                channel="PJSIP/201", context="out", exten="+4930123", variables=(("__CTID_CALL", "1.1"),)
            ),
            [
                ("Channel", "PJSIP/201"),
                ("Context", "out"),
                ("Exten", "+4930123"),
                ("Priority", "1"),
                ("Timeout", "30000"),
                ("Async", "true"),
                ("Variable", "__CTID_CALL=1.1"),
            ],
        ),
    ],
)
def test_on_the_wire(action: Action, wanted: list[tuple[str, str]]) -> None:
    """Each action, line by line."""
    assert written(action) == [("Action", type(action).__name__), ("ActionID", "id"), *wanted]


def test_text_of_a_message_may_be_anything() -> None:
    """A body goes as base64, line breaks and all."""
    body = "王小明\r\nAction: Originate\r\n\r\n"
    lines = dict(written(MessageSend(to="pjsip:201", sender="ctid", body=body)))
    assert base64.b64decode(lines["Base64Body"]).decode() == body
    assert lines["To"] == "pjsip:201"
    assert lines["From"] == "ctid"


@given(interface=st.text(), reason=st.text(), queue=st.text(), paused=st.booleans())
def test_any_text_is_one_line_or_refused(interface: str, reason: str, queue: str, paused: bool) -> None:
    """B77: for all strings, the wire holds exactly the intended lines."""
    action = QueuePause(interface=interface, reason=reason, queue=queue, paused=paused)
    texts = [("Interface", interface), ("Paused", str(paused).lower()), ("Reason", reason), ("Queue", queue)]
    try:
        lines = written(action)
    except ActionRefused:
        bad = [
            value for _, value in texts if not value.isprintable() or len(value.encode(errors="ignore")) > 900
        ]
        assert bad
        return
    assert lines[2:] == [(name, value) for name, value in texts if value]


@given(st.text(alphabet=st.sampled_from("ab \r\n\x00:王\x7f\u2028\ud800"), min_size=1))
def test_line_breaks_never_pass(text: str) -> None:
    """B77: carriage return, line feed, NUL and other control characters, anywhere."""
    assume(set(text) & set("\r\n\x00\x7f\ud800"))
    for action in (
        QueuePause(interface=text, paused=True),
        Hangup(channel=text),
        GetVar(channel=text, variable="X"),
        MessageSend(to=text, sender="x", body="x"),
        QueueAdd(queue="q", interface="PJSIP/1", member_name=text),
        Originate(channel="PJSIP/1", context="c", exten="123", caller_id=text),
        Originate(channel="PJSIP/1", context="c", exten="123", variables=(("CTID_X", text),)),
    ):
        with pytest.raises(ActionRefused):
            serialize(action, "id")


def test_a_line_at_the_limit() -> None:
    """B79: bytes count, not letters."""
    room = MAX_LINE - len("Reason: ")
    assert len(written(QueuePause(interface="i", paused=True, reason="x" * room))) == 5
    for reason in ("x" * (room + 1), "王" * (room // 3 + 1)):
        with pytest.raises(ActionRefused, match="1000"):
            serialize(QueuePause(interface="i", paused=True, reason=reason), "id")


def test_too_many_lines() -> None:
    """B79: Asterisk would answer "Too many lines"; it never gets them."""
    variables = tuple((f"CTID_{'A' * n}", "x") for n in range(1, 61))
    action = Originate(channel="PJSIP/1", context="c", exten="123", variables=variables)
    assert len(written(action)) == 68
    with pytest.raises(ActionRefused, match=str(MAX_LINES)):
        serialize(msgspec.structs.replace(action, variables=variables * 2), "id")


@pytest.mark.parametrize(
    "action",
    [
        Originate(channel="PJSIP/1&PJSIP/2", context="c", exten="123"),
        Originate(channel="Local/1@c,n", context="c", exten="123"),
        Originate(channel="/.*/", context="c", exten="123"),
        Originate(channel="PJSIP/1", context="c", exten="1234x"),
        Originate(channel="PJSIP/1", context="c", exten="12"),
        Originate(channel="PJSIP/1", context="c", exten="1" * 21),
        Originate(channel="PJSIP/1", context="c&d", exten="123"),
        Originate(channel="PJSIP/1", context="c", exten="123", asynchronous=False),
        Originate(channel="PJSIP/1", context="c", exten="123", variables=(("SHELL(id)", "x"),)),
        Originate(channel="PJSIP/1", context="c", exten="123", variables=(("CTID_X", "a,B=c"),)),
        Redirect(channel="PJSIP/t-1", context="c", exten="s"),
        Redirect(channel="/PJSIP.*/", context="c", exten="123"),
        BlindTransfer(channel="PJSIP/t-1", context="c", exten="500&PJSIP/1"),
        Hangup(channel="/^PJSIP/"),
        GetVar(channel="PJSIP/t-1", variable="SHELL(id)"),
        GetVar(channel="PJSIP/t-1", variable="GLOBAL(x)"),
    ],
)
def test_targets_of_another_form(action: Action) -> None:
    """B78, S03: several phones, patterns, functions and odd numbers are refused, not cleaned."""
    with pytest.raises(ActionRefused, match=type(action).__name__):
        serialize(action, "id")
