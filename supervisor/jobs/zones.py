"""ZoneRules: by which rules of which time zones the due times were computed, and whether they are still the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from supervisor.jobs.cron import ScheduleError, forget_zones
from supervisor.jobs.cron_zones import ZoneUnreadable, new_fingerprint, zone_fingerprint
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
        self.unreadable = False
        """Rules could not be read at the last look: look again soon."""

    async def load(self) -> None:
        """What is stored, and whether it still holds; if not, no plugin's sync counts any more: see `check`."""
        self._known = await self._jobs.zones()
        await self.check()

    async def check(self) -> bool:
        """Look at the tz database anew: whether rules have changed, and then every plugin needs a sync.

        What cannot be read just now has not changed: the rules that are in use stay so.
        """
        now = self._read_anew()
        changed = sorted(name for name, rules in now.items() if self._known.get(name) != rules)
        if changed or not self.unreadable:
            forget_zones()
        if not changed:
            return False
        await self._jobs.set_zones({**self._known, **now})
        self._known |= now
        self._log.warning("jobs.zones_changed", zones=", ".join(changed))
        return True

    def _read_anew(self) -> dict[str, str]:
        found: dict[str, str] = {}
        self.unreadable = False
        for name in self._known:
            try:
                found[name] = _fingerprint(name, new_fingerprint)
            except ZoneUnreadable as error:
                self.unreadable = True
                self._log.error("jobs.zone_unreadable", zone=name, error=str(error))
        return found

    async def learn(self, names: Iterable[str]) -> dict[str, str]:
        """The fingerprints of these zones, stored before anything is computed by them.

        Raises:
            ZoneUnreadable: one of them cannot be read, for now or for good.
        """
        found = {name: self._known.get(name) or _fingerprint(name, zone_fingerprint) for name in set(names)}
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


def _fingerprint(name: str, ask: Callable[[str], str]) -> str:
    try:
        return ask(name)
    except ZoneUnreadable:
        raise
    except ScheduleError:
        return GONE
