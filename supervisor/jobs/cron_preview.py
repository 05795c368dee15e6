"""The next times of a schedule, and what changes of its zone's clock do to it. Pure.

Effects are looked up, not reasoned out: which times of the clock a change skips or repeats says the same rule in a zone
that never changes, and which of them run says the schedule itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from supervisor.jobs.cron import Schedule, parse_schedule
from supervisor.jobs.cron_fields import check_text, normalise
from supervisor.jobs.cron_words import AT_START, at_words, clock_text, cron_words, date_text, every_words, joined
from supervisor.jobs.cron_zones import BLOCK_BITS, CORRECTION_S, instant_of, segments

_DAY: Final = 86_400
_HORIZON: Final = 400 * _DAY
"""A change of the clock that comes later concerns only what is shown beyond it."""
_FARTHEST: Final = 12 * 366 * _DAY
_SHOWN_CHANGES: Final = 2
_COUNTED: Final = 100
_NAMED: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What `parse_schedule` takes: exactly one of text, every and at."""

    text: str | None = None
    zone: str = "UTC"
    seconds: bool = False
    identity: str = ""
    every: str | None = None
    at: str | None = None

    def parsed(self) -> Schedule:
        """Raises ScheduleError."""
        return parse_schedule(
            self.text, zone=self.zone, seconds=self.seconds, identity=self.identity, every=self.every, at=self.at
        )

    def words(self) -> str:
        """The schedule in English, once `parsed` has taken it."""
        if self.every is not None:
            return every_words(self.every)
        if self.at is not None:
            return at_words(self.at)
        return cron_words(self.text or "", seconds=self.seconds, identity=self.identity)


@dataclass(frozen=True, slots=True)
class ClockChange:
    """An instant in UTC seconds at which the zone's offset goes from one number of seconds to another."""

    at_s: int
    before_s: int
    after_s: int

    def before(self) -> datetime:
        """What the clock would show at this instant if it did not change; naive."""
        return _wall(self.at_s + self.before_s)

    def after(self) -> datetime:
        """What it shows instead; naive."""
        return _wall(self.at_s + self.after_s)

    def sentence(self) -> str:
        """As in "on Sun 29 Mar 2026 the clock goes from 02:00 to 03:00"."""
        before, after = self.before(), self.after()
        if after < before:
            span = f"the time from {clock_text(after)} to {clock_text(before)}"
            return f"on {date_text(after)} the clock goes back and {span} comes twice"
        day = f" on {date_text(after)}" if after.date() != before.date() else ""
        return f"on {date_text(before)} the clock goes from {clock_text(before)} to {clock_text(after)}{day}"


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change does to the runs: `kind` is for programs, `text` a clause for people."""

    change: ClockChange
    kind: str  # moved, merged, left_out, first_pass, both_passes
    text: str


def next_times(schedule: Schedule, after_ms: int, count: int) -> list[int]:
    """At most so many fires strictly after the instant, in UTC ms."""
    return list(islice(_fires(schedule, after_ms), count))


def wall_ms(zone: str, wall: datetime) -> int:
    """The UTC ms at which the zone's clock shows the naive `wall`, for the first time if twice; if it jumps over it,
    the last one before the jump, so that what runs right after that is after it."""
    wall_s = int(wall.replace(tzinfo=UTC, microsecond=0).timestamp())
    found_s = instant_of(wall_s, zone)
    jumped = any(found_s + change.after_s > wall_s for change in clock_changes(zone, found_s - 1, found_s))
    return found_s * 1000 - 1 if jumped else found_s * 1000 + wall.microsecond // 1000


def clock_changes(zone: str, start_s: int, end_s: int) -> Iterator[ClockChange]:
    """The changes of offset in (start, end], both in UTC seconds."""
    before = None
    for block in range(start_s >> BLOCK_BITS, (end_s >> BLOCK_BITS) + 1):
        for segment in segments(zone, block):
            if before is not None and segment.offset != before and start_s < segment.start <= end_s:
                yield ClockChange(segment.start, before, segment.offset)
            before = segment.offset


def effects(declared: Declaration, after_ms: int, last_ms: int | None = None) -> list[Effect]:
    """The next two changes of the clock that concern a run, within 400 days or up to the last time that is shown."""
    schedule = declared.parsed()
    if schedule.on_start or declared.every is not None:
        return []
    found = (_effect(declared, schedule, change) for change in _ahead(declared.zone, after_ms, last_ms))
    return list(islice((effect for effect in found if effect), _SHOWN_CHANGES))


def without_effect(declared: Declaration, after_ms: int) -> str:
    """One line for a schedule that no change of the clock concerns: why that is so."""
    if declared.words() == AT_START:
        return "no change of the clock concerns it"
    changes = list(islice(_ahead(declared.zone, after_ms, None), _SHOWN_CHANGES))
    if declared.zone == "UTC":
        return "UTC has none"
    if not changes:
        return f"the clock of {declared.zone} does not change in the 13 months after"
    days = joined([date_text(change.before()) for change in changes])
    if declared.every is not None:
        return _elapsed(declared, changes, days)
    return f"none of its runs is concerned when the clock changes on {days}"


def _elapsed(declared: Declaration, changes: list[ClockChange], days: str) -> str:
    first_ms, second_ms = next_times(declared.parsed(), 0, 2)
    if any((change.after_s - change.before_s) * 1000 % (second_ms - first_ms) for change in changes):
        return f"it counts elapsed time: its times of the clock move when that changes on {days}"
    return f"it counts elapsed time, whatever the clock does on {days}"


def _ahead(zone: str, after_ms: int, last_ms: int | None) -> Iterator[ClockChange]:
    start_s = after_ms // 1000
    end_s = max(start_s + _HORIZON, min((last_ms or 0) // 1000, start_s + _FARTHEST))
    return clock_changes(zone, start_s, end_s)


def _effect(declared: Declaration, schedule: Schedule, change: ClockChange) -> Effect | None:
    """None if no run is written for the times that are skipped or come twice."""
    first, last = sorted((change.before(), change.after()))
    walls = _written(declared, first, last)
    if not walls:
        return None
    runs = _runs(walls, first, last)
    next_ms = next(_fires(schedule, change.at_s * 1000 - 1), None)
    if change.after_s < change.before_s:
        second_ends_ms = (change.at_s + change.before_s - change.after_s) * 1000
        if next_ms is None or next_ms >= second_ends_ms:
            return Effect(change, "first_pass", f"{runs} in the first pass only")
        return Effect(change, "both_passes", _in_both(declared, runs))
    if _is_wild(declared):
        return Effect(change, "left_out", f"it follows elapsed time, so {runs} not made up for")
    # That one runs at its end does not tell: a rule may name that time too.
    corrected = declared.text is not None and change.after_s - change.before_s >= CORRECTION_S
    if corrected or next_ms != change.at_s * 1000:
        return Effect(change, "left_out", f"{runs} not made up for, as the step is three hours or more")
    return _made_up_for(declared, change, len(walls), runs)


def _in_both(declared: Declaration, runs: str) -> str:
    if _is_wild(declared):
        return "it follows elapsed time, so it runs in both passes"
    return f"{runs} in both passes, as the step is more than three hours"


def _made_up_for(declared: Declaration, change: ClockChange, count: int, runs: str) -> Effect:
    """The skipped runs are one run, at the end of the gap; which may be due by itself."""
    end = change.after()
    if _written(declared, end, end + timedelta(seconds=1)):
        return Effect(change, "merged", f"{runs} one with that of {clock_text(end)}")
    instead = "at" if count == 1 else "made up for by one, at"
    return Effect(change, "moved", f"{runs} {instead} {clock_text(end)}{' instead' if count == 1 else ''}")


def _is_wild(declared: Declaration) -> bool:
    """Whether it follows elapsed time, as cron has it for a star at the start of minute or hour."""
    if declared.text is None:
        return False
    return normalise(check_text(declared.text), seconds=declared.seconds, identity=declared.identity).wild


def _written(declared: Declaration, first: datetime, end: datetime) -> list[datetime]:
    """The times of the clock in [first, end), naive, that the rule names; one more than are counted at the most."""
    if declared.at is not None:
        at = datetime.fromisoformat(declared.at.strip())
        return [at] if at.utcoffset() is None and first <= at < end else []
    clock = replace(declared, zone="UTC").parsed()
    before_ms = int(first.replace(tzinfo=UTC).timestamp() * 1000) - 1
    walls = (_wall(due_ms // 1000) for due_ms in _fires(clock, before_ms))
    found = []
    for wall in islice(walls, _COUNTED + 1):
        if wall >= end:
            break
        found.append(wall)
    return found


def _runs(walls: list[datetime], first: datetime, end: datetime) -> str:
    """As in "the run of 02:30 is", "the 60 runs from 02:00 to 02:59 are"."""
    if len(walls) == 1:
        return f"the run of {clock_text(walls[0])} is"
    if len(walls) <= _NAMED:
        return f"the runs of {joined([clock_text(wall) for wall in walls])} are"
    if len(walls) <= _COUNTED:
        return f"the {len(walls)} runs from {clock_text(walls[0])} to {clock_text(walls[-1])} are"
    return f"the runs between {clock_text(first)} and {clock_text(end)} are"


def _fires(schedule: Schedule, after_ms: int) -> Iterator[int]:
    while (due_ms := schedule.next_ms(after_ms)) is not None:
        yield due_ms
        after_ms = due_ms


def _wall(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
