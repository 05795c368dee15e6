"""What a worker may do is what was approved, as far as the version that runs asks for it: told, and enforced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from supervisor.core.errors import PermissionDenied
from supervisor.core.plugin import Capability, Plugin
from supervisor.wire.message import Notification
from supervisor.worker.discretion import Discretion
from supervisor.worker.handshake import shake_hands
from supervisor.worker.host import read_notification
from tests.worker.fakes import HANDSHAKE, FakeHost, make_plugin

METRICS = Notification("metrics.write", [{"metrics": []}])


def approved(plugin: Plugin, *capabilities: str) -> Plugin:
    return replace(plugin, approved=frozenset(map(Capability, capabilities)))


class Recorder:
    """A channel that answers everything with a handshake."""

    def __init__(self) -> None:
        self.params: Any = None

    async def call(self, method: str, params: Any, *, timeout_s: float | None) -> Any:
        self.params = params
        return HANDSHAKE


@pytest.mark.parametrize(
    ("declares", "approves", "granted"),
    [
        (("state.read", "state.write"), ("state.read", "state.write"), ["state.read", "state.write"]),
        (("state.read",), ("state.read", "state.write"), ["state.read"]),  # approved for an earlier version
        (("state.read", "state.write"), ("state.read",), ["state.read"]),
        (("state.read",), (), []),
    ],
)
async def test_a_worker_is_told_what_it_may(declares: Any, approves: Any, granted: list[str]) -> None:
    plugin, channel = approved(make_plugin(capabilities=declares), *approves), Recorder()
    assert await shake_hands(channel, plugin, FakeHost(), Discretion(), data_dir="/data") is None  # type: ignore[arg-type]
    assert channel.params[0]["capabilities"] == granted


@pytest.mark.parametrize(("declares", "approves"), [((), ("metrics.write",)), (("metrics.write",), ())])
def test_what_is_not_granted_is_denied(declares: Any, approves: Any) -> None:
    with pytest.raises(PermissionDenied, match=r"metrics.write"):
        read_notification(approved(make_plugin(capabilities=declares), *approves), METRICS)


def test_what_is_granted_is_let_through() -> None:
    plugin = make_plugin(capabilities=("metrics.write",))
    assert read_notification(plugin, METRICS).CAPABILITY == "metrics.write"
