"""TOML in, frozen settings out, validated whole: every problem is reported at once.

Secrets are never in the file: a ``..._file`` key names a file that holds one.
Durations are written as a person would: ``"300ms"``, ``"20s"``, ``"5min"``, ``"2h"``.
"""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from ctid.errors import SettingsError

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)\s*")


def parse_duration(value: object) -> timedelta:
    """Read ``"20s"`` and the like.

    Raises:
        ValueError: Not a number with one of the units ms, s, min, h, d.
    """
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError('a duration is a number with its unit, such as "300ms", "20s", "5min" or "2h"')
    return timedelta(seconds=float(found[1]) * _UNITS[found[2]])


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be longer than nothing")
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[timedelta, BeforeValidator(parse_duration), AfterValidator(_positive)]
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
"""An empty text: none."""
Port = Annotated[int, Field(ge=0, le=65535)]
"""0: any free port, told in the log (for tests)."""


class Section(BaseModel):
    """A TOML table. Unknown keys are errors: a typo must not become a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AmiAccount(Section):
    """One AMI user of ``config/asterisk/manager.conf``."""

    username: str = Field(min_length=1)
    secret_file: Path

    def secret(self) -> SecretStr:
        """Read the secret.

        Raises:
            OSError: The file can not be read.
        """
        return SecretStr(self.secret_file.read_text(encoding="utf-8").strip())


class Asterisk(Section):
    """The telephone exchange."""

    host: str = "127.0.0.1"
    port: Port = 5038
    account: AmiAccount
    """Main user: read all, write call, agent and reporting."""
    dialler: AmiAccount | None = None
    """Second user with ``originate`` only, for click-to-dial."""
    recordings: Path = Path("/var/spool/asterisk/monitor/ctid")
    """Where the dialplan puts recordings (CTID_RECORDINGS)."""
    queue_log: OptionalPath = Path("/var/log/asterisk/queue_log")
    cel: OptionalPath = Path("/var/log/asterisk/cel-custom/ctid.csv")
    """Asterisk's own books (logger.conf, cel_custom.conf): what AMI missed is rebuilt from them.
    Empty, both: nothing is rebuilt and nothing is proved."""
    action_timeout: PositiveDuration = timedelta(seconds=5)
    ping_every: PositiveDuration = timedelta(seconds=5)
    dead_after: PositiveDuration = timedelta(seconds=15)
    """No sign of life for this long: the connection is given up."""
    require_sequence_numbers: bool = True
    """Believe an event only with a fresh, expected SequenceNumber (``debug = on`` in
    manager.conf). Off: an outside caller can forge events; only for old sites."""


class FastAgi(Section):
    """Where the dialplan asks."""

    host: str = "127.0.0.1"
    port: Port = 4573
    decision_timeout: PositiveDuration = timedelta(milliseconds=300)
    """The caller hears silence meanwhile; past this, the line's default is used."""
    max_connections: int = Field(default=500, ge=1)


class Phone(Section):
    """The softphone in the page. Without it, phones are elsewhere."""

    address: str = Field(
        pattern=r"^wss://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[A-Za-z0-9/._-]*)?$"
    )
    """Of Asterisk's WebSocket, as browsers reach it: ``wss://HOST:8089/ws``."""
    passwords_file: Path
    """TOML: agent's number = his SIP password. Mode 0600; read again whenever somebody signs in."""


class Web(Section):
    """Pages, API and WebSocket."""

    host: str = "127.0.0.1"
    port: Port = 8080
    public_url: str = "http://127.0.0.1:8080"
    """As people's browsers and phones reach it; also the allowed Origin."""
    max_clients: int = Field(default=2000, ge=1)
    trusted_proxies: tuple[str, ...] = ()
    """Addresses of reverse proxies: what they say of where a request comes from is believed."""
    phone: Phone | None = None


class Metrics(Section):
    """Prometheus scrapes here."""

    host: str = "127.0.0.1"
    port: Port = 9482


class Database(Section):
    """PostgreSQL 15 or later; exactly one of the keys."""

    dsn: str = ""
    """Without a password in it; use ``dsn_file``, ~/.pgpass or peer authentication."""
    dsn_file: Path | None = None
    pool: int = Field(default=10, ge=2, le=100)
    timeout: PositiveDuration = timedelta(seconds=5)

    def address(self) -> SecretStr:
        """Return the DSN.

        Raises:
            OSError: ``dsn_file`` can not be read.
        """
        return SecretStr(self.dsn_file.read_text(encoding="utf-8").strip() if self.dsn_file else self.dsn)


class Spool(Section):
    """Facts on our own disk, in ``state_dir``, until PostgreSQL has them."""

    cap_mib: int = Field(default=2048, ge=1)
    """Mebibytes; past it new facts wait in memory and an alarm is raised. Nothing old is dropped."""
    segment_mib: int = Field(default=8, ge=1, le=1024)


class Reconcile(Section):
    """Comparing what was written down with Asterisk's own books."""

    after: PositiveDuration = timedelta(seconds=10)
    """So long a call must be over."""


class Leader(Section):
    """Of several daemons with the same name and database, one leads."""

    name: str = Field(default="main", min_length=1, max_length=64)
    """One name per Asterisk server; its daemons share it."""
    lease: PositiveDuration = timedelta(seconds=5)
    """A leader that gives no sign for so long has lost the lead."""


class Pops(Section):
    """Screen pops on SIP phones; browsers always get theirs."""

    sip_message: bool = True
    """Send a text MESSAGE with the pop's address to the ringing phone."""
    history: int = Field(default=5, ge=0, le=50)
    """Last calls shown."""
    history_timeout: PositiveDuration = timedelta(milliseconds=200)
    """A pop never waits longer than this for PostgreSQL; the rest follows."""


class Archive(Section):
    """Recordings."""

    settle: Duration = timedelta(seconds=2)
    """After the leg is gone, wait this long for Asterisk to close the file."""
    give_up: PositiveDuration = timedelta(minutes=5)
    """Then it counts as missing."""


class Log(Section):
    """structlog."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    """auto: colours at a terminal, JSON otherwise."""


class Settings(Section):
    """One TOML file, whole."""

    policy: Path
    """policy.toml: lines, queues, agents, hours, VIPs."""
    state_dir: Path = Path("/var/lib/ctid")
    asterisk: Asterisk
    fastagi: FastAgi = FastAgi()
    web: Web = Web()
    metrics: Metrics = Metrics()
    database: Database
    spool: Spool = Spool()
    reconcile: Reconcile = Reconcile()
    leader: Leader = Leader()
    pops: Pops = Pops()
    archive: Archive = Archive()
    log: Log = Log()


def problems_of(error: ValidationError, file: Path) -> list[str]:
    """Turn pydantic's findings into lines: file, key, what is wrong."""
    lines = []
    for found in error.errors():
        key = ".".join(str(part) for part in found["loc"]) or "(the whole file)"
        text = found["msg"].removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            text = "unknown key; check the spelling, or remove it"
        elif key == "web.phone.address":
            text = "must be wss://HOST:PORT/PATH, such as wss://pbx.example.com:8089/ws"
        elif found["type"] == "missing":
            text = "is missing; add it"
        lines.append(f"{file}: {key}: {text}")
    return lines


def read_toml(file: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        SettingsError: It can not be read, or is not TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            [f"{file}: can not be read: {error.strerror}; check path and permissions"]
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([f"{file}: is not TOML: {error}"]) from error


_PATHS = frozenset({"policy", "state_dir", "recordings", "queue_log", "cel"})


def _resolved(value: object, base: Path) -> object:
    """Make relative paths in path-valued keys relative to the settings file."""
    if isinstance(value, dict):
        return {
            key: str(base / item)
            if isinstance(item, str) and item and (key.endswith("_file") or key in _PATHS)
            else _resolved(item, base)
            for key, item in value.items()
        }
    return value


def load(file: Path) -> Settings:
    """Read and validate the settings. Relative paths in it count from its own folder.

    Raises:
        SettingsError: All problems at once.
    """
    table = read_toml(file)
    try:
        return Settings.model_validate(_resolved(table, file.parent.resolve()))
    except ValidationError as error:
        raise SettingsError(problems_of(error, file)) from error
