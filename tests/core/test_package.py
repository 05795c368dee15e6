"""Which versions of a plugin are kept."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from supervisor.core.package import Version, prunable
from supervisor.core.plugin import PluginId
from tests.worker.fakes import make_plugin

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def version(name: str) -> Version:
    return Version(
        plugin_id=PluginId("p"),
        package_dir=name,
        manifest=make_plugin().manifest,
        digest="0" * 64,
        source="",
        editable=None,
        previous_dir=None,
        stored_at=NOW,
        activated_at=None,
    )


@pytest.mark.parametrize(
    ("stored", "active", "previous", "staged", "keep", "gone"),
    [
        ("abcde", "e", "d", None, 3, "ab"),
        ("abcde", "e", "a", None, 3, "bc"),
        ("abcde", "a", "b", None, 2, "cde"),
        ("abcde", "d", "c", "e", 2, "ab"),
        # What waits, and may be rejected, costs nobody's place.
        ("abcd", "c", "b", "d", 3, ""),
        ("abcde", "d", "c", "e", 3, "a"),
        ("abc", "c", "b", None, 3, ""),
        ("abc", "c", None, None, 1, "ab"),
        ("a", "a", None, None, 3, ""),
        ("abc", "c", "b", "a", 2, ""),
    ],
)
def test_the_oldest_go_but_never_those_in_use(
    stored: str, active: str, previous: str | None, staged: str | None, keep: int, gone: str
) -> None:
    versions = [version(name) for name in stored]
    assert prunable(versions, active=active, previous=previous, staged=staged, keep=keep) == list(gone)
