"""The real daemon as a subprocess: ``python -m ctid run --config FILE``, its files and its ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from lab.errors import LabError
from lab.places import HOME, ROOT
from lab.ports import free_tcp_port

READY_WITHIN = 30.0
STOP_WITHIN = 20.0


class DaemonFailed(LabError):
    """ctid did not start, did not get ready or did not stop."""


def free_port() -> int:
    """Return a free TCP port of 127.0.0.1."""
    return free_tcp_port("127.0.0.1")


def toml(table: Mapping[str, object], path: str = "") -> str:
    """Render a table of strings, numbers, booleans, lists and tables as TOML."""
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    # JSON's strings, numbers, booleans and arrays are TOML's.
    lines = [f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    text = (f"\n[{path}]\n" if path and (lines or not table) else "") + "".join(f"{line}\n" for line in lines)
    for key, value in table.items():
        if isinstance(value, Mapping):
            text += toml(value, f"{path}.{_key(key)}" if path else _key(key))
    return text


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() and name.isascii() else json.dumps(name)


class Daemon:
    """One ctid.

    Attributes:
        folder: Its settings, policy, state and log.
        fastagi_port, web_port, metrics_port: On 127.0.0.1.
        starts: How often it was started.
        environment: Further variables, for the next start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        asterisk: Mapping[str, object],
        dsn: str,
        policy: str,
        fastagi_port: int = 0,
        web_port: int = 0,
        more: Mapping[str, Mapping[str, object]] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Choose ports and write the settings; nothing runs yet.

        Args:
            asterisk: Table ``[asterisk]``, see ``Exchange.settings_table``.
            policy: Text of policy.toml.
            more: Further tables of ctid.toml, or other values for these.
            environment: Further variables of the daemon's environment; may be changed between starts.
        """
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.fastagi_port = fastagi_port or free_port()
        self.web_port = web_port or free_port()
        self.metrics_port = free_port()
        self.starts = 0
        self.settings = self.folder / "ctid.toml"
        self.log = self.folder / "ctid.log"
        self.environment = dict(environment or {})
        self._running: subprocess.Popen[bytes] | None = None
        (self.folder / "policy.toml").write_text(policy, encoding="utf-8")
        secret = self.folder / "dsn"
        secret.touch(mode=0o600)
        secret.write_text(dsn, encoding="utf-8")
        table: dict[str, object] = {
            "policy": "policy.toml",
            "state_dir": "state",
            "asterisk": dict(asterisk),
            "fastagi": {"port": self.fastagi_port},
            "web": {"port": self.web_port, "public_url": self.url},
            "metrics": {"port": self.metrics_port},
            "database": {"dsn_file": "dsn"},
            "archive": {"settle": "500ms"},
            "log": {"level": "info", "format": "json"},
        }
        for name, values in (more or {}).items():
            old = table.get(name)
            table[name] = (dict(old) if isinstance(old, Mapping) else {}) | dict(values)
        (self.folder / "state").mkdir(exist_ok=True)
        self.settings.write_text(toml(table), encoding="utf-8")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def pid(self) -> int:
        """Of the running daemon.

        Raises:
            DaemonFailed: It does not run.
        """
        if self._running is None or self._running.poll() is not None:
            raise self._failure("ctid does not run")
        return self._running.pid

    @property
    def is_running(self) -> bool:
        """It was started and has not ended."""
        return self._running is not None and self._running.poll() is None

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``ctid WORDS --config …`` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "ctid", *words, "--config", str(self.settings)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def migrate(self) -> None:
        """Bring the database up to date.

        Raises:
            DaemonFailed: It said no.
        """
        done = self.command("migrate")
        if done.returncode:
            raise DaemonFailed(f"ctid migrate: {done.stdout}{done.stderr}", "read the lines above.")

    async def start(self, *, ready: bool = True) -> None:
        """Start it and wait until ``/readyz`` says so.

        Raises:
            DaemonFailed: It ended, or did not get ready; with the end of its log.
        """
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                [sys.executable, "-m", "ctid", "run", "--config", str(self.settings)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Compiled modules are kept, whatever the caller wants for himself: half of a start is that.
                env=os.environ
                | {
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONDONTWRITEBYTECODE": "",
                    "PYTHONPYCACHEPREFIX": str(HOME / "cache" / "compiled"),
                }
                | self.environment,
            )
        self.starts += 1
        if ready:
            await self.until_ready()

    async def until_ready(self, seconds: float = READY_WITHIN) -> None:
        """Wait until ``/readyz`` answers 200.

        Raises:
            DaemonFailed: It ended, or did not get ready.
        """
        give_up = time.monotonic() + seconds
        said = "nothing"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2)) as session:
            while time.monotonic() < give_up:
                if self._running is not None and self._running.poll() is not None:
                    raise self._failure(f"ctid ended with code {self._running.returncode}")
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"{self.url}/readyz") as response:
                        if response.status == 200:
                            return
                        said = await response.text()
                await asyncio.sleep(0.05)
        raise self._failure(f"ctid did not get ready; /readyz last said {said!r}")

    async def metrics(self) -> str:
        """Return the text of ``/metrics``."""
        address = f"http://127.0.0.1:{self.metrics_port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(address) as response:
            response.raise_for_status()
            return await response.text()

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of one name that carry these labels; 0 if there are none."""
        total = 0.0
        for line in (await self.metrics()).splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.split("{")[0] == name and all(f'{key}="{it}"' in sample for key, it in labels.items()):
                total += float(value)
        return total

    def signal(self, number: int) -> None:
        """Send a signal to the daemon."""
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """End it in good order; return its exit code.

        Raises:
            DaemonFailed: It would not end; it was killed.
        """
        return await self._end(signal.SIGTERM)

    async def ended(self, within: float = STOP_WITHIN) -> int:
        """Wait until it ends by itself; return its exit code.

        Raises:
            DaemonFailed: It does not.
        """
        if self._running is None:
            return 0
        try:
            code = await asyncio.to_thread(self._running.wait, within)
        except subprocess.TimeoutExpired:
            raise self._failure(f"ctid did not end within {within:.0f} s") from None
        self._running = None
        return code

    async def answer(self, path: str) -> tuple[int, str]:
        """Return status and text of a page; status 0: nobody listens."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2)) as session:
            try:
                async with session.get(f"{self.url}{path}") as response:
                    return response.status, await response.text()
            except (aiohttp.ClientError, TimeoutError) as error:
                return 0, str(error)

    async def _end(self, number: int) -> int:
        running, self._running = self._running, None
        if running is None:
            return 0
        if running.poll() is None:
            running.send_signal(signal.SIGCONT)
            running.send_signal(number)
        try:
            return await asyncio.to_thread(running.wait, STOP_WITHIN)
        except subprocess.TimeoutExpired:
            running.kill()
            await asyncio.to_thread(running.wait)
            raise self._failure(f"ctid did not end within {STOP_WITHIN:.0f} s") from None

    def log_tail(self, lines: int = 25) -> str:
        """Return the end of what it logged."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def _failure(self, what: str) -> DaemonFailed:
        return DaemonFailed(f"{self.log_tail()}\n{what}.", f"read the log above, or {self.log}.")
