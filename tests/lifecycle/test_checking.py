"""The words of a worker's command that name files which are not in the package."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.core.errors import InvalidParams
from supervisor.core.manifest import InvalidManifest
from supervisor.lifecycle.checking import check_directory, command_problems, standard_checks

GONE = "is not in the package"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name in ("main.py", "run", "lib/tool.sh", ".venv/bin/python"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path.parent / "outside.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "at_fault"),
    [
        (["python", "main.py"], []),
        (["python", "./main.py", "out.py"], []),
        (["python", "nosuch.py"], [1]),
        (["python3", "nosuch"], [1]),
        (["/usr/bin/python3.11", "-u", "nosuch.py"], [2]),
        (["python", "-u", "main.py"], []),
        (["python", "-m", "weather"], []),
        (["python", "-c", "import x.py"], []),
        (["python", "-W", "ignore", "main.py"], []),
        (["python", "/opt/x.py"], []),
        (["python", "../outside.py"], [1]),
        (["node", "main.js"], [1]),
        (["env", "python", "nosuch.py"], [2]),
        (["nosuchprogram", "--serve"], []),
        (["run.sh"], []),
        (["./run"], []),
        (["bin/nosuch"], [0]),
        ([".venv/bin/python", "main.py"], [0]),
        (["/bin/sh", "lib/tool.sh"], []),
        (["sh", "x" * 5000], [1]),
        ([], []),
    ],
)
def test_files_that_are_not_there(package: Path, command: list[str], at_fault: list[int]) -> None:
    assert command_problems(command, package) == dict.fromkeys(at_fault, GONE)


def test_its_other_commands_are_checked_too(package: Path) -> None:
    (package / "plugin.toml").write_text(
        """
        [plugin]
        key = "acme.any"
        version = "1"
        api_version = 1
        display_name = "Any"
        description = "Any program"
        author = "Acme"
        categories = ["connector"]
        [worker]
        command = ["./run"]
        transport = "none"
        stop_command = ["bin/stop"]
        ready = { command = ["python", "main.py", "nosuch.py"] }
        """
    )
    with pytest.raises(InvalidManifest) as caught:
        check_directory(package, lambda _job, _key: None)
    [problem] = caught.value.details["problems"]
    assert problem == {
        "path": "worker.stop_command[0]",
        "message": GONE,
        "value": "'bin/stop'",
        "hint": None,
        "line": 13,
    }
    (package / "bin").mkdir()
    (package / "bin/stop").write_text("")
    assert check_directory(package, lambda _job, _key: None).worker.stop_command == ("bin/stop",)


def test_a_manifest_that_is_a_directory_keeps_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "plugin.toml").mkdir()
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(InvalidParams, match="is not a regular file"):
        check_directory(tmp_path, lambda _job, _key: None)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_version_has_no_blanks_around_it(tmp_path: Path) -> None:
    check = standard_checks(lambda _job, _key: None, tmp_path).version
    assert check("1.0") is None
    assert check(" 1.0 ") is not None


@pytest.mark.parametrize("place", ["weather", "src/weather"])
def test_a_manifest_that_stands_too_deep_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "plugin.toml").touch()
    with pytest.raises(InvalidParams, match=rf"has no plugin\.toml; there is {place}/plugin\.toml: move it up"):
        check_directory(tmp_path, lambda _job, _key: None)
