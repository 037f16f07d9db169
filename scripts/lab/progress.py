"""Progress for people: live bars at a terminal, a few plain lines anywhere else."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str, float | None], None]
"""Called with what is being done and how much of it is done (0 to 1, or ``None`` if unknown)."""

PLAIN_EVERY = 10.0
"""Seconds of silence after which a plain line repeats how far we are: CI logs want few lines."""


def ignore(doing: str, done: float | None) -> None:
    """Report nothing."""


class PlainReport:
    """Print a line when the work changes, and now and then while it does not."""

    def __init__(self, subject: str, started: float) -> None:
        self._subject = subject
        self._started = started
        self._doing = ""
        self._printed_at = 0.0

    def __call__(self, doing: str, done: float | None) -> None:
        now = time.monotonic()
        if doing == self._doing and now - self._printed_at < PLAIN_EVERY:
            return
        self._doing, self._printed_at = doing, now
        share = "" if done is None else f" {done:4.0%}"
        print(f"{now - self._started:6.1f} s  {self._subject}: {doing}{share}", file=sys.stderr, flush=True)


@contextmanager
def showing() -> Iterator[Callable[[str], Report]]:
    """Show the progress of several jobs at once.

    Yields:
        A function that makes the report of one job, given the job's name; safe to use from any thread.
    """
    # Before the first scripts/setup there is no rich; the plain lines do.
    if sys.stderr.isatty() and not os.environ.get("CI") and importlib.util.find_spec("rich"):
        with _live_bars() as make:
            yield make
        return
    started = time.monotonic()
    yield lambda subject: PlainReport(subject, started)


@contextmanager
def _live_bars() -> Iterator[Callable[[str], Report]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.fields[subject]:<14}"), BarColumn(24), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=Console(stderr=True)) as bars:

        def make(subject: str) -> Report:
            task = bars.add_task("waiting", total=None, subject=subject)

            def report(doing: str, done: float | None) -> None:
                total = None if done is None else 1.0
                bars.update(task, description=doing, completed=done or 0.0, total=total)

            return report

        yield make
