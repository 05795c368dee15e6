"""Lateness: how long after their due time, jitter added, scheduled runs started."""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.clock import Clock, to_ms
from supervisor.core.job import Trigger
from supervisor.histogram import DELAY_S, Histogram
from supervisor.jobs.active import ActiveRun
from supervisor.jobs.cron import ScheduleError
from supervisor.jobs.due import due_at, schedule_of


class Lateness:
    """In seconds. Of what runs by hand, again, or late because it had been missed, nothing is noted."""

    def __init__(self, clock: Clock, timezone: str) -> None:
        """`timezone`: of jobs that name none."""
        self.seconds = Histogram(DELAY_S)
        self._clock = clock
        self._timezone = timezone

    def note(self, started: Iterable[ActiveRun]) -> None:
        """Their rows say running."""
        now_ms = to_ms(self._clock.now())
        for active in started:
            if active.run.trigger is Trigger.SCHEDULE:
                # Never below 0: the clock may have been turned back meanwhile.
                self.seconds.observe(max(0, now_ms - self._fire_ms(active)) / 1000)

    def _fire_ms(self, active: ActiveRun) -> int:
        spec, run = active.spec, active.run
        if not spec.jitter_s:
            return run.due_ms
        try:
            schedule = schedule_of(spec, run.plugin_key, self._timezone)
        except ScheduleError:
            schedule = None  # Its zone was renamed since it was claimed.
        return run.due_ms if schedule is None else due_at(spec, schedule, run.plugin_id, run.due_ms).fire_ms
