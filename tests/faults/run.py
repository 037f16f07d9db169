"""Run the campaigns of faults for as long as one likes; see ``scripts/faults --help``."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from lab.places import HOME
from tests.faults.campaigns import CAMPAIGNS, Campaign, Result, run
from tests.faults.rig import Rig
from tests.faults.strained import EXERCISES, Exercise

_SHOWN = 20
"""Differences printed per group; all of them are in the folder that is kept."""


async def run_one(campaign: Campaign, *, seed: int, count: int, until: float = float("inf")) -> list[Result]:
    """Run one campaign on a call centre of its own; say each group; keep the folder if anything differs."""
    folder = Path(tempfile.mkdtemp(prefix=f"faults-{campaign.name}-{seed}-", dir=HOME))
    results: list[Result] = []
    try:
        async with Rig(folder, seed=seed) as rig:
            async for result in run(campaign, rig, count=count, until=until):
                results.append(result)
                _say(result, count)
    except BaseException:
        click.echo(f"{campaign.name}: broke off; everything is kept in {folder}", err=True)
        raise
    if any(result.differences for result in results):
        lines = [text for result in results for text in result.differences]
        (folder / "differences").write_text("\n".join([f"seed {seed}", *lines, ""]), encoding="utf-8")
        click.echo(f"{campaign.name}: seed {seed}; everything is kept in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return results


def _say(result: Result, count: int) -> None:
    click.echo(
        f"{result.campaign}: {result.total}/{count} faults, {result.calls} calls, {result.seconds:.0f} s, "
        f"{len(result.differences)} differences"
    )
    for text in result.differences[:_SHOWN]:
        click.echo(f"    {text}")
    if len(result.differences) > _SHOWN:
        click.echo(f"    and {len(result.differences) - _SHOWN} more")
    sys.stdout.flush()


def _table(results: Sequence[Result]) -> Table:
    table = Table(title="Faults against the real PostgreSQL and daemon, and a real or scripted Asterisk")
    table.add_column("fault")
    for name in ("run", "calls", "wall s", "L1", "L2", "L3"):
        table.add_column(name, justify="right")
    for name in dict.fromkeys(result.campaign for result in results):
        mine = [result for result in results if result.campaign == name]
        figures = [
            sum(it.faults for it in mine),
            sum(it.calls for it in mine),
            round(sum(it.seconds for it in mine)),
        ]
        figures += [sum(it.of(ledger) for it in mine) for ledger in ("L1", "L2", "L3")]
        table.add_row(name, *(str(figure) for figure in figures))
    return table


async def strain(exercises: Sequence[Exercise], *, seed: int, count: int | None) -> list[Result]:
    """Run each exercise on a scripted Asterisk."""
    results: list[Result] = []
    for exercise in exercises:
        wanted = count or exercise.full
        async for result in exercise.run(seed, wanted):
            results.append(result)
            _say(result, wanted)
    return results


async def run_all(
    campaigns: Sequence[Campaign], *, seed: int, count: int | None, is_quick: bool, seconds: float | None
) -> list[Result]:
    """Run each to its count; or all of them in turn until the time is up."""
    results: list[Result] = []
    until = time.monotonic() + seconds if seconds else float("inf")
    turn = 0
    while True:
        for campaign in campaigns:
            if time.monotonic() >= until:
                return results
            wanted = count or (campaign.quick if is_quick else campaign.full)
            if seconds:
                wanted = count or 2 * campaign.group
            results += await run_one(campaign, seed=seed + turn, count=wanted, until=until)
            turn += 1
        if not seconds:
            return results


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--hours", type=float, help="Go on for so long, all campaigns in turn.")
@click.option("--minutes", type=float, help="The same in minutes.")
@click.option("--quick", "is_quick", is_flag=True, help="The small counts of scripts/test.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([*CAMPAIGNS, *EXERCISES]),
    help="Only this one; may be repeated.",
)
@click.option("--count", type=int, help="So many faults of each kind; of stream and soak, minutes.")
@click.option("--seed", type=int, help="By default a new one, which is printed.")
def main(
    hours: float | None,
    minutes: float | None,
    is_quick: bool,
    only: Sequence[str],
    count: int | None,
    seed: int | None,
) -> None:
    """Kill, freeze, cut and stop everything under real calls, and audit the books after each few faults.

    Exit code 1 if any ledger differs. What differs keeps its folder, with all logs and the seed.
    """
    chosen = [campaign for campaign in CAMPAIGNS.values() if not only or campaign.name in only]
    seed = random.SystemRandom().randrange(100_000) if seed is None else seed
    click.echo(f"seed {seed}")
    seconds = (hours or 0) * 3_600 + (minutes or 0) * 60 or None
    results: list[Result] = []
    if chosen:
        results += asyncio.run(run_all(chosen, seed=seed, count=count, is_quick=is_quick, seconds=seconds))
    exercises = [one for one in EXERCISES.values() if one.name in only or not (only or is_quick or seconds)]
    results += asyncio.run(strain(exercises, seed=seed, count=count))
    Console().print(_table(results))
    sys.exit(int(any(result.differences for result in results)))


if __name__ == "__main__":
    main()
