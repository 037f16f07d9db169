"""How long the event loop stands still.

Asterisk cuts an AMI reader off that does not read for 100 ms, and a caller hears silence
while the loop decides nothing. So a callback that is due every ``TICK`` tells how late it is;
that needs no thread. Who is to blame can only be seen while it lasts, from outside: a second
thread looks at the loop's stack once it stands for ``STALL``.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Final

import structlog

_log = structlog.get_logger()

TICK: Final = 0.01
"""Seconds. A stall is seen this much too short at worst."""
STALL: Final = 0.1
"""Seconds; from here on the stack is looked at."""
WINDOW: Final = 60.0
"""Seconds that ``worst`` looks back."""
LOG_EVERY: Final = 60.0
"""Seconds between two log lines, however often the loop stalls."""
USELESS: Final = 1.0
"""Seconds; a loop that stood so long is not ready to serve..."""
TRUST_AFTER: Final = 2.0
"""...until it ran so many seconds without."""
_FRAMES: Final = 12


class StallMonitor:
    """Watches the loop that ``run`` runs on.

    Attributes:
        worst: Seconds of the longest stall of the last minute; safe to read in any thread.
    """

    def __init__(
        self,
        observe: Callable[[float], None] = lambda seconds: None,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begin with a loop that never stalled.

        Args:
            observe: Told the lateness of each tick, in seconds.
            clock: Steady; uvloop's own ticks in milliseconds and stands still with the loop.
        """
        self._observe = observe
        self._clock = clock
        self._beat = clock()
        self._useless_at = float("-inf")
        self._thread = threading.get_ident()
        self._over = threading.Event()
        self._peaks: deque[tuple[float, float]] = deque()
        self.worst = 0.0

    async def run(self) -> None:
        """Watch until cancelled."""
        self._thread, self._beat = threading.get_ident(), self._clock()
        watcher = threading.Thread(target=self._watch, name="stall watcher", daemon=True)
        watcher.start()
        try:
            while True:
                began = self._clock()
                await asyncio.sleep(TICK)
                self._beat = self._clock()
                self.saw(self._beat, max(0.0, self._beat - began - TICK))
        finally:
            self._over.set()

    def saw(self, now: float, late: float) -> None:
        """Take down that a tick was so late."""
        self._observe(late)
        if late >= USELESS:
            self._useless_at = now
        # Falling from the oldest to the newest: the first is the worst that still counts.
        while self._peaks and self._peaks[-1][1] <= late:
            self._peaks.pop()
        self._peaks.append((now, late))
        while self._peaks[0][0] < now - WINDOW:
            self._peaks.popleft()
        self.worst = self._peaks[0][1]

    def why_not_ready(self) -> str:
        """Say why the loop is of no use now; empty: it is."""
        ago = self._clock() - self._useless_at
        return "" if ago >= TRUST_AFTER else f"the event loop stood still until {ago:.1f} s ago"

    def _watch(self) -> None:
        logged, seen = float("-inf"), 0.0
        while not self._over.wait(STALL / 2):
            beat, now = self._beat, self._clock()
            if now - beat < STALL or beat == seen or now - logged < LOG_EVERY:
                continue
            seen, logged = beat, now
            stack = stack_of(sys._current_frames().get(self._thread))
            _log.warning("the event loop stands still", seconds=round(now - beat, 3), at=stack)


def stack_of(frame: FrameType | None) -> list[str]:
    """Return where a thread is, innermost first; names of functions only, no values of theirs."""
    found: list[str] = []
    while frame is not None and len(found) < _FRAMES:
        code = frame.f_code
        found.append(f"{code.co_qualname} {os.path.basename(code.co_filename)}:{frame.f_lineno}")
        frame = frame.f_back
    return found
