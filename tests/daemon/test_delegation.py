"""Where our cgroup is, and whether it is ours: out of made-up texts and a made-up tree."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from supervisor.daemon import delegation
from supervisor.daemon.delegation import (
    Mount,
    NotDelegated,
    cgroup2_mounts,
    directories,
    find_delegated,
    is_delegated,
    own_group,
    prepare_groups,
)

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw
"""
UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
BOUND = "50 23 0:26 /a.slice/b\\040c.service /mnt/my\\040groups ro - cgroup2 cgroup2 rw\n"


def test_mounts() -> None:
    assert cgroup2_mounts(HYBRID) == [Mount(Path("/sys/fs/cgroup/unified"), "/")]
    assert cgroup2_mounts(UNIFIED + BOUND) == [
        Mount(Path("/sys/fs/cgroup"), "/"),
        Mount(Path("/mnt/my groups"), "/a.slice/b c.service"),
    ]
    assert cgroup2_mounts("") == []
    assert cgroup2_mounts("35 31 0:32 / /cgroup2 rw - cgroup cgroup2 rw\nrubbish\n\n") == []


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("9:name=systemd:/x\n0::/\n", "/"),
        ("0::/system.slice/plugind.service\n", "/system.slice/plugind.service"),
        ("0::/a:b/c d\n", "/a:b/c d"),
        ("0::/gone (deleted)\n", None),
        ("9:memory:/x\n", None),
        ("", None),
    ],
)
def test_own_group(text: str, group: str | None) -> None:
    assert own_group(text) == group


@pytest.mark.parametrize(
    ("root", "group", "inside"),
    [
        ("/", "/", ""),
        ("/", "/a/b", "a/b"),
        ("/a", "/a", ""),
        ("/a", "/a/b", "b"),
        ("/a", "/ab", None),
        ("/a", "/", None),
        ("/", "/../other", None),
    ],
)
def test_where_a_group_is_seen(root: str, group: str, inside: str | None) -> None:
    assert directories([Mount(Path("/m"), root)], group) == ([] if inside is None else [Path("/m") / inside])


class Tree:
    """A proc and a cgroup file system, as far as they are read."""

    def __init__(self, directory: Path) -> None:
        self.proc, self.mount = directory / "proc", directory / "my cgroups"
        (self.proc / "self").mkdir(parents=True)
        self.tell(self.mount, "/unit")
        self.base = self.group("unit", os.getpid())

    def tell(self, mount: Path, group: str) -> None:
        point = str(mount).replace(" ", "\\040")
        (self.proc / "self/mountinfo").write_text(f"41 31 0:38 / {point} rw - cgroup2 cgroup2 rw\n")
        (self.proc / "self/cgroup").write_text(f"0::{group}\n")

    def group(self, path: str, *pids: int) -> Path:
        group = self.mount / path
        group.mkdir(parents=True)
        (group / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        return group

    def find(self, *delegated: Path) -> Path:
        return find_delegated(self.proc, lambda path: path in delegated)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_our_own_group_if_it_was_delegated(tree: Tree) -> None:
    assert tree.find(tree.base) == tree.base


def test_the_group_above_the_leaf_that_we_were_put_into(tree: Tree) -> None:
    tree.group("unit/supervisor", os.getpid())
    tree.tell(tree.mount, "/unit/supervisor")
    assert tree.find(tree.base) == tree.base
    tree.group("unit/other", os.getpid())
    tree.tell(tree.mount, "/unit/other")
    with pytest.raises(NotDelegated, match="not delegated"):
        tree.find(tree.base)


def test_without_the_attribute_it_is_somebody_elses(tree: Tree) -> None:
    with pytest.raises(NotDelegated, match="was not delegated to us"):
        tree.find()
    assert not is_delegated(tree.base)


def test_the_attribute(tree: Tree) -> None:
    for value, is_it in ((b"0", False), (b"1", True)):
        try:
            os.setxattr(tree.base, "user.delegate", value)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            pytest.skip("no user attributes on this file system")
        assert is_delegated(tree.base) is is_it


def test_a_directory_that_does_not_list_us_is_not_our_group(tree: Tree) -> None:
    (tree.base / "cgroup.procs").write_text("1\n")
    with pytest.raises(NotDelegated, match="not to be seen"):
        tree.find(tree.base)


def test_nothing_is_mounted(tree: Tree) -> None:
    (tree.proc / "self/mountinfo").write_text("")
    with pytest.raises(NotDelegated, match="no cgroup v2"):
        tree.find(tree.base)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_group_that_is_not_ours_to_write_to(tree: Tree) -> None:
    (tree.base / "cgroup.procs").chmod(0o444)
    with pytest.raises(NotDelegated, match="not ours to write to"):
        tree.find(tree.base)


def prepared(tree: Tree, *, controllers: str = "cpuset cpu io memory pids") -> Path:
    for name in ("supervisor", "workers"):
        group = tree.group(f"unit/{name}")
        (group / "cgroup.subtree_control").touch()
    (tree.base / "workers/cgroup.kill").touch()
    (tree.base / "cgroup.subtree_control").touch()
    (tree.base / "cgroup.controllers").write_text(controllers)
    return tree.base


def test_we_move_into_a_leaf_and_hand_controllers_down(tree: Tree) -> None:
    base = prepared(tree)
    groups = prepare_groups("s" * 32, lambda: base)
    assert groups is not None
    assert groups.controllers == {"memory": None, "pids": None, "cpu": None}
    assert (base / "supervisor/cgroup.procs").read_text() == str(os.getpid())


@pytest.mark.parametrize("missing", ["memory", "pids", "cpu"])
def test_each_controller_may_be_missing(tree: Tree, missing: str) -> None:
    base = prepared(tree, controllers=" ".join({"memory", "pids", "cpu"} - {missing}))
    groups = prepare_groups("s" * 32, lambda: base)
    assert groups is not None
    limit = {"memory": "memory_mb", "pids": "pids", "cpu": "cpu_percent"}[missing]
    assert groups.missing(limit) == "is not available here"
    assert [name for name in ("memory_mb", "pids", "cpu_percent") if groups.missing(name)] == [limit]


def test_a_controller_that_is_refused(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    base, write = prepared(tree), delegation.write

    def refuse(path: Path, text: str) -> None:
        if text == "+memory":
            raise OSError(errno.EBUSY, "Device or resource busy")
        write(path, text)

    monkeypatch.setattr(delegation, "write", refuse)
    groups = prepare_groups("s" * 32, lambda: base)
    assert groups is not None
    assert groups.missing("memory_mb") == f"cannot be enabled in {base}: Device or resource busy"
    assert groups.missing("pids") is None


def test_a_kernel_without_cgroup_kill(tree: Tree) -> None:
    base = prepared(tree)
    (base / "workers/cgroup.kill").unlink()
    assert prepare_groups("s" * 32, lambda: base) is None
    assert (base / "supervisor/cgroup.procs").read_text() == ""


def test_all_works_without(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, text: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    base = prepared(tree)
    monkeypatch.setattr(delegation, "write", refuse)
    assert prepare_groups("s" * 32, lambda: base) is None
    assert prepare_groups("s" * 32, lambda: tree.find()) is None
