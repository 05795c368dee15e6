"""pluginctl check: directories, archives and wheels, without a daemon."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from client.cli import main as cli

BAD = """\
[plugin]
key = "acme.bad"
version = "1"
api_version = 1
display_name = "Bad"
description = "d"
author = "a"
categories = ["ui"]
capabilities = ["jobs.schedule"]
[worker]
comand = ["python"]
[[jobs]]
key = "B\\u001b"
display_name = "J"
schedule = "0 0 31 2 *"
[wroker]
"""
TOLD = """\
pluginctl: {file} has 4 problems:

[worker]
  line 11: worker.comand: unknown key
      did you mean 'command'?

[jobs]
  line 13: jobs[0].key: must be 1 to 100 of a-z, 0-9, '.', '_', '-', first a letter or digit (found: 'B\\x1b')
      such as 'refresh'
  line 15: jobs[0].schedule: day of month: '31' never comes, the longest of the chosen months has 29 days \
(found: '0 0 31 2 *')
      change day or month

[wroker]
  line 16: wroker: unknown key
      did you mean 'worker'?
"""


@pytest.fixture
def good(tmp_path: Path, capsys: Any) -> Path:
    assert cli.main(["new", "acme.weather", str(tmp_path / "weather")]) == 0
    capsys.readouterr()
    return tmp_path / "weather"


def spoil(directory: Path) -> Path:
    file = directory / "plugin.toml"
    file.write_text(BAD)
    return file


def test_problems_are_grouped(good: Path, capsys: Any) -> None:
    file = spoil(good)
    assert cli.main(["check", str(good)]) == 3
    out, err = capsys.readouterr()
    assert (out, err) == ("", TOLD.format(file=file))


def test_problems_for_programs(good: Path, capsys: Any) -> None:
    file = spoil(good)
    assert cli.main(["check", str(good), "--json"]) == 3
    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["name"], error["data"]["count"], error["data"]["where"]) == ("INVALID_PARAMS", 4, str(file))
    assert error["data"]["problems"][0] == {
        "path": "worker.comand",
        "message": "unknown key",
        "value": None,
        "hint": "did you mean 'command'?",
        "line": 11,
    }


def packed(good: Path, name: str) -> Path:
    path = good.parent / name
    if name.endswith(".tar.gz"):
        with tarfile.open(path, "w:gz") as tar:
            tar.add(good, "weather-1.0")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for file in good.iterdir():
                archive.write(file, f"weather/{file.name}")
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("name", ["w.tar.gz", "w.zip"])
def test_archives(good: Path, capsys: Any, name: str) -> None:
    assert cli.main(["check", str(packed(good, name))]) == 0
    assert capsys.readouterr().out == "acme.weather 0.1.0 is well: 1 job, 1 method\n"
    spoil(good)
    assert cli.main(["check", str(packed(good, name))]) == 3
    assert capsys.readouterr().err == TOLD.format(file=good.parent / name / "plugin.toml")


def test_a_wheel(good: Path, capsys: Any) -> None:
    manifest = good / "plugin.toml"
    # What a wheel runs is installed beside its manifest, and is no file of it.
    manifest.write_text(manifest.read_text().replace('"main.py"', '"-m", "weather"'))
    name = "weather-1.0-py3-none-any.whl"
    assert cli.main(["check", str(packed(good, name))]) == 0
    assert "acme.weather 0.1.0 is well" in capsys.readouterr().out
    spoil(good)
    assert cli.main(["check", str(packed(good, name))]) == 3
    assert capsys.readouterr().err == TOLD.format(file=good.parent / name / "plugin.toml")


def test_no_archive(good: Path, capsys: Any) -> None:
    file = good.parent / "notes.txt"
    file.write_text("nothing")
    file.chmod(0o644)
    assert cli.main(["check", str(file)]) == 3
    assert "notes.txt" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "w.tar.gz"])
def test_it_needs_no_trio(good: Path, name: str) -> None:
    path = packed(good, name) if name else good
    code = (
        f"import sys; from client.cli.main import main; assert main(['check', {str(path)!r}]) == 0; "
        "print(sorted({'trio', 'peewee', 'watchfiles'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
