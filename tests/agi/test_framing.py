"""FastAGI bytes, hostile ones included (reliability.md B33-B45)."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctid.agi import framing
from ctid.agi.framing import AgiRequest, Reply, ReplyReader, RequestReader, quote, set_variable, set_variables
from ctid.errors import AgiFramingError
from tests.agi.fakes import ENVIRONMENT, words_of

#: Whatever can be in a variable: no line break, no NUL, nothing UTF-8 has no bytes for.
VALUES = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=200)


def request(data: bytes) -> AgiRequest:
    found = RequestReader().feed(data)
    assert found is not None
    return found


def with_script(script: bytes) -> AgiRequest:
    return request(b"agi_network: yes\nagi_network_script: " + script + b"\nagi_request: agi://x\n\n")


def replies(data: bytes) -> list[Reply]:
    return list(ReplyReader().feed(data))


# -- the request --------------------------------------------------------------


def test_what_asterisk_sends_is_understood() -> None:
    found = request(ENVIRONMENT)
    assert found.script == "route"
    assert (found.dialled, found.caller, found.call) == ("5002", "+8613800138000", "1795380308.42")
    assert found.environment["calleridname"] == "王小明"
    assert found.environment["accountcode"] == ""
    assert found.ignored == 0


@given(st.lists(st.integers(0, len(ENVIRONMENT)), max_size=8))
def test_any_fragmentation_gives_the_same_request(cuts: list[int]) -> None:
    reader = RequestReader()
    edges = [0, *sorted(cuts), len(ENVIRONMENT)]
    found = [got for start, end in pairwise(edges) if (got := reader.feed(ENVIRONMENT[start:end]))]
    assert found == [request(ENVIRONMENT)]
    assert reader.rest == b""


def test_what_follows_the_request_is_kept() -> None:
    reader = RequestReader()
    assert reader.feed(ENVIRONMENT + b"200 result=1\n")
    assert reader.rest == b"200 result=1\n"


def test_b33_without_a_blank_line_there_is_no_request() -> None:
    """B33: without a blank line there is no request."""
    assert RequestReader().feed(ENVIRONMENT[:-1]) is None


@pytest.mark.parametrize("size", [framing.MAX_REQUEST + 1, 1_000_000])
def test_f37_a_header_without_end_is_refused(size: int) -> None:
    """F37: a header without end is refused."""
    with pytest.raises(AgiFramingError, match="16384 bytes"):
        RequestReader().feed(b"agi_request: " + b"x" * size)


def test_f37_too_much_is_refused_even_if_it_ends() -> None:
    """F37: too much is refused even if it ends."""
    with pytest.raises(AgiFramingError):
        RequestReader().feed(b"agi_request: " + b"x" * framing.MAX_REQUEST + b"\n\n")


def test_f37_too_many_headers_are_refused() -> None:
    """F37: too many headers are refused."""
    with pytest.raises(AgiFramingError, match="128 headers"):
        RequestReader().feed(b"a: b\n" * 129 + b"\n")


def test_b35_a_line_that_is_no_header_is_ignored() -> None:
    """B35: a line that is no header is ignored."""
    found = request(b"agi_network: yes\nrubbish\nagi_callerid:123\nother: 1\nagi_extension: 5001\n\n")
    assert (found.dialled, found.caller, found.ignored) == ("5001", "", 3)


def test_b36_the_first_of_two_equal_headers_counts() -> None:
    """B36: the first of two equal headers counts."""
    found = request(b"agi_uniqueid: 1.1\nagi_uniqueid: 6.6\n\n")
    assert (found.call, found.ignored) == ("1.1", 1)


def test_b38_a_caller_can_not_forge_what_we_decide_upon() -> None:
    """B38: a caller can not forge what we decide upon."""
    forged = b"agi_callerid: 1\nagi_network_script: route?did=5003&caller=110\nagi_extension: 5003\n\n"
    found = request(ENVIRONMENT.replace(b"agi_callerid: +8613800138000\n", forged))
    assert (found.script, found.dialled, found.caller) == ("route", "5002", "+8613800138000")


@pytest.mark.parametrize(
    ("script", "name"),
    [
        (b"route", "route"),
        (b"route?", "route"),
        (b"../../x", ""),
        (b"route/../../etc/passwd", ""),
        (b"x" * 10_000, ""),
        (b"", ""),
        (b"Route", ""),
        (b"route\x00", ""),
        (b"elsewhere", "elsewhere"),
    ],
)
def test_b37_only_a_plain_name_is_a_script(script: bytes, name: str) -> None:
    """B37: only a plain name is a script."""
    assert with_script(script).script == name


def test_b37_a_request_without_script_has_none() -> None:
    """B37: a request without script has none."""
    assert request(b"agi_network: yes\n\n").script == ""


def test_b37_the_query_is_read_whole() -> None:
    """B37: the query is read whole."""
    assert with_script(b"route?a=1&b=&&c&d=%E6%8A%A5+x%26&a=2").query == {
        "a": "1",
        "b": "",
        "c": "",
        "d": "报+x&",
    }


def test_without_a_query_the_headers_tell() -> None:
    found = request(b"agi_extension: 5001\nagi_callerid: unknown\nagi_uniqueid: 9.9\n\n")
    assert (found.dialled, found.caller, found.call) == ("5001", "", "9.9")


def test_an_empty_caller_in_the_query_is_a_withheld_number() -> None:
    found = request(b"agi_network_script: route?did=5001&caller=\nagi_callerid: 123\n\n")
    assert found.caller == ""


def test_b45_bytes_that_are_not_utf8_are_marked_not_fatal() -> None:
    """B45: bytes that are not UTF-8 are marked not fatal."""
    assert request(b"agi_calleridname: \xd5\xc5\xce\xb0\n\n").environment["calleridname"].count("�") >= 2


# -- replies ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("200 result=1", Reply(200, "1", None, "result=1")),
        ("200 result=-1", Reply(200, "-1", None, "result=-1")),
        ("200 result=", Reply(200, "", None, "result=")),
        ("200 result=0 endpos=160", Reply(200, "0", None, "result=0 endpos=160")),
        (
            '200 result=1 (value with ) ( ")',
            Reply(200, "1", 'value with ) ( "', 'result=1 (value with ) ( ")'),
        ),
        ("200 result=1 ()", Reply(200, "1", "", "result=1 ()")),
        ("510 Invalid or unknown command", Reply(510, text="Invalid or unknown command")),
        (
            "511 Command Not Permitted on a dead channel",
            Reply(511, text="Command Not Permitted on a dead channel"),
        ),
        ("200", Reply(200)),
    ],
)
def test_b41_b44_a_reply_is_taken_apart(line: str, reply: Reply) -> None:
    """B41, B44: a reply is taken apart."""
    assert replies(line.encode() + b"\n") == [reply]


def test_b39_trying_announces_the_real_reply() -> None:
    """B39: trying announces the real reply."""
    assert [reply.code for reply in replies(b"100 Trying...\n200 result=1\n")] == [200]


def test_b39_a_usage_of_many_lines_is_one_reply() -> None:
    """B39: a usage of many lines is one reply."""
    usage = (
        b"520-Invalid command syntax.  Proper usage follows:\n"
        b" Usage: SET VARIABLE\n\n200 times\n520 End of proper usage.\n"
    )
    first, second = replies(usage + b"200 result=1\n")
    assert first.code == 520
    assert first.text.startswith("Invalid command syntax.")
    assert first.text.splitlines()[-1] == "End of proper usage."
    assert second.result == "1"


def test_b39_two_replies_in_one_segment_are_two() -> None:
    """B39: two replies in one segment are two."""
    assert [reply.result for reply in replies(b"200 result=1\n200 result=2\n")] == ["1", "2"]


@given(st.lists(st.integers(0, 60), max_size=6))
def test_b39_a_reply_may_come_in_pieces(cuts: list[int]) -> None:
    """B39: a reply may come in pieces."""
    data = b"100 Trying\nHANGUP\r\n200 result=1 (\xe6\x8a\xa5)\r\n520-a\nb\n520 c\n"
    edges = [0, *sorted(cuts), len(data)]
    reader = ReplyReader()
    found = [reply for start, end in pairwise(edges) for reply in reader.feed(data[start:end])]
    assert [(reply.code, reply.value) for reply in found] == [(200, "报"), (520, None)]


@pytest.mark.parametrize(
    ("data", "results"),
    [
        (b"HANGUP\n200 result=1\n200 result=2\n", ["1", "2"]),
        (b"200 result=1\nHANGUP\n200 result=2\n", ["1", "2"]),
        (b"200 result=1\n200 result=2\nHANGUP\n", ["1", "2"]),
        (b"HANGUP\n", []),
    ],
)
def test_b40_hangup_answers_no_command(data: bytes, results: list[str]) -> None:
    """B40: hangup answers no command."""
    reader = ReplyReader()
    assert [reply.result for reply in reader.feed(data)] == results
    assert reader.hung_up


def test_b38_rubbish_among_the_replies_is_counted_and_skipped() -> None:
    """B38: rubbish among the replies is counted and skipped."""
    reader = ReplyReader()
    assert [reply.code for reply in reader.feed(b"agi_callerid: 1\n\n2000 x\n200 result=1\n")] == [200]
    assert (reader.ignored, reader.hung_up) == (3, False)


@pytest.mark.parametrize("data", [b"2" * 20_000, b"520-x\n" + b"usage\n" * 4_000])
def test_a_reply_without_end_is_refused(data: bytes) -> None:
    with pytest.raises(AgiFramingError, match="reply"):
        replies(data)


# -- commands -----------------------------------------------------------------


@given(VALUES)
def test_b43_every_value_arrives_literally(value: str) -> None:
    """B43: every value arrives literally."""
    assert words_of(f"SET VARIABLE CTID_X {quote(value)}") == ["SET", "VARIABLE", "CTID_X", value]


@pytest.mark.parametrize(
    "value",
    [
        "${SHELL(id)}",
        "${GLOBAL(x)}",
        "a,b|c&d;e",
        '"',
        "\\",
        '\\"',
        "",
        " lead and tail ",
        "a\tb",
        "[报修][VIP]",
    ],
)
def test_b43_nothing_in_a_value_means_anything(value: str) -> None:
    """B43: nothing in a value means anything."""
    line = set_variable("CTID_X", value).decode()
    assert line.endswith("\n")
    assert words_of(line[:-1])[3] == value


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "\nHANGUP", "\ud800"])
def test_b43_what_no_quoting_carries_is_refused(value: str) -> None:
    """B43: what no quoting carries is refused."""
    with pytest.raises(AgiFramingError):
        set_variable("CTID_X", value)


@pytest.mark.parametrize("name", ["", "SHELL(id)", "CTID X", "ctid", 'A"', "A\nHANGUP", "_X", "A" * 81])
def test_only_a_plain_name_is_set(name: str) -> None:
    with pytest.raises(AgiFramingError, match="name of a variable"):
        set_variable(name, "1")


@pytest.mark.parametrize("value", ["x" * 2000, "报" * 700, '"' * 1000])
def test_b42_a_command_that_old_asterisk_would_cut_in_two_is_refused(value: str) -> None:
    """B42: a command that old asterisk would cut in two is refused."""
    with pytest.raises(AgiFramingError, match="2000 bytes"):
        set_variable("CTID_X", value)


def test_the_sentinel_is_last_whatever_the_order() -> None:
    commands = set_variables({"CTID_OK": "0", "CTID_QUEUE": "repair"})
    assert commands == [b'SET VARIABLE CTID_QUEUE "repair"\n', b'SET VARIABLE CTID_OK "1"\n']


# -- anything at all ----------------------------------------------------------


@given(st.lists(st.binary(max_size=400), max_size=20))
def test_b33_b45_no_bytes_break_the_reader_of_requests(pieces: list[bytes]) -> None:
    """B33, B45: no bytes break the reader of requests."""
    reader = RequestReader()
    for piece in pieces:
        try:
            found = reader.feed(piece)
        except AgiFramingError:
            return
        if found:
            assert set(found.script) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
            return


@given(
    st.lists(
        st.binary(max_size=60)
        | st.sampled_from(
            [b"200 result=1\n", b"HANGUP\n", b"520-x\n", b"520 y\n", b"100 Trying\n", b"\n", b"\r\n"]
        ),
        max_size=30,
    )
)
def test_b39_b45_no_bytes_break_the_reader_of_replies(pieces: list[bytes]) -> None:
    """B39, B45: no bytes break the reader of replies."""
    whole, cut = ReplyReader(), ReplyReader()
    at_once = list(whole.feed(b"".join(pieces)))
    piecewise = [reply for piece in pieces for reply in cut.feed(piece)]
    assert at_once == piecewise
    assert (whole.hung_up, whole.ignored) == (cut.hung_up, cut.ignored)
    assert all(100 < reply.code < 1000 for reply in at_once)
