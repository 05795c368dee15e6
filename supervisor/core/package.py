"""A version of a plugin as files: what was recorded of them, and where they came from. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from supervisor.core.errors import FailedPrecondition
from supervisor.core.manifest import Manifest
from supervisor.core.plugin import PluginId

ENVIRONMENT_DIR: Final = ".venv"
"""A Python project's virtual environment, made by us below the package's directory in the store."""


class PackageChanged(FailedPrecondition):
    """A stored package is not what was installed. Details: path (of one such file, or "."), problem, package_dir."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """What a file of a package was when it was stored: it is looked at again before each start."""

    path: str
    """Below the package's directory, with slashes."""
    size: int
    sha256: str
    """In hex, of the content; of a link, of its target."""
    executable: bool
    link: str | None = None
    """Where a symbolic link leads that we made (those in a virtual environment); a source may hold none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A checked package: in the store under the name `dir`, or on its way there."""

    dir: str
    """<key>/<version>-<first 12 digits of the digest>, below the packages directory of the daemon."""
    manifest: Manifest
    digest: str
    """SHA-256 in hex over path, executable bit and content of every file."""
    files: tuple[FileRecord, ...]
    source: str
    """What the operator named: a path, or a requirement."""
    editable: str | None = None
    """The directory that is run in place, absolute; then nothing is recorded of its files."""
    index_url: str | None = None
    """The package index that was named with it, `***@` in place of a user and password; None: the daemon's own."""
    find_links: tuple[str, ...] = ()
    """What was named to look in beside the index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a plugin that is kept: the one that runs, the one that waits for approval, or an earlier one."""

    plugin_id: PluginId
    package_dir: str
    manifest: Manifest
    digest: str
    source: str
    editable: str | None
    previous_dir: str | None
    """The package that ran before this one: where `rollback` leads."""
    stored_at: datetime
    activated_at: datetime | None
    """None: it never ran, as one that waits for approval."""
    index_url: str | None = None
    """As `Package.index_url`."""
    find_links: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        return self.manifest.version


def prunable(
    versions: Sequence[Version], *, active: str, previous: str | None, staged: str | None, keep: int
) -> list[str]:
    """The package directories to remove so that `keep` versions stay, the oldest first; `versions` is in the order in
    which they were stored. The one that runs and the one before it always stay; and so does the one that waits for
    approval, which takes nobody's place yet."""
    kept = [version.package_dir for version in versions if version.package_dir != staged]
    others = [package_dir for package_dir in kept if package_dir not in {active, previous}]
    return others[: max(0, len(kept) - keep)]
