"""Signing in on ``/metrics``: somebody who guesses passwords is seen there first."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter


class SignInFigures:
    """The metric family; every series stands at 0 from the start."""

    def __init__(self, registry: CollectorRegistry, outcomes: Iterable[str]) -> None:
        self._count = Counter(
            "ctid_sign_ins",
            "Attempts to sign in with a password, by how they ended.",
            ("outcome",),
            registry=registry,
        )
        for outcome in outcomes:
            self._count.labels(outcome)

    def ended(self, outcome: str) -> None:
        """One attempt ended so."""
        self._count.labels(outcome).inc()
