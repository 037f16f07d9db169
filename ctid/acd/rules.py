"""How one queue is to be judged: rings, service level, wrap-up."""

from __future__ import annotations

from datetime import timedelta
from types import MappingProxyType
from typing import Final

import msgspec

#: Seconds of one full cadence cycle of the bell, by ISO country (Asterisk's
#: indications.conf.sample, ``ringcadence``; the British double burst is one ring).
RING_CYCLES: Final = MappingProxyType(
    {
        "cn": 5.0,
        "de": 5.0,
        "fr": 5.0,
        "it": 5.0,
        "nl": 5.0,
        "ru": 5.0,
        "ch": 5.0,
        "br": 5.0,
        "tw": 5.0,
        "hu": 5.0,
        "us": 6.0,
        "mx": 6.0,
        "my": 6.0,
        "at": 6.0,
        "se": 6.0,
        "pt": 6.0,
        "uk": 3.0,
        "au": 3.0,
        "nz": 3.0,
        "in": 3.0,
        "sg": 3.0,
        "za": 3.0,
        "jp": 3.0,
        "be": 4.0,
        "cl": 4.0,
        "il": 4.0,
        "es": 4.5,
    }
)


class QueueRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a queue promises.

    Attributes:
        ring_cycle: One ring of the bell, off-time included.
        rings: "Answered within n rings" means before ring n+1 begins.
        service_level_within: A wait up to and including this is in time.
        service_level_goal: Ratio 0-1 of callers to be answered in time.
        short_abandon: Giving up sooner than this is a class of its own.
        wrap_up: Longest time for the note after a call; zero: none.
    """

    ring_cycle: timedelta = timedelta(seconds=5)
    rings: int = 3
    service_level_within: timedelta = timedelta(seconds=20)
    service_level_goal: float = 0.8
    short_abandon: timedelta = timedelta(seconds=5)
    wrap_up: timedelta = timedelta(0)

    @property
    def ring_limit(self) -> timedelta:
        """The longest ringing that still counts as answered in time; inclusive."""
        return self.ring_cycle * self.rings
