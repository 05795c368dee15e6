"""The checks of a plugin's package, joined: manifest, versions, schemas, schedules. Works without a daemon."""

from __future__ import annotations

from pathlib import Path

from supervisor.core.manifest import JobSpec, Manifest
from supervisor.jobs.cron import ScheduleError, parse_schedule
from supervisor.lifecycle.checking import check_directory
from supervisor.lifecycle.copying import PackageLimits, digest_of


def schedule_problem(job: JobSpec, plugin_key: str) -> tuple[str, str] | None:
    """The field of `job` at fault and what is wrong with it, or None. A job without a schedule runs by hand."""
    if job.schedule is None and job.every is None:
        return None
    try:
        identity = f"{plugin_key}/{job.key}"
        zone = job.timezone or "UTC"
        parse_schedule(job.schedule, zone=zone, seconds=job.seconds, identity=identity, every=job.every)
    except ScheduleError as error:
        fields = {"zone": "timezone", "every": "every"}
        return fields.get(error.field, "schedule"), str(error)
    return None


def check_package(directory: Path) -> Manifest:
    """The manifest of the package in `directory`.

    Raises:
        InvalidParams: it is no package, or its manifest has problems: all of them are listed; or something is in the
            directory that no package may hold.
        ResourceExhausted: it holds more than a package may.
    """
    manifest = check_directory(directory, schedule_problem)
    digest_of(directory, PackageLimits())  # looks at every file, as installing does
    return manifest
