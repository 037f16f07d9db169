"""The other side of scripts/setup: every package set that demo and tests need, several at a time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from lab import debian
from lab.browser import chromium
from lab.errors import LabError
from lab.postgres import installed_programs
from lab.progress import Report, showing

AT_ONCE = 3
"""While one set is unpacked, which takes the processor, others are downloaded."""

Fetch = Callable[[Report], object]


def jobs() -> dict[str, Fetch]:
    """Return what to fetch, by name. What the machine has of its own is not fetched."""
    sets: dict[str, Fetch] = {
        name: partial(debian.ensure, name) for name in ("asterisk-22", "asterisk-16", "tools")
    }
    return sets | {"postgresql": installed_programs, "chromium": chromium}


def main() -> int:
    """Fetch what is not there; print one line for each set."""
    failed = 0
    with showing() as make, ThreadPoolExecutor(AT_ONCE) as pool:
        running = [pool.submit(_timed, name, fetch, make(name)) for name, fetch in jobs().items()]
        for job in running:
            try:
                print(job.result(), flush=True)
            except LabError as error:
                print(error, file=sys.stderr)
                failed = 1
    return failed


def _timed(name: str, fetch: Fetch, report: Report) -> str:
    started = time.monotonic()
    fetch(report)
    return f"{time.monotonic() - started:6.1f} s  {name}"


if __name__ == "__main__":
    sys.exit(main())
