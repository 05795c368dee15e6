"""Event names are promises: this list may grow, nothing in it may change."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from supervisor.core.event import (
    EVENT_TYPES,
    PluginDisabled,
    PluginEmitted,
    PluginRolledBack,
    PluginUpgraded,
    Recorded,
    RunFinished,
    UpgradeFailed,
)
from supervisor.core.job import TERMINAL
from supervisor.core.plugin import PluginId, PluginKey

FROZEN = {
    "plugin.installed",
    "plugin.status_changed",
    "plugin.loaded",
    "plugin.enabled",
    "plugin.disabled",
    "plugin.unloaded",
    "plugin.error",
    "plugin.upgrade_pending",
    "plugin.upgraded",
    "plugin.rolled_back",
    "plugin.upgrade_failed",
    "plugin.upgrade_approved",
    "plugin.upgrade_rejected",
    "plugin.config_changed",
    "plugin.worker_started",
    "plugin.worker_stopped",
    "plugin.worker_crashed",
    "job.run_started",
    "job.run_succeeded",
    "job.run_failed",
    "job.run_cancelled",
    "job.run_timed_out",
    "job.run_interrupted",
    "job.run_skipped",
    "job.run_missed",
}
WHO = {"plugin_id": PluginId("id"), "plugin_key": PluginKey("k")}


def test_the_names() -> None:
    assert EVENT_TYPES == FROZEN


def test_data_is_what_is_said_beside_the_plugin() -> None:
    event = PluginDisabled(**WHO, reason="maintenance")
    assert (event.type, event.data()) == ("plugin.disabled", {"reason": "maintenance"})


def test_exchanges_of_versions_say_from_and_to() -> None:
    versions = {"from_version": "1.0", "to_version": "2.0"}
    assert PluginUpgraded(**WHO, **versions).data() == {"from": "1.0", "to": "2.0"}
    back = PluginRolledBack(**WHO, from_version="2.0", to_version="1.0", reason="it crashed")
    assert back.data() == {"from": "2.0", "to": "1.0", "reason": "it crashed"}
    assert UpgradeFailed(**WHO, to_version="2.0", error="no license").data() == {"to": "2.0", "error": "no license"}


def test_an_emitted_event_is_named_by_the_plugin() -> None:
    assert PluginEmitted(**WHO, name="door.opened", payload=None).type == "emitted.door.opened"


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_every_end_of_a_run_has_a_name(state: str) -> None:
    event = RunFinished(
        **WHO,
        job="j",
        run_id="r",
        trigger="manual",
        attempt=1,
        due_ms=0,
        state=state,
        error=None,
        duration_ms=None,
    )
    assert event.type in FROZEN


def test_the_record_on_the_wire() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC)
    recorded = Recorded(seq=7, at=at, type="plugin.loaded", plugin_id="id", plugin_key="k", data={"version": "1"})
    assert recorded.to_wire() == {
        "seq": 7,
        "at_ms": 1767323045678,
        "type": "plugin.loaded",
        "plugin_id": "id",
        "plugin": "k",
        "data": {"version": "1"},
    }
