"""The scripted Asterisk as tests hold it: same face as ``lab.exchange.Exchange`` where a daemon looks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from lab.errors import LabError
from lab.exchange_files import new_secret
from lab.floor import Line, policy_table
from lab.places import ROOT
from lab.ports import free_tcp_port
from lab.scripted import CROWD, MEMBERS

STARTS_WITHIN = 15.0


class ScriptedFailed(LabError):
    """The scripted Asterisk did not start, or did not obey."""


class ScriptedExchange:
    """One scripted Asterisk and its files.

    Args:
        folder: Made if it is not there.
        rate: Calls per second from the start.
        write_timeout_ms: Cut a client that takes nothing for so long; 0: never.

    Attributes:
        ami_port: On 127.0.0.1.
        recordings, queue_log, cel, truth: Where it writes.
    """

    def __init__(
        self, folder: Path, *, seed: int = 1, rate: float = 0.0, write_timeout_ms: float = 0.0
    ) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ami_port = free_tcp_port("127.0.0.1")
        self.recordings = self.folder / "recordings"
        self.recordings.mkdir(exist_ok=True)
        self.queue_log = self.folder / "log" / "queue_log"
        self.cel = self.folder / "log" / "cel-custom" / "ctid.csv"
        self.truth = self.folder / "truth.jsonl"
        self._secret_file = self.folder / "ctid.secret"
        self._secret_file.touch(mode=0o600)
        self._secret_file.write_text(new_secret())
        self._options = [f"--seed={seed}", f"--rate={rate}", f"--write-timeout-ms={write_timeout_ms}"]
        self._running: subprocess.Popen[str] | None = None

    def settings_table(self) -> dict[str, object]:
        """Return the table ``[asterisk]`` of ctid.toml that fits."""
        return {
            "host": "127.0.0.1",
            "port": self.ami_port,
            "recordings": str(self.recordings),
            "queue_log": str(self.queue_log),
            "cel": str(self.cel),
            "account": {"username": "ctid", "secret_file": str(self._secret_file)},
        }

    @staticmethod
    def policy() -> dict[str, Any]:
        """Return policy.toml for its queues and agents, as a table."""
        lines = {
            queue: Line(
                str(4001 + place), queue, "consultation", tuple(p[6:] for p in phones), wrap_up=wrap_up
            )
            for place, (queue, phones, wrap_up) in enumerate(
                [(queue, phones, 1) for queue, phones in MEMBERS.items()]
                + [(queue, phones, 0) for queue, phones in CROWD.items()]
            )
        }
        agents = sorted({agent for line in lines.values() for agent in line.agents})
        table = policy_table(lines, agents)
        table["site"]["default_queue"] = "sales"
        return table

    @property
    def pid(self) -> int:
        """Of the process.

        Raises:
            ScriptedFailed: It does not run.
        """
        if self._running is None or self._running.poll() is not None:
            raise ScriptedFailed(f"the scripted Asterisk does not run: {self._log()}", "read its log.")
        return self._running.pid

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            ScriptedFailed: It does not.
        """
        with (self.folder / "scripted.log").open("ab") as log:
            self._running = subprocess.Popen(
                [
                    *(sys.executable, "-m", "lab.scripted", f"--folder={self.folder}"),
                    *(f"--port={self.ami_port}", f"--secret-file={self._secret_file}", *self._options),
                ],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "scripts"), str(ROOT)))},
            )
        give_up = time.monotonic() + STARTS_WITHIN
        while not self._listens():
            if self._running.poll() is not None or time.monotonic() > give_up:
                raise ScriptedFailed(f"the scripted Asterisk did not start: {self._log()}", "read its log.")
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as link:
            return link.connect_ex(("127.0.0.1", self.ami_port)) == 0

    def _log(self) -> str:
        return (self.folder / "scripted.log").read_text(errors="replace")[-2000:]

    def tell(self, command: str, *numbers: float) -> dict[str, Any]:
        """Give one command (see ``lab.scripted``) and wait for its answer. Blocks.

        Raises:
            ScriptedFailed: It ended instead.
        """
        running = self._running
        if running is None or running.stdin is None or running.stdout is None:
            raise ScriptedFailed("the scripted Asterisk does not run", "start() it first.")
        running.stdin.write(f"{' '.join([command, *map(str, numbers)])}\n")
        running.stdin.flush()
        answer = running.stdout.readline()
        if not answer:
            raise ScriptedFailed(f"the scripted Asterisk ended: {self._log()}", "read its log.")
        told: dict[str, Any] = json.loads(answer)
        return told

    def stop(self) -> None:
        """End it in good order; does nothing if it does not run."""
        if self._running is not None and self._running.poll() is None:
            self.tell("quit")
        self._end()

    def kill(self) -> None:
        """End it at once; what it had not written yet is lost, the truth included."""
        if self._running is not None:
            self._running.send_signal(signal.SIGKILL)
        self._end()

    def _end(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        try:
            running.wait(5)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        for pipe in (running.stdin, running.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
