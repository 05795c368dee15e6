"""Days of a rule, against counting them."""

import pytest

from supervisor.jobs.cron import ScheduleError, parse_schedule
from supervisor.jobs.cron_days import DayRule, next_day
from tests.jobs.brute_force import DAY, Random, cron

LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def test_each_day_of_thirty_years():
    random = Random(11)
    for _ in range(15):
        drawn = cron(random)
        rule = DayRule(*_normalised(drawn))
        matching = [day for day in range(9000, 20_000) if drawn.on(day)]
        found, day = [], 9000
        while (day := next_day(rule, day)) < 20_000 and len(found) < 2000:
            found.append(day)
            day += 1
        assert found == matching[:2000], drawn.text


def _normalised(drawn):
    """As the parser writes them: numbers in order, a leading star kept."""
    months = tuple(sorted(drawn.month.values))
    return _listed(drawn.day, 31), months, _listed(drawn.weekday, 7)


def _listed(field, size):
    if field.text == "L" or "#" in field.text:
        return field.text
    if not field.star:
        return ",".join(map(str, sorted(field.values)))
    return "*" if len(field.values) == size else field.text


@pytest.mark.parametrize("month", range(1, 13))
def test_a_date_is_refused_at_once_or_comes(month):
    """Whatever is accepted does come: nothing else keeps the search for it short."""
    for day in range(1, 32):
        for weekday in ("*", "*/7", "1", "*/6"):
            text = f"0 0 {day} {month} {weekday}"
            if day > LONGEST[month - 1] and weekday.startswith("*"):
                with pytest.raises(ScheduleError, match="never comes"):
                    parse_schedule(text)
            else:
                assert parse_schedule(text).next_ms(50 * 365 * DAY * 1000) < 95 * 365 * DAY * 1000
    for weekday in range(7):
        assert parse_schedule(f"0 0 * {month} {weekday}#5").next_ms(60 * 365 * DAY * 1000)


def test_what_never_comes_ends():
    """The parser refuses it before; a search without an end would be the end of the daemon."""
    with pytest.raises(ScheduleError, match="never comes"):
        next_day(DayRule("30", (2,), "*"), 20_000)
