"""Plugin files: find, stage, swap, remove. What is in the store is complete; what is being made is in staging."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from supervisor.core.errors import InvalidParams, NotFound, ResourceExhausted
from supervisor.core.manifest import Manifest
from supervisor.core.package import FileRecord
from supervisor.core.plugin import key_problem
from supervisor.lifecycle.checking import CheckSchedule, check_directory
from supervisor.lifecycle.copying import PackageLimits, copy_package, digest_of, sync_directory, sync_file_system
from supervisor.trust import parents_problem

_VERSION_DIR = re.compile(r"[0-9A-Za-z.!+_-]{1,120}-[0-9a-f]{12}")
_CLEANUP_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A checked copy, not in the store yet: to be committed or discarded."""

    manifest: Manifest
    digest: str
    """SHA-256 in hex over path, executable bit and content of every file."""
    dir: Path
    files: tuple[FileRecord, ...] = ()
    source: str = ""
    """What the operator named."""
    editable: str | None = None


class PackageStore:
    """Package directories under `root`, named "<key>/<version>-<first 12 digits of the digest>".

    `staging` is a directory on the same file system that nobody else uses; whatever is in it may be deleted at boot.
    """

    def __init__(
        self,
        root: Path,
        staging: Path,
        check_schedule: CheckSchedule,
        limits: PackageLimits | None = None,
    ) -> None:
        self.root = root
        self._staging = staging
        self._check_schedule = check_schedule
        self._limits = limits or PackageLimits()

    async def stage(self, source: Path) -> Staged:
        """Copy the directory `source` into staging and check the copy. Failed or cancelled, it leaves nothing behind.

        Raises:
            PackageRefused: a link, a device, a setuid file; or what others than root and we could change.
            InvalidParams: no package; `InvalidManifest`: its manifest has problems.
            ResourceExhausted: over the limits, or the disk is full.
        """
        # Not abandoned when cancelled: the thread notices by itself, cleans up, and is gone when this returns.
        return await trio.to_thread.run_sync(self._stage, source)

    @asynccontextmanager
    async def staged(self, source: Path) -> AsyncIterator[Staged]:
        """`stage`, and `discard` on the way out unless it was committed meanwhile."""
        staged = await self.stage(source)
        try:
            yield staged
        finally:
            await self.discard(staged)

    async def commit(self, staged: Staged) -> str:
        """Move a staged package into the store, durably, and return its name there.

        A package of this name that is already there is kept if it is intact and replaced if not.

        Raises:
            ResourceExhausted: the disk is full or broken; it is still staged.
        """
        name = _name(staged)
        try:
            await trio.to_thread.run_sync(self._commit, staged, name)
        except OSError as error:
            raise ResourceExhausted(f"cannot store the package {name} in {self.root}: {error.strerror}") from error
        return name

    async def discard(self, staged: Staged) -> None:
        """Give up a staged package; also while cancelled. Takes 30 s at most: the rest is for the next boot."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLEANUP_S):
            await trio.to_thread.run_sync(_delete, staged.dir, abandon_on_cancel=True)

    async def remove(self, package_dir: str) -> None:
        """Delete a package from the store; one that is not there is fine."""
        await trio.to_thread.run_sync(self._remove, self.path(package_dir))

    async def collect(self, in_use: Container[str]) -> list[str]:
        """Delete the packages that are not `in_use`; return their names. For boot, before anything is installed."""
        return await trio.to_thread.run_sync(self._collect, in_use)

    async def digest(self, package_dir: str) -> str:
        """The digest as it is now; other than that of the installed package if somebody has changed a file.

        Raises:
            NotFound: the package is not there.
            PackageRefused: something is in it that no installed package holds.
        """
        path = self.path(package_dir)
        if not path.is_dir():
            raise NotFound(f"the package {package_dir} is not in {self.root}", package_dir=package_dir)
        return await trio.to_thread.run_sync(digest_of, path, self._limits)

    def path(self, package_dir: str) -> Path:
        """Where a package is, or would be.

        Raises:
            InvalidParams: that is no name of a package.
        """
        key, slash, version = package_dir.partition("/")
        if not slash or key_problem(key) or not _VERSION_DIR.fullmatch(version):
            raise InvalidParams(f"{package_dir!r} is no package directory: <key>/<version>-<digest>")
        return self.root / key / version

    def _stage(self, source: Path) -> Staged:
        real = self._checked_source(source)
        check_directory(real, self._check_schedule)  # before anything is copied
        target = self._fresh()
        try:
            target.mkdir(0o700)
            digest = copy_package(real, target, self._limits, trio.from_thread.check_cancelled)
            # Once more, from the copy: it is the copy that will run.
            manifest = check_directory(target, self._check_schedule, where=real)
            return Staged(manifest=manifest, digest=digest, dir=target)
        except OSError as error:
            _delete(target)
            raise ResourceExhausted(f"cannot write to {self._staging}: {error.strerror}") from error
        except BaseException:  # trio.Cancelled too
            _delete(target)
            raise

    def _checked_source(self, source: Path) -> Path:
        try:
            real = source.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise InvalidParams(f"there is no directory {source} that this daemon can see") from error
        if any(place.resolve().is_relative_to(real) for place in (self._staging, self.root)):
            raise InvalidParams(f"{source} holds the daemon's own state directory; name the plugin's directory")
        if problem := parents_problem(real, os.geteuid()):
            raise InvalidParams(problem)
        return real

    def _commit(self, staged: Staged, name: str) -> None:
        path = self.path(name)
        sync_file_system(staged.dir)
        while True:
            if path.is_dir():
                if self._is_intact(path, staged.digest):
                    _delete(staged.dir)
                    return
                self._displace(path)
            path.parent.mkdir(0o700, exist_ok=True)
            try:
                staged.dir.rename(path)
                break
            except OSError as error:
                # Another commit put the same package there, or a removal took the empty directory: look again.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and (
                    error.errno != errno.ENOENT or path.parent.exists()
                ):
                    raise
        for changed in (path.parent, self.root):
            sync_directory(changed)

    def _is_intact(self, path: Path, digest: str) -> bool:
        try:
            return digest_of(path, self._limits) == digest
        except (InvalidParams, ResourceExhausted):
            return False

    def _displace(self, path: Path) -> None:
        """One rename, so that it is there whole or not at all; a deletion that is cut short ends at the next boot."""
        aside = self._fresh()
        try:
            path.rename(aside)
        except FileNotFoundError:
            return
        _delete(aside)

    def _remove(self, path: Path) -> None:
        self._displace(path)
        try:
            path.parent.rmdir()
        except OSError as error:
            # Another version of it is there, or nothing ever was.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise

    def _collect(self, in_use: Container[str]) -> list[str]:
        gone = []
        for path in sorted(self.root.glob("*/*")):
            name = f"{path.parent.name}/{path.name}"
            # What does not look like ours (lost+found) is left alone.
            if name not in in_use and not key_problem(path.parent.name) and _VERSION_DIR.fullmatch(path.name):
                self._remove(path)
                gone.append(name)
        for parent in self.root.iterdir():
            # Left empty by a removal that was cut short.
            if parent.is_dir() and not key_problem(parent.name) and not any(parent.iterdir()):
                parent.rmdir()
        return gone

    def _fresh(self) -> Path:
        return self._staging / secrets.token_hex(8)


def _name(staged: Staged) -> str:
    from packaging.version import Version

    return f"{staged.manifest.key}/{Version(staged.manifest.version)}-{staged.digest[:12]}"


def _delete(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
