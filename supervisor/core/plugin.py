"""Plugin, its key and its capabilities. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, NewType

from supervisor.core.lifecycle import Status
from supervisor.core.problem import Fault, nearest

if TYPE_CHECKING:
    from supervisor.core.manifest import Manifest

PluginKey = NewType("PluginKey", str)
PluginId = NewType("PluginId", str)
"""A UUID in its 36-character form; it stays the same over disable, upgrade, uninstall and reinstall."""

Capability = NewType("Capability", str)

PLAIN_CAPABILITIES: Final = frozenset(
    {
        "jobs.schedule",
        "methods.register",
        "events.emit",
        "events.subscribe",
        "state.read",
        "state.write",
        "config.read",
        "secrets.read",
        "metrics.write",
        "plugins.read",
        "plugins.call",
        "network.outbound",
        "network.listen",
    },
)
PATH_CAPABILITIES: Final = frozenset({"filesystem.read", "filesystem.write"})
"""Followed by `:` and an absolute path."""

_LINUX_PATH_MAX: Final = 4096
_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


def key_problem(text: object) -> str | None:
    """Why `text` is no plugin key, or None if it is one."""
    if not isinstance(text, str):
        return "must be a string"
    if not _KEY.fullmatch(text):
        return "must be 1 to 100 of a-z, 0-9, '.', '_', '-' and start with a letter or digit"
    if ".." in text:
        return "must not contain '..'"
    return None


def capability_fault(text: str) -> Fault | None:
    """Why `text` is no capability, or None if it is one."""
    if text in PLAIN_CAPABILITIES:
        return None
    name, _, path = text.partition(":")
    if name in PATH_CAPABILITIES:
        return _path_fault(name, path)
    if near := nearest(name, [*PLAIN_CAPABILITIES, *PATH_CAPABILITIES]):
        meant = f"{near}:{path or '/some/where'}" if near in PATH_CAPABILITIES else near
        return Fault("is no capability", f"did you mean {meant!r}?")
    known = sorted(PLAIN_CAPABILITIES | {f"{name}:<path>" for name in PATH_CAPABILITIES})
    return Fault("is no capability", f"known are {', '.join(known)}")


def _path_fault(name: str, path: str) -> Fault | None:
    """One way to write each path: what is approved is compared as text."""
    if not path.startswith("/"):
        return Fault(f"{name} needs an absolute path", f"write '{name}:/some/where'")
    if not path.isprintable() or len(path) >= _LINUX_PATH_MAX:
        return Fault("must name a path of printable characters, shorter than 4096")
    steps = path[1:].split("/")
    if path != "/" and not {"", ".", ".."}.isdisjoint(steps):
        plain = "/" + "/".join(step for step in steps if step not in ("", "."))
        hint = None if ".." in steps else f"write {f'{name}:{plain}'!r}"
        return Fault("must name a path without '.', '..', '//' and a '/' at its end", hint)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """An installed package, as the registry has it. `last_error` and `disable_reason` are None when not in question."""

    id: PluginId
    key: PluginKey
    version: str
    status: Status
    manifest: Manifest
    approved: frozenset[Capability]
    install_order: int
    package_dir: str
    """Name of the package's directory below the packages directory of the daemon."""
    last_error: str | None
    disable_reason: str | None
    installed_at: datetime
    updated_at: datetime
    recoverable: bool = False
    """Status error because its worker gave up: worth another try at boot and from time to time."""
    editable: str | None = None
    """The source directory that is run in place; None: what runs is the copy in `package_dir`."""
    staged_dir: str | None = None
    """The package that waits for approval, in status upgrade_pending."""
    probation_until: datetime | None = None
    """Until then a worker that is given up leads back to the version before."""

    @property
    def granted(self) -> frozenset[Capability]:
        """What its worker may do: what was approved, as far as the version that runs asks for it."""
        return self.approved & frozenset(self.manifest.capabilities)
