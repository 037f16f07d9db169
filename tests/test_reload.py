"""SIGHUP: a good policy is gone by, a bad one changes nothing (F43)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ctid.acd.centre import Centre
from ctid.acd.facts import CallerLeft
from ctid.acd.rules import QueueRule
from ctid.reload import Reload, needs_restart
from ctid.routing import policy as policies
from ctid.routing.policy import Policy
from ctid.settings import Settings
from lab.daemon import Daemon, free_port, toml
from lab.floor import AGENTS, LINES, policy_table
from lab.postgres import PrivatePostgres
from tests.fakes_floor import SALES, SUPPORT, Watched


def loaded(folder: Path) -> Settings:
    secret = folder / "secret"
    secret.write_text("x")
    return Settings.model_validate(
        {
            "policy": folder / "policy.toml",
            "asterisk": {"account": {"username": "ctid", "secret_file": secret}},
            "database": {"dsn": "postgresql:///ctid"},
        }
    )


def write(folder: Path, **more: Any) -> Policy:
    """Write a policy, and return it as it is read."""
    table = policy_table(LINES, AGENTS)
    for name, values in more.items():
        table[name] = {**table.get(name, {}), **values}
    file = folder / "policy.toml"
    file.write_text(toml(table), encoding="utf-8")
    return policies.load(file)


class Site:
    """Who goes by the policy, and what was observed."""

    def __init__(self, folder: Path) -> None:
        self.policy = write(folder)
        self.observed: list[bool] = []
        self.reload = Reload(
            None, loaded(folder), self.policy, adopt=[self._adopt], observe=self.observed.append
        )

    def _adopt(self, policy: Policy) -> list[str]:
        self.policy = policy
        return ["something"]


async def test_f43_a_good_policy_is_gone_by(tmp_path: Path) -> None:
    """F43: read whole, adopted, and what waits for a restart is said."""
    site = Site(tmp_path)
    write(tmp_path, agents={"4711": {"name": "Lin", "interfaces": ["PJSIP/4711"]}})
    with capture_logs() as logs:
        assert await site.reload.read()
    assert site.policy.agent("4711")
    assert site.observed == [True]
    assert logs[0]["event"] == "policy reloaded"
    assert logs[0]["changed"] == ["agents"]
    assert [entry["what"] for entry in logs[1:]] == [
        "something",
        "policy: agents: 4711: count as other on /metrics",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[site\n", "line 1"),
        ('[site]\ndefault_queue = "nowhere"\n', "policy.toml: lines: is missing"),
        ("\xff", "policy.toml"),
    ],
)
async def test_f43_a_bad_policy_changes_nothing(tmp_path: Path, text: str, said: str) -> None:
    """F43: the old one stays; file and line, or key, are in the log; the next good one is taken."""
    site = Site(tmp_path)
    old = site.policy
    (tmp_path / "policy.toml").write_text(text, encoding="latin-1")
    with capture_logs() as logs:
        assert not await site.reload.read()
    assert site.policy is old
    assert site.observed == [False]
    assert any(said in entry["problem"] and "policy.toml" in entry["problem"] for entry in logs)
    write(tmp_path)
    assert await site.reload.read()


async def test_f43_a_policy_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    """F43: the editor's half-way house, a file that is not there for a moment."""
    site = Site(tmp_path)
    old = site.policy
    (tmp_path / "policy.toml").unlink()
    assert not await site.reload.read()
    assert site.policy is old


async def test_what_can_not_be_adopted_is_a_refusal(tmp_path: Path) -> None:
    """F43: the disk is full when the routes for a day without ctid are written."""

    def full(policy: Policy) -> None:
        raise OSError(28, "No space left on device")

    policy, observed, adopted = write(tmp_path), list[bool](), list[Policy]()
    reload = Reload(
        None, loaded(tmp_path), policy, keep=full, adopt=[adopted.append], observe=observed.append
    )
    assert not await reload.read()
    assert observed == [False]
    assert adopted == []


def test_what_waits_for_a_restart(tmp_path: Path) -> None:
    old = write(tmp_path)
    assert needs_restart(old, old) == []
    new = write(tmp_path, site={"area_code": "10"}, queues={"brandnew": {}})
    assert [what.split(":")[1].strip() for what in needs_restart(old, new)] == ["site", "queues"]


async def test_f43_ctid_toml_waits_for_a_restart(tmp_path: Path) -> None:
    """F43: changed secrets and ports are named, not taken."""
    policy, before = write(tmp_path), loaded(tmp_path)
    config = tmp_path / "ctid.toml"
    config.write_text(
        f'policy = "policy.toml"\n[asterisk.account]\nusername = "other"\nsecret_file = "{tmp_path}/secret"\n'
        '[database]\ndsn = "postgresql:///ctid"\n'
    )
    with capture_logs() as logs:
        assert await Reload(config, before, policy, adopt=[]).read()
    assert [entry["what"] for entry in logs[1:]] == [f"{config}: asterisk"]


def test_f43_the_floor_keeps_its_calls_and_goes_by_other_rules() -> None:
    """F43: a caller waits through the change; his service level is the new one."""
    watched = Watched()
    board = watched.board
    board.login(SALES, "sales")
    caller = board.call()
    board.join(caller, "sales")
    watched.snapshot()
    assert watched.centre.waiting_counts() == {"sales": 1}
    late = watched.centre.adopt(
        {"sales": QueueRule(service_level_within=timedelta(seconds=1)), "fresh": QueueRule()},
        {"PJSIP/9": "9", SALES: "somebody else"},
    )
    assert late == [SALES], "a phone in a queue does not change hands"
    assert watched.centre.waiting_counts() == {"sales": 1}
    board.wait(5)
    board.answer(board.ring(caller, SALES))
    watched.see()
    (left,) = (fact for fact in watched.facts if isinstance(fact, CallerLeft))
    assert left.in_time is False, "in time by the 20 s of before, not by the 1 s of now"
    late = watched.centre.adopt({"sales": QueueRule()}, {"PJSIP/9": "9", SUPPORT: "7"})
    assert late == []


def test_a_phone_nobody_uses_changes_hands() -> None:
    centre = Centre({}, {"PJSIP/9": "9"})
    assert centre.adopt({}, {"PJSIP/9": "10"}) == []
    assert centre.adopt({}, {"PJSIP/9": "9"}) == []


@pytest.fixture
async def daemon(tmp_path: Path, postgres: PrivatePostgres, template: str) -> AsyncIterator[Daemon]:
    name = f"reload_{os.getpid()}_{free_port()}"
    (tmp_path / "secret").write_text("x")
    daemon = Daemon(
        tmp_path / "ctid",
        asterisk={
            "port": free_port(),
            "account": {"username": "ctid", "secret_file": str(tmp_path / "secret")},
            "queue_log": "",
            "cel": "",
        },
        dsn=postgres.createdb(name, template=template),
        policy=toml(policy_table(LINES, AGENTS)),
    )
    await daemon.start(ready=False)
    async with asyncio.timeout(20):
        while "ctid runs" not in daemon.log_tail():
            await asyncio.sleep(0.05)
    yield daemon
    await daemon.stop()
    postgres.dropdb(name)


async def until(daemon: Daemon, value: float) -> None:
    async with asyncio.timeout(10):
        while await daemon.metric("ctid_config_last_reload_successful") != value:
            await asyncio.sleep(0.05)


async def routed(daemon: Daemon, dialled: str) -> str:
    """Ask FastAGI as the dialplan would and return what it sets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.fastagi_port)
    writer.write(f"agi_network_script: route?did={dialled}&caller=&call=1.1\n\n".encode())
    said = await asyncio.wait_for(reader.read(4096), 5)
    writer.close()
    return said.decode()


async def test_f43_the_real_daemon(daemon: Daemon) -> None:
    """F43: a syntax error, then another line; calls are decided by the good policy all the time."""
    file = daemon.folder / "policy.toml"
    good = file.read_text(encoding="utf-8")
    line = LINES["repair"]
    assert f'"{line.queue}"' in await routed(daemon, line.did)
    await until(daemon, 1)

    file.write_text(good + "\n[lines.broken\n", encoding="utf-8")
    daemon.signal(signal.SIGHUP)
    await until(daemon, 0)
    assert "policy.toml: is not TOML" in daemon.log_tail()
    assert f"at line {good.count(chr(10)) + 2}" in daemon.log_tail()
    assert f'"{line.queue}"' in await routed(daemon, line.did)

    moved = {**LINES, "repair": replace(line, did="5999")}
    file.write_text(toml(policy_table(moved, AGENTS)), encoding="utf-8")
    daemon.signal(signal.SIGHUP)
    await until(daemon, 1)
    assert f'"{line.queue}"' in await routed(daemon, "5999")
    assert "policy reloaded" in daemon.log_tail()
