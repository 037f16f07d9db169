"""Logs: no forged lines (S27), no full telephone numbers (S15)."""

import json
import subprocess
import sys

import pytest

from ctid.log import escaped, masked, without_numbers

SCRIPT = """
import logging, structlog, sys
from ctid.log import configure
from ctid.settings import Log
configure(Log(format=sys.argv[1], level="info"))
say = structlog.get_logger().info
EVIL = "王\\r\\n2026-01-01 [info] forged 13812348000\\x1b[2J\\u202egnp\\u2028x\\x85y"
"""

FORMATS = ("json", "console")


def run(body: str, form: str) -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT + body, form], capture_output=True, check=False)
    assert done.stdout == b""
    return done.stderr.decode()


def test_numbers_are_masked_and_lines_can_not_be_forged() -> None:
    """S15, S27: and what is not a number, or was one line, stays what it was."""
    said = run(
        """
say("caller joined", caller="13812348000", call="ast-1795368691.121", name="a\\nb\\x1b[31m")
structlog.get_logger().debug("not shown")
structlog.get_logger().warning("from +8613812348000 to 5001")
""",
        "json",
    )
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning"]
    assert lines[0]["caller"] == "138****8000"
    assert lines[0]["call"] == "ast-1795368691.121"
    assert lines[0]["name"] == "a\nb\x1b[31m"
    assert "\x1b" not in said
    assert "13812348000" not in said
    assert "5001" in lines[1]["event"]


@pytest.mark.parametrize("form", FORMATS)
def test_s27_whatever_a_caller_is_called_stays_in_its_line(form: str) -> None:
    """S27: CR, LF, ANSI, U+202E, U+2028 and NEL come out as text, in values, keys, lists and events."""
    said = run("say(EVIL, name=EVIL, many=[EVIL, {'k': EVIL}], **{EVIL: 1})", form)
    assert said.count("\n") == 1
    assert not any(character in said for character in "\r\x1b\u202e\u2028\x85")
    assert "13812348000" not in said
    assert "138****8000" in said
    assert "王" in said
    if form == "json":
        assert json.loads(said)["name"].startswith("王\r\n2026-01-01"), "JSON loses nothing"
    else:
        assert said.count(r"r\n2026-01-01") + said.count(r"r\\n2026-01-01") == 5
        assert r"\x1b[2J\u202egnp\u2028x\x85y" in said


@pytest.mark.parametrize("form", FORMATS)
def test_s27_s15_tracebacks_too(form: str) -> None:
    """S27, S15: an exception carries a caller's text, and must neither show his number nor forge a record."""
    said = run(
        """
def deep(secret):
    raise ValueError(EVIL)
try:
    deep("canary-value")
except ValueError:
    structlog.get_logger().exception("failed")
""",
        form,
    )
    assert "13812348000" not in said
    assert "canary-value" not in said.replace('deep("canary-value")', ""), "values of variables are no log"
    assert not any(character in said for character in "\r\x1b\u202e\u2028\x85")
    assert "ValueError" in said
    assert "deep" in said
    if form == "json":
        assert said.count("\n") == 1
    else:
        assert all(line.startswith("    ") for line in said.splitlines()[1:])


@pytest.mark.parametrize("form", FORMATS)
def test_s15_libraries_and_crashes_go_the_same_way(form: str) -> None:
    """S15, S27: what aiohttp or asyncio log, and what ends the process."""
    said = run(
        """
logging.getLogger("aiohttp.server").error("bad request from %s", EVIL)
logging.getLogger("asyncio").warning("%d %d", 1)
logging.getLogger("asyncpg").info("not shown")
raise KeyError(EVIL)
""",
        form,
    )
    assert "13812348000" not in said
    assert "not shown" not in said
    assert not any(character in said for character in "\r\x1b\u202e\u2028\x85")
    if form == "json":
        lines = [json.loads(line) for line in said.splitlines()]
        assert [line.get("logger") for line in lines] == ["aiohttp.server", "asyncio", None]
        assert lines[2]["level"] == "critical"
        assert "KeyError" in lines[2]["exception"]


@pytest.mark.parametrize("form", FORMATS)
def test_s15_records_are_masked_inside(form: str) -> None:
    """S15: a fact logged whole, as text or as JSON, shows no number."""
    said = run(
        """
import msgspec
from datetime import datetime, UTC
from ctid.acd.facts import CallerJoined
fact = CallerJoined(at=datetime.now(UTC), call="1795368691.1", queue="q", joined_at=datetime.now(UTC),
                    leg="1795368691.1", caller_number="13812348000", caller_name="x", position=1)
raw = msgspec.json.encode(fact)
say("whole", fact=fact, text=repr(fact), json=raw.decode(), raw=raw)
""",
        form,
    )
    assert "13812348000" not in said
    assert said.count("138****8000") == 4
    assert said.count("1795368691.1") == 8, "without it nobody finds the call"


@pytest.mark.parametrize(("number", "shown"), [("13812348000", "138****8000"), ("110", "****"), ("", "****")])
def test_masking(number: str, shown: str) -> None:
    assert masked(number) == shown


@pytest.mark.parametrize(
    "text",
    [
        "13812348000.",
        "sip:13812348000@10.0.0.1",
        "tel:+8613812348000",
        "PJSIP/13812348000-0000001a",
        "Local/13812348000@ctid-00000012;1",
        "021-12348000",
        "a\\n13812348000",
        "number=13812348000,",
        "(13812348000)",
        "13812348000x".replace("x", " x"),
        "1381234800012348000",
    ],
)
def test_s15_numbers_are_found_wherever_they_stand(text: str) -> None:
    """S15: in addresses, channel names, at the end of a sentence."""
    assert "12348000" not in without_numbers(text)
    assert "****8000" in without_numbers(text)


@pytest.mark.parametrize(
    "text",
    [
        "ast-1795368691.121",
        "1795368691.12345678",
        "PJSIP/1001-00000012",
        "3f2504e0-4f89-11d3-9a0c-030512345678",
        "0123456789abcdef",
        "2026-11-25T02:00:00.123456+00:00",
        "0.30000000000000004",
        "port 5038, 65535",
    ],
)
def test_what_is_no_number_stays(text: str) -> None:
    assert without_numbers(text) == text


def test_plain_text_is_not_escaped() -> None:
    assert escaped('王小明 "quoted" \\ é') == '王小明 "quoted" \\ é'
