"""The next time of a job: ours against croniter, cronsim and the least that anybody must do."""

from __future__ import annotations

import argparse
import statistics
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).parent))
from croniter import croniter
from cronsim import CronSim
from harness import timed

from supervisor.jobs import cron
from supervisor.jobs.cron import parse_schedule

EXPRESSIONS = (
    "* * * * *",
    "*/5 * * * *",
    "30 2 * * *",
    "0 9 * * 1-5",
    "15,45 8-18 * * mon-fri",
    "0 0 1 * *",
    "0 0 13 * 5",
    "0 0 L * *",
)
ZONES = ("UTC", "America/New_York")
START = datetime(2027, 1, 1, tzinfo=UTC)
START_S = int(START.timestamp())
DAY = 86_400

Step = Callable[[], object]


def floor(text: str, zone: str, count: int) -> Step:
    """Its days and times of day are two lists made beforehand; what is left are two bisections and one look at the
    zone's offset. It is wrong whenever a clock changes."""
    schedule, walls, at_ms = parse_schedule(text), [], START_S * 1000
    for _ in range(count + 1500):
        at_ms = schedule.next_ms(at_ms) or 0
        walls.append(at_ms // 1000)
    days, times = sorted({wall // DAY for wall in walls}), sorted({wall % DAY for wall in walls})
    info, at = ZoneInfo(zone), START_S

    def step() -> None:
        nonlocal at
        offset = datetime.fromtimestamp(at, info).utcoffset()
        assert offset is not None
        day, time = divmod(at + offset.days * DAY + offset.seconds, DAY)
        place, later = bisect_left(days, day), bisect_right(times, time)
        if days[place] != day or later == len(times):
            place, later = bisect_right(days, day), 0
        at = days[place] * DAY + times[later] - offset.days * DAY - offset.seconds

    return step


def ours(text: str, zone: str, _count: int) -> Step:
    schedule, at_ms = parse_schedule(text, zone=zone), START_S * 1000

    def step() -> None:
        nonlocal at_ms
        at_ms = schedule.next_ms(at_ms) or 0

    return step


def by_croniter(text: str, zone: str, _count: int) -> Step:
    cursor = croniter(text, START.astimezone(ZoneInfo(zone)), implement_cron_bug=True)
    return lambda: cursor.get_next(datetime)


def by_cronsim(text: str, zone: str, _count: int) -> Step:
    cursor = CronSim(text, START.astimezone(ZoneInfo(zone)))
    return lambda: next(cursor)


def in_a_row(step: Step, count: int) -> float:
    """Microseconds of one."""

    def steps() -> None:
        for _ in range(count):
            step()

    return timed(steps) / count * 1e6


def parsed(text: str, zone: str) -> float:
    """Microseconds of parsing an expression that was not seen before, in a zone that was."""
    parse_schedule(text, zone=zone)
    cron._cron.cache_clear()
    return timed(lambda: parse_schedule(text, zone=zone)) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000, help="times in a row, of each expression")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    makers = {"floor": floor, "ours": ours, "croniter": by_croniter, "cronsim": by_cronsim}
    print(f"us of one next time, medians of {options.rounds} rounds of {options.n}; goal: 10 at most, parsing 120")
    print(f"{'':<44}{''.join(f'{name:>10}' for name in makers)}{'x floor':>9}{'parse':>8}{'construct':>11}")
    for zone in ZONES:
        for text in EXPRESSIONS:
            rounds: dict[str, list[float]] = {name: [] for name in makers}
            for _ in range(options.rounds):  # In turns: whatever else the machine does, it does to all of them.
                for name, make in makers.items():
                    rounds[name].append(in_a_row(make(text, zone, options.n), options.n))
            us = {name: statistics.median(times) for name, times in rounds.items()}
            parse = statistics.median(parsed(text, zone) for _ in range(options.rounds * 5))
            construct = statistics.median(
                in_a_row(lambda text=text: croniter(text, START), 1) for _ in range(options.rounds * 5)
            )
            times = "".join(f"{one:>10.2f}" for one in us.values())
            print(f"{zone:<18}{text:<26}{times}{us['ours'] / us['floor']:>9.2f}{parse:>8.1f}{construct:>11.1f}")
    print('parse is ours, "construct" croniter\'s; "x floor": ours to the floor')


if __name__ == "__main__":
    main()
