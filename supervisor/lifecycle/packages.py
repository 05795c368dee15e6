"""Plugin files: find, stage, swap, remove. What is in the store is complete; what is being made is in staging."""

from __future__ import annotations

import errno
import re
from collections.abc import AsyncIterator, Container, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import trio

from supervisor.core.errors import InvalidParams, ResourceExhausted, SupervisorError
from supervisor.core.package import FileRecord, Package, PackageChanged
from supervisor.core.plugin import key_problem
from supervisor.lifecycle.checking import CheckSchedule
from supervisor.lifecycle.copying import PackageLimits, sync_directory, sync_file_system
from supervisor.lifecycle.deleting import delete_tree
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.records import Survey, digest_of, not_as_installed, record, survey, verify
from supervisor.lifecycle.sources import Source
from supervisor.lifecycle.staging import Look, Staged, Stager
from supervisor.lifecycle.threads import Threads, check_cancelled
from supervisor.log import get_logger

if TYPE_CHECKING:
    from supervisor.lifecycle.pip_command import EnvironmentTools

_VERSION_DIR = re.compile(r"[0-9A-Za-z.!+_-]{1,120}-[0-9a-f]{12}")
_LOOKING_AT_ONCE: Final = 8


class Records(Protocol):
    """Where it is remembered what a package's files are: the registry of plugins."""

    async def files(self, package_dir: str) -> tuple[FileRecord, ...] | None:
        """None: nothing was recorded of it."""

    async def record_files(self, package_dir: str, digest: str, files: tuple[FileRecord, ...]) -> None: ...


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
        tools: EnvironmentTools | None = None,
    ) -> None:
        """Without `tools` nothing is installed that needs a Python environment, or has to be fetched."""
        self.root = root
        self._limits = limits or PackageLimits()
        # Beside them lie the data and logs of plugins, in the daemon's state directory.
        state = {staging.parent} & {root.parent}
        self._stager = Stager(staging, (staging, root, *state), check_schedule, self._limits, tools)
        self._looking = Threads(_LOOKING_AT_ONCE)
        self._verified: dict[str, bytes] = {}
        """The mark of each package when all of it had last been hashed and found well."""

    async def stage(self, source: Source, operation: Operation, look: Look) -> Staged:
        """Make a checked package of `source`, in staging. Failed or cancelled, it leaves nothing behind.

        `look` sees the manifest as soon as it is checked. Nothing of the source has run by then, and nothing will if it
        raises: what is built runs the source's own code.

        Raises:
            SupervisorError: what `look` raises.
            PackageRefused: a link, a device, a setuid file; or what others than root and we could change.
            InvalidParams: no package; `InvalidManifest`: its manifest has problems.
            ResourceExhausted: over the limits, or the disk is full.
            CallCancelled, DeadlineExceeded: as `Operation.phase`.
        """
        return await self._stager.stage(source, operation, look)

    @asynccontextmanager
    async def staged(self, source: Source, operation: Operation, look: Look) -> AsyncIterator[Staged]:
        """`stage`, and `discard` on the way out unless it was committed meanwhile."""
        staged = await self.stage(source, operation, look)
        try:
            yield staged
        finally:
            await self.discard(staged)

    async def commit(self, staged: Staged) -> Package:
        """Move a staged package into the store, durably, under `staged.name`.

        A package of this name that is already there is kept if every file of it is as recorded, and replaced if not: by
        two renames, between which a crash leaves the name to nobody. A worker that runs from it goes on, and finds what
        it opens by path from then on in the new one, which is what it was started from before somebody changed it.

        Raises:
            ResourceExhausted: the disk is full or broken; it is still staged.
        """
        try:
            await trio.to_thread.run_sync(self._commit, staged)
        except OSError as error:
            raise ResourceExhausted(
                f"cannot store the package {staged.name} in {self.root}: {error.strerror}"
            ) from error
        self._verified.pop(staged.name, None)
        return staged.package

    async def discard(self, staged: Staged) -> None:
        """Give up a staged package; also while cancelled. Takes 30 s at most: the rest is for the next boot."""
        await self._stager.delete(staged.dir)

    async def verify(self, package_dir: str, records: Records) -> None:
        """Look whether a stored package is what was installed: costs an lstat for each file, and where anything has
        changed since the last time, the hash of every file. It may be cancelled, also while the disk does not answer.

        A package stored before files were recorded is held against the digest in its name, and recorded.

        Raises:
            PackageChanged: it is not; of the first file that is different.
            OSError: it cannot be looked at.
        """
        path = self.path(package_dir)
        found, mark = await self._looking.run(partial(self._survey, path))
        if self._verified.get(package_dir) == mark:
            return
        files = await records.files(package_dir)
        if files is None:
            await self._adopt(package_dir, path, records)
        else:
            await self._looking.run(partial(verify, path, found, files, check_cancelled))
        if found.is_settled:
            self._verified[package_dir] = mark

    async def remove(self, package_dir: str) -> None:
        """Delete a package from the store; one that is not there is fine."""
        path = self.path(package_dir)
        self._verified.pop(package_dir, None)
        await trio.to_thread.run_sync(self._remove, path)

    async def collect(self, in_use: Container[str]) -> list[str]:
        """Delete the packages that are not `in_use`; return their names. For boot, before anything is installed."""
        return await trio.to_thread.run_sync(self._collect, in_use)

    def path(self, package_dir: str) -> Path:
        """Where a package is, or would be.

        Raises:
            InvalidParams: that is no name of a package.
        """
        key, slash, version = package_dir.partition("/")
        if not slash or key_problem(key) or not _VERSION_DIR.fullmatch(version):
            raise InvalidParams(f"{package_dir!r} is no package directory: <key>/<version>-<digest>")
        return self.root / key / version

    def _survey(self, path: Path) -> tuple[Survey, bytes]:
        found = survey(path, self._limits, check_cancelled)
        return found, found.mark

    async def _adopt(self, package_dir: str, path: Path, records: Records) -> None:
        files = tuple(await self._looking.run(partial(self._record_stored, package_dir, path)))
        try:
            await records.record_files(package_dir, digest_of(files), files)
        except ResourceExhausted as error:
            # A full disk stops no worker: it is well, and the next start records it.
            get_logger().warning("package.not_recorded", package=package_dir, why=error.message)

    def _record_stored(self, package_dir: str, path: Path) -> list[FileRecord]:
        try:
            files = record(path, self._limits, check_cancelled, lambda _done, _total: None)
        except SupervisorError as error:
            raise not_as_installed(package_dir, error.message) from error
        if not package_dir.endswith(digest_of(files)[:12]):
            raise not_as_installed(package_dir, "its digest is another than its name says")
        return files

    def _commit(self, staged: Staged) -> None:
        path = self.path(staged.name)
        sync_file_system(staged.dir)
        while True:
            if path.is_dir():
                if staged.editable is None and self._is_intact(path, staged.files):
                    delete_tree(staged.dir)
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

    def _is_intact(self, path: Path, files: Sequence[FileRecord]) -> bool:
        try:
            verify(path, survey(path, self._limits, _go_on), files, _go_on)
        except (PackageChanged, OSError):
            return False
        return True

    def _displace(self, path: Path) -> None:
        """One rename, so that it is there whole or not at all; a deletion that is cut short ends at the next boot."""
        aside = self._stager.fresh()
        try:
            path.rename(aside)
        except FileNotFoundError:
            return
        delete_tree(aside)

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


def _go_on() -> None:
    """What is past its commit point is not cancelled."""
