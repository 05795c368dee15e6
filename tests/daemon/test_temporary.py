import os
import time

import pytest

from supervisor.daemon.state_dir import open_state_dir
from supervisor.daemon.temporary import DEMO, remove_abandoned, temporary_directory


@pytest.fixture
def parent(tmp_path):
    directory = tmp_path / "tmp"
    directory.mkdir()
    return directory


def make_old(directory) -> None:
    hour_ago = time.time() - 3600
    os.utime(directory, (hour_ago, hour_ago))


def test_only_what_nobody_holds_is_removed(parent):
    dead, living = parent / "plugind-demo-dead", parent / "plugind-demo-living"
    for directory in (dead, living):
        directory.mkdir()
    open_state_dir(dead / "state").close()
    with open_state_dir(living / "state"):
        make_old(living)
        assert remove_abandoned(parent, DEMO) == [dead]
        assert list(parent.iterdir()) == [living]
    assert remove_abandoned(parent, DEMO) == [living]


def test_what_was_never_locked_goes_when_it_is_old(parent):
    bare, unlocked = parent / "plugind-demo-bare", parent / "plugind-demo-unlocked"
    bare.mkdir()
    (unlocked / "state").mkdir(parents=True)
    (unlocked / "state/lock").touch()
    assert remove_abandoned(parent, DEMO) == []
    make_old(bare)
    make_old(unlocked)
    assert remove_abandoned(parent, DEMO) == [bare, unlocked]


def test_what_is_not_ours_stays(parent, tmp_path, monkeypatch):
    precious = tmp_path / "precious"
    precious.mkdir()
    (parent / "plugind-demo-link").symlink_to(precious)
    (parent / "plugind-demo-file").touch()
    (parent / "something-else").mkdir()
    for entry in (precious, *parent.iterdir()):
        make_old(entry)
    assert remove_abandoned(parent, DEMO) == []
    (parent / "plugind-demo-theirs").mkdir()
    make_old(parent / "plugind-demo-theirs")
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    assert remove_abandoned(parent, DEMO) == []
    assert precious.is_dir()
    assert len(list(parent.iterdir())) == 4


def test_what_is_to_be_kept_is_not_taken_for_abandoned(parent, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(parent))
    monkeypatch.setattr("tempfile.tempdir", str(parent))
    with temporary_directory(DEMO, keep=True) as directory:
        open_state_dir(directory / "state").close()
    make_old(directory)
    with temporary_directory(DEMO) as another:
        assert another.is_dir()
    assert list(parent.iterdir()) == [directory]
