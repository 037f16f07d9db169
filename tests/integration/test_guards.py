"""A running daemon in need: few descriptors, a new policy, frozen; and what it never tells.

F26, F42, F43, S14, S15, S20.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import resource
import signal
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from lab.daemon import toml
from lab.floor import LINES, policy_table
from lab.phone import Plan
from lab.postgres import PrivatePostgres
from lab.stage import Stage

pytestmark = pytest.mark.timeout(120, func_only=True)

AGENT = "1011"
FLOOR = {"overflow": replace(LINES["overflow"], agents=(AGENT,), wrap_up=0)}
DID = FLOOR["overflow"].did
FEW = 64
PASSWORD = "canary-p4ssw0rd-of-postgresql"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory, postgres: PrivatePostgres) -> AsyncIterator[Stage]:
    """A daemon that logs everything, with a secret in its DSN."""
    folder: Path = tmp_path_factory.mktemp("guards")
    more = {"log": {"level": "debug"}}
    async with Stage(folder, lines=FLOOR, agents=(AGENT,), postgres=postgres, settings=more) as stage:
        stage.agent(AGENT).plan = Plan(answer_after=0.2)
        await stage.daemon.stop()
        mark = "&" if "?" in stage.dsn else "?"
        (stage.daemon.folder / "dsn").write_text(f"{stage.dsn}{mark}password={PASSWORD}")
        await stage.daemon.start()
        await stage.open_screens()
        yield stage


async def knocked(port: int) -> tuple[asyncio.StreamWriter, bool]:
    """Open a connection and ask for a page; return it and whether there was an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    try:
        return writer, b"200" in await asyncio.wait_for(reader.read(64), 5)
    except (ConnectionError, TimeoutError):
        return writer, False


async def talk(stage: Stage) -> str:
    """Let one caller in, be answered and hang up; return his number."""
    caller = await stage.caller()
    call = await caller.dial(DID)
    taken = await (await stage.offered(caller)).answered()
    await asyncio.sleep(0.3)
    await call.hang_up()
    await taken.ended(5)
    return caller.user


async def written(stage: Stage, *callers: str) -> None:
    """Wait until their visits are in PostgreSQL, answered."""
    async with asyncio.timeout(20):
        while await stage.pool.fetchval(
            "select count(*) from queue_visit where outcome = 'answered' and left_at is not null "
            "and caller_number = any($1)",
            list(callers),
        ) != len(callers):
            await asyncio.sleep(0.1)


async def test_f42_with_64_descriptors_web_clients_are_refused_first(stage: Stage) -> None:
    """F42: ``prlimit --nofile=64``: pages are refused, while calls are routed, popped and written down."""
    decided = await stage.daemon.metric("ctid_agi_requests_total", result="decided")
    soft, hard = resource.prlimit(stage.daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(stage.daemon.pid, resource.RLIMIT_NOFILE, (FEW, hard))
    knocks = [await knocked(stage.daemon.web_port) for _ in range(100)]
    try:
        answered = sum(is_answered for _, is_answered in knocks)
        assert 1 <= answered < 64, "some get in, then no more"
        in_use = len(list(Path(f"/proc/{stage.daemon.pid}/fd").iterdir()))
        assert in_use < FEW - 20, f"{in_use} of {FEW} are taken, most of them by pages"
        callers = await asyncio.gather(*(talk(stage) for _ in range(2)))
        await stage.screens[AGENT].pop("pop.offered", callers[0])
        await written(stage, *callers)
    finally:
        resource.prlimit(stage.daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))
        for writer, _ in knocks:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
    await stage.daemon.until_ready()
    assert await stage.daemon.metric("ctid_agi_requests_total", result="decided") == decided + 2
    assert await stage.daemon.metric("ctid_ami_disconnects_total") == 0
    assert "Too many open files" not in stage.daemon.log.read_text()


async def test_f43_a_new_policy_drops_no_call(stage: Stage) -> None:
    """F43: SIGHUP in the middle of a talk: first a broken file, then another name and another goal."""
    caller = await stage.caller()
    call = await caller.dial(DID)
    taken = await (await stage.offered(caller)).answered()
    file = stage.daemon.folder / "policy.toml"
    good = file.read_text(encoding="utf-8")
    for text, successful in (("[", 0), (good, 1)):
        file.write_text(text, encoding="utf-8")
        stage.daemon.signal(signal.SIGHUP)
        async with asyncio.timeout(10):
            while await stage.daemon.metric("ctid_config_last_reload_successful") != successful:
                await asyncio.sleep(0.05)
    table = json.loads(json.dumps(policy_table(FLOOR, (AGENT,)), default=str))
    table["queues"]["overflow"]["service_level"] = {"within": "33s"}
    file.write_text(toml(table), encoding="utf-8")
    stage.daemon.signal(signal.SIGHUP)
    async with asyncio.timeout(10):
        while await stage.daemon.metric("ctid_queue_service_level_threshold_seconds", queue="overflow") != 33:
            await asyncio.sleep(0.05)
    assert taken.clock.ended is None, "the call was dropped"
    await call.hang_up()
    await taken.ended(5)
    await written(stage, caller.user)
    assert "policy.toml: is not TOML" in stage.daemon.log.read_text()


async def test_f26_just_thawed_is_not_ready_yet(stage: Stage) -> None:
    """F26: after SIGSTOP /readyz says so, /healthz is alive, and soon all is well again."""
    stage.daemon.signal(signal.SIGSTOP)
    await asyncio.sleep(2)
    stage.daemon.signal(signal.SIGCONT)
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{stage.daemon.url}/readyz") as answer:
            assert answer.status == 503
            assert "stood still" in (await answer.json())["checks"]["loop"]
        async with http.get(f"{stage.daemon.url}/healthz") as answer:
            assert answer.status == 200
    await stage.daemon.until_ready()
    assert 1.5 < await stage.daemon.metric("ctid_loop_stall_max_seconds") < 10


async def test_f36_the_hangup_of_an_absolute_timeout_ends_no_call(stage: Stage) -> None:
    """F36: ctid frozen, the dialplan gives up on it; what ctid then reads says nothing of the call."""
    stage.daemon.signal(signal.SIGSTOP)
    caller = await stage.caller()
    call = await caller.dial(DID)
    taken = await (await stage.offered(caller, within=15)).answered()
    stage.daemon.signal(signal.SIGCONT)
    await stage.daemon.until_ready()
    async with asyncio.timeout(10):
        while not await stage.pool.fetchval(
            "select count(*) from call where caller_number = $1", caller.user
        ):
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    ended = "select ended_at from call where caller_number = $1"
    assert await stage.pool.fetchval(ended, caller.user) is None
    assert taken.clock.ended is None
    await call.hang_up()
    await taken.ended(5)
    await written(stage, caller.user)


async def answers(stage: Stage) -> str:
    """Return what ctid says over HTTP, errors included, to the admin and to anybody."""
    token = {"Authorization": f"Bearer {stage.tokens['admin']}"}
    paths = (
        "/healthz",
        "/readyz",
        "/api/openapi.json",
        "/api/messages.json",
        "/api/v1/floor",
        "/api/v1/session",
    )
    odd = (
        "/%00",
        "/api/v1/agents/%0d%0a/wrap-up/end",
        "/pop?leg=x",
        "/../ctid.toml",
        "/dsn",
        "/debug",
        "/config",
    )
    said = ""
    async with aiohttp.ClientSession() as http:
        for headers in (token, {}, {"Authorization": "Bearer x"}, {"Cookie": "ctid_session=%01x"}):
            for path in (*paths, *odd):
                for method in ("GET", "POST"):
                    with contextlib.suppress(aiohttp.ClientError):
                        async with http.request(method, stage.daemon.url + path, headers=headers) as answer:
                            said += f"{answer.headers}{await answer.text()}"
    return said


async def everything_stored(stage: Stage) -> str:
    """Return every row of every table as text."""
    tables = await stage.pool.fetch("select tablename from pg_tables where schemaname = 'public'")
    assert len(tables) > 5
    said = ""
    for (table,) in tables:
        rows = await stage.pool.fetch(f'select t::text from "{table}" t')
        said += "".join(row[0] for row in rows)
    return said


async def test_s14_secrets_are_told_to_nobody(stage: Stage) -> None:
    """S14: AMI secrets, DSN password, tokens and the key of the pops: 0 hits wherever one may look."""
    await written(stage, await talk(stage))
    account = stage.exchange.settings_table()["account"]
    assert isinstance(account, dict)
    key = (stage.daemon.folder / "state" / "pop.key").read_bytes()
    secrets = {
        "AMI": Path(account["secret_file"]).read_text().strip(),
        "dialler": stage.exchange.dialler_secret_file.read_text().strip(),
        "PostgreSQL": PASSWORD,
        "token": stage.tokens["admin"],
        "token of an agent": stage.tokens[AGENT],
        "key": key.hex(),
        "key, too": base64.b64encode(key).decode(),
    }
    assert all(len(secret) > 8 for secret in secrets.values())
    proc = Path(f"/proc/{stage.daemon.pid}")
    places = {
        "answers": await answers(stage),
        "metrics": await stage.daemon.metrics(),
        "log": stage.daemon.log.read_text(errors="replace"),
        "argv": (proc / "cmdline").read_text(errors="replace"),
        "environment": (proc / "environ").read_text(errors="replace"),
        "database": await everything_stored(stage),
        "ctid.toml": stage.daemon.settings.read_text(),
    }
    for file in (stage.daemon.folder / "state").rglob("*"):
        if file.is_file() and file.name != "pop.key":
            places[file.name] = file.read_text(errors="replace")
    hits = [
        (who, where) for who, secret in secrets.items() for where, said in places.items() if secret in said
    ]
    assert hits == []
    assert len(places["log"].splitlines()) > 5
    assert "Traceback" not in places["answers"], "S20: nobody is shown the inside"
    assert stat.S_IMODE((stage.daemon.folder / "state" / "pop.key").stat().st_mode) == 0o600


async def test_s14_a_password_in_a_bad_dsn_is_not_repeated(stage: Stage) -> None:
    """S14: neither by the check nor by a daemon that can not use it."""
    file = stage.daemon.folder / "dsn"
    good = file.read_text()
    try:
        for dsn in (
            f"postgresql://ctid:{PASSWORD}/x@localhost/ctid",
            f"postgresql://ctid:{PASSWORD}@localhost:port/ctid",
            f"{PASSWORD}",
            f"postgresql://ctid:{PASSWORD}@127.0.0.1:1/ctid",
            f"postgresql://127.0.0.1:1/ctid?password={PASSWORD}&sslmode=nonsense",
        ):
            file.write_text(dsn)
            for command in ("check", "migrate"):
                done = await asyncio.to_thread(stage.daemon.command, command)
                assert PASSWORD not in done.stdout + done.stderr, (dsn, command)
                assert done.returncode != 0
    finally:
        file.write_text(good)


async def test_s15_no_caller_is_in_the_log_or_on_the_metrics(stage: Stage) -> None:
    """S15: at level debug, after all of the above; the calls themselves can be found by their Uniqueid."""
    callers = [await talk(stage) for _ in range(3)]
    await written(stage, *callers)
    said = stage.daemon.log.read_text(errors="replace") + await stage.daemon.metrics()
    everybody = [row[0] for row in await stage.pool.fetch("select distinct caller_number from queue_visit")]
    assert set(callers) <= set(everybody)
    assert [number for number in everybody if number in said] == []
    for line in stage.daemon.log.read_text().splitlines():
        json.loads(line)
