"""What scripts/setup does: the virtual environment and every package set, several at a time.

Runs with the machine's own Python and nothing but the standard library.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from lab import debian
from lab.browser import chromium, lend_libraries
from lab.certificate import openssl
from lab.environment import make_environment
from lab.errors import LabError
from lab.postgres import installed_programs
from lab.progress import Report, showing

AT_ONCE = 3
"""While one set is unpacked, which takes the processor, others are downloaded."""

Job = Callable[[Report], object]


def _fetch_browser(report: Report) -> None:
    lend_libraries(report)
    chromium(report)


JOBS: dict[str, Job] = {
    "python": make_environment,
    "asterisk-22": partial(debian.ensure, "asterisk-22"),
    "postgresql": installed_programs,
    "asterisk-16": partial(debian.ensure, "asterisk-16"),
    "tools": partial(debian.ensure, "tools"),
    "chromium": _fetch_browser,
    "systemd": partial(debian.ensure, "systemd"),
    "faults": partial(debian.ensure, "faults"),
    "openssl": openssl,
}
"""By name, the longest first. What the machine has of its own is not fetched."""

CHOICES = {
    "--demo": ("python", "asterisk-22", "postgresql"),
    "--python-only": ("python",),
}


def main(words: Sequence[str]) -> int:
    """Do what is not done yet; print one line for each job.

    Args:
        words: Names of jobs or of choices; none means every job.

    Returns:
        The exit status: 0 if everything is there, 2 if a word is not known.
    """
    began = time.monotonic()
    names = [name for word in words for name in CHOICES.get(word, (word,))] or list(JOBS)
    if unknown := sorted(set(names) - set(JOBS)):
        known = ", ".join([*CHOICES, *JOBS])
        print(f"scripts/setup does not know {', '.join(unknown)}; it knows {known}.", file=sys.stderr)
        return 2
    with showing() as make, ThreadPoolExecutor(AT_ONCE) as pool:
        running = [pool.submit(_timed, JOBS[name], make(name)) for name in names]
        failures = [_tell(name, job) for name, job in zip(names, running, strict=True)]
    total = time.monotonic() - began
    if not any(failures):
        print(f"{total:6.1f} s  everything is ready")
    return int(any(failures))


def _timed(job: Job, report: Report) -> float:
    started = time.monotonic()
    job(report)
    return time.monotonic() - started


def _tell(name: str, job: Future[float]) -> bool:
    """Wait for a job, print how it went, and return whether it failed."""
    try:
        print(f"{job.result():6.1f} s  {name} is there", flush=True)
    except LabError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
