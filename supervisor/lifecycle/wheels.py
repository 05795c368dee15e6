"""The plugin that a wheel holds. Blocking, and without trio: `pluginctl check` looks too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from supervisor.core.errors import InvalidParams
from supervisor.core.manifest import MANIFEST_NAME
from supervisor.lifecycle.archives import read_wheel_file, wheel_names
from supervisor.lifecycle.checking import MAX_MANIFEST_BYTES

_LISTED: Final = 10
_NO_PACKAGES: Final = (".dist-info", ".data")


def manifest_of_wheel(path: Path) -> bytes:
    """The plugin.toml at the root of a wheel, or else in a package at its root. Blocking.

    Raises:
        InvalidParams: there is none, or more than one; all are named.
        PackageRefused, ResourceExhausted: the wheel is not to be trusted, or its manifest is larger than 128 KiB.
    """
    there = [PurePosixPath(name) for name in wheel_names(path) if PurePosixPath(name).name == MANIFEST_NAME]
    found = sorted(name for name in there if len(name.parts) <= 2 and not name.parts[0].endswith(_NO_PACKAGES))
    shallowest = [name for name in found if len(name.parts) == min(len(each.parts) for each in found)]
    if not shallowest:
        others = f" (there is {_listed(there)}, which is too deep)" if there else ""
        raise InvalidParams(
            f"{path.name} is no plugin: a wheel has its {MANIFEST_NAME} at its root or in a top-level package{others}; "
            "is it among the package data of the project?"
        )
    if len(shallowest) > 1:
        raise InvalidParams(f"{path.name} has more than one {MANIFEST_NAME}: {_listed(shallowest)}; leave one of them")
    return read_wheel_file(path, str(shallowest[0]), MAX_MANIFEST_BYTES)


def _listed(names: Sequence[PurePosixPath]) -> str:
    shown = ", ".join(str(name) for name in names[:_LISTED])
    return shown + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
