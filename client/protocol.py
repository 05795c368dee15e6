"""What both clients know about the methods: which may be repeated, how long to wait, how to say hello. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from client.errors import InvalidParams
from client.version import VERSION

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

DEADLINE_KEY = "$deadline_ms"
PROGRESS_KEY = "$progress"
REQUEST_ID_KEY = "$request_id"
PROGRESS = "rpc.progress"
"""The notification that tells of it."""
CANCEL = "rpc.cancel"
DEFAULT_TIMEOUT_S = 30.0
MARGIN_S = 5.0
"""Where the daemon itself keeps to a time limit, its answer may come this much later."""
WAIT_MARGIN_S = 0.25
"""The same where nothing but time passes: whoever waits is not to wait much longer for a daemon that hangs."""
_FOR_EVER_S = 1e9
"""More than the clocks of sockets and locks can count."""

READS = frozenset(
    {
        "rpc.hello",
        "rpc.describe",
        "daemon.ping",
        "daemon.info",
        "daemon.status",
        "daemon.settings",
        "daemon.metrics",
        "plugins.list",
        "plugins.get",
        "plugins.wait",
        "plugins.health",
        "plugins.can_transition",
        "plugins.metrics",
        "plugins.state_list",
        "plugins.state_get",
        "plugins.versions",
        "plugins.config_get",
        "plugins.config_test",
        "plugins.config_history",
        "jobs.list",
        "jobs.get",
        "jobs.next",
        "jobs.runs",
        "jobs.get_run",
        "events.list",
        "audit.list",
        "logs.read",
    },
)
"""What may be asked again when the connection was lost; all other methods only under a request id."""

_NEITHER = frozenset(
    {
        "plugins.call",
        "events.subscribe",
        "events.unsubscribe",
        "events.credit",
        "logs.follow",
        "logs.unfollow",
        "logs.credit",
    },
)
"""What changes nothing that plugind keeps, but is not to be repeated: a plugin's method may do anything."""

UNBOUNDED = frozenset(
    {
        "daemon.backup",
        "plugins.install",
        "plugins.upgrade",
        "plugins.approve",
        "plugins.reject",
        "plugins.rollback",
        "plugins.config_set",
        "plugins.config_test",
        "plugins.config_restore",
        "plugins.load",
        "plugins.enable",
        "plugins.disable",
        "plugins.unload",
        "plugins.mark_error",
        "plugins.mark_upgrade_pending",
        "plugins.start",
        "plugins.stop",
        "plugins.restart",
        "plugins.wait",
        "plugins.call",
        "jobs.run",
        "jobs.retry",
    },
)
"""What takes as long as it takes."""

OPERATIONS = frozenset({"plugins.install", "plugins.upgrade"})
"""What tells progress, and can be cancelled until its commit point: who gives it up waits for what became of it."""

CANCEL_WAIT_S = 10.0
"""So long: what is past its commit point may take longer to end well."""


def is_change(method: str) -> bool:
    """Whether the daemon makes it once only, under one request id."""
    return method not in READS and method not in _NEITHER


def time_limits_s(
    method: str,
    params: Mapping[str, Any],
    default_s: float | None,
    strict_s: float | None,
) -> tuple[float | None, float | None]:
    """How long to wait for the answer, and how long to tell the daemon that we will; None: as long as it takes.

    `strict_s` holds for every method, `default_s` for those that answer at once.
    """
    if strict_s is not None:
        return strict_s, strict_s
    if method not in UNBOUNDED:
        return default_s, default_s
    own = params.get("timeout_s")
    if not isinstance(own, int | float) or seconds("timeout_s", own) is None:
        return None, None
    # The daemon keeps to this one itself, and its own answer says more than ours would: so we leave it time.
    return own + (WAIT_MARGIN_S if method == "plugins.wait" else MARGIN_S), None


def seconds(name: str, limit_s: float | None) -> float | None:
    """A time limit as it was given; None: no limit, which a billion seconds and infinity are too.

    Raises:
        InvalidParams: it is no number.
    """
    if limit_s is None:
        return None
    if not isinstance(limit_s, int | float) or not (limit_s < 0 or limit_s >= 0):
        raise InvalidParams(f"{name} is a number of seconds, or None for no limit, and not {limit_s!r}")
    return limit_s if limit_s < _FOR_EVER_S else None


def to_params(
    params: Mapping[str, Any], told_s: float | None, *, progress: bool = False, request_id: str | None = None
) -> list[Any]:
    """Named params as they travel, with the deadline for the daemon to stop working when nobody waits any more."""
    asked = dict(params)
    if told_s is not None:
        asked[DEADLINE_KEY] = told_s * 1000
    if progress:
        asked[PROGRESS_KEY] = True
    if request_id is not None:
        asked[REQUEST_ID_KEY] = request_id
    return [asked]


def hello(name: str) -> dict[str, Any]:
    """The params of `rpc.hello`."""
    return {"client": name, "version": VERSION, "protocol": [1]}
