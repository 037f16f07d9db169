"""A private PostgreSQL: its own data folder, reachable through a socket that only its owner may enter.

    with PrivatePostgres(folder) as postgres:
        dsn = postgres.createdb("calls")

The machine's own PostgreSQL programs are used if there are any, else those that :mod:`lab.debian` fetches.
PostgreSQL refuses to run as root, so root hands it to an unprivileged user; see :mod:`lab.seat`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Literal
from urllib.parse import quote

from lab import debian
from lab.errors import PostgresFailed
from lab.progress import Report
from lab.seat import Seat, take_seat

USER = "ctid"
"""The cluster's superuser; no password, the socket's folder is the guard."""

STARTED_WITHIN = 60.0
STOPPED_WITHIN = 60.0

_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# A postmaster must not outlive the program that wanted it, however that ends: when the pipe closes, stop it,
# unless the pid belongs to somebody else by then.
_GUARD = 'cat >/dev/null; [ "/proc/$0/cwd" -ef "$1" ] && kill -INT "$0"'


class PrivatePostgres:
    """One PostgreSQL server with its data, in one folder.

    The DSN stays the same over restarts. One object drives one server; not thread-safe.

    Attributes:
        folder: As named; root's server may have its files elsewhere.
    """

    def __init__(self, folder: Path, *, fast: bool = False, programs: Path | None = None) -> None:
        """Prepare; nothing is written or started yet.

        Args:
            folder: Where the data shall be. Made if need be; an existing cluster in it is used.
            fast: For tests: no fsync, so a power cut (not a kill) loses data, and leaving the ``with`` block
                erases the cluster.
            programs: Folder with ``initdb`` and ``postgres``; by default the machine's own or fetched ones.
        """
        self.folder = folder.absolute()
        self._fast = fast
        self._programs = programs
        self._seat: Seat | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrivatePostgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._fast:
            self.erase()

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self._taken().log

    @property
    def socket(self) -> Path:
        """Folder of the Unix socket, the only way in."""
        return self._taken().socket

    @property
    def pid(self) -> int | None:
        """The running postmaster, or ``None``; one that an earlier program left behind counts as ours."""
        if self._server is not None and self._server.poll() is not None:
            self._server = None
        return _postmaster(self._taken().data)

    def start(self) -> str:
        """Start the server, making the cluster first if there is none, and wait until it takes connections.

        Returns:
            The DSN of the database ``postgres``, for asyncpg. The same if it was running already.

        Raises:
            PostgresFailed: It does not start; the message quotes its log.
            LabError: There are no PostgreSQL programs and they can not be fetched.
        """
        seat = self._taken()
        if not (seat.data / "PG_VERSION").exists():
            self._make_cluster(seat)
        if self.pid is None:
            self._launch(seat)
        if self._guard is None:
            words = [str(self.pid), str(seat.data)]
            self._guard = subprocess.Popen(
                ["sh", "-c", _GUARD, *words], stdin=subprocess.PIPE, start_new_session=True
            )
        return self.dsn()

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server and wait for its end. Nothing happens if it does not run.

        Args:
            mode: As in ``pg_ctl``: ``smart`` waits for clients, ``fast`` disconnects them, ``immediate``
                leaves the recovery to the next start.

        Raises:
            PostgresFailed: It is still there after :data:`STOPPED_WITHIN` seconds.
        """
        self._dismiss_guard()
        if (pid := self.pid) is None:
            return
        os.kill(pid, _SIGNALS[mode])
        self._await_end(pid)

    def kill(self) -> None:
        """End the server and all its backends with SIGKILL, as a crash would. Nothing committed is lost."""
        self._dismiss_guard()
        if (pid := self.pid) is None:
            return
        # Children first learn of the postmaster's death by themselves; a restart must not meet them.
        doomed = [pid, *_children(pid)]
        for one in doomed:
            _kill(one)
        for one in doomed:
            self._await_end(one)

    def erase(self) -> None:
        """End the server if it runs and remove everything of it for good."""
        self.kill()
        self._taken().erase()
        self._seat = None

    def dsn(self, database: str = "postgres") -> str:
        """Return the address of a database, which need not exist yet."""
        seat = self._taken()
        return f"postgresql://{USER}@/{quote(database)}?host={quote(str(seat.socket), safe='')}&port=5432"

    def createdb(self, name: str, *, template: str | None = None) -> str:
        """Make a database and return its DSN.

        Args:
            name: The new database.
            template: A database to copy, schema and rows; nobody may be connected to it. Far faster than
                migrating each test's database anew.

        Raises:
            PostgresFailed: The name is taken, or the template is in use.
        """
        source = ["--template", template] if template else []
        self._client("createdb", *source, name)
        return self.dsn(name)

    def dropdb(self, name: str) -> None:
        """Remove a database, disconnecting whoever uses it. Nothing happens if it is not there."""
        self._client("dropdb", "--if-exists", "--force", name)

    def _taken(self) -> Seat:
        if self._seat is None:
            self._seat = take_seat(self.folder, self._programs or installed_programs())
        return self._seat

    def _make_cluster(self, seat: Seat) -> None:
        new = seat.data.with_name("data.new")
        shutil.rmtree(new, ignore_errors=True)
        options = ["--username", USER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
        # A power cut in the middle leaves data.new, which is made again.
        done = seat.run("initdb", *options, "--no-sync", "--pgdata", str(new))
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise PostgresFailed(f"initdb failed: {said}", "look for free disk space below the folder named.")
        new.rename(seat.data)

    def _launch(self, seat: Seat) -> None:
        with self.log.open("ab") as log:
            begin = log.tell()
            self._server = seat.spawn("postgres", "-D", str(seat.data), *_options(seat, self._fast), log=log)
        until = time.monotonic() + STARTED_WITHIN
        while not _is_ready(seat.data, self._server.pid):
            if self._server.poll() is not None or time.monotonic() > until:
                raise PostgresFailed(f"PostgreSQL does not start: {self._said(begin)}", f"read {self.log}.")
            time.sleep(0.01)

    def _said(self, begin: int) -> str:
        with self.log.open("rb") as log:
            log.seek(begin)
            return log.read().decode(errors="replace").strip()[-2000:] or "it says nothing."

    def _client(self, client: str, *words: str) -> None:
        seat = self._taken()
        done = seat.run(client, "--host", str(seat.socket), "--username", USER, *words)
        if done.returncode:
            raise PostgresFailed(done.stderr.strip(), "start it first, and choose a name that is free.")

    def _dismiss_guard(self) -> None:
        if self._guard is None:
            return
        self._guard.kill()
        self._guard.communicate()
        self._guard = None

    def _await_end(self, pid: int) -> None:
        until = time.monotonic() + STOPPED_WITHIN
        while self._is_alive(pid):
            if time.monotonic() > until:
                raise PostgresFailed(f"PostgreSQL (pid {pid}) does not end.", f"read {self.log}.")
            time.sleep(0.01)

    def _is_alive(self, pid: int) -> bool:
        if self._server is not None and self._server.pid == pid:
            return self._server.poll() is None
        return _state(pid) not in ("", "Z")


def installed_programs(report: Report | None = None) -> Path:
    """Return the folder with PostgreSQL's programs: the machine's newest, else fetched ones.

    Raises:
        LabError: There are none and they can not be fetched.
    """
    own = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    new_enough = [
        folder for folder in own if folder.parent.name.isdecimal() and int(folder.parent.name) >= 15
    ]
    if new_enough:
        return max(new_enough, key=lambda folder: int(folder.parent.name))
    return debian.ensure("postgresql-15", report) / "usr/lib/postgresql/15/bin"


def _options(seat: Seat, fast: bool) -> list[str]:
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(seat.socket),
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "jit": "off",
        "lc_messages": "C",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if fast:
        # Not synchronous_commit=off: that would lose commits at a kill, which tests are about.
        settings |= {"fsync": "off", "full_page_writes": "off"}
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _postmaster(data: Path) -> int | None:
    """Return the pid of the postmaster that serves ``data``, if it lives."""
    try:
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        # The file may be left over from a crash and the pid be somebody else's by now.
        return pid if Path(f"/proc/{pid}/cwd").samefile(data) and _state(pid) != "Z" else None
    except (OSError, IndexError, ValueError):
        return None


def _is_ready(data: Path, pid: int) -> bool:
    """Tell whether the postmaster takes connections: it says so on line 8 of its pid file."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _state(pid: int) -> str:
    """Return the letter by which Linux describes a process, empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
