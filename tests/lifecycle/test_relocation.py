"""What is made of an environment that pip has left, and of one that a hostile build has been in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.core.errors import FailedPrecondition
from supervisor.lifecycle.relocation import SDK_PTH, make_relocatable
from tests.lifecycle.environments import tree

SITE = f"lib/python3.{sys.version_info.minor}/site-packages"


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """As `python -m venv --without-pip` makes it."""
    path = tmp_path / "staging" / "x" / ".venv"
    (path / SITE / "tiny-1.0.dist-info").mkdir(parents=True)
    (path / "bin").mkdir()
    (path / "bin/python").symlink_to(sys.executable)
    (path / "lib64").symlink_to("lib")
    (path / "pyvenv.cfg").write_text(f"home = /usr/bin\ncommand = /usr/bin/python3 -m venv {path}\n")
    return path


def settle(venv: Path, sdk: tuple[Path, ...] = ()) -> None:
    """As if it had been bare with the links of the fixture."""
    settings = f"home = /usr/bin\ncommand = /usr/bin/python3 -m venv {venv}\n".encode()
    ours = {"bin/python": os.fsencode(sys.executable), "lib64": b"lib", "pyvenv.cfg": settings}
    make_relocatable(venv, ours, venv.parents[1], sdk, lambda: None)


@pytest.mark.parametrize(
    "header",
    [
        "#!{bin}/python\n",
        "#! {bin}/python\n",
        "#!{bin}/python -s\n",
        "#!/bin/sh\n'''exec' \"{bin}/python\" \"$0\" \"$@\"\n' '''\n",
        "#!/bin/sh\n'''exec' '{bin}/python' \"$0\" \"$@\"\n' '''\n",
    ],
)
def test_scripts_find_the_interpreter_beside_them(header: str, venv: Path, tmp_path: Path) -> None:
    script = venv / "bin/hello"
    script.write_text(
        header.format(bin=venv / "bin") + "import sys\nprint('hello', *sys.argv[1:], sys.flags.no_user_site)\n"
    )
    script.chmod(0o755)
    settle(venv)
    venv.rename(tmp_path / "it's elsewhere")
    done = subprocess.run([tmp_path / "it's elsewhere/bin/hello", "a  b"], capture_output=True, text=True, check=True)
    assert done.stdout == f"hello a  b {int('-s' in header)}\n"


def test_other_scripts_and_programs_stay_as_they_are(venv: Path) -> None:
    others = {"a": b"#!/usr/bin/env python\n", "b": b"\x7fELF" + os.fsencode(venv / "bin/python"), "c": b"", "d": b"#!"}
    for name, content in others.items():
        (venv / "bin" / name).write_bytes(content)
    (venv / "bin/directory").mkdir()
    settle(venv)
    assert {name: (venv / "bin" / name).read_bytes() for name in others} == others


def test_the_path_of_the_sdk_is_the_last(venv: Path) -> None:
    settle(venv, (Path("/one/place"), Path("/änother")))
    assert (venv / SITE / SDK_PTH).read_bytes() == "/one/place\n/änother\n".encode()
    assert "command" not in (venv / "pyvenv.cfg").read_text()


def link_away(venv: Path) -> None:
    (venv / SITE / "away").symlink_to("/etc")


def link_in_place_of_bin(venv: Path) -> None:
    (venv / "bin").rename(venv.parent / "bin")
    (venv / "bin").symlink_to(venv.parent / "bin")


def config_that_leads_away(venv: Path) -> None:
    (venv.parent / "precious").write_text("command = kept\n")
    (venv / "pyvenv.cfg").unlink()
    (venv / "pyvenv.cfg").symlink_to(venv.parent / "precious")


def pipe(venv: Path) -> None:
    os.mkfifo(venv / SITE / "x.pth")


def odd_interpreter(venv: Path) -> None:
    (venv / "bin/x").write_text(f"#!{venv}/bin/../evil\n")


def huge_script(venv: Path) -> None:
    with (venv / "bin/x").open("wb") as file:
        file.write(b"#!")
        file.truncate(1 << 40)


def records_that_are_no_text(venv: Path) -> None:
    (venv / SITE / "tiny-1.0.dist-info/RECORD").write_bytes(b"\xff,,\n")


def editable(venv: Path) -> None:
    (venv / SITE / "x.pth").write_text(f"{venv.parents[1]}/.scratch-1/source\n")


def directory_for(name: str) -> Callable[[Path], None]:
    return lambda venv: (venv / name).mkdir(parents=True)


def file_for_site_packages(venv: Path) -> None:
    (venv / "lib/python9").mkdir()
    (venv / "lib/python9/site-packages").touch()


def settings_of_its_own(venv: Path) -> None:
    (venv / "pyvenv.cfg").write_bytes(b"\xff home = /x\n")


def interpreter_of_its_own(venv: Path) -> None:
    (venv / "bin/python").unlink()
    (venv / "bin/python").write_text("print(1)\n")


def interpreter_elsewhere(venv: Path) -> None:
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to("/bin/sh")


def beside(venv: Path) -> list[object]:
    others = sorted(path for path in venv.parent.iterdir() if path != venv)
    return [(path.name, tree(path) if path.is_dir() else path.read_bytes()) for path in others]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (link_away, "away, a symbolic link to /etc"),
        (link_in_place_of_bin, "bin, a symbolic link"),
        (config_that_leads_away, r"pyvenv\.cfg, a symbolic link"),
        (pipe, "no regular file"),
        (odd_interpreter, "the script x runs"),
        (huge_script, "larger than"),
        (records_that_are_no_text, r"tiny-1\.0\.dist-info are damaged"),
        (editable, "take that out of the requirements"),
        (directory_for("bin/activate.d"), r"bin/activate\.d a directory"),
        (directory_for(".lock"), r"\.lock a directory"),
        (directory_for(f"{SITE}/{SDK_PTH}"), r"zz_plugind\.pth a directory"),
        (directory_for(f"{SITE}/tiny-1.0.dist-info/uv_cache.json"), r"uv_cache\.json a directory"),
        (file_for_site_packages, "lib/python9/site-packages.* a file"),
        (settings_of_its_own, r"replaced pyvenv\.cfg"),
        (interpreter_of_its_own, "replaced bin/python"),
        (interpreter_elsewhere, "replaced bin/python"),
    ],
)
def test_what_a_hostile_build_may_leave(spoil: Callable[[Path], None], words: str, venv: Path) -> None:
    spoil(venv)
    before = beside(venv)
    with pytest.raises(FailedPrecondition, match=words):
        settle(venv)
    assert beside(venv) == before


def test_it_ends_when_it_is_cancelled(venv: Path) -> None:
    class Stop(Exception):
        pass

    def cancelled() -> None:
        raise Stop

    with pytest.raises(Stop):
        make_relocatable(venv, {}, venv.parents[1], (), cancelled)
