"""The names that pass between ctid and the dialplan are written down once, and all of them are used."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from ctid.routing import variables
from ctid.routing.decide import CallRequest, Decision, decide_open
from ctid.routing.policy import load
from ctid.routing.writing import last_good_routes

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "agi" / "route_fallback.py"
SOURCES = [*sorted((ROOT / "dialplan").glob("*.conf")), SCRIPT]
_NAME = re.compile(r"\bCTID_[A-Z0-9_]*[A-Z0-9]|(?<=__)CTID_[A-Z0-9_]*[A-Z0-9]")
_SET = re.compile(r"(?:Set\(|LOCAL\()_{0,2}(CTID_[A-Z_]+)=")


def names_in(file: Path) -> set[str]:
    """Every CTID_ name outside comments."""
    mark = ";" if file.suffix == ".conf" else "#"
    lines = (line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith(mark))
    return {name for line in lines for name in _NAME.findall(line)}


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.name)
def test_every_name_that_is_used_is_written_down(file: Path) -> None:
    assert names_in(file) <= variables.ALL.keys()


def test_every_name_that_is_written_down_is_used() -> None:
    configured = (ROOT / "config" / "asterisk").glob("*.conf")
    used = set().union(*(names_in(file) for file in [*SOURCES, *configured]))
    assert variables.ALL.keys() <= used


def test_the_daemon_sets_all_of_its_own_and_the_sentinel_last() -> None:
    assert tuple(Decision().variables()) == tuple(variables.FROM_ROUTE)
    assert list(variables.FROM_ROUTE)[-1] == "CTID_OK"


def test_whoever_decides_without_the_daemon_sets_the_same() -> None:
    fallback = (ROOT / "dialplan" / "ctid-fallback.conf").read_text(encoding="utf-8")
    default = fallback[fallback.index("[ctid-default]") :]
    assert set(_SET.findall(default)) == variables.FROM_ROUTE.keys() - {"CTID_OK"}
    script = names_in(SCRIPT)
    assert script >= variables.FROM_ROUTE.keys()


def test_the_script_routes_as_the_daemon_would() -> None:
    spec = importlib.util.spec_from_file_location("route_fallback", SCRIPT)
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    policy = load(ROOT / "config" / "policy.toml")
    routes = json.loads(last_good_routes(policy))
    beyond_it = {"CTID_PRIORITY", "CTID_RULE", "CTID_RECORDING"}
    for dialled in ("5001", "01088885002", "+861088885003", "5004", "861088885005", "9999"):
        call = CallRequest(dialled=dialled, recording="some-uuid")
        daemon = decide_open(policy, call).variables()
        assert {
            name for name, value in script.choose(routes, dialled).items() if daemon[name] != value
        } <= beyond_it
