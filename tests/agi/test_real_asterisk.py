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
