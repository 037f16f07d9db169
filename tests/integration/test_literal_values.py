"""What policy.toml says reaches the dialplan letter for letter and is never evaluated (B43)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from lab import sip
from lab.floor import LINES
from lab.phone import IGNORE
from lab.postgres import PrivatePostgres
from lab.spy import Spy
from lab.stage import Stage

pytestmark = pytest.mark.timeout(60, func_only=True)

TITLES = {
    "repair": "${SHELL(id)}${GLOBAL(x)}",
    "consultation": "a,b|c&d;e\"f\\g'h",
    "inspection": "))}],n,Hangup() ${EXTEN",
    "leaks": "报修 ünï 🙂 $[1+1]",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory, postgres: PrivatePostgres) -> AsyncIterator[Stage]:
    lines = {name: replace(line, title=TITLES.get(name, ""), wrap_up=0) for name, line in LINES.items()}
    async with Stage(tmp_path_factory.mktemp("literal"), lines=lines, postgres=postgres) as stage:
        yield stage


@pytest.mark.parametrize("queue", TITLES)
async def test_title_arrives_as_it_was_written(stage: Stage, queue: str) -> None:
    """B43: titles of the policy, on the channel and on the phone; AGIEXECFULL is never set."""
    agent = stage.agent(LINES[queue].agents[0])
    agent.plan = IGNORE
    caller = await stage.caller()
    async with Spy(stage.exchange) as spy:
        call = await caller.dial(LINES[queue].did, name="王小明")
        rung = await (await stage.offered(caller)).rung()
        channels = stage.exchange.cli("core show channels concise").splitlines()
        trunk = next(row.split("!")[0] for row in channels if row.startswith("PJSIP/trunk-"))
        assert await spy.variable(trunk, "CTID_NAME_PREFIX") == f"[{TITLES[queue]}]"
        assert await spy.variable(trunk, "CTID_OK") == "1"
        assert await spy.variable(trunk, "AGIEXECFULL") == ""
    shown = sip.display_name_of(rung.invite.first("from"))
    assert "uid=" not in shown
    assert not set('"\\|') & set(shown), "would let a name break out of a SIP header or a log line"
    await call.hang_up()
    await rung.ended(5)


async def test_caller_name_is_never_evaluated(stage: Stage) -> None:
    """B38, B43: a name that looks like a function, a header and an AGI reply at once."""
    agent = stage.agent("1014")
    agent.plan = IGNORE
    caller = await stage.caller()
    call = await caller.dial(LINES["leaks"].did, name='${SHELL(id)}\\" <sip:1@x>,200 result=1')
    rung = await (await stage.offered(caller)).rung()
    assert "uid=" not in rung.invite.first("from")
    assert sip.user_of(rung.invite.first("from")) == caller.user
    await call.hang_up()
    await rung.ended(5)
