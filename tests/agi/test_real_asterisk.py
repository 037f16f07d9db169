"""What only Asterisk itself can tell: it takes a whole answer at once, and takes it literally (B43)."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from ctid.agi.framing import AgiRequest
from ctid.agi.server import FastAgiServer, Result
from ctid.settings import FastAgi
from lab.exchange import Exchange

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

VALUES = {
    "CTID_V0": "${SHELL(id)}",
    "CTID_V1": "${GLOBAL(x)}",
    "CTID_V2": "a,b|c&d;e",
    "CTID_V3": '"',
    "CTID_V4": "\\",
    "CTID_V5": '\\"\t)(][${',
    "CTID_V6": "",
    "CTID_V7": " lead and tail ",
    "CTID_V8": "[报修][VIP]🙂",
    "CTID_V9": "x" * 1900,
} | {f"CTID_N{number}": str(number) for number in range(10)}
TOLD = [name for name in VALUES if name != "CTID_V9"]

DIALPLAN = """
[literal]
exten => s,1,Set(CTID_OK=)
 same => n,AGI(agi://127.0.0.1:{port}/route?did=set)
 same => n,AGI(agi://127.0.0.1:{port}/route?did=told&OK=${{CTID_OK}}&LONG=${{LEN(${{CTID_V9}})}}{told})
 same => n,Hangup()
exten => w,1,Wait(5)
"""


@pytest.mark.parametrize("version", [22, 16])
async def test_b43_a_whole_answer_is_taken_at_once_and_literally(version: int, tmp_path: Path) -> None:
    """B43: a whole answer is taken at once and literally."""
    told: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
    results: list[Result] = []

    async def route(request: AgiRequest) -> Mapping[str, str]:
        if request.dialled == "set":
            return VALUES
        told.set_result(request.query)
        return {}

    server = FastAgiServer(
        FastAgi(port=0),
        route,
        lambda request: {},
        observe=lambda script, result, seconds: results.append(result),
    )
    await server.start()
    ask = "".join(f"&{name}=${{URIENCODE(${{{name}}})}}" for name in TOLD)
    exchange = Exchange(version, folder=tmp_path, dialplan=DIALPLAN.format(port=server.port, told=ask))
    try:
        await asyncio.to_thread(exchange.start)
        command = "channel originate Local/s@literal extension w@literal"
        await asyncio.to_thread(exchange.cli, command)
        async with asyncio.timeout(20):
            query = await told
        assert {name: query[name] for name in TOLD} == {name: VALUES[name] for name in TOLD}
        assert (query["OK"], query["LONG"]) == ("1", "1900")
    finally:
        await asyncio.to_thread(exchange.stop)
        await server.close()
    assert results == ["decided", "decided"]


UNSENDABLE = """
[unsendable]
exten => s,1,AGI(agi://127.0.0.1:{port}/route?did=set)
 same => n,AGI(agi://127.0.0.1:{port}/route?did=told&V=${{URIENCODE(${{CTID_V}})}}&OK=${{CTID_OK}})
 same => n,Set(long=${{STRREPLACE(PAD,x,${{PAD}})}})
 same => n,AGI(agi://127.0.0.1:{port}/route?did=long&v=${{long}})
 same => n,AGI(agi://127.0.0.1:{port}/route?did=end&FULL=${{AGIEXECFULL}})
 same => n,Hangup()
exten => w,1,Wait(5)
"""


@pytest.mark.parametrize("version", [22, 16])
@pytest.mark.parametrize("value", ["x" * 9000, "a\nb", "a\nSET VARIABLE CTID_OK 1"])
async def test_a_value_that_can_not_be_sent(version: int, value: str, tmp_path: Path) -> None:
    """B37, B42, B43: beyond Asterisk's buffer, or with a line break: the default, whole and in time.

    A question of many thousand bytes costs itself only; the next one is answered.
    """
    heard: dict[str, Mapping[str, str]] = {}
    ended = asyncio.Event()

    async def route(request: AgiRequest) -> Mapping[str, str]:
        heard[request.dialled] = request.query
        if request.dialled == "end":
            ended.set()
        return {"CTID_V": value} if request.dialled == "set" else {}

    server = FastAgiServer(
        FastAgi(port=0), route, lambda request: {"CTID_V": "by default"}, observe=lambda *seen: None
    )
    await server.start()
    pad = {"PAD": "x" * 95}
    dialplan = UNSENDABLE.format(port=server.port)
    exchange = Exchange(version, folder=tmp_path, dialplan=dialplan, variables=pad)
    try:
        await asyncio.to_thread(exchange.start)
        await asyncio.to_thread(exchange.cli, "channel originate Local/s@unsendable extension w@unsendable")
        async with asyncio.timeout(10):
            await ended.wait()
    finally:
        await asyncio.to_thread(exchange.stop)
        await server.close()
    assert (heard["told"]["V"], heard["told"]["OK"]) == ("by default", "1")
    assert heard["end"]["FULL"] == "", "with AGIEXECFULL, EXEC would evaluate its arguments"
