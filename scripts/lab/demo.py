"""The demonstration: a whole call centre on this machine, with real calls.

python -m lab.demo           prints the page to open, and keeps calls coming in until Ctrl-C
python -m lab.demo --once    plays a fixed set of calls, judges every figure, exits 0 or 1
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from lab import ledger
from lab.dialog import CallFailedError
from lab.errors import LabError
from lab.floor import LINES
from lab.ledger import Entry
from lab.phone import Plan
from lab.places import HOME
from lab.scenes import SCENES, Figure, play_all
from lab.stage import Stage

COLUMNS = ("outcome", "wait", "offer", "ring", "rang", "talk", "hold", "wrap", "handle", "pause")

console = Console(stderr=True, highlight=False)
started = time.monotonic()


def say(text: str) -> None:
    """Tell the person at the terminal what is going on."""
    console.print(f"[dim]{time.monotonic() - started:5.1f} s[/]  {text}")


async def judge(stage: Stage, figures: Sequence[Figure]) -> tuple[list[Entry], dict[str, list[Entry]]]:
    """Hold everything ctid says against what the phones saw: figures, and the rest by kind."""
    entries = await ledger.compare(stage.pool, figures)
    return entries, {
        "metrics agree with the phones": await ledger.compare_metrics(stage, figures),
        "pops reached exactly the ringing agent": await ledger.compare_pops(stage, figures),
        "recordings have caller and agent on channels of their own": await ledger.compare_recordings(
            stage, figures
        ),
    }


def tables(figures: Sequence[Entry], others: Sequence[Entry]) -> Iterator[Table]:
    """Lay out the figures, two lines for each person of a scene, and the rest as counts."""
    columns = [measure for measure in COLUMNS if any(it.measure == measure for it in figures)]
    table = Table(title="ctid beside the phones' own clocks (seconds)", title_justify="left", pad_edge=False)
    for name in ("scene", "who", ""):
        table.add_column(name, no_wrap=True)
    for name in (*columns, "differs by"):
        table.add_column(name, justify="right", no_wrap=True)
    scene = ""
    groups: dict[tuple[str, str], dict[str, Entry]] = {}
    for it in figures:
        groups.setdefault((it.scene, it.who), {})[it.measure] = it
    for (name, who), entries in groups.items():
        if name != scene and scene:
            table.add_section()
        worst = max((abs(it.difference) for it in entries.values() if it.difference is not None), default=0.0)
        cells = [entries.get(column) for column in columns]
        table.add_row(
            "" if name == scene else name,
            who,
            "phones",
            *(shown(it, it.seen) if it else "" for it in cells),
            "",
        )
        table.add_row("", "", "ctid", *(shown(it, it.said) if it else "" for it in cells), f"{worst:.3f}")
        scene = name
    yield table
    wrong = Table(title="What ctid says otherwise", title_justify="left", title_style="red", pad_edge=False)
    for name in ("scene", "figure", "who", "phones", "ctid"):
        wrong.add_column(name)
    for it in (*figures, *others):
        if not it.is_right:
            wrong.add_row(it.scene, it.measure, it.who, shown(it, it.seen), shown(it, it.said))
    if wrong.row_count:
        yield wrong


def shown(entry: Entry, value: float | str | None) -> str:
    """Write a figure as people read it, red if it is wrong."""
    text = f"{value:.3f}" if isinstance(value, float) else value
    text = "nothing" if text is None else text or "nobody"
    return text if entry.is_right else f"[red bold]{text}[/]"


async def once(stage: Stage) -> bool:
    """Play all scenes and judge them; ``True``: ctid was right about everything."""
    say(f"playing {len(SCENES)} scenes at once, the longest takes about 25 s")
    began = time.monotonic()
    figures = await play_all(stage, on_end=lambda name: say(f"  {name.replace('_', ' ')}"))
    played = time.monotonic() - began
    say("asking ctid about them")
    entries, others = await judge(stage, figures)
    rest = [it for kind in others.values() for it in kind]
    paper = Console(highlight=False, width=None if sys.stdout.isatty() else 170)
    for table in tables(entries, rest):
        paper.print(table)
    for kind, found in (("figures agree with the phones", entries), *others.items()):
        paper.print(f"{sum(it.is_right for it in found):4} of {len(found)} {kind}")
    wrong = [it for it in (*entries, *rest) if not it.is_right]
    worst = max((abs(it.difference) for it in entries if it.difference is not None), default=0.0)
    print(
        f"{'all right' if not wrong else f'{len(wrong)} WRONG'}; largest difference {worst:.3f} s "
        f"(allowed {ledger.ALLOWED} s); calls {played:.1f} s, all {time.monotonic() - started:.1f} s"
    )
    if wrong:
        say(f"ctid's log: {stage.daemon.log}")
    return not wrong


async def keep_calling(stage: Stage) -> None:
    """Let callers ring and agents work, at random, for ever."""
    say("calls keep coming in; Ctrl-C ends everything")
    print(
        f"\n  Open  {stage.daemon.url}/#token={stage.tokens['admin']}   the floor, as admin"
        f"\n  or    {stage.daemon.url}/#token={stage.tokens['1007']}   an agent, with his pops\n",
        flush=True,
    )
    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(one_call(stage))
            await asyncio.sleep(random.expovariate(1 / 6))


async def one_call(stage: Stage) -> None:
    """One caller from dialling to the agent's saved note; whatever happens to him is fine."""
    for phone in stage.phones.values():
        phone.plan = Plan(answer_after=random.uniform(1.5, 18))
    line = random.choice([line for line in LINES.values() if line.agents])
    unlucky = (CallFailedError, TimeoutError, RuntimeError, aiohttp.ClientError)
    with contextlib.suppress(*unlucky):
        async with stage.stranger() as caller:
            call = await caller.dial(line.did, name=random.choice(("王小明", "李娜", "Zhang Wei", "")))
            await asyncio.sleep(random.uniform(10, 40))
            taken = [it for it in stage.offers_of(caller) if it.clock.answered]
            await call.hang_up()
        if taken:
            await taken[-1].ended(5)
            await stage.save_note(taken[-1], after=random.uniform(2, 10))


async def run(arguments: argparse.Namespace) -> int:
    """Build the stage, play, and take it down whatever happens."""
    folder = Path(arguments.keep or tempfile.mkdtemp(prefix="demo-", dir=HOME))
    is_well = False
    try:
        async with Stage(folder, version=arguments.asterisk, report=say, web_port=arguments.port) as stage:
            say(f"ready: Asterisk {stage.version}, PostgreSQL, ctid at {stage.daemon.url}")
            if arguments.once:
                is_well = await once(stage)
            else:
                is_well = True
                await keep_calling(stage)
            say("taking everything down")
    finally:
        if is_well and not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            say(f"logs are kept in {folder}")
    return int(not is_well)


def options(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--once", action="store_true", help="play a fixed set of calls, judge them, exit 0 or 1"
    )
    parser.add_argument(
        "--asterisk", type=int, choices=(22, 16), default=22, help="which version (default 22)"
    )
    parser.add_argument("--port", type=int, default=0, help="of the page; by default any free one")
    parser.add_argument("--keep", metavar="FOLDER", default="", help="keep everything that is written there")
    return parser.parse_args(words)


async def until_told_to_stop(arguments: argparse.Namespace) -> int:
    """Run, and end in good order at Ctrl-C or SIGTERM."""
    playing = asyncio.create_task(run(arguments))
    loop = asyncio.get_running_loop()

    def end() -> None:
        if not playing.cancelling():  # an impatient second Ctrl-C must not leave anything running
            playing.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    try:
        return await playing
    except asyncio.CancelledError:
        say("stopped")
        return 130 if arguments.once else 0


def main() -> int:
    """Run the demonstration; the exit code says how it went."""
    arguments = options(sys.argv[1:])
    try:
        return asyncio.run(until_told_to_stop(arguments))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
