"""Policy, floor and memory behind ``agi://.../route``."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from ctid.agi import routes
from ctid.agi.framing import AgiRequest
from ctid.agi.routes import LastAgent, Router
from ctid.errors import StoreUnavailable
from ctid.routing.decide import FloorView
from ctid.routing.policy import from_table
from tests.routing.fakes import SMALL, bent

NOW = datetime(2026, 11, 16, 2, 0, tzinfo=UTC)
FREE = FloorView(idle={"repair": frozenset({"1001"})})


def router(last_agent: LastAgent) -> Router:
    return Router(from_table(SMALL), lambda: FREE, last_agent, lambda: NOW)


def asked(dialled: str = "5002", caller: str = "13612345678") -> AgiRequest:
    return AgiRequest(script="route", query={"did": dialled, "caller": caller}, environment={})


class Memory:
    """Remembers one agent, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, datetime]] = []

    async def __call__(self, caller: str, since: datetime) -> str | None:
        self.asked.append((caller, since))
        return "1001"


async def test_the_agent_who_knows_the_caller_is_looked_up() -> None:
    memory = Memory()
    variables = await router(memory).route(asked())
    assert variables["CTID_AGENT_QUEUE"] == "agent-1001"
    assert memory.asked == [("+8613612345678", NOW - timedelta(days=7))]


@pytest.mark.parametrize(
    ("dialled", "caller"), [("5001", "13612345678"), ("9999", "13612345678"), ("5002", "")]
)
async def test_nobody_is_looked_up_in_vain(dialled: str, caller: str) -> None:
    memory = Memory()
    await router(memory).route(asked(dialled, caller))
    assert memory.asked == []


async def test_every_call_has_a_recording_of_its_own() -> None:
    calls = router(Memory())
    names = {(await calls.route(asked()))["CTID_RECORDING"] for _ in range(10)}
    names.add(calls.default(asked())["CTID_RECORDING"])
    assert len(names) == 11
    assert all(str(UUID(name)) == name for name in names)


async def test_f36_a_slow_memory_costs_the_last_agent_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """F36: a slow memory costs the last agent only."""
    monkeypatch.setattr(routes, "LOOK_UP", 0.02)

    async def slow(caller: str, since: datetime) -> str | None:
        await asyncio.sleep(30)
        return "1001"

    variables = await router(slow).route(asked())
    assert (variables["CTID_QUEUE"], variables["CTID_AGENT_QUEUE"]) == ("repair", "")


async def test_f36_no_memory_costs_the_last_agent_only() -> None:
    """F36: no memory costs the last agent only."""

    async def away(caller: str, since: datetime) -> str | None:
        raise StoreUnavailable("PostgreSQL is away")

    variables = await router(away).route(asked())
    assert (variables["CTID_QUEUE"], variables["CTID_AGENT_QUEUE"]) == ("repair", "")


async def test_the_default_knows_neither_clock_nor_floor() -> None:
    def nobody_asks() -> FloorView:
        raise AssertionError

    def no_clock() -> datetime:
        raise AssertionError

    calls = Router(from_table(SMALL), nobody_asks, Memory(), no_clock)
    variables = calls.default(asked())
    assert (variables["CTID_QUEUE"], variables["CTID_TIMEOUT"], variables["CTID_OK"]) == ("repair", "45", "1")


async def test_a_new_policy_holds_from_the_next_call_on() -> None:
    calls = router(Memory())
    calls.adopt(from_table(bent(lines__repair__queue="overflow")))
    assert (await calls.route(asked()))["CTID_QUEUE"] == "overflow"
