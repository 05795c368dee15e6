import errno
import json
import os
import shutil
import socket
import stat
import subprocess
import sys

import pytest

from supervisor.daemon.state_dir import StateDirError, StateDirLocked, make_private_dir, open_state_dir


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_all_parts_are_made_private(tmp_path):
    with open_state_dir(tmp_path / "a/state") as state:
        assert state.path == tmp_path / "a/state"
        for part in (state.path, state.packages, state.staging, state.data, state.logs):
            assert part.is_dir()
            assert mode(part) == 0o700
        assert mode(state.path / "state_id") == 0o600
        assert os.get_inheritable(state.lock_fd) is False


def test_the_state_id_is_made_once(tmp_path):
    with open_state_dir(tmp_path / "s") as state:
        first = state.state_id
    with open_state_dir(tmp_path / "s") as state:
        assert state.state_id == first
        assert state.id_was_kept
    with open_state_dir(tmp_path / "other") as other:
        assert other.state_id != first
    (tmp_path / "s/state_id").write_text("\x00\xff nonsense")
    with open_state_dir(tmp_path / "s") as state:
        assert len(state.state_id) == 32
        assert not state.id_was_kept


def test_a_copy_gets_an_id_of_its_own_and_the_original_keeps_its(tmp_path):
    with open_state_dir(tmp_path / "s") as original:
        assert not original.id_was_kept
        shutil.copytree(tmp_path / "s", tmp_path / "copy")
    with open_state_dir(tmp_path / "copy") as copy:
        assert copy.state_id != original.state_id
        assert not copy.id_was_kept
    for path, former in ((tmp_path / "s", original), (tmp_path / "copy", copy)):
        with open_state_dir(path) as state:
            assert (state.state_id, state.id_was_kept) == (former.state_id, True)


def test_a_directory_that_was_moved_keeps_its_id(tmp_path):
    open_state_dir(tmp_path / "s").close()
    with open_state_dir((tmp_path / "s").rename(tmp_path / "moved")) as state:
        assert state.id_was_kept


def test_an_id_of_a_former_version_is_kept_and_bound_to_the_directory(tmp_path):
    open_state_dir(tmp_path / "s").close()
    (tmp_path / "s/state_id").write_text("ab" * 16 + "\n")
    with open_state_dir(tmp_path / "s") as state:
        assert (state.state_id, state.id_was_kept) == ("ab" * 16, True)
    shutil.copytree(tmp_path / "s", tmp_path / "copy")
    with open_state_dir(tmp_path / "copy") as copy:
        assert copy.state_id != "ab" * 16


def test_staging_is_emptied_and_the_rest_is_kept(tmp_path):
    with open_state_dir(tmp_path / "s") as state:
        (state.staging / "half/way").mkdir(parents=True)
        (state.staging / "half/way/file").write_text("x")
        (state.staging / "file").write_text("x")
        (state.staging / "link").symlink_to(state.data)
        (state.data / "mine").write_text("x")
    with open_state_dir(tmp_path / "s") as state:
        assert list(state.staging.iterdir()) == []
        assert (state.data / "mine").read_text() == "x"


def test_staging_that_somebody_still_writes_to_is_emptied_later(tmp_path, monkeypatch):
    with open_state_dir(tmp_path / "s") as state:
        (state.staging / "half").mkdir()

    def busy(path):
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("supervisor.daemon.state_dir.delete_tree", busy)
        with open_state_dir(tmp_path / "s") as state:
            with pytest.raises(OSError, match="not empty"):
                state.empty_staging()
            patch.undo()
            state.empty_staging()
            assert list(state.staging.iterdir()) == []


def test_a_second_daemon_is_told_who_holds_it(tmp_path):
    code = (
        "import sys, pathlib; from supervisor.daemon.state_dir import *\ns = open_state_dir(pathlib.Path(sys.argv[1]))"
    )
    hold = f"{code}\nprint(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "s")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"\n"
        (tmp_path / "s/staging/kept").write_text("of the first daemon")
        with pytest.raises(StateDirLocked, match=rf"pid {holder.pid}, since 20\d\d-") as caught:
            open_state_dir(tmp_path / "s")
        assert caught.value.details["pid"] == holder.pid
        assert (tmp_path / "s/staging/kept").exists()
        holder.kill()
    # The lock went with the process, however it ended.
    with open_state_dir(tmp_path / "s"):
        assert json.loads((tmp_path / "s/lock").read_text())["pid"] == os.getpid()


def test_a_holder_that_left_no_note(tmp_path):
    with open_state_dir(tmp_path / "s"):
        (tmp_path / "s/lock").write_text("")
        with pytest.raises(StateDirLocked, match="another plugind is using") as caught:
            open_state_dir(tmp_path / "s")
        assert caught.value.details["pid"] is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to any group")
def test_a_directory_that_a_group_may_write_is_refused(tmp_path):
    (tmp_path / "s").mkdir()
    os.chown(tmp_path / "s", -1, 12345)
    (tmp_path / "s").chmod(0o770)
    with pytest.raises(StateDirError, match=rf"may be written by others in the group gid 12345 .*go-w {tmp_path}/s"):
        open_state_dir(tmp_path / "s")


@pytest.mark.parametrize("bits", [0o777, 0o702])
def test_a_directory_that_others_may_write_is_refused(tmp_path, bits):
    (tmp_path / "s").mkdir()
    (tmp_path / "s").chmod(bits)
    with pytest.raises(StateDirError, match=rf"may be written by others .*chmod -R go-w {tmp_path}/s"):
        open_state_dir(tmp_path / "s")
    assert list((tmp_path / "s").iterdir()) == []


def test_a_parent_that_everybody_may_write_is_refused_unless_sticky(tmp_path):
    parent = tmp_path / "open"
    parent.mkdir()
    parent.chmod(0o777)
    with pytest.raises(StateDirError, match=rf"chmod o-w {parent}"):
        open_state_dir(parent / "s")
    parent.chmod(0o1777)
    open_state_dir(parent / "s").close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("part", ["", "data"])
def test_a_foreign_owner_is_refused(tmp_path, part):
    open_state_dir(tmp_path / "s").close()
    os.chown(tmp_path / "s" / part, 12345, 12345)
    with pytest.raises(StateDirError, match=r"belongs to uid 12345.*chown"):
        open_state_dir(tmp_path / "s")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_foreign_parent_is_refused(tmp_path):
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 12345, 12345)
    with pytest.raises(StateDirError, match=r"above .* belongs to uid 12345"):
        open_state_dir(tmp_path / "theirs/s")


def test_planted_links_are_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "elsewhere").mkdir()
    open_state_dir(tmp_path / "s").close()
    (tmp_path / "s/lock").unlink()
    (tmp_path / "s/lock").symlink_to(target)
    with pytest.raises(StateDirError, match="s/lock"):
        open_state_dir(tmp_path / "s")
    (tmp_path / "s/lock").unlink()
    (tmp_path / "s/data").rmdir()
    (tmp_path / "s/data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateDirError, match="data is a symbolic link"):
        open_state_dir(tmp_path / "s")
    assert target.read_text() == "precious"


def test_the_state_directory_itself_may_be_reached_by_a_link(tmp_path):
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "s").symlink_to(tmp_path / "private")
    with open_state_dir(tmp_path / "s") as state:
        assert state.path == tmp_path / "private"


def test_what_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirError, match="file is no directory"):
        open_state_dir(tmp_path / "file")
    with pytest.raises(StateDirError, match="Not a directory"):
        open_state_dir(tmp_path / "file/below")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "sock"))
        with pytest.raises(StateDirError, match="no directory"):
            make_private_dir(tmp_path / "sock")


def test_a_refused_directory_is_not_left_locked(tmp_path):
    open_state_dir(tmp_path / "s").close()
    (tmp_path / "s/data").chmod(0o777)
    with pytest.raises(StateDirError):
        open_state_dir(tmp_path / "s")
    (tmp_path / "s/data").chmod(0o700)
    open_state_dir(tmp_path / "s").close()
