"""Zones: what is taken from a tz database, and what is assumed of all of them."""

import shutil
import zoneinfo
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from supervisor.jobs import cron, cron_zones
from supervisor.jobs.cron_zones import ScheduleError, segments, zone_fingerprint
from tests.jobs.brute_force import DAY, Stretches, asked, changes, simulated, written_changes, zone_file
from tests.jobs.brute_force import cron as random_cron
from tests.jobs.instants import next_after

ZONES = sorted(name for name in zoneinfo.available_timezones() if "/" in name or name == "UTC")


@pytest.fixture
def unread():
    """Nothing of a zone is remembered, before and after."""

    def forget():
        for cached in (cron_zones._zone, cron_zones._segments, cron_zones._meant, cron._cron, cron._at):
            cached.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def database(tmp_path, monkeypatch, unread):
    """A tz database that a test may write, and nothing else."""
    monkeypatch.setattr(cron_zones.zoneinfo, "TZPATH", (str(tmp_path),))
    return tmp_path


def test_no_zone_changes_twice_within_six_days():
    """Changes are looked for every four days: none may come and go in between. Rules for the years to come have
    months between theirs, but for what the database writes down in advance."""
    for zone in ZONES:
        instants, offsets = written_changes(zone)
        found = [at for n, at in enumerate(instants) if at >= 0 and n and offsets[n] != offsets[n - 1]]
        for before, after in pairwise(found):
            assert after - before >= 6 * DAY, (zone, after)


@pytest.mark.parametrize("year", [2044, 2099])
def test_rules_for_years_to_come_leave_months_between_changes(year):
    for zone in ZONES[::7]:
        found = [at for at, _, _ in changes(zone, year)]
        assert all(after - before >= 6 * DAY for before, after in pairwise(found)), zone


def test_segments_have_the_offsets_of_the_zone():
    random = Random(5)
    for zone in random.sample(ZONES, 60):
        info, instant = zoneinfo.ZoneInfo(zone), random.randint(0, 130 * 365 * DAY)
        found = segments(zone, instant >> cron_zones.BLOCK_BITS)
        assert found[0].start == instant >> cron_zones.BLOCK_BITS << cron_zones.BLOCK_BITS
        assert found[-1].end == (instant >> cron_zones.BLOCK_BITS) + 1 << cron_zones.BLOCK_BITS
        assert [one.end for one in found[:-1]] == [one.start for one in found[1:]]
        for start, end, offset, _ in found:
            assert {asked(info, at) for at in (start, (start + end) // 2, end - 1)} == {offset}, (zone, start)
        assert all(asked(info, one.end) != one.offset for one in found[:-1]), zone


def test_hours_that_repeat_may_lie_across_blocks(monkeypatch, unread):
    """Blocks of two hours: a cut in the middle of a repeated hour or just at a change makes no difference."""
    monkeypatch.setattr(cron_zones, "BLOCK_BITS", 13)
    monkeypatch.setattr(cron, "BLOCK_BITS", 13)
    random = Random(7)
    for _ in range(60):
        zone = random.choice(["Europe/Berlin", "Australia/Lord_Howe", "Antarctica/Troll", "America/Havana"])
        change = random.choice(changes(zone, random.randint(2010, 2030)))[0]
        rule = random_cron(random, hours=4, days=False)
        schedule = cron.parse_schedule(rule.text, zone=zone)
        runs = simulated(rule, Stretches(zone, change - DAY // 2, change + DAY // 2), 60)
        found = [schedule.next_ms(run * 1000 - 1) for run in runs]
        assert found == [run * 1000 for run in runs]
        assert [schedule.next_ms(run * 1000) for run in runs[:-1]] == found[1:]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+12", "EST5EDT"])
def test_fingerprints_stay_and_differ(zone):
    assert zone_fingerprint(zone) == zone_fingerprint(zone)
    assert len(zone_fingerprint(zone)) == 16
    assert zone_fingerprint(zone) != zone_fingerprint("Asia/Tokyo")


def test_a_new_database_changes_the_fingerprint_and_the_times(database):
    """Both belong to what this process has read, until it is told to read again."""
    (database / "Test").mkdir()
    place = database / "Test" / "Town"
    place.write_bytes(zone_file("Europe/Berlin"))
    noon, new_year = cron.parse_schedule("0 12 * * *", zone="Test/Town"), datetime(2027, 1, 1, tzinfo=UTC)
    once = cron.parse_schedule(None, at="2030-01-01T12:00", zone="Test/Town")
    before = zone_fingerprint("Test/Town")
    assert next_after(once, new_year) == datetime(2030, 1, 1, 11, tzinfo=UTC)
    assert next_after(noon, new_year) == datetime(2027, 1, 1, 11, tzinfo=UTC)
    place.write_bytes(zone_file("Asia/Tokyo"))
    assert zone_fingerprint("Test/Town") == before
    assert next_after(noon, datetime(2077, 1, 1, tzinfo=UTC)) == datetime(2077, 1, 1, 11, tzinfo=UTC)
    cron.forget_zones()
    assert zone_fingerprint("Test/Town") not in (before, "")
    assert next_after(noon, new_year) == datetime(2027, 1, 1, 3, tzinfo=UTC)
    assert next_after(once, new_year) == datetime(2030, 1, 1, 3, tzinfo=UTC)
    place.unlink()
    cron.forget_zones()
    for ask in (zone_fingerprint, lambda zone: cron.parse_schedule("@daily", zone=zone)):
        with pytest.raises(ScheduleError, match="not an IANA time zone"):
            ask("Test/Town")
    with pytest.raises(ScheduleError, match="not an IANA time zone"):
        next_after(noon, new_year)


def test_reading_the_same_rules_again_keeps_what_was_made_of_them():
    block = segments("Europe/Berlin", 54)
    cron.forget_zones()
    assert segments("Europe/Berlin", 54) is block


def test_zones_come_with_the_program(monkeypatch, unread):
    monkeypatch.setattr(cron_zones.zoneinfo, "TZPATH", ())
    schedule = cron.parse_schedule("0 12 * * *", zone="America/Argentina/Buenos_Aires")
    assert next_after(schedule, datetime(2027, 1, 1, tzinfo=UTC)) == datetime(2027, 1, 1, 15, tzinfo=UTC)


def test_a_file_that_is_no_zone_is_refused(database):
    (database / "Bad").write_text("not a zone")
    (database / "Folder").mkdir()
    for name in ("Bad", "Folder", "Folder/None"):
        with pytest.raises(ScheduleError, match="not an IANA time zone"):
            zone_fingerprint(name)


def test_a_zone_that_cannot_be_read_says_why(database, monkeypatch):
    shutil.copy(Path(__file__), database / "Town")

    def denied(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cron_zones.Path, "read_bytes", denied)
    with pytest.raises(ScheduleError, match=r"cannot be read \(Permission denied\)"):
        zone_fingerprint("Town")
