"""Which events are meant: each type is held against the globs once."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from supervisor.core.event import Recorded
from supervisor.store.event_filters import Filters


def event(type_: str, plugin: str = "p", job: str | None = None) -> Recorded:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Recorded(seq=1, at=at, type=type_, plugin_id=plugin, plugin_key="k", job=job, data={})


@pytest.mark.parametrize(
    ("glob", "matched", "not_matched"),
    [
        ("plugin.enabled", "plugin.enabled", "plugin.enabledx"),
        ("plugin.*", "plugin.x\ny", "xplugin.x"),
        ("a?c", "abc", "ac"),
        ("[ab]*", "bx", "cx"),
        ("[!ab]*", "cx", "ax"),
        ("a.c", "a.c", "abc"),
        ("[", "[", "x"),
    ],
)
def test_globs(glob: str, matched: str, not_matched: str) -> None:
    filters = Filters(["nothing", glob])
    for _ in range(2):
        assert filters.match(event(matched))
        assert not filters.match(event(not_matched))


def test_one_of_each_list() -> None:
    filters = Filters(["job.*"], ["p", "q"], ["k/a"])
    assert filters.match(event("job.x", "q", "k/a"))
    assert not filters.match(event("job.x", "r", "k/a"))
    assert not filters.match(event("job.x", "q", "k/b"))
    assert not filters.match(event("plugin.x", "q", "k/a"))
    assert Filters() == Filters()


def test_what_is_prepared_costs_a_look_for_each_event_and_little_for_a_new_type() -> None:
    many = [Filters([f"*x{n}-{glob}*" for glob in range(100)]) for n in range(100)]
    for filters in many:
        filters.prepare()
    some = event("plugin.status_changed")
    began = time.process_time()
    for filters in many:
        assert not filters.match(some)
    first_s = time.process_time() - began
    began = time.process_time()
    for _ in range(10):
        for filters in many:
            filters.match(some)
    assert (time.process_time() - began) / 10 < max(first_s / 5, 0.0005)
    assert first_s < 0.5


def test_types_without_end_are_not_remembered_without_end() -> None:
    filters = Filters(["emitted.*"])
    for number in range(1000):
        assert filters.match(event(f"emitted.{number}"))
        assert not filters.match(event(f"other.{number}"))
    assert len(filters._types._known) <= 128
