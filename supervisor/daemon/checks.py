"""The checks of a plugin's package, joined: manifest, versions, schemas, schedules. Works without a daemon."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from supervisor.core.manifest import MANIFEST_NAME, JobSpec, Manifest
from supervisor.core.problem import Fault
from supervisor.jobs.cron import ScheduleError, parse_schedule
from supervisor.lifecycle.checking import check_directory
from supervisor.lifecycle.copying import PackageLimits, look_through


def schedule_problem(job: JobSpec, plugin_key: str) -> tuple[str, Fault] | None:
    """The field of `job` at fault and what is wrong with it, or None. A job without a schedule runs by hand."""
    schedule = job.schedule
    if schedule is None and job.every is None and job.at is None:
        if job.timezone is None:
            return None
        schedule = "@reboot"  # only its time zone is looked at
    try:
        identity = f"{plugin_key}/{job.key}"
        zone = job.timezone or "UTC"
        parse_schedule(schedule, zone=zone, seconds=job.seconds, identity=identity, every=job.every, at=job.at)
    except ScheduleError as error:
        field = {"zone": "timezone", "every": "every", "at": "at"}.get(error.field, "schedule")
        named = field == "schedule" and error.field != "expression"
        # The way out comes last, and holds no semicolon.
        rule, _, hint = error.reason.rpartition("; ") if "; " in error.reason else (error.reason, "", None)
        return field, Fault(f"{error.field}: {rule}" if named else rule, hint)
    return None


def check_source(path: Path) -> Manifest:
    """The manifest of a package: a directory, an archive, or a wheel (a file whose name ends in .whl).

    Raises:
        InvalidParams, ResourceExhausted: as `check_package`; or the archive is one that no plugin may come in.
    """
    if not path.is_file():
        return check_package(path)
    with TemporaryDirectory(prefix="plugind-check-") as name:
        target, limits = Path(name) / "package", PackageLimits()
        target.mkdir(0o700)
        if path.name.endswith(".whl"):
            from supervisor.lifecycle.archives import inspect_wheel
            from supervisor.lifecycle.wheels import manifest_of_wheel

            inspect_wheel(path, limits)
            (target / MANIFEST_NAME).write_bytes(manifest_of_wheel(path))
        else:
            from supervisor.lifecycle.archives import unpack

            unpack(path, target, limits, lambda: None, lambda _done, _total: None)
        return check_directory(target, schedule_problem, where=path)


def check_package(directory: Path) -> Manifest:
    """The manifest of the package in `directory`.

    Raises:
        InvalidParams: it is no package, or its manifest has problems: all of them are listed; or something is in the
            directory that no package may hold.
        ResourceExhausted: it holds more than a package may.
    """
    manifest = check_directory(directory, schedule_problem)
    look_through(directory, PackageLimits(), trusted=False)  # as installing does for a daemon of this user
    return manifest
