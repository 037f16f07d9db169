"""Names and numbers that a caller chooses, from a raw INVITE through Asterisk to fact, pop and phone."""

from __future__ import annotations

import asyncio
import csv
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from lab import sip
from lab.dialog import PhoneCall
from lab.floor import LINES
from lab.phone import Phone, Plan
from lab.screen import Received
from lab.stage import Stage
from tests.integration.aftermath import assert_settled, settling

pytestmark = pytest.mark.timeout(60, func_only=True)

LINE = LINES["moving"]
AGENT = LINE.agents[0]
PLACE = b'"@@"'
"""Stands for the name until the packet is on its way."""
LONGEST = 79
"""Bytes of a name that Asterisk keeps."""


@dataclass(frozen=True)
class Name:
    """A display name.

    Attributes:
        wire: Between the quotes, as sent.
        shown: On the pop.
        given: In the call's row; ``None``: what Asterisk itself calls the caller, see its CEL.
        hidden: With what is not shown on a pop, because it has no width; in the visit's row.
        fits: On a phone, after the line's title; else that shows the number.
    """

    row: str
    wire: bytes
    shown: str
    given: str | None = None
    hidden: str = ""
    fits: bool = True


NAMES = [
    Name("B15", rb"O'Brien \"" + "王".encode() + rb"\" \\", "O'Brien 王"),
    Name("B16 GBK", "王小明".encode("gbk"), "��С��", "��С��"),
    Name("B16 Latin-1", b"M\xfcller", "M�ller", "M�ller"),
    Name("B16 no UTF-8", b"a\xff\xfe\xc0\x80b", "a����b", "a����b"),
    Name("B17 80 characters", b"n" * 80, "n" * LONGEST, "n" * LONGEST, fits=False),
    Name("B17 27 Chinese in 81 bytes", "王".encode() * 27, "王" * 26, fits=False),
    Name("B17 256 characters", b"n" * 256, "n" * LONGEST, "n" * LONGEST, fits=False),
    Name("B17 4000 characters", b"n" * 4000, "n" * LONGEST, "n" * LONGEST, fits=False),
    Name("B32 emoji", "🙂 王".encode(), "🙂 王", "🙂 王"),
    Name("B32 RTL override", "a\u202egpj.exe".encode(), "agpj.exe", hidden="a\u202egpj.exe"),
    Name("B32 zero width", "a\u200bb\ufeffc".encode(), "abc", hidden="a\u200bb\ufeffc"),
    Name("B32 combining", "e\u0301\u0301".encode(), "e\u0301\u0301"),
    Name("B32 percent", b"a%00%0d%0ab", "a%00%0d%0ab", "a%00%0d%0ab"),
    Name("B32 tab", b"a\tb", "ab", "ab"),
    Name("B38 reply", b"x 200 result=1", "x 200 result=1", "x 200 result=1"),
    Name("B43 function", b"${SHELL(id)}${GLOBAL(x)}", "${SHELL(id)}${GLOBAL(x)}"),
]


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def settled(either: Stage) -> AsyncIterator[None]:
    """Each test leaves nothing to the next."""
    async with settling(either):
        yield


async def reach(stage: Stage, caller: Phone, **how: Any) -> tuple[PhoneCall, PhoneCall, Received]:
    """Dial; return the call, the agent's side once it talks, and his pop."""
    agent, screen = stage.agent(AGENT), stage.screens[AGENT]
    agent.plan = Plan(answer_after=0.1)
    before, received = len(agent.calls), len(screen.received)
    call = await caller.send_invite(caller.uri(LINE.did), **how)
    async with asyncio.timeout(5):
        while len(agent.calls) == before:
            await asyncio.sleep(0.01)
    taken = await agent.calls[-1].answered()
    return call, taken, await screen.expect(lambda it: it.type == "pop.offered", after=received)


async def newest(stage: Stage, number: str) -> tuple[str, str, str]:
    """Return call and names of the newest visit of a number: of the call, and of the visit."""
    row = await stage.pool.fetchrow(
        "select call, c.caller_name as given, v.caller_name as shown from queue_visit v join call c"
        " using (system, call) where v.caller_number = $1 order by joined_at desc limit 1",
        number,
    )
    assert row is not None
    return row["call"], row["given"], row["shown"]


def named_by_asterisk(stage: Stage, call: str) -> str:
    """Return the caller's name in the first line about a call of Asterisk's CEL."""
    with stage.exchange.cel.open(encoding="utf-8", errors="replace", newline="") as file:
        return next(row[13] for row in csv.reader(file) if len(row) > 13 and row[9] == call)


@pytest.mark.parametrize("name", NAMES, ids=lambda it: it.row)
async def test_name(either: Stage, name: Name) -> None:
    """B15, B16, B17, B32, B38, B43: whatever a caller calls himself is text, and unescaped once."""
    stage = either
    caller = await stage.caller()
    caller.mangle = lambda packet: packet.replace(PLACE, b'"' + name.wire + b'"')
    call, taken, pop = await reach(stage, caller, name="@@")
    # 16 keeps the half of a letter that it cut in two, and that is unreadable.
    assert str(pop.pop["caller_name"]).removesuffix("�") == name.shown.removesuffix("�")
    shown = sip.display_name_of(taken.invite.first("from"))
    assert shown == "[咨询]" + ((name.hidden or name.shown) if name.fits else caller.user)
    await call.hang_up()
    await assert_settled(stage)
    key, given, visited = await newest(stage, caller.user)
    assert given == (named_by_asterisk(stage, key) if name.given is None else name.given)
    assert visited.removesuffix("�") == (name.hidden or name.shown).removesuffix("�")


@pytest.mark.parametrize("control", [b"\x00", b"\x1b[31m", b"\x07", b"\x7f"])
async def test_control_character_in_a_name(either: Stage, control: bytes) -> None:
    """B11, B32: never in a fact or on a screen; the caller is served whatever he is called."""
    caller = await either.caller()
    caller.mangle = lambda packet: packet.replace(PLACE, b'"a' + control + b'b"')
    call, _, pop = await reach(either, caller, name="@@")
    assert pop.pop["caller_number"] == caller.user
    assert str(pop.pop["caller_name"]).isprintable()
    await call.hang_up()


@pytest.mark.parametrize("wire", [b'"a\\\r\nb"', b'"a\r\n\r\nb"', b'"open', b'"a" "b"'])
async def test_name_that_is_no_sip(either: Stage, wire: bytes) -> None:
    """B46: refused or dropped by Asterisk, or served, but never half a call."""
    caller = await either.caller()
    caller.mangle = lambda packet: packet.replace(PLACE, wire)
    call = await caller.dial(LINES["survey"].did, name="@@")
    await asyncio.sleep(0.5)
    call.finish("gave up")
    caller.mangle = lambda packet: b""


NUMBERS = {
    "B31 international": ("+8613800000000", "+8613800000000"),
    "B31 anonymous": ("anonymous", ""),
    "B31 restricted": ("Restricted", ""),
    "B31 unknown": ("%3Cunknown%3E", ""),
    "B51 agent": ("1001", "1001"),
    "B51 the agent who is called": (AGENT, AGENT),
    "B51 police": ("110", "110"),
    "B51 ambulance": ("120", "120"),
    "B51 extension s": ("s", ""),
    "B51 path": ("..%2Fetc%2Fpasswd", ""),
    "B51 64 digits": ("1" * 64, "1" * 32),
    "B32 NUL": ("1380000%00001", None),
    "B32 emoji": ("%F0%9F%99%82138", "138"),
    "B43 function": ("%24%7BSHELL(id)%7D1", "1"),
    "B58 bar": ("1%7C2", "12"),
    "S05 second question": ("1%26did=5003", "15003"),
}


@pytest.mark.parametrize("row", NUMBERS)
async def test_number(either: Stage, row: str) -> None:
    """B31, B32, B43, B51, B58, S05: digits are left of it; nobody is taken for somebody else."""
    user, wanted = NUMBERS[row]
    caller = await either.caller()
    call, taken, pop = await reach(either, caller, from_user=user)
    number = str(pop.pop["caller_number"])
    assert number == wanted if wanted is not None else number.isdigit()
    assert pop.pop["agent"] == AGENT
    _, floor = await either.screens[AGENT].ask("GET", "/api/v1/floor")
    busy = [it["agent"] for it in floor["agents"] if it["state"] in {"ringing", "talking"}]
    assert busy == [AGENT], "the caller was taken for the agent whose number he shows"
    if wanted:
        assert sip.user_of(taken.invite.first("from")) == wanted
    await call.hang_up()


@pytest.mark.parametrize(
    ("wire", "wanted"),
    [
        (b"<tel:+8613700000007>", {"+8613700000007", ""}),
        (b"<sip:127.0.0.2>", {""}),
        (b'"Anonymous" <sip:anonymous@anonymous.invalid>', {""}),
        (b"sip:13700000008@127.0.0.2", {"13700000008"}),
    ],
)
async def test_from_header(either: Stage, wire: bytes, wanted: set[str]) -> None:
    """B31: other forms of a From header, a tel: number and an empty user among them."""
    caller = await either.caller()
    caller.mangle = lambda packet: packet.replace(f"<sip:{caller.user}@{caller.ip}>;".encode(), wire + b";")
    if wire.startswith(b"<tel:") and either.version == 16:  # does not take a call from one
        call = await caller.dial(LINE.did)
        await call.ended(5)
        assert call.why.startswith("4")
        return
    call, _, pop = await reach(either, caller)
    assert pop.pop["caller_number"] in wanted
    await call.hang_up()


@pytest.mark.parametrize(
    "identity",
    [
        "<sip:110@127.0.0.2>",
        '"x\\"y" <sip:1%0d%0aUniqueid:%209.9@127.0.0.2>',
        "<tel:+8613700000009>",
        "rubbish",
    ],
)
async def test_asserted_identity(either: Stage, identity: str) -> None:
    """B12, B31, B51: P-Asserted-Identity overrides From; it is no more believed than that."""
    caller = await either.caller()
    call, _, pop = await reach(either, caller, headers=[("p-asserted-identity", identity)])
    assert pop.pop["agent"] == AGENT
    assert re.fullmatch(r"\+?\d{0,32}", str(pop.pop["caller_number"]))
    await call.hang_up()
