"""Logs: no forged lines (S27), no full telephone numbers (S15)."""

import json
import subprocess
import sys

import pytest

from ctid.log import masked

SCRIPT = """
import structlog
from ctid.log import configure
from ctid.settings import Log
configure(Log(format="json", level="info"))
say = structlog.get_logger().info
say("caller joined", caller="13812348000", call="ast-1795368691.121", name="a\\nb\\x1b[31m")
structlog.get_logger().debug("not shown")
structlog.get_logger().warning("from +8613812348000 to 5001")
"""


def test_numbers_are_masked_and_lines_can_not_be_forged() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning"]
    assert lines[0]["caller"] == "138****8000"
    assert lines[0]["call"] == "ast-1795368691.121"
    assert lines[0]["name"] == "a\nb\x1b[31m"
    assert b"\x1b" not in done.stderr
    assert "13812348000" not in done.stderr.decode()
    assert "5001" in lines[1]["event"]


@pytest.mark.parametrize(("number", "shown"), [("13812348000", "138****8000"), ("110", "****"), ("", "****")])
def test_masking(number: str, shown: str) -> None:
    assert masked(number) == shown
