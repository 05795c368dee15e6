"""Directories are deleted, whatever a build has done to them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from supervisor.lifecycle.deleting import delete_tree


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_what_is_not_writable(tmp_path: Path) -> None:
    deep = tmp_path / "tree/deep/deeper"
    deep.mkdir(parents=True)
    (deep / "file").touch()
    for directory in (deep, deep.parent, tmp_path / "tree"):
        directory.chmod(0o000 if directory == deep else 0o500)
    delete_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


def test_links_are_not_followed_and_what_is_not_there_is_fine(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to(kept)
    delete_tree(tmp_path / "tree")
    delete_tree(tmp_path / "tree")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "file").exists()


def test_what_cannot_be_deleted_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        delete_tree(tmp_path / "file")


def test_while_somebody_writes_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    rmdir, tries = os.rmdir, []

    def refill(path: object, **more: int | None) -> None:
        tries.append(threading.get_ident())
        if len(tries) == 1:
            (tree / "late").touch()
        rmdir(path, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rmdir", refill)
    delete_tree(tree)
    assert not tree.exists()
    assert len(tries) == 2
