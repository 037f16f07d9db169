"""Command line: run, check, migrate, user, replay, reconcile.

Exit codes: 0 all is well, 1 it failed, 2 what was given (settings, policy, arguments) can
not be run with; then nothing was started; 75 (run) another daemon has taken the lead: start
again, to stand by.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ctid import __version__, settings
from ctid.errors import CtidError, SettingsError, StoreError

T = TypeVar("T")

_config = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="CTID_CONFIG",
    default=Path("/etc/ctid/ctid.toml"),
    show_default=True,
    help="Settings file; also from CTID_CONFIG.",
)


def _fail(problems: list[str], code: int) -> NoReturn:
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(code)


def _told(command: Callable[..., T]) -> Callable[..., T]:
    """Say what went wrong in words, not as a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> T:
        try:
            return command(*args, **kwargs)
        except SettingsError as error:
            _fail(error.problems, 2)
        except CtidError as error:
            _fail([f"ctid: {error}"], 1)
        except BrokenPipeError:
            # The reader (head, less) has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)

    return run


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ctid")
def main() -> None:
    """The telephony brain of a call centre that runs on Asterisk."""


@main.command()
@_config
@_told
def run(config: Path) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    from ctid.daemon import prepare
    from ctid.serve import serve

    loaded, policy = prepare(config)
    sys.exit(_run(serve(loaded, policy, config)))


@main.command()
@_config
@_told
def check(config: Path) -> None:
    """Report everything that would keep ctid from working, at once; exit 2 if anything."""
    from ctid.check import Finding, findings

    found = _run(findings(config))
    marks = {"ok": "[green]ok[/]", "problem": "[red]problem[/]", "warning": "[yellow]warning[/]"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in found:
        table.add_row(marks[finding.level], finding.subject, escape(finding.text))
    # Into a pipe or a log every line whole; at a terminal as wide as that is.
    Console(soft_wrap=True, width=None if sys.stdout.isatty() else 2000).print(table)

    def count(level: str) -> int:
        return sum(isinstance(finding, Finding) and finding.level == level for finding in found)

    click.echo(f"{count('problem')} problems, {count('warning')} warnings")
    sys.exit(2 if count("problem") else 0)


@main.command()
@_config
@_told
def migrate(config: Path) -> None:
    """Bring the database schema up to date; harmless if it is."""
    from ctid.store.migrate import migrate as apply

    done = _run(apply(settings.load(config).database))
    for name in done:
        click.echo(f"applied {name}")
    click.echo("the schema is up to date")


@main.command()
@click.argument("trace", type=click.File("rb"))
@click.option(
    "--policy",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Judge queues and name agents by this policy.toml.",
)
@_told
def replay(trace: BinaryIO, policy: Path | None) -> None:
    """Print the facts that a recorded AMI trace (plain or .gz) leads to, as JSON lines."""
    from ctid.replay import raw
    from ctid.replay import replay as facts_of
    from ctid.routing import policy as policies

    recording = trace.read()
    if recording[:2] == b"\x1f\x8b":
        recording = gzip.decompress(recording)
    known = policies.load(policy) if policy else None
    rules, agents = (known.rules(), known.interfaces()) if known else ({}, {})
    encode = msgspec.json.Encoder().encode
    out = sys.stdout.buffer
    for fact in facts_of([raw(recording)], rules, agents):
        out.write(encode(fact) + b"\n")
    out.flush()


_when = click.DateTime(
    ["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"]
)


@main.command()
@_config
@click.option("--since", type=_when, help="Calls that began then or later; local time.  [default: midnight]")
@click.option("--until", type=_when, help="Calls that began before; local time.  [default: now]")
@click.option("--queue", default="", help="Only what concerns this queue.")
@click.option("--system", help="Asterisk's systemname, if the ids of calls do not begin with it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@_told
def reconcile(
    config: Path,
    since: datetime | None,
    until: datetime | None,
    queue: str,
    system: str | None,
    as_json: bool,
) -> None:
    """Compare a period with Asterisk's queue_log and CEL.

    Exit 1 if anything differs, 2 if that can not be told.

    Nothing is changed. Calls that are not over yet are left out.
    """
    from ctid.reconcile import run as compare_period

    midnight = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)
    work = compare_period(
        config,
        since=(since or midnight).astimezone(UTC),
        until=(until or datetime.now()).astimezone(UTC),
        queue=queue,
        system=system,
    )
    try:
        outcome = _run(work)
    except StoreError as error:
        _fail([f"ctid: {error}"], 2)
    if as_json:
        click.echo(msgspec.json.encode(outcome).decode())
    else:
        _print_outcome(outcome)
    sys.exit(1 if outcome.count else 0)


def _print_outcome(outcome: Any) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("ledger", "call", "about", "difference"):
        table.add_column(heading, overflow="fold")
    for one in outcome.differences:
        table.add_row(one.ledger, escape(one.call), escape(one.about), escape(one.what))
    for hole in outcome.holes:
        where = f"after number {hole.after} of {hole.spool}" + (f", {hole.at:%F %T} UTC" if hole.at else "")
        table.add_row(
            "journal",
            "",
            escape(where),
            f"{hole.count} facts are missing" if hole.count > 1 else "a fact is missing",
        )
    if outcome.count:
        Console(soft_wrap=True, width=None if sys.stdout.isatty() else 2000).print(table)
    if outcome.unread:
        click.echo(f"{outcome.unread} places in the books could not be read")
    if outcome.open:
        click.echo(f"{outcome.open} calls are not over, or their end is not in the books; not compared")
    click.echo(
        f"{outcome.count} differences in {outcome.calls} calls and {outcome.visits} stays in queues, "
        f"{outcome.since:%F %T} to {outcome.until:%F %T} UTC"
    )


@main.group()
def user() -> None:
    """Who may sign in."""


async def _with_users(config: Path, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    from ctid.store.pool import Pool
    from ctid.store.users import Users

    async with Pool(settings.load(config).database) as pool:
        return await work(Users(pool))


@user.command()
@_config
@click.argument("name")
@click.option("--agent", default="", help="His agent number; pops of that agent are his.")
@click.option(
    "--role",
    type=click.Choice(["agent", "leader", "inspector", "supervisor", "admin"]),
    default="agent",
    show_default=True,
)
@click.option("--language", type=click.Choice(["zh-CN", "en"]), default="zh-CN", show_default=True)
@click.option(
    "--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="The token lasts so long."
)
@_told
def add(config: Path, name: str, agent: str, role: str, language: str, days: int) -> None:
    """Add a user (or give him a new token) and print the token, this once."""

    async def work(users: Any) -> str:
        known = {row.name for row in await users.list_users() if row.revoked_at is None}
        if name not in known:
            await users.create_user(name, role=role, agent=agent, language=language)
        return str(await users.issue_token(name, lasts=timedelta(days=days)))

    click.echo(_run(_with_users(config, work)))


@user.command("list")
@_config
@_told
def list_(config: Path) -> None:
    """List users."""
    rows = _run(_with_users(config, lambda users: users.list_users()))
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "role", "agent", "language", "tokens"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row.name, row.role, row.agent, row.language, str(getattr(row, "tokens", "")))
    Console().print(table)


@user.command()
@_config
@click.argument("name")
@_told
def revoke(config: Path, name: str) -> None:
    """Take every token of a user away; his screens close within seconds."""

    async def work(users: Any) -> bool:
        return bool(await users.revoke(name))

    if not _run(_with_users(config, work)):
        raise StoreError(f"no user is called {name!r}; `ctid user list` shows who there is")
    click.echo(f"{name} can not sign in any more ({datetime.now(UTC):%F %T} UTC)")


if __name__ == "__main__":
    main()
