"""EventCounts: what the daemon's numbers are told by its events, each heard as it is published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final

from supervisor.core.event import PluginEmitted, PluginUnloaded, Recorded, RunFinished, WorkerCrashed
from supervisor.core.job import TERMINAL
from supervisor.histogram import DELAY_S, RUN_S, Histogram

_EMITTED: Final = f"{PluginEmitted.TYPE}."
_ENDS: Final = {f"{RunFinished.TYPE}_{state}": str(state) for state in TERMINAL}
"""Event of a run's end -> its state."""


class EventCounts:
    """Since the daemon's start. Of a plugin whose data is gone nothing is kept."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.recorded: Counter[str] = Counter()
        """By type; those that plugins emit are one."""
        self.lag_s = Histogram(DELAY_S)
        """From when an event was recorded until subscribers have it: in their buffers, as they may be slow to read."""
        self.crashes: Counter[str] = Counter()
        """By the plugin's key, as all that follows."""
        self.runs: dict[str, Counter[str]] = {}
        """Those that have an end, by state."""
        self.run_s: dict[str, Histogram] = {}
        """How long those took that had started."""

    def note(self, event: Recorded) -> None:
        """It is being published. Cheap, as a busy scheduler has thousands of them."""
        # Never below 0: the clock may have been turned back meanwhile.
        self.lag_s.observe(max(0.0, (self._now() - event.at).total_seconds()))
        type_ = event.type
        if type_.startswith(_EMITTED):
            type_ = PluginEmitted.TYPE
        self.recorded[type_] += 1
        if type_ in _ENDS:
            self._note_end(event.plugin_key, _ENDS[type_], event.data["duration_ms"])
        elif type_ == WorkerCrashed.TYPE:
            self.crashes[event.plugin_key] += 1
        elif type_ == PluginUnloaded.TYPE and event.data["remove_data"]:
            self._forget(event.plugin_key)

    def _note_end(self, key: str, state: str, duration_ms: int | None) -> None:
        states = self.runs.get(key)
        if states is None:
            states = self.runs[key] = Counter()
        states[state] += 1
        if duration_ms is not None:
            took_s = self.run_s.get(key)
            if took_s is None:
                took_s = self.run_s[key] = Histogram(RUN_S)
            took_s.observe(duration_ms / 1000)

    def _forget(self, key: str) -> None:
        del self.crashes[key]  # A Counter does not mind if there is none.
        self.runs.pop(key, None)
        self.run_s.pop(key, None)
