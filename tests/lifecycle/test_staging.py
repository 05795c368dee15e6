"""From each kind of source to a package in the store that runs: archives, wheels, requirements, Python projects."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from supervisor.core.errors import CallCancelled, InvalidParams, SupervisorError
from supervisor.core.package import FileRecord, Package, PackageChanged
from supervisor.lifecycle.operation import Operation, Progress
from supervisor.lifecycle.packages import PackageStore
from supervisor.lifecycle.pip_command import find_tools
from supervisor.lifecycle.sources import Source, read_source
from tests.packages import welcome

MANIFEST = """
[plugin]
key = "acme.weather"
version = "1.2"
api_version = 1
display_name = "Weather"
description = "Tells the weather"
author = "Acme"
categories = ["connector"]
[worker]
command = ["python", "-m", "acme_weather"]
"""
FILES = {"plugin.toml": MANIFEST, "acme_weather/__init__.py": "", "acme_weather/__main__.py": "print('sunny')\n"}
PATIENCE_S = 100.0


def make_directory(path: Path, more: dict[str, str] | None = None) -> Path:
    for name, content in (FILES | (more or {})).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
    return path


def make_wheel(into: Path, name: str, files: dict[str, str], requires: tuple[str, ...] = ()) -> Path:
    """As a build would: pip looks at the hashes."""
    into.mkdir(parents=True, exist_ok=True)
    info = f"{name}-1.2.dist-info"
    lines = "".join(f"Requires-Dist: {other}\n" for other in requires)
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n{lines}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {path: hashlib.sha256(content.encode()).digest() for path, content in files.items()}
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')},{len(files[path])}\n"
        for path, digest in digests.items()
    )
    wheel = into / f"{name}-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in (files | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
            archive.writestr(path, content)
    return wheel


def weather_wheel(into: Path, requires: tuple[str, ...] = ()) -> Path:
    inside = {name if "/" in name else f"acme_weather/{name}": content for name, content in FILES.items()}
    return make_wheel(into, "acme_weather", inside, requires)


class Recorded:
    """`Records` of one package."""

    def __init__(self, package: Package) -> None:
        self._files = package.files

    async def files(self, package_dir: str) -> tuple[FileRecord, ...] | None:
        return self._files

    async def record_files(self, package_dir: str, digest: str, files: tuple[FileRecord, ...]) -> None:
        raise AssertionError(f"{package_dir} was recorded before")


class Site:
    """A store that reaches no index."""

    def __init__(self, root: Path) -> None:
        self.packages, self.staging = root / "state/packages", root / "state/staging"
        for place in (self.packages, self.staging):
            place.mkdir(parents=True, mode=0o700)
        environ = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", "HOME": str(root)}
        self.store = PackageStore(self.packages, self.staging, lambda _job, _key: None, tools=find_tools(environ))
        self.told: list[Progress] = []

    def read(self, text: object, *, find_links: tuple[Path, ...] = (), hashes: tuple[str, ...] = ()) -> Source:
        return read_source(str(text), find_links=tuple(map(str, find_links)), hashes=hashes)

    async def install(self, source: Source) -> Package:
        with trio.fail_after(PATIENCE_S):
            async with self.store.staged(source, Operation(self.told.append), welcome) as staged:
                package = await self.store.commit(staged)
            await self.store.verify(package.dir, Recorded(package))
        assert list(self.staging.iterdir()) == []
        return package

    def phases(self) -> list[str]:
        phases = [progress.phase for progress in self.told]
        return [phase for phase, before in zip(phases, [None, *phases], strict=False) if phase != before]

    def run(self, package: Package, *arguments: str) -> str:
        """What the package's own interpreter says, from elsewhere and without the package directory in its path."""
        python = self.store.path(package.dir) / ".venv/bin/python"
        command = [str(python), "-B", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def tar_gz(directory: Path) -> Path:
    archive = directory.with_suffix(".tar.gz")
    with tarfile.open(archive, "w:gz") as file:
        file.add(directory, "acme-weather-1.2")
    archive.chmod(0o644)
    return archive


def zip_(directory: Path) -> Path:
    return Path(shutil.make_archive(str(directory), "zip", directory))


@pytest.mark.parametrize("pack", [tar_gz, zip_])
async def test_an_archive_is_the_same_package_as_its_directory(
    site: Site, tmp_path: Path, pack: Callable[[Path], Path]
) -> None:
    directory = make_directory(tmp_path / "weather")
    archive = pack(directory)
    from_archive = await site.install(site.read(archive))
    assert site.phases() == ["unpack", "check", "record"]
    assert from_archive.source == str(archive)
    from_directory = await site.install(site.read(directory))
    assert (from_directory.dir, from_directory.files) == (from_archive.dir, from_archive.files)


async def test_an_archive_with_another_hash_is_refused(site: Site, tmp_path: Path) -> None:
    archive = tar_gz(make_directory(tmp_path / "weather"))
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(InvalidParams, match=right):
        await site.install(site.read(archive, hashes=(f"sha256:{'0' * 64}",)))
    assert list(site.staging.iterdir()) == []
    assert (await site.install(site.read(archive, hashes=(f"sha256:{right}",)))).manifest.key == "acme.weather"


async def test_a_wheel_gets_an_environment_that_runs_and_is_verified(site: Site, tmp_path: Path) -> None:
    links = tmp_path / "links"
    make_wheel(links, "acme_clouds", {"acme_clouds/__init__.py": "COLOUR = 'grey'\n"})
    wheel = weather_wheel(tmp_path, requires=("acme-clouds>=1",))
    package = await site.install(site.read(wheel, find_links=(links,)))
    assert site.phases() == ["fetch", "unpack", "check", "environment", "record"]
    place = site.store.path(package.dir)
    assert {entry.name for entry in place.iterdir()} == {"plugin.toml", ".venv"}
    assert site.run(package, "-m", "acme_weather") == "sunny\n"
    assert site.run(package, "-c", "import acme_clouds; print(acme_clouds.COLOUR)") == "grey\n"
    assert site.run(package, "-c", "import supervisor.sdk, msgpack; print('there')") == "there\n"
    assert any(file.link for file in package.files)
    assert not any("__pycache__" in file.path for file in package.files)
    # What ran has left nothing, and what is put in is seen.
    await site.store.verify(package.dir, Recorded(package))
    module = next(place.glob(".venv/lib/python*/site-packages/acme_clouds/__init__.py"))
    module.write_text("COLOUR = 'pink'\n")
    with pytest.raises(PackageChanged, match=r"site-packages/acme_clouds/__init__.py' in its package .* its content"):
        await site.store.verify(package.dir, Recorded(package))


async def test_the_same_wheel_is_the_same_package(site: Site, tmp_path: Path) -> None:
    """Or an upgrade to what is there already could not be told from one to something else."""
    wheel = weather_wheel(tmp_path)
    first, second = await site.install(site.read(wheel)), await site.install(site.read(wheel))
    assert {file.path for file in first.files} == {file.path for file in second.files}
    assert set(first.files) ^ set(second.files) == set()
    assert first.dir == second.dir


async def test_a_requirement_is_fetched(site: Site, tmp_path: Path) -> None:
    wheel = weather_wheel(tmp_path / "links")
    package = await site.install(site.read("acme-weather>=1", find_links=(wheel.parent,)))
    assert package.source == "acme-weather>=1"
    assert site.run(package, "-m", "acme_weather") == "sunny\n"


async def test_a_project_with_requirements_keeps_its_files(site: Site, tmp_path: Path) -> None:
    links = tmp_path / "links"
    make_wheel(links, "acme_clouds", {"acme_clouds/__init__.py": "COLOUR = 'grey'\n"})
    directory = make_directory(tmp_path / "weather", {"requirements.txt": "acme-clouds\n"})
    package = await site.install(site.read(directory, find_links=(links,)))
    assert site.phases() == ["check", "unpack", "check", "environment", "record"]
    assert {file.path for file in package.files} >= {"plugin.toml", "requirements.txt", "acme_weather/__main__.py"}
    assert site.run(package, "-c", "import acme_clouds; print(acme_clouds.COLOUR)") == "grey\n"


async def test_what_cannot_be_found_leaves_nothing(site: Site, tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "weather", {"requirements.txt": "acme-clouds\n"})
    with pytest.raises(SupervisorError, match="acme-clouds"):
        await site.install(site.read(directory))
    assert list(site.staging.iterdir()) == []


async def test_a_wheel_that_is_no_plugin(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme_clouds", {"acme_clouds/__init__.py": ""})
    with pytest.raises(InvalidParams, match=r"acme_clouds-1.2-py3-none-any.whl"):
        await site.install(site.read(wheel))
    assert list(site.staging.iterdir()) == []


@pytest.mark.parametrize("phase", ["fetch", "unpack", "check", "environment", "record"])
async def test_a_wheel_is_aborted_in_every_phase(site: Site, tmp_path: Path, phase: str) -> None:
    wheel, token = weather_wheel(tmp_path), trio.lowlevel.current_trio_token()

    def tell(progress: Progress) -> None:
        if progress.phase == phase:
            token.run_sync_soon(operation.abort)

    operation = Operation(tell)
    with trio.fail_after(PATIENCE_S), pytest.raises(CallCancelled, match=f"in phase {phase};"):
        await site.store.stage(site.read(wheel), operation, welcome)
    assert list(site.staging.iterdir()) == []


async def test_what_runs_in_place_has_its_environment_in_the_store(site: Site, tmp_path: Path) -> None:
    links = tmp_path / "links"
    make_wheel(links, "acme_clouds", {"acme_clouds/__init__.py": "COLOUR = 'grey'\n"})
    directory = make_directory(tmp_path / "weather", {"requirements.txt": "acme-clouds\n"})
    before = sorted(directory.rglob("*"))
    source = read_source(str(directory), editable=True, find_links=(str(links),))
    with trio.fail_after(PATIENCE_S):
        package = await site.store.commit(await site.store.stage(source, Operation(), welcome))
    assert (package.editable, package.files) == (str(directory), ())
    assert [entry.name for entry in site.store.path(package.dir).iterdir()] == [".venv"]
    assert site.run(package, "-c", "import acme_clouds; print(acme_clouds.COLOUR)") == "grey\n"
    assert sorted(directory.rglob("*")) == before
    assert list(site.staging.iterdir()) == []


async def test_a_store_without_tools_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path)
    bare = PackageStore(site.packages, site.staging, lambda _job, _key: None)
    directory = make_directory(tmp_path / "weather", {"requirements.txt": ""})
    with pytest.raises(InvalidParams, match="no tools to build environments"):
        await bare.stage(site.read(directory), Operation(), welcome)
    assert list(site.staging.iterdir()) == []
