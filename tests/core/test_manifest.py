"""plugin.toml: the good ones, and every way to get it wrong with its place and its reason."""

from __future__ import annotations

import copy
import json
import tomllib
from dataclasses import replace
from typing import Any

import pytest

from supervisor.core.manifest import (
    Checks,
    InvalidManifest,
    JobSpec,
    parse_manifest,
)
from supervisor.core.problem import Fault
from supervisor.core.stored_manifest import manifest_to_table, parse_stored_manifest

DESIGN_EXAMPLE = """
[plugin]
key = "acme.weather"
version = "1.2.0"
api_version = 1
display_name = "Weather"
description = "Forecasts for a city"
author = "Acme"
categories = ["connector"]
capabilities = ["jobs.schedule", "methods.register", "events.emit", "state.read", "state.write"]
min_supervisor_version = "0.1"

[worker]
command = ["python", "-m", "weather"]
transport = "rpc"
start_timeout_s = 15
stop_timeout_s = 10
upgrade = "overlap"
env = {}
[worker.restart]
backoff_s = 1
max_backoff_s = 300
max_restarts = 10
stable_after_s = 60
[worker.health]
interval_s = 15
timeout_s = 5
failures = 3
[worker.limits]
memory_mb = 256
pids = 50
nofile = 256
cpu_percent = 100

[[jobs]]
key = "refresh"
display_name = "Refresh the forecast"
schedule = "*/5 * * * *"
[[methods]]
name = "forecast"
description = "The forecast of a city"
params_schema = {type = "object"}
[config_schema]
type = "object"
"""


def _version(text: str) -> Fault | None:
    return None if text[:1].isdigit() else Fault("is no version")


def _schedule(job: JobSpec, _key: str) -> tuple[str, Fault] | None:
    return ("schedule", Fault("minute: 61 is above 59")) if job.schedule and job.schedule.startswith("61") else None


CHECKS = Checks(
    version=_version,
    supervisor_version=lambda text: Fault("this is plugind 0.1") if text == "99" else None,
    schema=lambda schema: [("type", Fault("is unknown"))] if schema.get("type") == "objekt" else [],
    schedule=_schedule,
)
GONE = object()
LONG = "x" * 600


def example() -> dict[str, Any]:
    return tomllib.loads(DESIGN_EXAMPLE)


def changed(path: str, value: Any) -> dict[str, Any]:
    table = copy.deepcopy(example())
    *way, last = path.split("/")
    inner: Any = table
    for step in way:
        inner = inner[int(step) if isinstance(inner, list) else step]
    if value is GONE:
        del inner[last]
    else:
        inner[int(last) if isinstance(inner, list) else last] = value
    return table


def test_the_example_of_the_contract() -> None:
    manifest = parse_manifest(example(), CHECKS)
    assert manifest.key == "acme.weather"
    assert manifest.worker.command == ("python", "-m", "weather")
    assert manifest.worker.limits.memory_mb == 256
    assert [job.key for job in manifest.jobs] == ["refresh"]
    assert manifest.methods[0].params_schema == {"type": "object"}


def test_what_may_be_left_out() -> None:
    table = example()
    table["worker"] = {"command": ["./run"]}
    for name in ("jobs", "methods", "config_schema"):
        del table[name]
    manifest = parse_manifest(table, CHECKS)
    assert (manifest.worker.start_timeout_s, manifest.worker.stop_timeout_s) == (15, 10)
    assert (manifest.worker.restart.max_restarts, manifest.worker.health.interval_s) == (10, 15)
    assert (manifest.jobs, manifest.methods, manifest.config_schema) == ((), (), {})


def test_stored_and_read_back() -> None:
    manifest = parse_manifest(example(), CHECKS)
    stored = json.loads(json.dumps(manifest_to_table(manifest)))
    assert parse_stored_manifest(stored) == manifest


JOB: dict[str, Any] = {
    "key": "tidy",
    "display_name": "Tidy up",
    "description": "Throws away what is old.",
    "at": "2027-01-01T00:00+01:00",
    "timezone": "Europe/Berlin",
    "command": ["sh", "tidy.sh", "sh"],
    "overlap": "allow",
    "max_running": 3,
    "catch_up": "all",
    "misfire_grace_s": 60,
    "start_within_s": 30.5,
    "jitter_s": 5,
    "timeout_s": 10,
    "retries": 2,
    "retry_backoff_s": 1,
}


def test_all_that_a_job_may_say() -> None:
    table = changed("jobs", [JOB, {"key": "ask", "display_name": "Ask", "every": "90s", "on_timeout": "restart"}])
    tidy, ask = parse_manifest(table, CHECKS).jobs
    assert tidy == JobSpec(**JOB | {"command": ("sh", "tidy.sh", "sh")})
    assert (ask.every, ask.on_timeout, ask.timed, tidy.timed) == ("90s", "restart", True, True)


def test_what_a_job_need_not_say() -> None:
    [job] = parse_manifest(changed("jobs", [{"key": "a", "display_name": "A"}]), CHECKS).jobs
    assert job == JobSpec(key="a", display_name="A")
    assert not job.timed
    told = (job.command, job.overlap, job.max_running, job.catch_up, job.timeout_s, job.on_timeout, job.retries)
    assert told == ((), "skip", 8, "latest", 300, "cancel", 0)


def test_of_a_job_what_differs_from_the_defaults_is_stored() -> None:
    manifest = parse_manifest(changed("jobs", [JOB, {"key": "a", "display_name": "A"}]), CHECKS)
    stored = json.loads(json.dumps(manifest_to_table(manifest)))
    jobs = json.loads(stored["jobs"])
    assert jobs[1] == {"key": "a", "display_name": "A"}
    assert parse_stored_manifest(stored) == manifest
    # What a later version has stored beside it.
    jobs[1]["mood"] = "good"
    stored["jobs"] = json.dumps(jobs)
    assert parse_stored_manifest(stored) == manifest


@pytest.mark.parametrize("jobs", [[{"key": "a"}], ["a"], 3])
def test_jobs_that_are_not_what_is_stored(jobs: Any) -> None:
    stored = manifest_to_table(parse_manifest(example(), CHECKS)) | {"jobs": jobs}
    with pytest.raises(InvalidManifest, match="jobs: are not what is stored for jobs"):
        parse_stored_manifest(stored)


def test_a_plain_program_has_jobs_that_are_commands() -> None:
    table = changed("worker/transport", "none")
    del table["methods"]
    table["jobs"] = [JOB]
    assert parse_manifest(table, CHECKS).jobs[0].command == ("sh", "tidy.sh", "sh")


def test_the_words_of_a_jobs_command_are_looked_at() -> None:
    checks = replace(CHECKS, command=lambda words: {1: "is not in the package"} if "tidy.sh" in words else {})
    with pytest.raises(InvalidManifest) as caught:
        parse_manifest(changed("jobs", [JOB]), checks)
    [problem] = caught.value.problems
    assert str(problem) == "jobs[0].command[1]: is not in the package (found: 'tidy.sh')"


CAPS = "plugin/capabilities"
BAD = [
    ("plugin", GONE, "plugin", "the table [plugin] is required"),
    ("worker", GONE, "worker", "the table [worker] is required"),
    ("plugin", 3, "plugin", "must be a table"),
    ("plugin/key", GONE, "plugin.key", "is required"),
    ("plugin/key", "Acme", "plugin.key", "must be 1 to 100 of a-z"),
    ("plugin/key", "a..b", "plugin.key", "must not contain '..'"),
    ("plugin/key", "../etc", "plugin.key", "start with a letter or digit"),
    ("plugin/key", "a/b", "plugin.key", "must be 1 to 100 of a-z"),
    ("plugin/key", "a\n", "plugin.key", "must be 1 to 100 of a-z"),
    ("plugin/key", 7, "plugin.key", "must be a string"),
    ("plugin/version", "new", "plugin.version", "is no version"),
    ("plugin/api_version", 2, "plugin.api_version", "speaks version 1 only"),
    ("plugin/api_version", True, "plugin.api_version", "must be a whole number"),
    ("plugin/display_name", "", "plugin.display_name", "1 to 100 characters"),
    ("plugin/description", LONG, "plugin.description", "1 to 500 characters"),
    ("plugin/author", GONE, "plugin.author", "is required"),
    ("plugin/categories", [], "plugin.categories", "at least one entry"),
    ("plugin/categories", ["fun"], "plugin.categories[0]", "must be one of connector"),
    ("plugin/categories", ["ui", "ui"], "plugin.categories[1]", "is there twice"),
    (CAPS, ["jobs.schedul"], "plugin.capabilities[0]", "did you mean 'jobs.schedule'?"),
    (CAPS, ["filesystem.reed:/tmp"], "plugin.capabilities[0]", "did you mean 'filesystem.read:/tmp'?"),
    (CAPS, ["everything"], "plugin.capabilities[0]", "known are"),
    (CAPS, ["filesystem.read:etc"], "plugin.capabilities[0]", "needs an absolute path"),
    (CAPS, ["filesystem.write"], "plugin.capabilities[0]", "needs an absolute path"),
    (CAPS, ["methods.register"], "jobs", "needs the capability 'jobs.schedule'"),
    (CAPS, ["jobs.schedule"], "methods", "needs the capability 'methods.register'"),
    ("plugin/min_supervisor_version", "99", "plugin.min_supervisor_version", "this is plugind 0.1"),
    ("plugin/nmae", "x", "plugin.nmae", "unknown key"),
    ("plugin/dispaly_name", "x", "plugin.dispaly_name", "did you mean 'display_name'?"),
    ("worker/command", GONE, "worker.command", "is required"),
    ("worker/command", [], "worker.command", "at least one entry"),
    ("worker/command", "python main.py", "worker.command", "must be a list of strings"),
    ("worker/command", ["a\0b"], "worker.command[0]", "without NUL"),
    ("worker/transport", "http", "worker.transport", "must be 'rpc' or 'none'"),
    ("worker/transport", "none", "methods", 'set worker.transport = "rpc"'),
    ("worker/transport", "none", "jobs[0].command", "a worker that does not speak RPC runs no jobs"),
    ("plugin", {}, "plugin.key", 'is required; such as key = "acme.weather"'),
    ("worker", {}, "worker.command", 'is required; such as command = ["python", "main.py"]'),
    ("worker/start_timeout_s", 0, "worker.start_timeout_s", "must be a number from 0.1"),
    ("worker/start_timeout_s", "15", "worker.start_timeout_s", "must be a number"),
    ("worker/stop_timeout_s", float("nan"), "worker.stop_timeout_s", "must be a number from 0 to 3600"),
    ("worker/upgrade", "never", "worker.upgrade", "must be 'overlap' or 'stop_first'"),
    ("worker/env", {"A B": "x"}, 'worker.env."A B"', "is no name for an environment variable"),
    ("worker/env", {"PLUGIND_X": "x"}, "worker.env.PLUGIND_X", "are set by the daemon"),
    ("worker/env", {"A": 1}, "worker.env.A", "must be a string"),
    ("worker/restart/max_backoff_s", 0.5, "worker.restart.max_backoff_s", "must not be below backoff_s (1)"),
    ("worker/restart/max_restarts", -1, "worker.restart.max_restarts", "must be a whole number from 0"),
    ("worker/health/failures", 1.5, "worker.health.failures", "must be a whole number"),
    ("worker/limits/nofile", 1, "worker.limits.nofile", "from 16"),
    ("worker/limits", [], "worker.limits", "must be a table"),
    ("jobs", {"key": "a"}, "jobs", "must be a list of tables: [[jobs]]"),
    ("jobs/0/key", "Refresh!", "jobs[0].key", "must be 1 to 100 of a-z"),
    ("jobs/0/schedule", "61 * * * *", "jobs[0].schedule", "minute: 61 is above 59"),
    ("jobs/0/overlap", "queue", "jobs[0].overlap", "must be 'skip' or 'queue_one' or 'cancel_previous' or 'allow'"),
    ("jobs/0/max_running", 0, "jobs[0].max_running", "must be a whole number from 1 to 64"),
    ("jobs/0/max_running", 2, "jobs[0].max_running", 'means nothing with overlap = "skip"'),
    ("jobs/0/catch_up", "every", "jobs[0].catch_up", "must be 'latest' or 'skip' or 'all'"),
    ("jobs/0/misfire_grace_s", -1, "jobs[0].misfire_grace_s", "must be a number from 0 to 31622400"),
    ("jobs/0/start_within_s", 90_000, "jobs[0].start_within_s", "must be a number from 0 to 86400"),
    ("jobs/0/jitter_s", 90_000, "jobs[0].jitter_s", "must be a number from 0 to 86400"),
    ("jobs/0/timeout_s", 0, "jobs[0].timeout_s", "must be a number from 0.1"),
    ("jobs/0/on_timeout", "kill", "jobs[0].on_timeout", "must be 'cancel' or 'restart'"),
    ("jobs/0/retries", 101, "jobs[0].retries", "must be a whole number from 0 to 100"),
    ("jobs/0/retry_backoff_s", 0, "jobs[0].retry_backoff_s", "must be a number from 0.1 to 86400"),
    ("jobs/0/seconds", "yes", "jobs[0].seconds", "must be true or false"),
    ("jobs/0/at", "2027-01-01T00:00", "jobs[0].at", "cannot stand beside schedule"),
    ("jobs/0/command", "sh tidy.sh", "jobs[0].command", "must be a list of strings"),
    ("jobs/0/command", ["a\0b"], "jobs[0].command[0]", "without NUL"),
    ("jobs/0/shedule", "* * * * *", "jobs[0].shedule", "did you mean 'schedule'?"),
    ("methods/0/name", "fore cast", "methods[0].name", "letters, digits"),
    ("methods/0/params_schema", [], "methods[0].params_schema", "must be a table: a JSON Schema"),
    ("config_schema", {"type": "objekt"}, "config_schema.type", "is no JSON Schema (draft 2020-12): is unknown"),
    ("wroker", {}, "wroker", "did you mean 'worker'?"),
]


@pytest.mark.parametrize(("path", "value", "where", "why"), BAD)
def test_a_bad_one(path: str, value: Any, where: str, why: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        parse_manifest(changed(path, value), CHECKS)
    problems = caught.value.problems
    assert any(problem.path == where and why in problem.told() for problem in problems), problems
    assert f"{where}: " in caught.value.message


@pytest.mark.parametrize(("table", "name"), [("jobs", "key"), ("methods", "name")])
def test_twins(table: str, name: str) -> None:
    document = example()
    document[table] *= 2
    with pytest.raises(InvalidManifest) as caught:
        parse_manifest(document, CHECKS)
    [problem] = caught.value.problems
    assert problem.path == f"{table}[1].{name}"
    assert problem.message == f"is the {name} of {table}[0] too: it must be unique"


def test_all_problems_at_once_in_one_message() -> None:
    document = example()
    document["plugin"]["key"] = "A"
    document["worker"]["command"] = []
    document["jobs"][0]["key"] = "?"
    with pytest.raises(InvalidManifest) as caught:
        parse_manifest(document, CHECKS, where="/srv/weather/plugin.toml")
    assert caught.value.message.startswith("/srv/weather/plugin.toml has 3 problems:\n")
    assert [problem["path"] for problem in caught.value.details["problems"]] == [
        "plugin.key",
        "worker.command",
        "jobs[0].key",
    ]


def test_the_empty_document() -> None:
    with pytest.raises(InvalidManifest) as caught:
        parse_manifest({}, CHECKS)
    assert [problem["path"] for problem in caught.value.details["problems"]] == ["plugin", "worker"]


def test_secrets_need_the_capability_to_read_them() -> None:
    document = example()
    document["config_schema"] = {"properties": {"token": {"type": "string", "writeOnly": True}}}
    with pytest.raises(InvalidManifest, match=r"without the capability 'secrets\.read'; add it to") as caught:
        parse_manifest(document, CHECKS)
    assert [problem["path"] for problem in caught.value.details["problems"]] == ["config_schema.properties.token"]
    document["plugin"]["capabilities"].append("secrets.read")
    stored = manifest_to_table(parse_manifest(document, CHECKS))
    # One that was stored before there was this rule is still read.
    stored["plugin"]["capabilities"].remove("secrets.read")
    assert parse_stored_manifest(stored).config_schema == document["config_schema"]
