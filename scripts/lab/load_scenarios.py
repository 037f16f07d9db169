"""What SIPp plays for ``lab.load``: one scenario of callers, five of agents. All of them hum.

Every caller writes ``CALL-ID NUMBER WHAT SECONDS MICROSECONDS`` lines: INVITE (sent), UP
(answered by the exchange), BYE (he hangs up), BYED (the other side did), REFUSED CODE, OVER.
"""

from __future__ import annotations

from typing import Final

_HEAD: Final = '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE scenario SYSTEM "sipp.dtd">\n'
_SDP: Final = """
v=0
o=- 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [rtpstream_audio_port] RTP/AVP 0
a=rtpmap:0 PCMU/8000
"""
_REPLY: Final = """[last_Via:]
[last_From:]
[last_To:]{tag}
[last_Call-ID:]
{cseq}
Contact: <sip:[local_ip]:[local_port]>
"""


def _reply(
    status: str, body: str = "", tag: str = ";tag=[pid]s[call_number]", cseq: str = "[last_CSeq:]"
) -> str:
    kind = "Content-Type: application/sdp\n" if body else ""
    head = _REPLY.format(tag=tag, cseq=cseq)
    return f"<send><![CDATA[\nSIP/2.0 {status}\n{head}{kind}Content-Length: [len]\n{body}\n]]></send>\n"


def _note(what: str) -> str:
    message = f"[call_id] PREFIX[call_number] {what} [$seconds] [$micros]"
    return (
        f'<nop><action><gettimeofday assign_to="seconds,micros"/><log message="{message}"/></action></nop>\n'
    )


def _own(method: str, cseq: int, body: str = "", url: str = "[next_url]", to: str = "[last_To:]") -> str:
    kind = "Content-Type: application/sdp\n" if body else ""
    retrans = "" if method == "ACK" else ' retrans="500"'
    return f"""<send{retrans}><![CDATA[
{method} {url} SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: "Load" <sip:PREFIX[call_number]@[local_ip]:[local_port]>;tag=[pid]c[call_number]
{to}
Call-ID: [call_id]
CSeq: {cseq} {"INVITE" if method == "INVITE" else method}
Contact: <sip:PREFIX[call_number]@[local_ip]:[local_port]>
Max-Forwards: 70
{kind}Content-Length: [len]
{body}
]]></send>
"""


_SPEAK: Final = '<nop><action><exec rtp_stream="hum.ulaw,-1,0"/></action></nop>\n'
_REFUSALS: Final = ("404", "480", "484", "486", "500", "503", "603")
_REMOTE: Final = "sip:[service]@[remote_ip]:[remote_port]"

CALLER: Final = (
    f'{_HEAD}<scenario name="callers">\n'
    + _note("INVITE")
    + _own("INVITE", 1, _SDP, _REMOTE, f"To: <{_REMOTE}>")
    + '<recv response="100" optional="true"/>\n<recv response="180" optional="true"/>\n'
    + '<recv response="183" optional="true"/>\n'
    + "".join(
        f'<recv response="{code}" optional="true" next="{number}"/>\n'
        for number, code in enumerate(_REFUSALS, 10)
    )
    + '<recv response="200" rrs="true"/>\n'
    + _own("ACK", 1)
    + _note("UP")
    + _SPEAK
    + '<recv request="BYE" timeout="PATIENCE" ontimeout="1"/>\n'
    + _note("BYED")
    + _reply("200 OK", tag="")
    + '<nop next="2"/>\n<label id="1"/>\n'
    + _note("BYE")
    + _own("BYE", 2, to="[last_To:]")
    + '<recv response="481" optional="true" next="3"/>\n<recv response="200"/>\n<label id="3"/>\n'
    + _note("OVER")
    + '<nop next="2"/>\n'
    + "".join(
        f'<label id="{number}"/>\n'
        + _own("ACK", 1, url=_REMOTE)
        + _note(f"REFUSED-{code}")
        + '<nop next="2"/>\n'
        for number, code in enumerate(_REFUSALS, 10)
    )
    + '<label id="2"/>\n<Reference variables="seconds,micros"/>\n</scenario>\n'
)

_HEADERS: Final = "".join(
    f'<ereg regexp="{regexp}" search_in="hdr" header="{header}:" assign_to="{name}"/>'
    for name, header, regexp in (
        ("cseq", "CSeq", "[0-9]+"),
        ("caller", "From", ".*"),
        ("called", "To", ".*"),
        ("contact", "Contact", "sip:[^>;]*"),
    )
)
_TAG: Final = ";tag=[pid]s[call_number]"


def _agent(*, rings: float | None, talks: float = 120.0, refuses: bool = False) -> str:
    """Write the scenario of an agent.

    Args:
        rings: Seconds until he answers; ``None``: he never does.
        talks: Seconds until he hangs up, if nobody did before.
        refuses: He presses "busy".
    """
    start = f'{_HEAD}<scenario name="agents">\n<recv request="INVITE"><action>{_HEADERS}</action></recv>\n'
    end = '<label id="9"/>\n<Reference variables="cseq,caller,called,contact"/>\n</scenario>\n'
    if refuses:
        return f'{start}{_reply("486 Busy Here")}<recv request="ACK"/>\n{end}'
    wait = 60.0 if rings is None else rings
    cancelled = (
        _reply("200 OK", tag=_TAG)
        + _reply("487 Request Terminated", cseq="CSeq: [$cseq] INVITE")
        + '<recv request="ACK" next="9"/>\n'
    )
    bye = f"""<send retrans="500"><![CDATA[
BYE [$contact] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From:[$called]{_TAG}
To:[$caller]
[last_Call-ID:]
CSeq: 7 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="481" optional="true" next="9"/>
<recv response="200"/>
"""
    return (
        f'{start}{_reply("180 Ringing")}<recv request="CANCEL" timeout="{wait * 1000:.0f}" ontimeout="1"/>\n'
        f'{cancelled}<label id="1"/>\n{_reply("200 OK", _SDP, cseq="CSeq: [$cseq] INVITE")}'
        # Answered at the very moment when the caller went: CANCEL first, then ACK and BYE.
        f'<recv request="CANCEL" optional="true" next="3"/>\n<recv request="ACK"/>\n<label id="4"/>\n{_SPEAK}'
        f'<recv request="BYE" timeout="{talks * 1000:.0f}" ontimeout="2"/>\n{_reply("200 OK", tag="")}'
        f'<nop next="9"/>\n<label id="3"/>\n{_reply("200 OK", tag=_TAG)}<recv request="ACK" next="4"/>\n'
        f'<label id="2"/>\n{bye}{end}'
    )


AGENTS: Final = {
    "quick": _agent(rings=0.2),
    "slow": _agent(rings=0.9),
    "brief": _agent(rings=0.3, talks=1.2),
    "deaf": _agent(rings=None),
    "busy": _agent(rings=0.0, refuses=True),
}
