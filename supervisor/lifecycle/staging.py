"""Stager: from what an operator named to a checked, recorded copy in staging; what fails on the way leaves nothing."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from supervisor.core.errors import InvalidParams, ResourceExhausted
from supervisor.core.manifest import MANIFEST_NAME, Manifest
from supervisor.core.package import FileRecord, Package
from supervisor.lifecycle.checking import CheckSchedule, check_directory
from supervisor.lifecycle.copying import PackageLimits, copy_package, look_through
from supervisor.lifecycle.deleting import delete_tree
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.queue import Queue
from supervisor.lifecycle.records import digest_of, record
from supervisor.lifecycle.sources import Source, SourceKind, mask_credentials
from supervisor.lifecycle.threads import Meter, Threads, check_cancelled
from supervisor.trust import parents_problem

if TYPE_CHECKING:
    from supervisor.lifecycle.pip_command import EnvironmentTools

T = TypeVar("T")

Look = Callable[[Manifest], Awaitable[None]]
"""A first look at what is about to be built: raises what it is refused with."""

_CLEANUP_S: Final = 30.0
_AT_ONCE: Final = 8
_PIPS_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A checked package, not in the store yet: to be committed or discarded."""

    manifest: Manifest
    digest: str
    """As `Package.digest`; of what is run in place the SHA-256 of where it is."""
    dir: Path
    files: tuple[FileRecord, ...] = ()
    source: str = ""
    """What the operator named."""
    editable: str | None = None
    index_url: str | None = None
    find_links: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """That of its directory in the store, once it is there."""
        from packaging.version import Version

        return f"{self.manifest.key}/{Version(self.manifest.version)}-{self.digest[:12]}"

    @property
    def package(self) -> Package:
        return Package(
            dir=self.name,
            manifest=self.manifest,
            digest=self.digest,
            files=self.files,
            source=self.source,
            editable=self.editable,
            index_url=self.index_url,
            find_links=self.find_links,
        )


def came_from(staged: Staged, source: Source) -> Staged:
    """With what is kept of the source: all but the password of its index."""
    index_url = mask_credentials(source.index_url) if source.index_url else None
    return replace(staged, source=source.text, index_url=index_url, find_links=source.find_links)


class Stager:
    """`staging` is a directory that nobody else uses; `protected` are the daemon's own, never to be copied."""

    def __init__(
        self,
        staging: Path,
        protected: tuple[Path, ...],
        check_schedule: CheckSchedule,
        limits: PackageLimits,
        tools: EnvironmentTools | None,
    ) -> None:
        self._staging = staging
        self._protected = protected
        self._check_schedule = check_schedule
        self._limits = limits
        self._tools = tools
        self._threads = Threads(_AT_ONCE)
        self._queue = Queue(_PIPS_AT_ONCE)

    def fresh(self) -> Path:
        """A place in staging; nothing is there yet."""
        return self._staging / secrets.token_hex(8)

    async def stage(self, source: Source, operation: Operation, look: Look) -> Staged:
        """Fetch, unpack, check, give it its environment, record it. `PackageStore.stage` says what it raises."""
        target = self.fresh()
        try:
            staged = await self._stage_by_kind(source, target, operation, look)
        except OSError as error:
            await self.delete(target)
            raise ResourceExhausted(f"cannot write to {self._staging}: {error.strerror}") from error
        except BaseException:  # trio.Cancelled too
            await self.delete(target)
            raise
        return came_from(staged, source)

    async def delete(self, path: Path) -> None:
        """Also while cancelled. Takes 30 s at most: the rest is for the next boot."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLEANUP_S):
            await trio.to_thread.run_sync(delete_tree, path, abandon_on_cancel=True)

    # The kinds of sources.

    async def _stage_by_kind(self, source: Source, target: Path, operation: Operation, look: Look) -> Staged:
        path = source.path
        if path is None or source.kind is SourceKind.WHEEL or source.hashes:
            return await self._stage_fetched(source, target, operation, look)
        if source.kind is SourceKind.ARCHIVE:
            return await self._stage_archive(source, path, target, operation, look)
        if source.editable:
            return await self._stage_in_place(source, path, target, operation, look)
        return await self._stage_directory(source, path, target, operation, look)

    async def _stage_directory(
        self, source: Source, path: Path, target: Path, operation: Operation, look: Look
    ) -> Staged:
        with operation.phase("check"):
            real = await self._run(partial(self._checked_directory, path))
        with operation.phase("unpack"):
            meter = Meter(operation)
            await self._run(partial(self._copy, real, target, meter))
        return await self._finish(source, target, real, operation, look)

    async def _stage_in_place(
        self, source: Source, path: Path, target: Path, operation: Operation, look: Look
    ) -> Staged:
        """Nothing is copied or recorded: only an environment is made of it."""
        with operation.phase("check"):
            real = await self._run(partial(self._checked_directory, path))
            await self._run(partial(look_through, real, self._limits, check_cancelled, trusted=False))
            manifest = await self._run(partial(check_directory, real, self._check_schedule))
            await look(manifest)
            await self._run(partial(target.mkdir, 0o700))
        await self._add_environment(source, target, operation, project=real)
        digest = hashlib.sha256(os.fsencode(real)).hexdigest()
        return Staged(manifest=manifest, digest=digest, dir=target, editable=str(real))

    async def _stage_archive(
        self, source: Source, file: Path, target: Path, operation: Operation, look: Look
    ) -> Staged:
        from supervisor.lifecycle.archives import unpack

        def work() -> None:
            target.mkdir(0o700)
            unpack(file, target, self._limits, check_cancelled, meter.report)

        with operation.phase("unpack"):
            meter = Meter(operation)
            await self._run(work)
        return await self._finish(source, target, source.path or Path(file.name), operation, look)

    async def _stage_fetched(self, source: Source, target: Path, operation: Operation, look: Look) -> Staged:
        """From a file of our own, so that what is checked and what is used are the same."""
        from supervisor.lifecycle.fetching import fetch

        async with self._scratch() as into:
            async with self._queue.phase(operation, "fetch"):
                file = await fetch(source, into, self._needed_tools(), operation)
            if file.suffix == ".whl":
                return await self._stage_wheel(source, file, target, operation, look)
            return await self._stage_archive(source, file, target, operation, look)

    async def _stage_wheel(self, source: Source, file: Path, target: Path, operation: Operation, look: Look) -> Staged:
        from supervisor.lifecycle.archives import inspect_wheel
        from supervisor.lifecycle.wheels import manifest_of_wheel

        def work() -> None:
            try:
                inspect_wheel(file, self._limits, check_cancelled, meter.report)
                manifest = manifest_of_wheel(file)
            except (InvalidParams, ResourceExhausted) as error:
                # It is looked at in staging; whoever named it knows it by another path.
                error.message = error.message.replace(str(file), str(source.path or file.name))
                raise
            target.mkdir(0o700)
            _write_new(target / MANIFEST_NAME, manifest)

        with operation.phase("unpack"):
            meter = Meter(operation)
            await self._run(work)
        return await self._finish(source, target, source.path or Path(file.name), operation, look, wheel=file)

    # What all kinds have in common.

    async def _finish(
        self, source: Source, target: Path, where: Path, operation: Operation, look: Look, wheel: Path | None = None
    ) -> Staged:
        with operation.phase("check"):
            # From the copy: it is the copy that will run.
            manifest = await self._run(partial(check_directory, target, self._check_schedule, where=where))
            # To build a project runs its code: not before it is known to be wanted.
            await look(manifest)
        await self._add_environment(source, target, operation, project=target, wheel=wheel)
        with operation.phase("record"):
            meter = Meter(operation)
            files = await self._run(partial(record, target, self._limits, check_cancelled, meter.report))
            digest = await self._run(partial(digest_of, files))
        return Staged(manifest=manifest, digest=digest, dir=target, files=tuple(files))

    async def _add_environment(
        self, source: Source, target: Path, operation: Operation, *, project: Path, wheel: Path | None = None
    ) -> None:
        from supervisor.lifecycle.environment import Project, WheelFile, build_environment, is_python_project

        what: Project | WheelFile
        if wheel is not None:
            what = WheelFile(path=wheel, source=source)
        elif await self._run(partial(is_python_project, project)):
            what = Project(path=project, source=source)
        else:
            return
        async with self._queue.phase(operation, "environment"):
            await build_environment(target, what, self._needed_tools(), operation)

    def _needed_tools(self) -> EnvironmentTools:
        if self._tools is None:
            raise InvalidParams("Python projects are not installed here: this store has no tools to build environments")
        return self._tools

    def _checked_directory(self, source: Path) -> Path:
        try:
            real = source.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise InvalidParams(f"there is no directory {source} that this daemon can see") from error
        for place in (each.resolve() for each in self._protected):
            if place.is_relative_to(real) or real.is_relative_to(place):
                where = "holds" if place.is_relative_to(real) else "is in"
                raise InvalidParams(f"{source} {where} the daemon's own state directory; name the plugin's directory")
        if problem := parents_problem(real, os.geteuid()):
            raise InvalidParams(problem)
        check_directory(real, self._check_schedule)  # before anything is copied
        return real

    def _copy(self, source: Path, target: Path, meter: Meter) -> None:
        target.mkdir(0o700)
        copy_package(source, target, self._limits, check_cancelled, meter.report)

    @asynccontextmanager
    async def _scratch(self) -> AsyncIterator[Path]:
        place = self.fresh()
        try:
            await self._run(partial(place.mkdir, 0o700))
            yield place
        finally:
            await self.delete(place)

    async def _run(self, work: Callable[[], T]) -> T:
        return await self._threads.run(work)


def _write_new(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
