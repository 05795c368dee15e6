"""Manifest <-> the table that is stored of it, and the one that a worker is told. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from supervisor.core.manifest import Checks, InvalidManifest, Manifest, read_manifest
from supervisor.core.reading import Reader
from supervisor.core.stored_jobs import StoredJobs, spec_from_table, spec_to_table

_HEAD: Final = (
    "key",
    "version",
    "api_version",
    "display_name",
    "description",
    "author",
    "categories",
    "capabilities",
    "min_supervisor_version",
    "requires",
)
_TRUST: Final = Checks(
    version=lambda _: None,
    supervisor_version=lambda _: None,
    schema=lambda _: (),
    schedule=lambda _job, _key: None,
)


def compact(manifest: Manifest) -> Manifest:
    """The same in less memory: for one that is kept."""
    return replace(manifest, jobs=StoredJobs.of(manifest.jobs))


def manifest_to_table(manifest: Manifest) -> dict[str, Any]:
    """The stored form: `parse_stored_manifest` reads it back. Plain values only; `jobs` is one JSON text."""
    return _with_jobs(manifest, StoredJobs.of(manifest.jobs).text)


def manifest_for_worker(manifest: Manifest) -> dict[str, Any]:
    """What a worker is told: as the stored form, with `jobs` as a list of tables."""
    return _with_jobs(manifest, [spec_to_table(job) for job in manifest.jobs])


def parse_stored_manifest(table: Mapping[str, Any]) -> Manifest:
    """A manifest out of our own database: it was checked when it was stored, by what was the rule then.

    Raises:
        InvalidManifest: it is not what we store. Jobs are looked at when they are read: see StoredJobs.
    """
    reader = Reader(table, trusted=True)
    manifest = read_manifest(reader, _TRUST, _stored_jobs)
    reader.finish()
    if reader.problems:
        raise InvalidManifest("stored manifest", reader.problems)
    return manifest


def _stored_jobs(reader: Reader) -> StoredJobs:
    value = reader.anything("jobs")
    try:
        # They were a list of tables before they were a text.
        jobs = StoredJobs(value) if isinstance(value, str) else StoredJobs.of(map(spec_from_table, value or ()))
    except (TypeError, AttributeError) as error:
        reader.problem("jobs", f"are not what is stored for jobs: {error}")
    else:
        if jobs.looks_whole():
            return jobs
        reader.problem("jobs", "are not what is stored for jobs: the text is cut or foreign", value)
    return StoredJobs("[]")


def _with_jobs(manifest: Manifest, jobs: str | list[dict[str, Any]]) -> dict[str, Any]:
    table = asdict(replace(manifest, jobs=())) | {"jobs": jobs}
    head = {name: table.pop(name) for name in _HEAD}
    return {"plugin": _without_none(head), **_without_none(table)}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list | tuple) else value
