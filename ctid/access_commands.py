"""`ctid user` and `ctid audit`: who may sign in, and who did what."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
import msgspec
from rich.console import Console
from rich.table import Table

from ctid import settings
from ctid.command_line import config_option, run_async, told
from ctid.errors import StoreError
from ctid.store.users import Role

T = TypeVar("T")


@click.group()
def user() -> None:
    """Who may sign in."""


async def _with_users(config: Path, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    from ctid.store.pool import Pool
    from ctid.store.users import Users

    async with Pool(settings.load(config).database) as pool:
        return await work(Users(pool))


@user.command()
@config_option
@click.argument("name")
@click.option("--agent", default="", help="His agent number; pops of that agent are his.")
@click.option(
    "--role",
    type=click.Choice(list(get_args(Role))),
    default="agent",
    show_default=True,
)
@click.option("--language", type=click.Choice(["zh-CN", "en"]), default="zh-CN", show_default=True)
@click.option(
    "--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="The token lasts so long."
)
@click.option("--password", is_flag=True, help="Print a first password instead of a token.")
@told
def add(config: Path, name: str, agent: str, role: str, language: str, days: int, password: bool) -> None:
    """Add a user (or give him a new token) and print the token, this once."""

    async def work(users: Any) -> str:
        known = {row.name for row in await users.list_users() if row.revoked_at is None}
        if name not in known:
            await users.create_user(name, role=role, agent=agent, language=language)
        if password:
            return await _first_password(users, name)
        return str(await users.issue_token(name, lasts=timedelta(days=days)))

    click.echo(run_async(_with_users(config, work)))


async def _first_password(users: Any, name: str) -> str:
    from ctid.store.users import CONSOLE
    from ctid.web.passwords import Passwords, first_password

    chosen = first_password()
    if not await users.set_password(name, await Passwords().encode(chosen), must_change=True, by=CONSOLE):
        raise StoreError(f"no user is called {name!r}; `ctid user list` shows who there is")
    return chosen


@user.command()
@config_option
@click.argument("name")
@told
def password(config: Path, name: str) -> None:
    """Give a user a new first password and print it, this once; he has to change it."""
    click.echo(run_async(_with_users(config, lambda users: _first_password(users, name))))


@user.command("list")
@config_option
@told
def list_(config: Path) -> None:
    """List users."""
    rows = run_async(_with_users(config, lambda users: users.list_users()))
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "role", "agent", "language", "tokens", "password", "revoked"):
        table.add_column(heading)
    for row in rows:
        revoked = f"{row.revoked_at:%F %T} UTC" if row.revoked_at else ""
        has_password = "to be changed" if row.must_change else "yes" if row.has_password else ""
        table.add_row(row.name, row.role, row.agent, row.language, str(row.tokens), has_password, revoked)
    Console().print(table)


@user.command()
@config_option
@click.argument("name")
@told
def revoke(config: Path, name: str) -> None:
    """Take every token of a user away; his screens close within seconds."""

    async def work(users: Any) -> bool:
        return bool(await users.revoke(name))

    if not run_async(_with_users(config, work)):
        raise StoreError(f"no user is called {name!r}; `ctid user list` shows who there is")
    click.echo(f"{name} can not sign in any more ({datetime.now(UTC):%F %T} UTC)")


@click.group()
def audit() -> None:
    """Who did what."""


@audit.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@told
def verify(config: Path, as_json: bool) -> None:
    """Read the whole audit log; exit 1 if a row was changed, removed or slipped in."""

    async def work() -> Any:
        from ctid.store.audit import AuditLog
        from ctid.store.pool import Pool

        async with Pool(settings.load(config).database) as pool:
            return await AuditLog(pool).verify()

    verdict = run_async(work())
    if as_json:
        click.echo(msgspec.json.encode(verdict).decode())
    elif verdict.broken_at:
        click.echo(f"row {verdict.broken_at}: {verdict.why}; {verdict.rows} rows before it are whole")
    else:
        click.echo(f"{verdict.rows} rows, all whole; the last is {verdict.last}, {verdict.hash}")
    sys.exit(1 if verdict.broken_at else 0)
