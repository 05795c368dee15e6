"""The checks of a package, joined: all mistakes of a job at once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from supervisor.core.manifest import InvalidManifest, parse_manifest
from supervisor.daemon.checks import check_package, schedule_problem
from supervisor.lifecycle.checking import standard_checks

HEAD = """
[plugin]
key = "acme.weather"
version = "1"
api_version = 1
display_name = "W"
description = "d"
author = "a"
categories = ["connector"]
capabilities = ["jobs.schedule"]
[worker]
command = ["python", "nosuch.py"]
[[jobs]]
key = "refresh"
display_name = "R"
"""


def problems(tmp_path: Path, job: str) -> list[tuple[str, str]]:
    (tmp_path / "plugin.toml").write_text(HEAD + job)
    with pytest.raises(InvalidManifest) as caught:
        check_package(tmp_path)
    return [(problem["path"], problem["message"]) for problem in caught.value.details["problems"]]


def test_every_beside_schedule_hides_nothing(tmp_path: Path) -> None:
    found = problems(tmp_path, 'every = "soon"\nschedule = "99 * * * *"\ntimezone = "Mars/Olympus"\n')
    assert [path for path, _ in found] == [
        "jobs[0].every",
        "jobs[0].timezone",
        "jobs[0].schedule",
        "jobs[0].every",
        "worker.command[1]",
    ]
    assert found[0][1] == "cannot stand beside schedule"
    assert found[-1][1] == "is not in the package"


def test_every_beside_a_good_schedule_is_one_problem(tmp_path: Path) -> None:
    found = problems(tmp_path, 'every = "90s"\nschedule = "5 * * * *"\n')
    assert [path for path, _ in found] == ["jobs[0].every", "worker.command[1]"]


def test_a_job_by_hand_has_no_schedule_problem(tmp_path: Path) -> None:
    (tmp_path / "nosuch.py").write_text("")
    manifest = parse_manifest(tomllib.loads(HEAD), standard_checks(schedule_problem, tmp_path))
    assert schedule_problem(manifest.jobs[0], "acme.weather") is None


def test_a_wrong_at_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "plugin.toml").write_text(HEAD + 'at = "2027-02-30T10:00"\ntimezone = "europe/berlin"\n')
    with pytest.raises(InvalidManifest) as caught:
        check_package(tmp_path)
    found = {problem["path"]: problem for problem in caught.value.details["problems"]}
    assert "'2027-02-30T10:00' does not exist" in found["jobs[0].at"]["message"]
    assert found["jobs[0].at"]["hint"] == "change the date or the time"
    assert found["jobs[0].timezone"]["hint"] == "write 'Europe/Berlin'"
