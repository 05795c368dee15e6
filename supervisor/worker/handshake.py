"""The first exchange with a worker: who it is, what it may, what it offers."""

from __future__ import annotations

from typing import Any, Final

import trio

from supervisor.channel import Channel
from supervisor.core.errors import LocalProtocolError, SupervisorError
from supervisor.core.manifest import API_VERSION, Manifest
from supervisor.core.plugin import Plugin
from supervisor.core.problem import shown
from supervisor.core.secrets import hide
from supervisor.core.stored_manifest import manifest_for_worker
from supervisor.wire.worker import HANDSHAKE
from supervisor.worker.crash import Crash, Reason
from supervisor.worker.discretion import Discretion
from supervisor.worker.host import Host

_MESSAGE_CHARACTERS: Final = 10_000


async def shake_hands(
    channel: Channel, plugin: Plugin, host: Host, discretion: Discretion, *, data_dir: str
) -> Crash | None:
    """Return what was wrong, None when all is well; lasts at most the plugin's `start_timeout_s`."""
    timeout_s = plugin.manifest.worker.start_timeout_s
    try:
        given = await host.config(plugin)
    except SupervisorError as error:
        return Crash(Reason.CANNOT_START, f"was not started: its configuration cannot be given to it: {error.message}")
    discretion.learn(given.secrets)
    # Our own deadline: an error of that name may also be the worker's answer.
    with trio.move_on_after(timeout_s) as waiting:
        try:
            answer = await channel.call(HANDSHAKE, [_introduction(plugin, given.config, data_dir)], timeout_s=None)
        except LocalProtocolError as error:
            return Crash(Reason.CANNOT_START, f"was not started: initialize cannot be sent: {error.message}")
        except SupervisorError as error:
            # Hidden before it is cut: half a secret would not be found.
            words = hide(error.message, given.secrets)
            why = f"refused initialize: {error.code}: {words[:_MESSAGE_CHARACTERS]}"
            return Crash(Reason.HANDSHAKE_REFUSED, why)
        if problem := handshake_problem(answer, plugin.manifest):
            return Crash(Reason.HANDSHAKE_INVALID, problem)
    if waiting.cancelled_caught:
        return Crash(Reason.HANDSHAKE_TIMEOUT, f"did not answer initialize within {timeout_s:g} s")
    if given.is_new:
        await host.config_taken(plugin.id, given.revision)
    return None


def _introduction(plugin: Plugin, config: dict[str, Any], data_dir: str) -> dict[str, Any]:
    return {
        "plugin": plugin.key,
        "manifest": manifest_for_worker(plugin.manifest),
        "capabilities": sorted(plugin.granted),
        "config": config,
        "data_dir": data_dir,
        "api_version": API_VERSION,
    }


def handshake_problem(answer: Any, manifest: Manifest) -> str | None:
    """What is wrong with a worker's answer to `initialize`, or None. Pure."""
    if not isinstance(answer, dict):
        return f"answered initialize with rubbish: expected a map, got {type(answer).__name__}"
    if answer.get("api_version") != manifest.api_version:
        return f"speaks api_version {shown(answer.get('api_version'))}, its manifest says {manifest.api_version}"
    offered = answer.get("methods", [])
    if not isinstance(offered, list):
        return "answered initialize with rubbish: `methods` is no list"
    missing = [method.name for method in manifest.methods if method.name not in offered]
    return f"lacks methods that its manifest declares: {', '.join(missing)}" if missing else None
