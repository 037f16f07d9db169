"""SIPp on both sides of the exchange, for more calls than simulated phones in Python can play."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import debian
from lab.errors import LabError

LOAD_IP = "127.0.0.4"
"""Where SIPp plays all load agents."""

_HEAD = '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE scenario SYSTEM "sipp.dtd">\n'
_SDP = """
v=0
o=- 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 0
a=rtpmap:0 PCMU/8000
"""
_REPLY = """[last_Via:]
[last_From:]
[last_To:]{tag}
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port]>
"""


def _reply(status: str, body: str = "", tag: str = ";tag=[pid]s[call_number]") -> str:
    kind = "Content-Type: application/sdp\n" if body else ""
    head = _REPLY.format(tag=tag)
    return f"<send><![CDATA[\nSIP/2.0 {status}\n{head}{kind}Content-Length: [len]\n{body}\n]]></send>\n"


CALLERS = f"""{_HEAD}<scenario name="callers">
<send retrans="500"><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "Load" <sip:137[call_number]@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:137[call_number]@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]
{_SDP}
]]></send>
<recv response="100" optional="true"/>
<recv response="180" optional="true"/>
<recv response="183" optional="true"/>
<recv response="200" rrs="true"/>
<send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "Load" <sip:137[call_number]@[local_ip]:[local_port]>;tag=[pid]c[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
<pause milliseconds="TALK"/>
<send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "Load" <sip:137[call_number]@[local_ip]:[local_port]>;tag=[pid]c[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="200"/>
</scenario>
"""

AGENTS = f"""{_HEAD}<scenario name="agents">
<recv request="MESSAGE" optional="true" next="1"/>
<recv request="INVITE"/>
{_reply("180 Ringing")}<pause milliseconds="RING"/>
{_reply("200 OK", _SDP)}<recv request="ACK"/>
<recv request="BYE"/>
{_reply("200 OK", tag="")}<pause milliseconds="2000" next="2"/>
<label id="1"/>
{_reply("200 OK")}<label id="2"/>
</scenario>
"""


@dataclass(frozen=True, slots=True)
class Load:
    """How much.

    Attributes:
        rate: Calls per second.
        seconds: For so long.
        ring: Seconds each agent rings.
        talk: Seconds from the caller's answer by the exchange to his BYE; ringing included.
    """

    rate: float
    seconds: float
    ring: float = 0.5
    talk: float = 1.7

    @property
    def calls(self) -> int:
        return round(self.rate * self.seconds)


async def play(load: Load, *, exchange: tuple[str, int], did: str, agents_port: int, folder: Path) -> int:
    """Play both sides; return how many calls failed.

    Raises:
        LabError: SIPp itself failed; with what it said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ring, talk = f"{load.ring * 1000:.0f}", f"{load.talk * 1000:.0f}"
    (folder / "agents.xml").write_text(AGENTS.replace("RING", ring))
    (folder / "callers.xml").write_text(CALLERS.replace("TALK", talk))
    address = f"{exchange[0]}:{exchange[1]}"
    with (folder / "agents.log").open("wb") as said, (folder / "callers.log").open("wb") as told:
        common = [str(debian.program("tools", "sipp")), address, "-nostdin", "-aa", "-trace_err"]
        side = ["-sf", "agents.xml", "-i", LOAD_IP, "-p", str(agents_port), "-mi", LOAD_IP]
        agents = subprocess.Popen(
            [*common, *side], cwd=folder, stdout=said, stderr=said, stdin=subprocess.DEVNULL
        )
        try:
            await asyncio.sleep(0.5)
            pace = [
                "-r",
                f"{load.rate:g}",
                "-m",
                str(load.calls),
                "-l",
                "3000",
                "-timeout",
                f"{load.seconds + 30:.0f}s",
            ]
            side = ["-sf", "callers.xml", "-i", "127.0.0.2", "-mi", "127.0.0.2", "-s", did]
            callers = subprocess.Popen(
                [*common, *side, *pace, "-trace_stat"],
                cwd=folder,
                stdout=told,
                stderr=told,
                stdin=subprocess.DEVNULL,
            )
            code = await asyncio.to_thread(callers.wait, load.seconds + 60)
        finally:
            agents.terminate()
            await asyncio.to_thread(agents.wait)
    if code not in {0, 1}:
        text = (folder / "callers.log").read_text(errors="replace")[-1500:]
        raise LabError(f"SIPp ended with code {code}: {text}", "read the lines above.")
    return _failed(folder)


def _failed(folder: Path) -> int:
    lines = max(folder.glob("callers_*.csv"), key=lambda file: file.stat().st_mtime).read_text().splitlines()
    last = dict(zip(lines[0].split(";"), lines[-1].split(";"), strict=False))
    return int(last["FailedCall(C)"])
