"""A source's own code runs when it is built, as the daemon's user: not before somebody agreed, and not if refused."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.core.errors import (
    AlreadyExists,
    ApprovalRequired,
    FailedPrecondition,
    InvalidParams,
    InvalidTransition,
    SupervisorError,
)
from supervisor.core.lifecycle import Status
from supervisor.core.plugin import Capability
from supervisor.lifecycle.manager import LifecycleManager
from supervisor.lifecycle.packages import PackageStore
from supervisor.lifecycle.sources import Source, read_source
from tests.fakes import LifecycleWorld, a_lifecycle, open_lifecycle_world
from tests.lifecycle.environments import tools_without_index
from tests.wheels import make_sdist, sha256_of, write_project

KEY = "acme.one"
ALLOWED = frozenset({Capability("jobs.schedule")})
PATIENCE_S = 60.0


@dataclass
class Site:
    """A lifecycle manager whose packages are real; each build of a project writes a line to `built`."""

    root: Path
    world: LifecycleWorld
    lifecycle: LifecycleManager
    staging: Path

    @property
    def builds(self) -> int:
        built = self.root / "built"
        return len(built.read_text().splitlines()) if built.exists() else 0

    def project(self, *capabilities: str, key: str = KEY, version: str = "2.0", requires: str = "[]") -> Path:
        into = self.root / "source"
        shutil.rmtree(into, ignore_errors=True)
        write_project(into, "acme", before=f"open({str(self.root / 'built')!r}, 'a').write('built\\n')")
        # What pip imports before it builds anything is the source's code too.
        backend = into / "b.py"
        backend.write_text(f"open({str(self.root / 'built')!r}, 'a').write('imported\\n')\n{backend.read_text()}")
        wishes = ", ".join(f'"{name}"' for name in ("jobs.schedule", *capabilities))
        manifest = (into / "plugin.toml").read_text()
        for pattern, to in (
            (r"^key = .*$", f'key = "{key}"\nrequires = {requires}'),
            (r"^version = .*$", f'version = "{version}"'),
            (r"^capabilities = .*$", f"capabilities = [{wishes}]"),
        ):
            manifest = re.sub(pattern, to, manifest, flags=re.MULTILINE)
        (into / "plugin.toml").write_text(manifest)
        return into


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    with trio.fail_after(PATIENCE_S):
        async with _open(tmp_path) as site:
            yield site


@asynccontextmanager
async def _open(root: Path) -> AsyncIterator[Site]:
    packages, staging = root / "state/packages", root / "state/staging"
    for place in (packages, staging):
        place.mkdir(parents=True, mode=0o700)
    store = PackageStore(packages, staging, lambda _job, _key: None, tools=tools_without_index(root))
    async with open_lifecycle_world(root / "lifecycle.db") as world:
        lifecycle = a_lifecycle(world.database, world.registry, world.workers, store, world.data, config=world.config)
        yield Site(root, world, lifecycle, staging)


def directory(project: Path) -> Source:
    return read_source(str(project))


def in_place(project: Path) -> Source:
    return read_source(str(project), editable=True)


def archive(project: Path) -> Source:
    return read_source(str(make_sdist(project.parent, project, "acme")))


def archive_with_hash(project: Path) -> Source:
    sdist = make_sdist(project.parent, project, "acme")
    return read_source(str(sdist), hashes=[sha256_of(sdist)])


def archive_of_setup_py(project: Path) -> Source:
    """Where even its name is known only by running it."""
    (project / "pyproject.toml").unlink()
    (project / "setup.py").write_text((project / "b.py").read_text().splitlines()[0] + "\nimport setuptools\n")
    path = project.parent / "acme.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.add(project, "acme")
    return read_source(str(path))


KINDS = [directory, in_place, archive, archive_with_hash]


@pytest.mark.parametrize("kind", [*KINDS, archive_of_setup_py])
async def test_nothing_runs_before_consent(site: Site, kind: Callable[[Path], Source]) -> None:
    source = kind(site.project())
    with pytest.raises(ApprovalRequired, match=r"jobs\.schedule, which nobody has agreed to") as caught:
        await site.lifecycle.install(source, uid=7, agreed=frozenset())
    assert caught.value.details["capabilities"] == ["jobs.schedule"]
    assert (site.builds, list(site.staging.iterdir())) == (0, [])


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_built_once_after_consent(site: Site, kind: Callable[[Path], Source]) -> None:
    source = kind(site.project())
    with pytest.raises(ApprovalRequired):
        await site.lifecycle.install(source, uid=7, agreed=frozenset())
    await site.lifecycle.install(source, uid=7, agreed=ALLOWED)
    lines = (site.root / "built").read_text().splitlines()
    assert lines.count("built") == 1
    assert list(site.staging.iterdir()) == []


async def test_what_is_there_already(site: Site) -> None:
    await site.world.put(KEY, Status.READY)
    with pytest.raises(AlreadyExists):
        await site.lifecycle.install(directory(site.project()), uid=7)
    assert site.builds == 0


async def test_what_requires_what_is_not_there(site: Site) -> None:
    with pytest.raises(FailedPrecondition, match="not installed"):
        await site.lifecycle.install(directory(site.project(requires='["acme.none"]')), uid=7)
    assert site.builds == 0


async def test_a_requirement_that_is_an_sdist(site: Site) -> None:
    links = site.root / "links"
    links.mkdir()
    make_sdist(links, site.project(), "acme")
    source = read_source("acme", find_links=[str(links)])
    with pytest.raises(FailedPrecondition, match=r"only sdists \(acme-1\.0\.tar\.gz\).*download the file yourself"):
        await site.lifecycle.install(source, uid=7)
    assert site.builds == 0


def another_key(site: Site) -> Path:
    return site.project(key="acme.other")


def more_capabilities(site: Site) -> Path:
    return site.project("state.read")


def an_absent_requirement(site: Site) -> Path:
    return site.project(requires='["acme.none"]')


def a_configuration_that_does_not_fit(site: Site) -> Path:
    site.world.config.misfit = InvalidParams("it does not fit")
    return site.project()


@pytest.mark.parametrize(
    ("status", "make", "how", "error"),
    [
        (Status.READY, another_key, {}, InvalidParams),
        (Status.DISABLED, more_capabilities, {}, ApprovalRequired),
        (Status.ERROR, more_capabilities, {}, ApprovalRequired),
        (Status.READY, an_absent_requirement, {}, FailedPrecondition),
        (Status.READY, a_configuration_that_does_not_fit, {}, InvalidParams),
        (Status.READY, more_capabilities, {"probation_s": 10.0}, FailedPrecondition),
        (Status.INSTALLED, Site.project, {}, InvalidTransition),
    ],
)
async def test_an_upgrade_that_is_refused(
    site: Site, status: Status, make: Callable[[Site], Path], how: dict[str, Any], error: type[SupervisorError]
) -> None:
    before = await site.world.put(KEY, status)
    with pytest.raises(error):
        await site.lifecycle.upgrade(KEY, source=directory(make(site)), uid=7, **how)
    assert (site.builds, list(site.staging.iterdir())) == (0, [])
    assert site.world.registry.get(KEY) == before


async def test_an_upgrade_is_built_once(site: Site) -> None:
    await site.world.put(KEY, Status.DISABLED)
    plugin = await site.lifecycle.upgrade(KEY, source=directory(site.project("state.read")), uid=7, approve=True)
    assert plugin.version == "2.0"
    assert (site.root / "built").read_text().splitlines().count("built") == 1
