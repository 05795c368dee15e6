"""The decision which case an exchange is: the whole table, written out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from supervisor.core.lifecycle import Command, Status
from supervisor.core.package import Version
from supervisor.core.plugin import PluginId
from supervisor.lifecycle.decide import Case, Way, decide, earlier, overtakers, probation_failed, superfluous
from supervisor.worker.phase import Phase
from supervisor.worker.view import WorkerView
from tests.jobs.world import NOON, manifest

# Command, status -> what happens with nothing more to approve, with more, and with more that is approved.
TABLE = {
    ("upgrade", "ready"): "try stage try",
    ("upgrade", "upgrade_pending"): "try stage try",
    ("upgrade", "disabled"): "exchange refuse exchange",
    ("upgrade", "error"): "exchange refuse exchange",
    ("approve", "upgrade_pending"): "try refuse try",
    ("enable", "upgrade_pending"): "try refuse try",
    ("rollback", "ready"): "try refuse try",
    ("rollback", "error"): "try refuse try",
    ("rollback", "disabled"): "exchange refuse exchange",
}


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize(("command", "status"), TABLE)
def test_every_case(command: str, status: str, exclusive: bool) -> None:
    tried = Way.STOP_FIRST if exclusive else Way.OVERLAP
    expected = [tried if way == "try" else Way(way) for way in TABLE[command, status].split()]
    cases = [(False, False), (True, False), (True, True)]
    assert [
        decide(
            Case(command=Command(command), status=Status(status), more=more, approving=approving, exclusive=exclusive)
        )
        for more, approving in cases
    ] == expected


def test_only_who_would_not_be_refused_cuts_a_trial_short() -> None:
    assert overtakers(Status.READY) == {"disable", "unload", "mark_error", "mark_upgrade_pending", "stop"}
    assert overtakers(Status.UPGRADE_PENDING) == {"unload", "mark_error"}
    assert overtakers(Status.ERROR) == {"unload"}


def versions(*numbers: str) -> list[Version]:
    """Stored and activated an hour after each other; each the successor of the one before."""
    found: list[Version] = []
    for hours, number in enumerate(numbers):
        found.append(
            Version(
                plugin_id=PluginId("p"),
                package_dir=f"k/{number}",
                manifest=replace(manifest("k"), version=number),
                digest="",
                source="",
                editable=None,
                previous_dir=found[-1].package_dir if found else None,
                stored_at=NOON + timedelta(hours=hours),
                activated_at=NOON + timedelta(hours=hours),
            )
        )
    return found


def test_where_a_rollback_leads() -> None:
    kept = versions("1", "2", "3")
    found = [
        earlier(kept, "k/3", None),
        earlier(kept, "k/3", "1"),
        earlier(kept, "k/3", "3"),
        earlier(kept, "k/1", None),
    ]
    assert found == [kept[1], kept[0], None, None]
    assert earlier(kept[1:], "k/2", None) is None


def test_two_builds_of_one_version_are_told_apart_by_their_digests() -> None:
    kept = [
        replace(version, package_dir=f"k/{digest}", digest=digest * 8, manifest=replace(version.manifest, version="1"))
        for version, digest in zip(
            versions("1", "2", "3", "4"), ("abcd0001", "abcd0002", "ffff0003", "active"), strict=True
        )
    ]

    def named(name: str) -> int | None:
        found = earlier(kept, "k/active", name)
        return None if found is None else kept.index(found)

    assert named("1") == 2  # the one stored last
    assert [named(name) for name in ("1-abcd0001", "abcd0002", "1-ABCD0002abcd", "1-ffff")] == [0, 1, 1, 2]
    # Both; too little; another version's; none; the active one.
    assert [named(name) for name in ("abcd", "fff", "2-ffff", "1-", "activeactive")] == [None] * 5


def test_what_is_kept_for_nothing() -> None:
    kept = versions("1", "2", "3", "4", "5")
    assert superfluous(kept, active_dir="k/5", staged_dir=None, keep=3) == ("k/1", "k/2")
    assert superfluous(kept, active_dir="k/5", staged_dir=None, keep=1) == ("k/1", "k/2", "k/3")
    assert superfluous(kept, active_dir="k/2", staged_dir=None, keep=2) == ("k/3", "k/4", "k/5")
    assert superfluous(kept[:2], active_dir="k/2", staged_dir=None, keep=3) == ()
    never_ran = [*kept[:2], replace(kept[2], activated_at=None)]
    assert superfluous(never_ran, active_dir="k/2", staged_dir="k/3", keep=3) == ()
    assert superfluous(never_ran, active_dir="k/2", staged_dir=None, keep=3) == ("k/3",)


@pytest.mark.parametrize(
    ("worker", "failed"),
    [
        (WorkerView(phase=Phase.RUNNING, wanted=True, crashes=3, last_failure="segfault"), None),
        (WorkerView(phase=Phase.STOPPED, wanted=False), None),
        (WorkerView(phase=Phase.STOPPED, wanted=False, finished="exit code 0"), None),
        (WorkerView(phase=Phase.STOPPED, wanted=True, waiting_for=("k",)), None),  # type: ignore[arg-type]
        (WorkerView(phase=Phase.BACKOFF, wanted=True, last_failure="segfault"), "segfault"),
        (WorkerView(phase=Phase.STARTING, wanted=True), "its worker is starting at the end of its probation"),
        (WorkerView(phase=Phase.STOPPED, wanted=False, gave_up=True, last_failure="segfault"), "segfault"),
    ],
)
def test_who_has_stood_a_probation(worker: WorkerView, failed: str | None) -> None:
    assert probation_failed(worker) == failed
