"""What measurements share: interleaved rounds, medians, one table, one line of JSON."""

from __future__ import annotations

import gc
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

ROUNDS: Final = 7

Rounds = Mapping[str, Sequence[float]]
"""Figures by peer, one per round."""


def interleaved(peers: Mapping[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Measure every peer once in each round, so that a busy minute hits them all.

    A first round warms up and is thrown away.
    """
    figures: dict[str, list[float]] = {name: [] for name in peers}
    for turn in range(rounds + 1):
        for name, measure in peers.items():
            gc.collect()
            figure = measure()
            if turn:
                figures[name].append(figure)
    return figures


def ratio(figures: Rounds, stock: str, ours: str) -> float:
    """Return how many times less ours is: the median over the rounds."""
    pairs = zip(figures[stock], figures[ours], strict=True)
    return round(statistics.median(theirs / mine for theirs, mine in pairs), 2)


def report(
    name: str,
    title: str,
    figures: Rounds,
    *,
    unit: str,
    stock: str,
    ratios: Mapping[str, float],
    more: Mapping[str, float | str] | None = None,
) -> None:
    """Print the table and, last, one line of JSON."""
    table = Table(title=title)
    table.add_column("peer")
    for heading in (unit, "least", "most", "times less"):
        table.add_column(heading, justify="right")
    for peer, values in figures.items():
        middle = statistics.median(values)
        times = ratio(figures, stock, peer)
        table.add_row(peer, f"{middle:.2f}", f"{min(values):.2f}", f"{max(values):.2f}", f"{times:.1f}")
    Console().print(table)
    medians = {
        f"{peer}_{unit}".replace(" ", "_"): round(statistics.median(figures[peer]), 3) for peer in figures
    }
    print(json.dumps({"bench": name, "ratios": dict(ratios), "figures": {**medians, **(more or {})}}))
