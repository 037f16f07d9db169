"""The configuration of a private Asterisk: the real fragments, and around them what a site would write."""

from __future__ import annotations

import math
import secrets
import struct
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.certificate import Certificate
from lab.places import ROOT

FRAGMENTS = ROOT / "config" / "asterisk"
DIALPLAN = ROOT / "dialplan"

TRUNK_IP = "127.0.0.2"
"""Whoever calls from here is the public network."""

#: What ctid's fragments need, without which Asterisk would not be the one of a real site. Modules
#: that the version does not have are left out. Named one by one since this boots in half the time.
MODULES = """
    res_speech res_timing_timerfd res_musiconhold res_agi res_limit res_convert res_clioriginate
    res_mutestream res_manager_devicestate
    pbx_config
    app_stack app_queue app_dial app_mixmonitor app_chanspy app_playback app_playtones app_originate
    app_verbose app_read app_userevent app_senddtmf app_echo app_milliwatt app_exec app_while
    app_bridgewait app_channelredirect app_directed_pickup app_waitforcond
    func_callerid func_cdr func_channel func_cut func_db func_devstate func_dialplan func_env func_global
    func_groupcount func_hangupcause func_logic func_math func_md5 func_pjsip_aor func_pjsip_contact
    func_pjsip_endpoint func_rand func_strings func_sysinfo func_timeout func_uri func_version func_volume
    bridge_builtin_features bridge_builtin_interval_features bridge_holding bridge_native_rtp bridge_simple
    bridge_softmix
    codec_alaw codec_ulaw codec_a_mu codec_gsm codec_g722 codec_resample codec_opus_open_source
    format_gsm format_pcm format_sln format_wav
    res_sorcery_config res_sorcery_memory res_sorcery_astdb res_pjproject
    res_pjsip res_pjsip_acl res_pjsip_authenticator_digest res_pjsip_caller_id
    res_pjsip_dialog_info_body_generator res_pjsip_diversion res_pjsip_dlg_options res_pjsip_dtmf_info
    res_pjsip_empty_info res_pjsip_endpoint_identifier_ip res_pjsip_endpoint_identifier_user
    res_pjsip_exten_state res_pjsip_header_funcs res_pjsip_logger res_pjsip_messaging res_pjsip_mwi
    res_pjsip_mwi_body_generator res_pjsip_nat res_pjsip_notify res_pjsip_outbound_authenticator_digest
    res_pjsip_outbound_publish res_pjsip_outbound_registration res_pjsip_path res_pjsip_pidf_body_generator
    res_pjsip_pubsub res_pjsip_refer res_pjsip_registrar res_pjsip_rfc3326 res_pjsip_sdp_rtp
    res_pjsip_session res_pjsip_sips_contact res_pjsip_transport_websocket res_pjsip_xpidf_body_generator
    chan_pjsip chan_bridge_media res_rtp_asterisk res_srtp res_crypto res_format_attr_opus
    res_http_websocket res_websocket_client
    cdr_csv res_cdrel_custom cel_custom app_celgenuserevent
"""

#: Read by a module although we have nothing to say to it; an empty file saves an error in the log.
EMPTY_FILES = """
    acl.conf cli_aliases.conf codecs.conf extconfig.conf geolocation.conf pjproject.conf pjsip_notify.conf
    pjsip_wizard.conf sorcery.conf udptl.conf websocket_client.conf ccss.conf
"""


@dataclass(frozen=True)
class LabQueue:
    """A queue that only a test needs; see also :attr:`Layout.members`.

    Attributes:
        members: Agents' numbers, or whole interfaces such as ``Local/1001@ctid-agents``.
        strategy: Of app_queue.
        options: Lines of queues.conf that differ from the template ``ctid-queue``.
    """

    name: str
    members: Sequence[str] = ()
    strategy: str = "rrmemory"
    options: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """Everything that differs from one private Asterisk to the next.

    Attributes:
        folder: Of this Asterisk; becomes its ``etc``, ``log``, ``spool`` and so on.
        agents: Number -> (address, port) where the phone listens; no registration.
        registering: Agents whose SIP phone registers with a password.
        webrtc: Agents whose browser registers over WebSocket with a password.
        members: Queue of config/asterisk/queues.conf -> numbers of its agents.
        agent_queues: Number -> queues that this agent logs in to and out of.
        variables: Globals of the dialplan (CTID_...).
        certificate: For the HTTPS port; without one there is none.
        dialplan: More of extensions.conf, for one test.
    """

    folder: Path
    system_name: str
    data: Path
    modules: Path
    sip_port: int
    ami_port: int
    http_port: int
    https_port: int
    rtp_ports: tuple[int, int]
    agents: Mapping[str, tuple[str, int]]
    registering: Sequence[str]
    webrtc: Sequence[str]
    passwords: Mapping[str, str]
    supervisors: Sequence[str]
    members: Mapping[str, Sequence[str]]
    agent_queues: Mapping[str, str]
    queues: Sequence[LabQueue]
    trunk_contact: tuple[str, int]
    variables: Mapping[str, str]
    secrets: Mapping[str, str]
    certificate: Certificate | None
    dialplan: str = ""
    all_events: bool = False

    @property
    def etc(self) -> Path:
        return self.folder / "etc"


def write(layout: Layout) -> None:
    """Write the whole configuration; secrets into files that only we can read."""
    for name in ("etc", "log/cdr-csv", "log/cel-custom", "spool", "run", "var", "keys/keys", "recordings"):
        (layout.folder / name).mkdir(parents=True, exist_ok=True)
    _lay_out_data(layout)
    for name, text in _files(layout).items():
        path = layout.etc / name
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text(text, encoding="utf-8")
    for user, secret in layout.secrets.items():
        path = layout.folder / f"{user}.secret"
        path.touch(mode=0o600)
        path.write_text(f"{secret}\n", encoding="utf-8")


def _lay_out_data(layout: Layout) -> None:
    """Give Asterisk its own data folder with the same sounds and documentation, and music to wait to."""
    data = layout.folder / "data"
    data.mkdir(exist_ok=True)
    for entry in layout.data.iterdir():
        if entry.name not in {"sounds", "moh"} and not (data / entry.name).exists():
            (data / entry.name).symlink_to(entry)
    sounds = data / "sounds"
    sounds.mkdir(exist_ok=True)
    for entry in (layout.data / "sounds").iterdir():
        if not (sounds / entry.name).exists():
            (sounds / entry.name).symlink_to(entry)
    english = next((entry for entry in sorted(sounds.iterdir()) if entry.name.startswith("en_")), None)
    if english and not (sounds / "en").exists():
        (sounds / "en").symlink_to(english)
    (data / "moh").mkdir(exist_ok=True)
    _write_tone(data / "moh" / "tone.wav", hertz=300, seconds=10)


def _write_tone(path: Path, *, hertz: int, seconds: int) -> None:
    samples = [int(6000 * math.sin(2 * math.pi * hertz * i / 8000)) for i in range(8000)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack("<8000h", *samples) * seconds)


def _fragment(name: str) -> str:
    return f'#include "{FRAGMENTS / name}"\n'


def _files(layout: Layout) -> dict[str, str]:
    whole = (
        "cel.conf",
        "cel_custom.conf",
        "cdr.conf",
        "features.conf",
        "indications.conf",
        "queuerules.conf",
    )
    files = dict.fromkeys(EMPTY_FILES.split(), "") | {name: _fragment(name) for name in whole}
    low, high = layout.rtp_ports
    return files | {
        "asterisk.conf": _asterisk(layout),
        "modules.conf": _modules(layout),
        "logger.conf": "[general]\nappend_hostname = no\n[logfiles]\n" + _fragment("logger.conf"),
        "manager.conf": _manager(layout),
        "ctid-secrets.conf": "".join(
            f"[{user}](+)\nsecret = {secret}\n" for user, secret in layout.secrets.items()
        ),
        "http.conf": _http(layout),
        "rtp.conf": f"[general]\nrtpstart = {low}\nrtpend = {high}\n" + _fragment("rtp.conf"),
        "musiconhold.conf": "[general]\n" + _fragment("musiconhold.conf"),
        "queues.conf": _queues(layout),
        "pjsip.conf": _pjsip(layout),
        "extensions.conf": _extensions(layout),
    }


def _asterisk(layout: Layout) -> str:
    folder = layout.folder
    return f"""[directories]
astetcdir => {layout.etc}
astmoddir => {layout.modules}
astvarlibdir => {folder}/var
astdbdir => {folder}/var
astkeydir => {folder}/keys
astcachedir => {folder}/var
astdatadir => {folder}/data
astagidir => {folder}/var
astspooldir => {folder}/spool
astrundir => {folder}/run
astlogdir => {folder}/log
[options]
systemname = {layout.system_name}
nocolor = yes
dontwarn = yes
{_fragment("asterisk.conf")}"""


def _modules(layout: Layout) -> str:
    there = [name for name in MODULES.split() if (layout.modules / f"{name}.so").exists()]
    return "[modules]\nautoload = no\n" + "".join(f"load = {name}.so\n" for name in there)


def _manager(layout: Layout) -> str:
    text = f"[general]\nenabled = yes\nbindaddr = 127.0.0.1\nport = {layout.ami_port}\n"
    if layout.all_events:  # app. reads the last one; what other sites' programs may need
        return text + _fragment("manager.conf") + "[general](+)\ndisabledevents =\n"
    return text + _fragment("manager.conf")


def _http(layout: Layout) -> str:
    plain = f"[general]\nenabled = yes\nbindaddr = 127.0.0.1\nbindport = {layout.http_port}\n"
    if layout.certificate is None:
        return plain
    return (
        f"{plain}tlsbindaddr = 127.0.0.1:{layout.https_port}\ntlscertfile = {layout.certificate.file}\n"
        f"tlsprivatekey = {layout.certificate.key}\n{_fragment('http.conf')}"
    )


def _interface(member: str) -> tuple[str, str]:
    """Return a member's interface and the interface that knows whether he is busy."""
    return (member, member) if "/" in member else (f"PJSIP/{member}", f"PJSIP/{member}")


def _members(numbers: Sequence[str]) -> str:
    lines = []
    for member in numbers:
        interface, state = _interface(member)
        lines.append(f"member => {interface},0,{member.rpartition('/')[2]},{state}\n")
    return "".join(lines)


def _queues(layout: Layout) -> str:
    text = "[general]\n" + _fragment("queues.conf")
    for name, numbers in layout.members.items():
        text += f"[{name}](+)\n{_members(numbers)}"
    for number in (*layout.agents, *layout.registering, *layout.webrtc):
        always = [] if number in layout.agent_queues else [number]
        text += f"[agent-{number}](ctid-personal)\n{_members(always)}"
    for queue in layout.queues:
        options = "".join(f"{key} = {value}\n" for key, value in queue.options.items())
        text += f"[{queue.name}](ctid-queue)\nstrategy = {queue.strategy}\n{options}{_members(queue.members)}"
    return text


def _pjsip(layout: Layout) -> str:
    ip, port = layout.trunk_contact
    text = f"""[global]
type = global
endpoint_identifier_order = ip,username
[lab](!)
transport = udp
media_address = 127.0.0.1
bind_rtp_to_media_address = yes
timers = no
[udp]
type = transport
protocol = udp
bind = 127.0.0.1:{layout.sip_port}
[ws]
type = transport
protocol = ws
bind = 127.0.0.1
[wss]
type = transport
protocol = wss
bind = 127.0.0.1
{_fragment("pjsip.conf")}
[trunk](ctid-trunk,lab)
aors = trunk
[trunk]
type = aor
contact = sip:{ip}:{port}
[trunk]
type = identify
endpoint = trunk
match = {TRUNK_IP}/32
"""
    for number, (ip, port) in layout.agents.items():
        text += _endpoint(layout, number, "ctid-agent,lab")
        text += f"[{number}]\ntype = aor\ncontact = sip:{number}@{ip}:{port}\n"
    for number in (*layout.registering, *layout.webrtc):
        template = "ctid-agent-webrtc" if number in layout.webrtc else "ctid-agent,lab"
        text += _endpoint(layout, number, template)
        text += f"auth = {number}\n[{number}](ctid-agent-auth)\nusername = {number}\n"
        text += f"password = {layout.passwords[number]}\n[{number}](ctid-agent-aor)\n"
    return text


def _endpoint(layout: Layout, number: str, template: str) -> str:
    context = "context = ctid-supervisors\n" if number in layout.supervisors else ""
    queues = layout.agent_queues.get(number) or "&".join(
        name for name, numbers in layout.members.items() if number in numbers
    )
    return (
        f'[{number}]({template})\naors = {number}\ncallerid = "Agent {number}" <{number}>\n'
        f"{context}set_var = CTID_AGENT_QUEUES={queues}\n"
    )


def _extensions(layout: Layout) -> str:
    values = "".join(f"{name} = {value}\n" for name, value in layout.variables.items())
    includes = "".join(f'#include "{file}"\n' for file in sorted(DIALPLAN.glob("ctid-*.conf")))
    return f"[general]\nstatic = yes\nwriteprotect = yes\n[globals]\n{values}{includes}{layout.dialplan}\n"


def new_secret() -> str:
    """Make up a secret that AMI and SIP accept."""
    return secrets.token_urlsafe(24)
