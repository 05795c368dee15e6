import errno
import hashlib
import itertools
import os
import socket
import threading
from pathlib import Path

import pytest
import trio

from supervisor.core.errors import CallCancelled, DeadlineExceeded, InvalidParams, ResourceExhausted
from supervisor.core.manifest import InvalidManifest
from supervisor.core.package import FileRecord, Package, PackageChanged
from supervisor.lifecycle import records as records_module
from supervisor.lifecycle import staging as staging_module
from supervisor.lifecycle.checking import check_directory, standard_checks
from supervisor.lifecycle.copying import PackageLimits, PackageRefused
from supervisor.lifecycle.operation import Operation, Progress
from supervisor.lifecycle.packages import PackageStore
from supervisor.lifecycle.records import digest_of
from supervisor.lifecycle.sources import Source, SourceKind
from supervisor.lifecycle.staging import Staged
from tests.packages import directory_source, welcome

MANIFEST = """
[plugin]
key = "acme.weather"
version = "1.2.0"
api_version = 1
display_name = "Weather"
description = "Tells the weather"
author = "Acme"
categories = ["connector"]
capabilities = ["jobs.schedule"]
[worker]
command = ["python", "-m", "weather"]
[[jobs]]
key = "refresh"
display_name = "Refresh"
schedule = "*/5 * * * *"
"""


def no_fault(_job, _key):
    return None


@pytest.fixture
def source(tmp_path) -> Path:
    root = tmp_path / "source"
    (root / "weather/data").mkdir(parents=True)
    (root / "plugin.toml").write_text(MANIFEST)
    (root / "weather/__main__.py").write_text("print('hello')\n")
    (root / "weather/data/big").write_bytes(b"x" * 100_000)
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    for skipped in ("__pycache__", ".git", ".venv", "weather/__pycache__"):
        (root / skipped).mkdir()
        (root / skipped / "file").write_text("x")
    return root


@pytest.fixture
def make_store(tmp_path):
    for part in ("state/packages", "state/staging"):
        (tmp_path / part).mkdir(parents=True, mode=0o700)

    def make(check_schedule=no_fault, **limits) -> PackageStore:
        state = tmp_path / "state"
        return PackageStore(state / "packages", state / "staging", check_schedule, PackageLimits(**limits))

    return make


@pytest.fixture
def staging(tmp_path) -> Path:
    return tmp_path / "state/staging"


class Recorded:
    """`Records`: what was recorded of one package."""

    def __init__(self, package: Package | None, full: bool = False) -> None:
        self.known = package.files if package else None
        self.full = full
        self.asked = 0
        self.digest: str | None = None

    async def files(self, package_dir: str) -> tuple[FileRecord, ...] | None:
        self.asked += 1
        return self.known

    async def record_files(self, package_dir: str, digest: str, files: tuple[FileRecord, ...]) -> None:
        if self.full:
            raise ResourceExhausted("the disk is full")
        self.digest, self.known = digest, files


async def stage(store: PackageStore, source: Path) -> Staged:
    return await store.stage(directory_source(source), Operation(), welcome)


def files_below(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*") if found.is_file()}


# The manifest


def test_a_good_directory(source):
    assert check_directory(source, no_fault).key == "acme.weather"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "source has no plugin.toml"),
        (b"[plugin\n", r"line 1: is not TOML: "),
        (b"a = 1\nb = '\xff'", r"line 2: is not UTF-8 \(byte 11\)"),
        (b"#" * (1024 * 1024 + 1), r"is larger than \d+ bytes"),
        (b"a = " + b"[" * 100_000, "is nested more than 64 deep"),
    ],
)
def test_a_manifest_that_cannot_be_read(source, content, message):
    (source / "plugin.toml").unlink()
    if content is not None:
        (source / "plugin.toml").write_bytes(content)
    with pytest.raises(InvalidParams, match=message):
        check_directory(source, no_fault)


@pytest.mark.parametrize("kind", ["directory", "pipe", "link", "socket"])
def test_a_manifest_that_is_no_file(source, kind, tmp_path):
    file = source / "plugin.toml"
    file.rename(tmp_path / "real.toml")
    with socket.socket(socket.AF_UNIX) as sock:
        match kind:
            case "directory":
                file.mkdir()
            case "pipe":
                os.mkfifo(file)
            case "link":
                file.symlink_to(tmp_path / "real.toml")
            case "socket":
                sock.bind(str(file))
        with pytest.raises(InvalidParams, match=r"Is a directory|not a regular file|symbolic link|cannot be read"):
            check_directory(source, no_fault)


def test_what_is_no_package_at_all(tmp_path):
    with pytest.raises(InvalidParams, match=r"there is no directory .*nowhere"):
        check_directory(tmp_path / "nowhere", no_fault)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidParams, match="file is no directory"):
        check_directory(tmp_path / "file", no_fault)


def test_all_checks_are_real(source):
    text = MANIFEST.replace('"1.2.0"', '"one"') + "[config_schema]\ntype = 'strange'\n"
    (source / "plugin.toml").write_text(text.replace("author", 'min_supervisor_version = "999"\nauthor'))
    with pytest.raises(InvalidManifest) as caught:
        check_directory(source, lambda job, key: ("schedule", f"{job.schedule} of {key} is wrong"))
    problems = {problem["path"]: problem["message"] for problem in caught.value.details["problems"]}
    assert set(problems) == {
        "plugin.version",
        "plugin.min_supervisor_version",
        "config_schema.type",
        "jobs[0].schedule",
    }
    assert problems["jobs[0].schedule"] == "*/5 * * * * of acme.weather is wrong"
    assert "PEP 440" in problems["plugin.version"]
    assert "older" in problems["plugin.min_supervisor_version"]


@pytest.mark.parametrize("version", ["0.1", "0.0.1rc1"])
def test_versions_we_satisfy(version):
    assert standard_checks(no_fault, Path()).supervisor_version(version) is None


# Staging


async def test_stage_and_commit(source, make_store, staging, tmp_path):
    store = make_store()
    staged = await stage(store, source)
    assert staged.dir.parent == staging
    assert staged.manifest.version == "1.2.0"
    package = await store.commit(staged)
    name = package.dir
    assert name == staged.name == f"acme.weather/1.2.0-{staged.digest[:12]}"
    assert (package.digest, package.source, package.editable) == (staged.digest, str(source), None)
    place = store.path(name)
    assert place == tmp_path / "state/packages" / name
    assert files_below(place) == {"plugin.toml", "weather/__main__.py", "weather/data/big", "run"}
    assert (place / "weather/data/big").stat().st_size == 100_000
    assert [oct((place / file).stat().st_mode & 0o7777) for file in ("run", "plugin.toml")] == ["0o700", "0o600"]
    assert list(staging.iterdir()) == []
    assert [file.path for file in package.files] == ["plugin.toml", "run", "weather/__main__.py", "weather/data/big"]
    assert [file.executable for file in package.files] == [False, True, False, False]
    await store.verify(name, Recorded(package))


def test_the_digest_is_what_it_always_was():
    """Of packages that were stored before files were recorded it stands in the name of the directory."""

    def file(path: str, content: bytes, *, executable: bool = False) -> FileRecord:
        sha256 = hashlib.sha256(content).hexdigest()
        return FileRecord(path=path, size=len(content), sha256=sha256, executable=executable)

    files = [file("b/run", b"#!/bin/sh\n", executable=True), file("a", b"")]
    expected = hashlib.sha256()
    for name, bit, content in ((b"a", b"-", b""), (b"b/run", b"x", b"#!/bin/sh\n")):
        expected.update(name + b"\0" + bit + hashlib.sha256(content).digest())
    assert digest_of(files) == expected.hexdigest()


async def test_the_digest_is_of_paths_bits_and_contents(source, make_store):
    store, seen = make_store(), set()

    async def digest() -> str:
        async with store.staged(directory_source(source), Operation(), welcome) as staged:
            return str(staged.digest)

    first = await digest()
    assert await digest() == first
    changes = [
        lambda: (source / "run").write_text("#!/bin/bash\n"),
        lambda: (source / "run").chmod(0o644),
        lambda: (source / "run").rename(source / "walk"),
        lambda: (source / "empty").write_text(""),
    ]
    for change in changes:
        change()
        seen.add(await digest())
    assert len(seen | {first}) == 5
    (source / "__pycache__/more").write_text("not counted")
    assert await digest() in seen


async def test_the_same_package_twice_is_fine(source, make_store, staging):
    store = make_store()
    first, second = await stage(store, source), await stage(store, source)
    assert (await store.commit(first)).dir == (await store.commit(second)).dir
    assert list(staging.iterdir()) == []


async def test_an_intact_package_is_kept_and_a_damaged_one_replaced(source, make_store, staging):
    store = make_store()
    package = await store.commit(await stage(store, source))
    place = store.path(package.dir)
    kept = place.stat().st_ino
    assert await store.commit(await stage(store, source)) == package
    assert place.stat().st_ino == kept
    (place / "run").write_text("rm -rf /")
    with pytest.raises(PackageChanged):
        await store.verify(package.dir, Recorded(package))
    assert await store.commit(await stage(store, source)) == package
    await store.verify(package.dir, Recorded(package))
    assert place.stat().st_ino != kept
    assert list(staging.iterdir()) == []


def planted(kind: str, source: Path, sock: socket.socket) -> None:
    bad = source / "weather/bad"
    match kind:
        case "symbolic link":
            bad.symlink_to("/etc/passwd")
        case "named pipe":
            os.mkfifo(bad)
        case "a socket":
            sock.bind(str(bad))
        case "setuid":
            bad.write_text("")
            bad.chmod(0o4755)
        case "written by others":
            bad.write_text("")
            bad.chmod(0o666)
        case "character device":
            os.mknod(bad, 0o20600, os.makedev(1, 3))
        case "belongs to uid 12345":
            bad.write_text("")
            os.chown(bad, 12345, 12345)


ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make it")


@pytest.mark.parametrize(
    "kind",
    [
        "symbolic link",
        "named pipe",
        "a socket",
        "setuid",
        "written by others",
        pytest.param("character device", marks=ROOT_ONLY),
        pytest.param("belongs to uid 12345", marks=ROOT_ONLY),
    ],
)
async def test_what_must_not_be_in_a_package(source, make_store, staging, kind):
    with socket.socket(socket.AF_UNIX) as sock:
        planted(kind, source, sock)
        with pytest.raises(PackageRefused, match=kind) as caught:
            await stage(make_store(), source)
    assert caught.value.details["path"] == str(source / "weather/bad")
    assert "weather/bad" in str(caught.value)
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize("level", ["", "weather", "weather/data"])
async def test_directories_that_others_may_write_are_refused(source, make_store, staging, level):
    (source / level).chmod(0o777)
    with pytest.raises(PackageRefused, match="may be written by others"):
        await stage(make_store(), source)
    assert list(staging.iterdir()) == []


async def test_what_the_owners_own_group_may_write_is_taken(source, make_store, monkeypatch):
    monkeypatch.setattr("supervisor.trust.private_group", lambda uid, gid: True)
    monkeypatch.setattr("supervisor.trust._REMEMBERED_S", 1e-6)
    for path in (source, source / "weather", source / "weather/__main__.py"):
        path.chmod(path.stat().st_mode | 0o020)
    assert (await stage(make_store(), source)).manifest.key == "acme.weather"


@ROOT_ONLY
async def test_what_a_group_of_several_may_write_is_refused(source, make_store, staging):
    os.chown(source / "weather", -1, 12345)
    (source / "weather").chmod(0o775)
    with pytest.raises(PackageRefused, match=r"others in the group gid 12345 \(mode 0775\): chmod -R go-w"):
        await stage(make_store(), source)
    assert list(staging.iterdir()) == []


async def test_a_place_where_everybody_could_swap_the_package_is_refused(source, make_store):
    source.parent.chmod(0o777)
    with pytest.raises(InvalidParams, match="may be written by everybody"):
        await stage(make_store(), source)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_entries": 5}, "more than 5 files"),
        ({"max_bytes": 100_000}, "more than 100000 bytes"),
        ({"max_depth": 2}, "more than 2 directories deep"),
    ],
)
async def test_limits(source, make_store, staging, limits, message):
    with pytest.raises(ResourceExhausted, match=message):
        await stage(make_store(**limits), source)
    assert list(staging.iterdir()) == []


async def test_the_state_directory_is_not_copied_into_itself(source, make_store, tmp_path):
    (tmp_path / "plugin.toml").write_text(MANIFEST)
    below = tmp_path / "state/data/acme"
    below.mkdir(parents=True)
    (below / "plugin.toml").write_text(MANIFEST)
    for place in (tmp_path, tmp_path / "state", tmp_path / "state/staging", below):
        with pytest.raises(InvalidParams, match="the daemon's own state directory"):
            await stage(make_store(), place)


async def test_a_full_disk_leaves_nothing(source, make_store, staging, monkeypatch):
    def full(_fd: int, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("supervisor.lifecycle.copying._write_all", full)
    with pytest.raises(ResourceExhausted, match="no space left"):
        await stage(make_store(), source)
    assert list(staging.iterdir()) == []


async def test_a_wrong_manifest_leaves_nothing(source, make_store, staging):
    store = make_store(lambda _job, _key: ("schedule", "is wrong"))
    with pytest.raises(InvalidManifest, match=f"{source}/plugin.toml has 1 problem"):
        await stage(store, source)
    assert list(staging.iterdir()) == []


async def test_cancelled_staging_leaves_nothing(source, make_store, staging, monkeypatch):
    from supervisor.lifecycle import copying

    with trio.fail_after(10), trio.CancelScope() as scope:
        write_all = copying._write_all

        def write_and_cancel(fd: int, data: bytes) -> None:
            write_all(fd, data)
            trio.from_thread.run_sync(scope.cancel)

        monkeypatch.setattr(copying, "_write_all", write_and_cancel)
        await stage(make_store(), source)
    assert scope.cancelled_caught
    assert list(staging.iterdir()) == []


async def test_staged_is_discarded_even_when_cancelled(source, make_store, staging):
    store = make_store()
    with trio.CancelScope() as scope:
        async with store.staged(directory_source(source), Operation(), welcome) as staged:
            assert staged.dir.is_dir()
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert list(staging.iterdir()) == []
    await store.discard(staged)  # twice is fine


async def test_what_was_committed_is_not_discarded(source, make_store):
    store = make_store()
    async with store.staged(directory_source(source), Operation(), welcome) as staged:
        package = await store.commit(staged)
    assert store.path(package.dir).is_dir()


async def test_two_at_once_do_not_meet(source, make_store, staging):
    store, names = make_store(), []

    async def install() -> None:
        async with store.staged(directory_source(source), Operation(), welcome) as staged:
            names.append((await store.commit(staged)).dir)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(install)
        await install()
    assert names[0] == names[1]
    assert list(staging.iterdir()) == []


# Phases, progress, and what is not copied


async def test_every_phase_is_told_with_its_bytes(source, make_store):
    (source / "weather/data/huge").write_bytes(b"x" * 50_000_000)
    told: list[Progress] = []
    async with make_store().staged(directory_source(source), Operation(told.append), welcome):
        pass
    phases = [progress.phase for progress in told if progress.done is None]
    assert phases == ["check", "unpack", "check", "record"]
    copied = [progress for progress in told if progress.phase == "unpack" and progress.done is not None]
    assert all(earlier.done < later.done for earlier, later in itertools.pairwise(copied))
    assert all(progress.total is None and progress.done <= 51_000_000 for progress in copied)
    hashed = [progress for progress in told if progress.phase == "record" and progress.done is not None]
    assert {progress.total for progress in hashed} <= {50_100_000 + len(MANIFEST) + 10 + 15}


@pytest.mark.parametrize("phase", ["check", "unpack", "record"])
async def test_an_operation_is_aborted_in_every_phase(source, make_store, staging, phase):
    def tell(progress: Progress) -> None:
        if progress.phase == phase:
            token.run_sync_soon(operation.abort)

    token, operation = trio.lowlevel.current_trio_token(), Operation(tell)
    for name in range(2000):
        (source / f"weather/{name}").write_bytes(b"")
    with trio.fail_after(20), pytest.raises(CallCancelled, match=f"in phase {phase}"):
        await make_store().stage(directory_source(source), operation, welcome)
    assert list(staging.iterdir()) == []


async def test_a_phase_that_takes_too_long_ends(source, make_store, staging, monkeypatch):
    """The thread hangs as on a dead network share: it is left behind, and writes nothing when it comes back."""
    hang, came_back = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()
    copy_package = staging_module.copy_package

    def hanging(*arguments: object) -> None:
        hang.wait()
        try:
            copy_package(*arguments)
        finally:
            token.run_sync_soon(came_back.set)

    monkeypatch.setattr(staging_module, "copy_package", hanging)
    monkeypatch.setattr("supervisor.lifecycle.threads._LEAVE_S", 0.05)
    with trio.fail_after(20):
        with pytest.raises(DeadlineExceeded, match=r"unpack took longer than 0\.2 s"):
            await make_store().stage(directory_source(source), Operation(phase_timeout_s=0.2), welcome)
        hang.set()
        await came_back.wait()
    assert list(staging.iterdir()) == []


async def test_what_is_run_in_place_is_checked_there_and_not_copied(source, make_store, staging, tmp_path):
    store = make_store()
    link = tmp_path / "link"
    link.symlink_to(source)
    wanted = Source(text=str(link), kind=SourceKind.DIRECTORY, path=link, requirement=None, editable=True)
    package = await store.commit(await store.stage(wanted, Operation(), welcome))
    digest = hashlib.sha256(os.fsencode(source)).hexdigest()
    assert (package.editable, package.files, package.digest) == (str(source), (), digest)
    assert package.dir == f"acme.weather/1.2.0-{digest[:12]}"
    assert list(store.path(package.dir).iterdir()) == []
    assert await store.commit(await store.stage(wanted, Operation(), welcome)) == package
    assert list(staging.iterdir()) == []
    (source / "weather/data/big").chmod(0o666)
    with pytest.raises(PackageRefused, match="may be written by others"):
        await store.stage(wanted, Operation(), welcome)
    assert list(staging.iterdir()) == []


async def test_a_name_that_could_not_be_recorded_is_refused(source, make_store, staging):
    os.rename(source / "run", os.fsdecode(os.fsencode(source) + b"/weather/caf\xe9"))
    with pytest.raises(PackageRefused, match=r"caf.*xe9' has a name that is not UTF-8") as caught:
        await stage(make_store(), source)
    assert caught.value.details["path"].encode().endswith(b"caf\\xe9")
    assert list(staging.iterdir()) == []


async def test_a_full_disk_in_any_phase_leaves_nothing(source, make_store, staging, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for step in ("copy_package", "record"):
        with monkeypatch.context() as patch:
            patch.setattr(staging_module, step, full)
            with pytest.raises(ResourceExhausted, match="No space left on device"):
                await stage(make_store(), source)
        assert list(staging.iterdir()) == []


# Verifying


async def test_what_has_not_changed_is_not_read_again(source, make_store, monkeypatch):
    store, hashed = make_store(), []
    package = await store.commit(await stage(store, source))
    recorded = Recorded(package)
    hash_ = records_module._hash
    monkeypatch.setattr(records_module, "_hash", lambda path, *more: hashed.append(path.name) or hash_(path, *more))
    await store.verify(package.dir, recorded)
    assert len(hashed) == 4
    hashed.clear()
    # So young that a change in the same tick of the clock would leave no trace: it is not relied upon.
    await store.verify(package.dir, recorded)
    assert len(hashed) == 4
    monkeypatch.setattr(records_module, "_SETTLED_NS", -1_000_000_000)
    await store.verify(package.dir, recorded)
    hashed.clear()
    asked = recorded.asked
    for _ in range(3):
        await store.verify(package.dir, recorded)
    assert (hashed, recorded.asked) == ([], asked)
    (store.path(package.dir) / "run").touch()
    await store.verify(package.dir, recorded)
    assert len(hashed) == 4


async def test_what_was_removed_and_stored_again_is_looked_at_anew(source, make_store):
    store = make_store()
    package = await store.commit(await stage(store, source))
    await store.verify(package.dir, Recorded(package))
    await store.remove(package.dir)
    with pytest.raises(PackageChanged, match=r"its package acme.weather/1.2.0-[0-9a-f]{12} is missing"):
        await store.verify(package.dir, Recorded(package))
    await store.commit(await stage(store, source))
    await store.verify(package.dir, Recorded(package))


async def test_a_package_of_old_is_held_against_its_name_and_recorded(source, make_store):
    store = make_store()
    package = await store.commit(await stage(store, source))
    recorded = Recorded(None)
    await store.verify(package.dir, recorded)
    assert (recorded.known, recorded.digest) == (package.files, package.digest)
    (store.path(package.dir) / "run").write_text("other")
    with pytest.raises(PackageChanged, match="is not what was installed: its digest is another"):
        await store.verify(package.dir, Recorded(None))
    (store.path(package.dir) / "weather/data/link").symlink_to("/etc/passwd")
    with pytest.raises(PackageChanged, match="is a symbolic link; a package holds"):
        await store.verify(package.dir, Recorded(None))


async def test_a_package_of_old_starts_on_a_full_disk(source, make_store):
    store = make_store()
    package = await store.commit(await stage(store, source))
    recorded = Recorded(None, full=True)
    await store.verify(package.dir, recorded)
    assert recorded.known is None


# The store


async def test_a_commit_that_fails_stays_staged(source, make_store, staging, monkeypatch):
    def broken(_path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    store = make_store()
    staged = await stage(store, source)
    with monkeypatch.context() as patch:
        patch.setattr("supervisor.lifecycle.packages.sync_file_system", broken)
        with pytest.raises(ResourceExhausted, match="Input/output error"):
            await store.commit(staged)
    assert staged.dir.is_dir()
    assert store.path((await store.commit(staged)).dir).is_dir()


async def test_remove_and_collect(source, make_store, tmp_path, staging):
    store = make_store()
    old = (await store.commit(await stage(store, source))).dir
    (source / "plugin.toml").write_text(MANIFEST.replace("1.2.0", "1!2.0+local"))
    new = (await store.commit(await stage(store, source))).dir
    (tmp_path / "state/packages/lost+found").mkdir()
    (tmp_path / "state/packages/lost+found/x").mkdir()
    assert await store.collect({new}) == [old]
    assert store.path(new).is_dir()
    await store.remove(new)
    await store.remove(new)
    assert [entry.name for entry in (tmp_path / "state/packages").iterdir()] == ["lost+found"]
    assert list(staging.iterdir()) == []
    with pytest.raises(PackageChanged, match="is missing"):
        await store.verify(new, Recorded(None))


@pytest.mark.parametrize("name", ["", "a", "../x", "a/../../b", "/etc/x-000000000000", "a/1.0", "a/b/1-000000000000"])
async def test_names_that_lead_elsewhere(make_store, name):
    with pytest.raises(InvalidParams, match="no package directory"):
        await make_store().remove(name)
