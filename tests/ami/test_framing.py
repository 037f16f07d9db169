"""Bytes to frames: any cut, any damage, and never more than a frame's worth of harm."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctid.ami import events as ami
from ctid.ami.decoding import EVENTS, WANTED, event_of
from ctid.ami.framing import Frame, Framer
from ctid.errors import FramingError
from tests.fakes import event, leg, lines

BANNER = b"Asterisk Call Manager/11.0.0\r\n"
STREAM = (
    BANNER
    + lines([("Response", "Success"), ("ActionID", "a"), ("Message", "Authentication accepted")])
    + event("Newchannel", 7, leg("1.1"))
    + event("VarSet", 8, leg("1.1") | {"Variable": "SIPDOMAIN", "Value": "王"})
    + event("VarSet", 9, leg("1.1") | {"Variable": "QUEUESTATUS", "Value": "TIMEOUT"})
    + event("Newexten", 10, leg("1.1") | {"Extension": "5001", "AppData": ""})
    + event("Hangup", 11, leg("1.1") | {"Cause": 16, "Cause-txt": "Normal Clearing"})
)


def frames_of(data: bytes, cuts: list[int] | None = None) -> list[Frame | int]:
    framer = Framer()
    places = [0, *sorted(cuts or []), len(data)]
    return [frame for begin, end in pairwise(places) for frame in framer.feed(data[begin:end])]


def only(data: bytes) -> Frame:
    (frame,) = frames_of(data)
    assert isinstance(frame, Frame)
    return frame


def test_the_whole_stream() -> None:
    """What is used comes out read, what is not as its bare number."""
    banner, reply, new, skipped, status, exten, gone = frames_of(STREAM)
    assert banner == Frame(kind="banner", name="Asterisk Call Manager/11.0.0")
    assert isinstance(reply, Frame)
    assert (reply.kind, reply.name, reply.action_id) == ("reply", "Success", "a")
    assert (skipped, exten) == (8, 10)
    assert isinstance(new, Frame)
    assert isinstance(status, Frame)
    assert isinstance(gone, Frame)
    assert new.headers["CallerIDName"] == "王小明"
    assert set(new.headers) <= WANTED["Newchannel"]
    assert status.headers["Value"] == "TIMEOUT"
    assert gone.number == 11


def test_cut_at_every_byte() -> None:
    """B01: a frame cut at every byte offset, inside 王 too."""
    whole = frames_of(STREAM)
    for cut in range(len(STREAM)):
        assert frames_of(STREAM, [cut]) == whole


def test_one_byte_at_a_time() -> None:
    """B02: segments of one byte."""
    assert frames_of(STREAM, list(range(len(STREAM)))) == frames_of(STREAM)


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_any_cuts(cuts: list[int]) -> None:
    """B01, B02: where a read ends never matters."""
    assert frames_of(STREAM, cuts) == frames_of(STREAM)


def test_many_frames_in_a_segment() -> None:
    """B03: one segment of 64 KB with 300 frames."""
    data = b"".join(event("Newstate", n, leg("1.1", number="1" * 20)) for n in range(300))
    assert [frame.number for frame in frames_of(data) if isinstance(frame, Frame)] == list(range(300))


def test_short_terminator() -> None:
    """B04: a frame that ends in CR LF LF does not swallow the next (asterisk issue 761)."""
    short = lines([("Event", "CoreShowChannelMapComplete"), ("ActionID", "a")])[:-2] + b"\n"
    item, hangup = frames_of(short + event("Hangup", 3, leg()))
    assert isinstance(item, Frame)
    assert isinstance(hangup, Frame)
    assert (item.name, hangup.name, hangup.number) == ("CoreShowChannelMapComplete", "Hangup", 3)


def test_bare_line_feed() -> None:
    """B05, B14: a bare line feed inside a value is damage, not a line."""
    frame = only(event("Newchannel", 1, leg(number="1\nUniqueid: 9.9")))
    assert frame.damage == "damaged"
    assert frame.headers["Uniqueid"] == "1.1"


def test_no_blank_after_colon_and_empty_last_value() -> None:
    """B06, B07: ``Key:value`` and an empty last header are headers."""
    text = event("UserEvent", 1, {"UserEvent": "QueueExit", "Queue": "sales"})
    frame = only(text.replace(b"Queue: sales\r\n", b"Queue:sales\r\nStatus:\r\n"))
    assert (frame.damage, frame.headers["Queue"], frame.headers["Status"]) == ("", "sales", "")
    frame = only(event("UserEvent", 1, {"UserEvent": "QueueExit", "Status": ""}))
    assert (frame.damage, frame.headers["Status"]) == ("", "")


def test_header_without_colon() -> None:
    """B08: a line that is no header damages a frame that is used."""
    text = event("Hangup", 1, leg()).replace(b"Priority: 1\r\n", b"Priority: 1\r\nstray line\r\n")
    assert only(text).damage == "damaged"


def test_a_lost_line_can_not_shift_names_and_values() -> None:
    """B08: one line with two colons and one with none do not make up for each other."""
    good = event("Hangup", 1, leg() | {"Cause": 16})
    bad = good.replace(b"Context: from-trunk\r\n", b"Context: x: Uniqueid\r\n").replace(
        b"Priority: 1\r\n", b"9.9\r\n"
    )
    assert [frame.damage for frame in frames_of(good + bad) if isinstance(frame, Frame)] == ["", "damaged"]


def test_huge_header_and_many_headers() -> None:
    """B09, B10: a header of a megabyte, and 10,000 of them, pass and cost little."""
    big = event("UserEvent", 1, {"UserEvent": "QueueExit", "Blob": "y" * 1_000_000})
    many = event("UserEvent", 2, {"UserEvent": "QueueExit"} | {f"H{n}": n for n in range(10_000)})
    cuts = list(range(0, len(big + many), 65536))
    assert [frame.damage for frame in frames_of(big + many, cuts) if isinstance(frame, Frame)] == ["", ""]


def test_too_much_without_an_end() -> None:
    """B09: beyond the limit the connection is given up instead of the memory."""
    framer = Framer(limit=10_000)
    for _ in range(10):
        framer.feed(b"x" * 1000)
    with pytest.raises(FramingError, match="10000 bytes"):
        framer.feed(b"x")


@pytest.mark.parametrize("control", ["\x00", "\x07", "\x1b[31m", "\r", "\x7f"])
def test_control_characters(control: str) -> None:
    """B11: NUL and its kind never come from Asterisk itself."""
    assert only(event("Newchannel", 1, leg(number=f"1{control}2"))).damage == "damaged"
    assert only(event("Hangup", 1, leg() | {"AccountCode": control})).damage == "damaged"


@pytest.mark.parametrize("name", ["Uniqueid", "Channel", "Linkedid"])
def test_duplicate_header(name: str) -> None:
    """B12, B18: a header injected a second time damages the frame."""
    text = event("Newchannel", 1, leg(number=f"1\r\n{name}: 9.9"))
    assert only(text).damage != ""
    known = Framer()
    known.feed(event("Newchannel", 1, leg()))
    (frame,) = known.feed(text)
    assert isinstance(frame, Frame)
    assert frame.damage != ""


def test_repeated_channel_variables() -> None:
    """``channelvars`` in manager.conf makes a header that comes often; that is no damage."""
    text = event("Hangup", 1, leg() | {"Cause": 16}).replace(
        b"Cause: 16", b"ChanVariable: A=1\r\nChanVariable: B=2\r\nCause: 16"
    )
    assert only(text).damage == ""


def test_unknown_event() -> None:
    """B19: an event nobody reads is a number."""
    assert frames_of(event("Brandnew", 5, {"Anything": "at all"})) == [5]


def test_known_event_without_uniqueid() -> None:
    """B20: is cut as usual; reading it fails, which the link counts."""
    headers = leg()
    del headers["CallerIDNum"], headers["Uniqueid"]
    frame = only(event("Hangup", 1, headers))
    with pytest.raises(ValueError, match="Uniqueid"):
        event_of(frame.name, frame.headers, 0.0)


@pytest.mark.parametrize("banner", [b"", BANNER, b"Asterisk Call Manager/2.7.0\r\n"])
def test_banner(banner: bytes) -> None:
    """B28: no banner, another version, banner and event in one segment."""
    frames = frames_of(banner + event("Hangup", 5, leg()))
    assert [frame.kind for frame in frames if isinstance(frame, Frame)] == ["banner"] * bool(banner) + [
        "event"
    ]


def test_output_of_a_command() -> None:
    """B30: output with blank lines and things that look like events stays output."""
    output = ["one", "", "Event: Hangup", "Uniqueid: 9.9"]
    frame = only(lines([("Response", "Success"), ("ActionID", "a"), *(("Output", text) for text in output)]))
    assert (frame.kind, frame.damage) == ("reply", "")
    assert frame.headers["Output"] == "\n".join(output)


def test_caller_numbers_of_all_kinds() -> None:
    """B31: what is no number is no number; ``<unknown>`` is nothing."""
    for number, wanted in {
        "<unknown>": "",
        "anonymous": "anonymous",
        "+8613800000000": "+8613800000000",
    }.items():
        frame = only(event("Newchannel", 1, leg(number=number)))
        read = event_of(frame.name, frame.headers, 0.0)
        assert isinstance(read, ami.Newchannel)
        assert read.caller_number == wanted


def test_escaped_name() -> None:
    """B15: Asterisk escapes a caller's name once, so it is unescaped once."""
    frame = only(event("Newchannel", 1, leg() | {"CallerIDName": 'O\\\'Brien \\"王\\" \\\\'}))
    read = event_of(frame.name, frame.headers, 0.0)
    assert isinstance(read, ami.Newchannel)
    assert read.caller_name == 'O\'Brien "王" \\'


def test_control_characters_in_a_name() -> None:
    """B15, B32, S27: written as an escape by Asterisk, left out by us as by the dialplan."""
    frame = only(event("Newchannel", 1, leg() | {"CallerIDName": r"a\tb\n\r\a\fc\\n"}))
    read = event_of(frame.name, frame.headers, 0.0)
    assert isinstance(read, ami.Newchannel)
    assert read.caller_name == r"abc\n"


@pytest.mark.parametrize("name", ["n" * 4000, "王" * 26 + "\u202e", "🙂\u200b", "e" + "\u0301" * 40, "a%00b"])
def test_any_name_is_a_name(name: str) -> None:
    """B17, B32: long, turned around, without width, or like an escape: one header, and no damage."""
    frame = only(event("Newchannel", 1, leg() | {"CallerIDName": name}))
    assert (frame.damage, frame.headers["CallerIDName"]) == ("", name)


def test_not_utf8() -> None:
    """B16: bytes of another encoding cost a letter, not the frame."""
    frame = only(event("Newchannel", 1, leg()).replace("王小明".encode(), "王".encode("gbk")))
    assert frame.damage == ""
    assert frame.headers["CallerIDName"].startswith("\ufffd")


def test_time_is_asterisks_own() -> None:
    """The instant comes from Timestamp, to the microsecond; without one, from the receipt."""
    frame = only(event("Hangup", 1, leg(), at=1795379780.601620))
    assert event_of(frame.name, frame.headers, 0.0).at == datetime(2026, 11, 22, 20, 36, 20, 601620, UTC)
    frame = only(
        lines([("Event", "Hangup"), ("Privilege", "call,all"), ("SequenceNumber", 5), *leg().items()])
    )
    assert (frame.number, frame.stamped) == (5, False)
    assert event_of(frame.name, frame.headers, 10.0).at == datetime(1970, 1, 1, 0, 0, 10, tzinfo=UTC)


@pytest.mark.parametrize("name", ["Newchannel", "VarSet", "Newexten", "Hangup", "Brandnew"])
@pytest.mark.parametrize("is_known", [False, True])
def test_torn_at_the_callers_number(name: str, *, is_known: bool) -> None:
    """B13: an event that ends at the number a caller can write is torn, used or not."""
    whole = event(name, 1, leg() | {"Variable": "A", "Value": "b"})
    torn = whole[: whole.index(b"15551234") + 8] + b"\r\n\r\n"
    framer = Framer()
    if is_known:
        framer.feed(whole)
    (frame,) = framer.feed(torn)
    assert isinstance(frame, Frame)
    assert (frame.damage, frame.number) == ("torn", 1)


def test_events_that_print_a_number_without_a_description() -> None:
    """These end soon after the caller's number, and are whole."""
    answer = {"Response": "Success", "Channel": "PJSIP/1", "Uniqueid": "1.1", "CallerIDNum": "1"}
    entry = {"Queue": "sales", "Channel": "PJSIP/t-1", "CallerIDNum": "1", "Wait": 3, "ActionID": "a"}
    assert frames_of(event("OriginateResponse", 1, answer)) == [1]
    assert only(lines([("Event", "QueueEntry"), *entry.items()])).damage == ""


def test_user_events_of_others() -> None:
    """A site's own UserEvents, which may repeat a header, are none of ours."""
    theirs = event("UserEvent", 1, leg() | {"UserEvent": "Ended"}).replace(
        b"Ended\r\n", b"Ended\r\nUniqueid: 1.1\r\n"
    )
    ours = event("UserEvent", 2, leg() | {"UserEvent": "QueueExit", "Status": "TIMEOUT"})
    for data in (theirs + ours, ours + theirs.replace(b"Number: 1", b"Number: 3")):
        read = [frame for frame in frames_of(data) if isinstance(frame, Frame)]
        assert [(frame.headers["UserEvent"], frame.damage) for frame in read] == [("QueueExit", "")]


def test_torn_cel() -> None:
    """B13: CEL spells its headers in its own way."""
    headers = {
        "EventName": "CHAN_START",
        "CallerIDnum": "1",
        "UniqueID": "1.1",
        "LinkedID": "1.1",
        "Extra": "",
    }
    whole = event("CEL", 1, headers)
    assert frames_of(whole + event("CEL", 2, headers)) == [1, 2]
    assert only(whole[: whole.index(b"UniqueID") - 2] + b"\r\n\r\n").damage == "torn"


def test_completing_a_torn_event_does_not_help() -> None:
    """B13: the forger's own Uniqueid and Linkedid do not make up for what he tore off."""
    frames = frames_of(event("Newchannel", 1, leg(number="1\r\nUniqueid: 9.9\r\nLinkedid: 9.9\r\n\r\nX")))
    first, rest = frames
    assert isinstance(first, Frame)
    assert isinstance(rest, Frame)
    assert (first.damage, rest.kind) == ("torn", "stray")


def test_rest_tells_that_a_frame_was_torn() -> None:
    """Left-over bytes that begin neither an event nor a reply belong to the frame before them."""
    for rest, is_torn in {b"X\r\nPriority": True, b"Eve": False, b"Event: Ha": False, b"": False}.items():
        framer = Framer()
        framer.feed(event("Hangup", 1, leg()) + rest)
        assert framer.rest_is_torn is is_torn


def test_counts() -> None:
    """Events are counted by name where they are used, and together where not."""
    framer = Framer()
    framer.feed(STREAM)
    assert framer.take_counts() == {"Newchannel": 1, "VarSet": 2, "Hangup": 1, "other": 1}
    assert framer.take_counts() == {}


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_event_we_read_has_its_class(name: str) -> None:
    """The table and the classes belong together."""
    assert EVENTS[name].__name__ in (name, "QueueStatusVariable")
    assert "Timestamp" in WANTED[name]


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_any_bytes(data: bytes, size: int) -> None:
    """Whatever comes, framing neither fails nor depends on the cuts."""
    once = frames_of(data + b"\r\n\r\n")
    again = frames_of(data + b"\r\n\r\n", list(range(0, len(data), size)))
    assert once == again
