"""A private Asterisk on the loopback, with the fragments that a real site includes, unchanged.

    with Exchange(22, folder=tmp_path, agents={"1001": ("127.0.0.3", 6001)},
                  members={"repair": ["1001"]}, fastagi_port=4573) as exchange:
        ...  # call 5001 at exchange.sip_address from 127.0.0.2: that is the trunk

Every port is a free one and every secret a new one, so any number of them run side by side.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lab import debian, exchange_files
from lab.certificate import make_certificate
from lab.errors import LabError
from lab.exchange_files import TRUNK_IP, LabQueue, Layout, new_secret
from lab.ports import free_tcp_port, free_udp_port

__all__ = ["TRUNK_IP", "Exchange", "ExchangeFailed", "LabQueue"]

BOOT_SECONDS = 30.0
"""Usually under one; a busy machine takes longer."""

STOP_SECONDS = 5.0


class ExchangeFailed(LabError):
    """The private Asterisk did not start, or did not obey."""


class Exchange:
    """One Asterisk, its folder and its life.

    Attributes:
        version: 22, or 16 as the oldest that ctid supports.
        agents: Number -> (address, port) of phones that do not register.
        fastagi_port: Where the dialplan looks for the daemon.
        folder: Everything it writes; may be deleted when it is stopped.
        sip_address: (ip, UDP port) for trunk and phones.
        ami_port, http_port: On 127.0.0.1.
        https_port: Where phones in browsers come in: ``phone_table``; only with ``webrtc_agents``.
        certificate: Of that port.
        recordings: Where the dialplan puts recordings.
        queue_log, cel: Files that Asterisk writes.
        passwords: Of agents that register: number -> SIP password.
        secret_files: AMI user -> file with its secret (mode 0600).
    """

    def __init__(
        self,
        version: int = 22,
        *,
        folder: Path,
        agents: Mapping[str, tuple[str, int]] | None = None,
        registering_agents: Sequence[str] = (),
        webrtc_agents: Sequence[str] = (),
        supervisors: Sequence[str] = (),
        members: Mapping[str, Sequence[str]] | None = None,
        agent_queues: Mapping[str, str] | None = None,
        queues: Sequence[LabQueue] = (),
        fastagi_port: int = 0,
        trunk_contact: tuple[str, int] = (TRUNK_IP, 5060),
        fallback_queue: str = "overflow",
        fallback_script: str = "",
        pop_url: str = "http://127.0.0.1:8080/pop/%s",
        variables: Mapping[str, str] | None = None,
        dialplan: str = "",
        all_events: bool = False,
    ) -> None:
        """Choose ports and secrets and write the configuration; nothing runs yet.

        Args:
            version: 22 or 16.
            folder: Made if it is not there; every Asterisk needs one of its own.
            agents: Number -> (address, port) where that phone listens, without registering.
            registering_agents: Numbers whose phone registers with ``passwords[number]``.
            webrtc_agents: The same over WebSocket, with ICE and DTLS-SRTP.
            supervisors: Which of all these may also listen in (context ctid-supervisors).
            members: Queue of config/asterisk/queues.conf -> numbers always in it.
            agent_queues: Agents who log in (*11) and out (*12) instead: number -> ``repair&complaint:2``.
            queues: More queues, for a test.
            fastagi_port: Where the daemon will listen on 127.0.0.1; 0: a free port is chosen.
            trunk_contact: Where calls to the public network would go.
            fallback_queue: CTID_FALLBACK_QUEUE.
            fallback_script: CTID_FALLBACK_SCRIPT: program and arguments, with commas between.
            pop_url: CTID_POP_URL.
            variables: Further globals, or other values for those above.
            dialplan: Appended to extensions.conf.
            all_events: Disable no AMI event.

        Raises:
            LabError: Asterisk is not there and can not be fetched.
        """
        self.version = version
        self.agents = dict(agents or {})
        self.fastagi_port = fastagi_port or free_tcp_port("127.0.0.1")
        self.folder = folder.absolute()
        name = f"asterisk-{version}"
        prefix = debian.ensure(name)
        self._program = debian.program(name, "asterisk")
        self._running: subprocess.Popen[bytes] | None = None
        self.recordings = self.folder / "recordings"
        self.queue_log = self.folder / "log" / "queue_log"
        self.cel = self.folder / "log" / "cel-custom" / "ctid.csv"
        self.passwords = {number: new_secret() for number in (*registering_agents, *webrtc_agents)}
        sip_port = free_udp_port("127.0.0.1")
        self.ami_port, self.http_port = free_tcp_port("127.0.0.1"), free_tcp_port("127.0.0.1")
        self.https_port = free_tcp_port("127.0.0.1")
        self.certificate = make_certificate(self.folder / "keys") if webrtc_agents else None
        self.sip_address = ("127.0.0.1", sip_port)
        users = ("ctid", "ctid-dialler")
        self._secrets = {user: new_secret() for user in users}
        self.secret_files = {user: self.folder / f"{user}.secret" for user in users}
        first_rtp_port = random.randrange(10_000, 28_000, 4_000)
        self._layout = Layout(
            folder=self.folder,
            system_name=f"lab{version}",
            data=_data_folder(prefix),
            modules=debian.modules_folder(prefix),
            sip_port=sip_port,
            ami_port=self.ami_port,
            http_port=self.http_port,
            https_port=self.https_port,
            certificate=self.certificate,
            rtp_ports=(first_rtp_port, first_rtp_port + 3_999),
            agents=self.agents,
            registering=registering_agents,
            webrtc=webrtc_agents,
            passwords=self.passwords,
            supervisors=supervisors,
            members=members or {},
            agent_queues=agent_queues or {},
            queues=queues,
            trunk_contact=trunk_contact,
            variables={
                "CTID_FASTAGI": f"127.0.0.1:{self.fastagi_port}",
                "CTID_RECORDINGS": str(self.recordings),
                "CTID_FALLBACK_QUEUE": fallback_queue,
                "CTID_FALLBACK_SCRIPT": fallback_script,
                "CTID_GUARD_SECONDS": "3",
                "CTID_POP_URL": pop_url,
                **(variables or {}),
            },
            secrets=self._secrets,
            dialplan=dialplan,
            all_events=all_events,
        )
        exchange_files.write(self._layout)

    @property
    def ctid_secret_file(self) -> Path:
        """Secret of the AMI user ``ctid``."""
        return self.secret_files["ctid"]

    @property
    def dialler_secret_file(self) -> Path:
        """Secret of the AMI user ``ctid-dialler``."""
        return self.secret_files["ctid-dialler"]

    @property
    def pid(self) -> int:
        """Of Asterisk itself.

        Raises:
            ExchangeFailed: It does not run.
        """
        if self._running is None:
            raise self._failure("Asterisk does not run.", "start() it first.")
        return self._running.pid

    def settings_table(self) -> dict[str, object]:
        """Return the table ``[asterisk]`` of ctid.toml that fits."""
        return {
            "host": "127.0.0.1",
            "port": self.ami_port,
            "recordings": str(self.recordings),
            "queue_log": str(self.queue_log),
            "cel": str(self.cel),
            "account": {"username": "ctid", "secret_file": str(self.ctid_secret_file)},
            "dialler": {"username": "ctid-dialler", "secret_file": str(self.dialler_secret_file)},
        }

    def phone_table(self) -> dict[str, str]:
        """Return the table ``[web.phone]`` of ctid.toml that fits; writes the file of passwords."""
        file = self.folder / "phones.toml"
        file.touch(mode=0o600)
        file.write_text("".join(f'{number} = "{it}"\n' for number, it in self.passwords.items()))
        return {"address": f"wss://127.0.0.1:{self.https_port}/ws", "passwords_file": str(file)}

    def start(self) -> None:
        """Start Asterisk and wait until it says FullyBooted. Blocks for about half a second.

        Raises:
            ExchangeFailed: It ended, or did not get ready in time; with the end of its log.
        """
        log = (self.folder / "log" / "console").open("ab")
        with log:
            self._running = subprocess.Popen(
                [self._program, "-C", str(self._layout.etc / "asterisk.conf"), "-f"],
                stdin=subprocess.DEVNULL,
                # "debug = on" prints every AMI event on the console, which costs more than the calls.
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=self.folder,
            )
        give_up = time.monotonic() + BOOT_SECONDS
        while not self._is_booted():
            if self._running.poll() is not None:
                raise self._failure("Asterisk ended while starting.", "read the log above.")
            if time.monotonic() > give_up:
                self.kill()
                raise self._failure("Asterisk did not get ready.", "read the log above.")
            time.sleep(0.02)

    def _is_booted(self) -> bool:
        """Log in once AMI is there; FullyBooted follows the log-in as soon as it is true."""
        try:
            link = socket.create_connection(("127.0.0.1", self.ami_port), timeout=1)
        except OSError:
            return False
        with link:
            link.settimeout(BOOT_SECONDS)
            login = f"Action: Login\r\nUsername: ctid\r\nSecret: {self._secrets['ctid']}\r\n\r\n"
            link.sendall(login.encode())
            heard = b""
            while b"Event: FullyBooted" not in heard:
                try:
                    more = link.recv(65536)
                except OSError:
                    return False
                if not more or b"Response: Error" in heard:
                    return False
                heard += more
        return True

    def stop(self) -> None:
        """End it in good order (AMI connections just close); does nothing if it does not run."""
        running, self._running = self._running, None
        if running is None:
            return
        if running.poll() is None:
            running.send_signal(signal.SIGCONT)
            running.terminate()
        try:
            running.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would."""
        running, self._running = self._running, None
        if running is not None:
            running.kill()
            running.wait()

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP): it accepts connections and says nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        os.kill(self.pid, signal.SIGCONT)

    def cli(self, command: str) -> str:
        """Run a command of Asterisk's console, return what it printed.

        Raises:
            ExchangeFailed: Asterisk did not answer.
        """
        arguments = [str(self._program), "-C", str(self._layout.etc / "asterisk.conf"), "-rx", command]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode:
            raise self._failure(f"Asterisk refused {command!r}: {done.stderr.strip()}", "see its log.")
        return done.stdout

    def set_variable(self, name: str, value: str) -> None:
        """Change a global of the dialplan, such as CTID_FASTAGI once the daemon's port is known."""
        self.cli(f'dialplan set global {name} "{value}"')

    def log_tail(self, lines: int = 30) -> str:
        """Return the end of what Asterisk logged and printed."""
        text = []
        for name in ("console", "messages"):
            path = self.folder / "log" / name
            if path.exists():
                text += path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return "\n".join(text)

    def _failure(self, what: str, remedy: str) -> ExchangeFailed:
        return ExchangeFailed(f"{self.log_tail()}\nAsterisk {self.version} in {self.folder}: {what}", remedy)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()


def _data_folder(prefix: Path) -> Path:
    return prefix / "usr" / "share" / "asterisk"
