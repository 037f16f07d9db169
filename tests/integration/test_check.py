"""``ctid check`` tells everything that is wrong at once, and starts nothing."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.daemon import Daemon, toml
from lab.exchange import Exchange
from lab.floor import policy_table
from lab.postgres import PrivatePostgres
from lab.stage import Stage

pytestmark = pytest.mark.timeout(60, func_only=True)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    """An Asterisk with the queues of config/asterisk only, and no agents."""
    with Exchange(22, folder=tmp_path_factory.mktemp("check")) as running:
        yield running


def daemon_with(
    folder: Path, exchange: Exchange, dsn: str, policy: dict[str, object], **more: dict[str, object]
) -> Daemon:
    return Daemon(folder, asterisk=exchange.settings_table(), dsn=dsn, policy=toml(policy), more=more)


async def outcome(daemon: Daemon, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; the screens and phones of the session live on meanwhile."""
    return await asyncio.to_thread(daemon.command, command)


async def test_a_healthy_site_has_no_problems(centre: Stage, tmp_path: Path) -> None:
    daemon = Daemon(
        tmp_path,
        asterisk=centre.exchange.settings_table(),
        dsn=centre.dsn,
        policy=toml(policy_table(centre.lines)),
    )
    done = await outcome(daemon, "check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 problems" in done.stdout


async def test_everything_wrong_is_told_at_once(
    tmp_path: Path, exchange: Exchange, postgres: PrivatePostgres
) -> None:
    """Queues that Asterisk lacks, a port in use, a wrong secret, an empty database: one run."""
    wrong_secret = tmp_path / "wrong"
    wrong_secret.write_text("not the secret")
    table = exchange.settings_table()
    table["account"] = {"username": "ctid", "secret_file": str(wrong_secret)}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        daemon = Daemon(
            tmp_path / "site",
            asterisk=table,
            dsn=postgres.createdb("check_empty"),
            policy=toml(policy_table()),
            more={"metrics": {"port": port}},
        )
        done = await outcome(daemon, "check")
    told = done.stdout + done.stderr
    assert done.returncode == 2, told
    assert f"metrics: 127.0.0.1:{port}" in told
    assert "another port" in told
    assert "migrate" in told
    assert "secret" in told or "Authentication" in told


async def test_books_that_ctid_can_not_use(tmp_path: Path, exchange: Exchange, centre: Stage) -> None:
    """No queue_log where the settings say (F39), and a CEL file of another layout: file, key and remedy."""
    cel = tmp_path / "ctid.csv"
    cel.write_text('"ANSWER","1795571889.361462","13800000001"\n')
    table = {**exchange.settings_table(), "queue_log": str(tmp_path / "queue_log"), "cel": str(cel)}
    daemon = Daemon(tmp_path, asterisk=table, dsn=centre.dsn, policy=toml(policy_table(centre.lines)))
    done = await outcome(daemon, "check")
    told = " ".join(done.stdout.split())
    assert done.returncode == 2, told
    assert "asterisk.queue_log:" in told
    assert "logger.conf" in told
    assert "asterisk.cel:" in told
    assert "3 fields" in told


async def test_queue_that_asterisk_lacks(tmp_path: Path, exchange: Exchange, centre: Stage) -> None:
    policy = policy_table()
    daemon = daemon_with(tmp_path, exchange, centre.dsn, policy)
    done = await outcome(daemon, "check")
    told = " ".join(done.stdout.split())
    assert done.returncode == 2, told
    for queue in ("faults", "billing", "agent-1001"):
        assert f"queues.{queue}: Asterisk has no such queue" in told
    assert "queues.repair: Asterisk" not in told


async def test_misspelt_and_mistyped_settings(tmp_path: Path, exchange: Exchange, centre: Stage) -> None:
    daemon = daemon_with(
        tmp_path,
        exchange,
        centre.dsn,
        policy_table(),
        web={"prot": 1, "max_clients": "many"},
        fastagi={"decision_timeout": "300"},
        pops={"history": -1},
    )
    for command in ("check", "run"):
        done = await outcome(daemon, command)
        told = done.stdout + done.stderr
        assert done.returncode == 2, told
        assert str(daemon.settings) in told
        for key in ("web.prot", "web.max_clients", "fastagi.decision_timeout", "pops.history"):
            assert f"{key}:" in told, told
        assert "unknown key" in told


async def test_policy_that_contradicts_itself(tmp_path: Path, exchange: Exchange, centre: Stage) -> None:
    """Overlapping hours, a queue nobody describes, two lines with one number."""
    policy = policy_table()
    policy["hours"] = {"office": {"workdays": ["08:00-12:00", "11:00-17:00"]}}
    policy["lines"]["repair"] |= {"hours": "office", "queue": "repiar"}
    policy["lines"]["survey"] |= {"numbers": ["4001"]}
    daemon = daemon_with(tmp_path, exchange, centre.dsn, policy)
    for command in ("check", "run"):
        done = await outcome(daemon, command)
        told = done.stdout + done.stderr
        assert done.returncode == 2, told
        assert "repiar" in told
        assert "4001" in told
        assert "overlap" in told
        assert "policy.toml" in told
