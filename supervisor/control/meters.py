"""Meters: what the connections count, for whoever looks at the daemon's numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from supervisor.control.latency import Latency


@dataclass(slots=True)
class Meters:
    latency: Latency = field(default_factory=Latency)
    subscriptions: int = 0
    """That there are now."""
    overflows: int = 0
    """Of them, those to events that have been ended since the start because the subscriber was too slow."""
