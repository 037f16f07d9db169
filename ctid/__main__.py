"""Command line: run, check, migrate, user, audit, replay, reconcile.

Exit codes: 0 all is well, 1 it failed, 2 what was given (settings, policy, arguments) can
not be run with; then nothing was started; 75 (run) another daemon has taken the lead: start
again, to stand by.
"""

from __future__ import annotations

import gzip
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ctid import __version__, settings
from ctid.access_commands import audit, user
from ctid.command_line import config_option, fail, run_async, told
from ctid.errors import StoreError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ctid")
def main() -> None:
    """The telephony brain of a call centre that runs on Asterisk."""


@main.command()
@config_option
@told
def run(config: Path) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    from ctid.daemon import prepare
    from ctid.serve import serve

    loaded, policy = prepare(config)
    sys.exit(run_async(serve(loaded, policy, config)))


@main.command()
@config_option
@told
def check(config: Path) -> None:
    """Report everything that would keep ctid from working, at once; exit 2 if anything."""
    from ctid.check import Finding, findings

    found = run_async(findings(config))
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
@config_option
@told
def migrate(config: Path) -> None:
    """Bring the database schema up to date; harmless if it is."""
    from ctid.store.migrate import migrate as apply

    done = run_async(apply(settings.load(config).database))
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
@told
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
@config_option
@click.option("--since", type=_when, help="Calls that began then or later; local time.  [default: midnight]")
@click.option("--until", type=_when, help="Calls that began before; local time.  [default: now]")
@click.option("--queue", default="", help="Only what concerns this queue.")
@click.option("--system", help="Asterisk's systemname, if the ids of calls do not begin with it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@told
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
        outcome = run_async(work)
    except StoreError as error:
        fail([f"ctid: {error}"], 2)
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


main.add_command(user)
main.add_command(audit)

if __name__ == "__main__":
    main()
