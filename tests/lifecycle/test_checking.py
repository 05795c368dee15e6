"""The words of a worker's command that name files which are not in the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.lifecycle.checking import command_problems

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
