"""ZoneRules: by which rules of which time zones the due times were computed, and whether they are still the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from supervisor.jobs.cron import ScheduleError, forget_zones
from supervisor.jobs.cron_zones import zone_fingerprint
from supervisor.log import Logger
from supervisor.store.jobs import JobStore

GONE: Final = "gone"
"""In place of a fingerprint: the tz database knows the zone no more."""


class ZoneRules:
    """Every zone that a schedule was computed by, with the fingerprint of its rules then; kept with the schedule."""

    def __init__(self, jobs: JobStore, log: Logger) -> None:
        self._jobs = jobs
        self._log = log
        self._known: dict[str, str] = {}

    async def load(self) -> None:
        """What is stored, and whether it still holds; if not, no plugin's sync counts any more: see `check`."""
        self._known = await self._jobs.zones()
        await self.check()

    async def check(self) -> bool:
        """Look at the tz database anew: whether rules have changed, and then every plugin needs a sync."""
        forget_zones()
        now = {name: _fingerprint(name) for name in self._known}
        changed = sorted(name for name, rules in now.items() if self._known.get(name) != rules)
        if not changed:
            return False
        await self._jobs.set_zones({**self._known, **now})
        self._known |= now
        self._log.warning("jobs.zones_changed", zones=", ".join(changed))
        return True

    async def learn(self, names: Iterable[str]) -> dict[str, str]:
        """The fingerprints of these zones, stored before anything is computed by them."""
        found = {name: self._known.get(name) or _fingerprint(name) for name in set(names)}
        new = {name: rules for name, rules in found.items() if name not in self._known}
        if new:
            # All together: whoever comes meanwhile stores these too, and later.
            self._known |= new
            try:
                await self._jobs.set_zones(dict(self._known))
            except BaseException:
                for name in new:
                    self._known.pop(name, None)
                raise
        return found


def _fingerprint(name: str) -> str:
    try:
        return zone_fingerprint(name)
    except ScheduleError:
        return GONE
