"""What no telephone should send, through Asterisk: it lives, and ctid knows of no call that is none.

After each test: Asterisk has no channel, ctid's floor is empty, every row in PostgreSQL has
its end, and every call is one that Asterisk's own book knows (``aftermath.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio

from lab.exchange import TRUNK_IP
from lab.floor import LINES
from lab.phone import Plan
from lab.rawsip import RawLine
from lab.sip import SipMessage
from lab.stage import Stage
from tests.integration.aftermath import settling

pytestmark = pytest.mark.timeout(60, func_only=True)

DID = LINES["survey"].did
"""Nobody sits there: a caller who gets through waits."""


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def settled(either: Stage) -> AsyncIterator[None]:
    async with settling(either):
        yield


@pytest_asyncio.fixture(loop_scope="session")
async def line(either: Stage) -> AsyncIterator[RawLine]:
    """A wire into the exchange, from the carrier's address."""
    async with RawLine(either.exchange.sip_address, ip=TRUNK_IP) as line:
        yield line


@dataclass(frozen=True)
class Torture:
    """One odd message.

    Attributes:
        spoil: What is done to an ordinary INVITE before it is sent.
        verdict: ``taken``: a correct if odd message, so a call comes of it; ``refused``: an
            answer of 400 or more, or none at all; ``either``: both are right.
    """

    name: str
    spoil: Callable[[bytes], bytes]
    verdict: str


def swap(old: bytes, new: bytes, times: int = 1) -> Callable[[bytes], bytes]:
    """Return what puts ``new`` in the place of ``old``; it must be there."""

    def spoil(packet: bytes) -> bytes:
        assert old in packet
        return packet.replace(old, new, times)

    return spoil


def header(line: bytes) -> Callable[[bytes], bytes]:
    """Return what adds a header."""
    return swap(b"Content-Type:", line + b"\r\nContent-Type:")


def length(value: bytes) -> Callable[[bytes], bytes]:
    """Return what claims another size of the body."""

    def spoil(packet: bytes) -> bytes:
        head, _, rest = packet.partition(b"Content-Length: ")
        return head + b"Content-Length: " + value + rest[rest.index(b"\r") :]

    return spoil


def without(name: bytes) -> Callable[[bytes], bytes]:
    """Return what takes a header out."""

    def spoil(packet: bytes) -> bytes:
        lines = packet.split(b"\r\n")
        left = [line for line in lines if not line.startswith(name + b":")]
        assert len(left) == len(lines) - 1
        return b"\r\n".join(left)

    return spoil


def hashed(data: bytes) -> bytes:
    """Bytes without any structure, the same in each run."""
    return bytes((i * 197 + 31) % 256 for i in range(len(data)))


TORTURES = [
    Torture("folded_lines", swap(b"Max-Forwards: 70", b"Max-Forwards:\r\n \t 70"), "taken"),
    Torture("blanks_everywhere", swap(b"Cseq: 1 INVITE", b"CSEQ  :   1 \t INVITE  "), "taken"),
    Torture("compact_and_mixed_names", swap(b"Content-Type:", b"c :"), "taken"),
    Torture("unknown_headers", header(b"X-Odd.Name_1: \xe7\x8e\x8b;;;=,,<<<"), "taken"),
    Torture("odd_names_of_headers", header(b"X-!#$%&*+'_`{}~^|: y"), "either"),
    Torture("escapes_in_parameters", header(b"P-Odd: <sip:%61%00@x;y=%0d%0aEvent:%20Hangup>"), "taken"),
    Torture(
        "a_via_of_forty_hops",
        header(b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\n" * 39 + b"X: y"),
        "either",
    ),
    Torture("long_values", header(b"X-Long: " + b"v" * 3000), "taken"),
    Torture("junk_after_the_body", lambda packet: packet + b"\r\nINVITE sip:5 SIP/2.0\r\n\r\n", "either"),
    Torture("escaped_extension", swap(DID.encode() + b"@", b"%34%30%30%34@"), "either"),
    Torture(
        "unknown_uri_parameters", swap(b" SIP/2.0\r\n", b";transport=udp;x=%41;lr SIP/2.0\r\n"), "either"
    ),
    Torture("huge_cseq", swap(b"Cseq: 1 ", b"Cseq: 36893488147419103232 "), "refused"),
    Torture("method_does_not_match", swap(b"Cseq: 1 INVITE", b"Cseq: 1 OPTIONS"), "refused"),
    Torture("version_7", swap(b" SIP/2.0\r\n", b" SIP/7.0\r\n"), "refused"),
    Torture("no_request_uri", swap(b"INVITE sip:", b"INVITE  "), "refused"),
    Torture("angle_brackets_in_the_request", swap(b"INVITE sip:", b"INVITE <sip:"), "refused"),
    Torture("unknown_scheme", swap(b"INVITE sip:", b"INVITE soap.beep://"), "refused"),
    Torture("no_call_id", without(b"Call-Id"), "refused"),
    Torture("no_from", without(b"From"), "refused"),
    Torture("no_to", without(b"To"), "refused"),
    Torture("no_via", without(b"Via"), "refused"),
    Torture("no_cseq", without(b"Cseq"), "refused"),
    Torture("no_contact", without(b"Contact"), "either"),
    Torture("two_call_ids", header(b"Call-ID: another"), "either"),
    Torture("two_froms", header(b"From: <sip:1001@127.0.0.1>;tag=x"), "either"),
    Torture("to_of_another_dialog", swap(b"\r\nCall-Id", b";tag=nobody\r\nCall-Id"), "refused"),
    Torture("negative_length", length(b"-999"), "refused"),
    Torture("length_too_large", length(b"9999"), "either"),
    Torture("length_too_small", length(b"10"), "either"),
    Torture("unknown_body", swap(b"application/sdp", b"application/unknown"), "refused"),
    Torture("no_session_in_the_body", swap(b"m=audio", b"m=nothing"), "refused"),
    Torture("port_70000", swap(b"m=audio 9 ", b"m=audio 70000 "), "either"),
    Torture("required_extension", header(b"Require: telepathy"), "refused"),
    Torture("hops_used_up", swap(b"Max-Forwards: 70", b"Max-Forwards: 0"), "either"),
    Torture("hops_below_zero", swap(b"Max-Forwards: 70", b"Max-Forwards: -1"), "either"),
    Torture("a_response_to_nothing", swap(b"INVITE sip:", b"SIP/2.0 200 sip:"), "refused"),
    Torture("response_999", lambda packet: b"SIP/2.0 4294967301 better than OK\r\n" + packet, "refused"),
    Torture("nul_in_the_middle", swap(b"Max-Forwards", b"Max-\x00Forwards"), "either"),
    Torture("line_feeds_only", lambda packet: packet.replace(b"\r\n", b"\n"), "either"),
    Torture("noise", hashed, "refused"),
    Torture("cut_in_the_middle", lambda packet: packet[: len(packet) // 2], "refused"),
    Torture("nothing_but_blank_lines", lambda packet: b"\r\n" * 40, "refused"),
    Torture("multipart_without_end", swap(b"application/sdp", b"multipart/mixed;boundary=x"), "either"),
]


async def conclude(line: RawLine, invite: SipMessage, *, within: float) -> int:
    """Wait for the answer to an INVITE, end what began, and return the status; 0: no answer."""
    answer = await line.final(invite.call_id, within=within)
    if answer is None:
        return 0
    await line.finish(invite, answer)
    return answer.status


@pytest.mark.parametrize("torture", TORTURES, ids=lambda it: it.name)
async def test_torture(either: Stage, line: RawLine, torture: Torture) -> None:
    """B46: after the ideas of RFC 4475, in messages of our own; Asterisk answers the next one."""
    invite = line.invite(DID)
    line.say(torture.spoil(invite.encode()))
    status = await conclude(line, invite, within=2.0 if torture.verdict == "taken" else 0.3)
    if torture.verdict == "taken":
        assert status == 200
    elif torture.verdict == "refused":
        assert status == 0 or status >= 400
    asked = line.options()
    line.say(asked.encode())
    assert await line.final(asked.call_id), "Asterisk does not answer any more"


@pytest.mark.parametrize(
    "method", ["ACK", "BYE", "CANCEL", "PRACK", "UPDATE", "REFER", "INFO", "NOTIFY", "x" * 900]
)
async def test_request_out_of_nowhere(either: Stage, line: RawLine, method: str) -> None:
    """B46: a request within a dialog that never was."""
    text = line.invite(DID).encode().replace(b"INVITE", method.encode())
    line.say(text.replace(b"\r\nCall-Id", b";tag=nobody\r\nCall-Id"))
    asked = line.options()
    line.say(asked.encode())
    assert await line.final(asked.call_id)


DIALLED = {
    "B52 two phones": "500&PJSIP/trunk/14161234567",
    "B52 with comma": "4008,1,Dial(PJSIP/trunk/1416)",
    "B52 local": "Local/1001@ctid-agents",
    "B52 function": "${SHELL(id)}",
    "B52 digits first": "4008&PJSIP/1001",
    "B51 extension s": "s",
    "B51 agent": "1001",
    "B51 feature": "*131",
    "B51 transfer target": "8006",
    "B51 path": "../etc/passwd",
    "B51 police": "110",
    "B51 a thousand digits": "4" * 1000,
    "B14 line feed": "4008%0aEvent:%20Hangup",
    "B14 headers": "4008%0d%0aUniqueid:%209.9",
    "B12 header": "4008%0d%0a%0d%0aEvent%3a%20QueueCallerJoin%0d%0aQueue%3a%20moving",
    "B32 NUL": "4008%00",
    "B32 full width": "%EF%BC%94008",
    "B78 premium": "0190123456",
}


@pytest.mark.parametrize("row", DIALLED)
async def test_dialled(either: Stage, line: RawLine, row: str) -> None:
    """B12, B14, B32, B51, B52: a number that is none of ours reaches no phone and nothing outside."""
    for agent in either.phones.values():
        agent.plan = Plan(refuse="486 Busy Here")
    rung = {number: len(agent.calls) for number, agent in either.phones.items()}
    left = len(line.heard)
    invite = line.invite(DIALLED[row])
    line.say(invite.encode())
    status = await conclude(line, invite, within=2.0)
    if status == 200:  # Asterisk's number ends at a NUL; one that nobody owns goes to the overflow
        assert DIALLED[row].removesuffix("%00").isdigit()
        assert len(DIALLED[row]) < 33
    else:
        assert status == 0 or status >= 400
    moved = {number for number, agent in either.phones.items() if len(agent.calls) > rung[number]}
    assert not moved - {*either.lines["overflow"].agents, *either.lines["moving"].agents}
    assert not [it for it in line.heard[left:] if it.is_request and it.method == "INVITE"]
