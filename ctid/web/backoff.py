"""Who guesses passwords waits longer and longer; everybody else signs in as ever.

Three counts of failures: of one name from one address, of one address, of one name from
anywhere. The first is strict. The second stops whoever tries many names. The third only slows
down, and only a little: nobody can lock a colleague out from elsewhere, and no address can lock
out the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

MOST_KEPT: Final = 20_000
"""Names and addresses remembered; the ones longest untouched are forgotten first."""
FORGOTTEN_AFTER: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Patience:
    """How many failures are free, and how long one waits at most after that."""

    free: int
    longest: timedelta


PAIR: Final = Patience(5, timedelta(minutes=15))
ADDRESS: Final = Patience(30, timedelta(minutes=15))
NAME: Final = Patience(20, timedelta(seconds=10))


@dataclass(frozen=True, slots=True)
class Failures:
    """Of one key.

    Attributes:
        until: Not before then.
    """

    count: int
    last: datetime
    until: datetime


class Backoff:
    """Counts failures, in memory: a restart forgives. Time is an argument."""

    def __init__(self) -> None:
        self._failures: dict[tuple[str, ...], Failures] = {}

    def wait(self, name: str, address: str, now: datetime) -> timedelta:
        """Return how long this one still has to wait; zero: he may try."""
        untils = [self._of(key, now).until for key, _ in _keys(name, address)]
        return max(max(untils) - now, timedelta(0))

    def failed(self, name: str, address: str, now: datetime) -> int:
        """Count a failure and return how many there were of this name from this address."""
        for key, patience in _keys(name, address):
            count = self._of(key, now).count + 1
            self._failures.pop(key, None)
            self._failures[key] = Failures(count, now, now + _penalty(count, patience))
        while len(self._failures) > MOST_KEPT:
            del self._failures[next(iter(self._failures))]
        return self._failures["pair", name, address].count

    def succeeded(self, name: str, address: str) -> None:
        """Forgive this name here; the address has not proved anything about other names."""
        self._failures.pop(("pair", name, address), None)
        self._failures.pop(("name", name), None)

    def _of(self, key: tuple[str, ...], now: datetime) -> Failures:
        found = self._failures.get(key)
        if found is None or found.last + FORGOTTEN_AFTER <= now:
            return Failures(0, now, now)
        return found


def _keys(name: str, address: str) -> tuple[tuple[tuple[str, ...], Patience], ...]:
    return (("pair", name, address), PAIR), (("address", address), ADDRESS), (("name", name), NAME)


def _penalty(count: int, patience: Patience) -> timedelta:
    """One second after the last free failure, then double each time."""
    over = count - patience.free
    return min(timedelta(seconds=2 ** min(over, 20)), patience.longest) if over >= 0 else timedelta(0)
