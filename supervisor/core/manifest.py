"""Manifest, JobSpec and their checks: what `plugin.toml` says. Pure; parsing TOML is the caller's.

The checks that need a library (versions, cron expressions, JSON Schema) come in as `Checks`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from supervisor.core.errors import InvalidParams
from supervisor.core.plugin import Capability, PluginKey, capability_problem, key_problem
from supervisor.core.reading import Problem, Reader
from supervisor.core.secrets import marked
from supervisor.core.worker_spec import WorkerSpec, read_worker, worker_problems

MANIFEST_NAME: Final = "plugin.toml"
API_VERSION: Final = 1
CATEGORIES: Final = ("connector", "workspace", "automation", "ui")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_METHOD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_DAY_S: Final = 86_400


class InvalidManifest(InvalidParams):
    """The manifest has problems; details: problems, a list of {path, message, value}."""

    def __init__(self, where: str, problems: Iterable[Problem]) -> None:
        listed = list(problems)
        lines = "\n".join(f"  {problem}" for problem in listed)
        count = "1 problem" if len(listed) == 1 else f"{len(listed)} problems"
        super().__init__(f"{where} has {count}:\n{lines}", problems=[asdict(problem) for problem in listed])


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job as declared. Without `schedule` and `every` it runs by hand only; `timezone` None is the daemon's."""

    key: str
    display_name: str
    description: str | None = None
    schedule: str | None = None
    every: str | None = None
    seconds: bool = False
    timezone: str | None = None
    overlap: str = "skip"
    catch_up: str = "latest"
    misfire_grace_s: float | None = None
    start_within_s: float = 60.0
    timeout_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """A method that clients may call in the worker. `timeout_s` None: the default deadline."""

    name: str
    description: str | None = None
    params_schema: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    key: PluginKey
    version: str
    api_version: int
    display_name: str
    description: str
    author: str
    categories: tuple[str, ...]
    capabilities: tuple[Capability, ...]
    min_supervisor_version: str | None
    requires: tuple[PluginKey, ...] = ()
    """Keys of the plugins whose workers must be up before this one's is started."""
    worker: WorkerSpec
    jobs: tuple[JobSpec, ...]
    methods: tuple[MethodSpec, ...]
    config_schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Checks that need more than the standard library. Each says what is wrong, or None."""

    version: Callable[[str], str | None]
    supervisor_version: Callable[[str], str | None]
    schema: Callable[[Any], str | None]
    schedule: Callable[[JobSpec, str], tuple[str, str] | None]
    """Job and plugin key -> (the job's field at fault, what is wrong) or None."""
    command: Callable[[Sequence[str]], Mapping[int, str]] = lambda _: {}
    """One of a worker's commands -> what is wrong with its words, by their place in it."""
    secrets: Callable[[Any], Sequence[str]] = marked
    """A schema -> where it marks values as secret, which needs a capability."""


def parse_manifest(table: Mapping[str, Any], checks: Checks, *, where: str = MANIFEST_NAME) -> Manifest:
    """The manifest in a parsed TOML document.

    Raises:
        InvalidManifest: with every problem at once.
    """
    reader = Reader(table)
    manifest = _read_manifest(reader, checks)
    reader.finish()
    _check_together(reader, manifest, checks)
    if reader.problems:
        raise InvalidManifest(where, reader.problems)
    return manifest


def manifest_to_table(manifest: Manifest) -> dict[str, Any]:
    """The stored form: `parse_stored_manifest` reads it back. Plain values only."""
    table = asdict(manifest)
    head = {name: table.pop(name) for name in _HEAD}
    return {"plugin": _without_none(head), **_without_none(table)}


def parse_stored_manifest(table: Mapping[str, Any]) -> Manifest:
    """A manifest out of our own database: it was checked when it was stored."""
    trust = Checks(
        version=lambda _: None,
        supervisor_version=lambda _: None,
        schema=lambda _: None,
        schedule=lambda _job, _key: None,
        secrets=lambda _: (),
    )
    return parse_manifest(table, trust, where="stored manifest")


_HEAD = (
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


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list | tuple) else value


def _read_manifest(reader: Reader, checks: Checks) -> Manifest:
    if "plugin" not in reader.table:
        reader.problem("plugin", "the table [plugin] is required")
    if "worker" not in reader.table:
        reader.problem("worker", "the table [worker] is required")
    # Absent tables were named above; reading them would only repeat it field by field.
    head = reader.sub("plugin", lambda r: _read_head(r, checks) if r.table else {})
    worker = reader.sub("worker", lambda r: read_worker(r) if r.table else WorkerSpec(command=()))
    return Manifest(
        **(head or _read_head(Reader({}), checks)),
        worker=worker,
        jobs=reader.subs("jobs", _read_job),
        methods=reader.subs("methods", lambda r: _read_method(r, checks)),
        config_schema=_read_schema(reader, "config_schema", checks),
    )


def _read_head(r: Reader, checks: Checks) -> dict[str, Any]:
    api_version = r.whole("api_version", least=1, most=1_000_000)
    if "api_version" in r.table and api_version != API_VERSION:
        r.problem("api_version", f"this plugind speaks version {API_VERSION}", api_version)
    return {
        "key": PluginKey(r.text("key", longest=100, check=key_problem)),
        "version": r.text("version", longest=100, check=checks.version),
        "api_version": api_version,
        "display_name": r.text("display_name", longest=100),
        "description": r.text("description", longest=500),
        "author": r.text("author", longest=200),
        "categories": r.texts("categories", required=True, check=_one_of(CATEGORIES)),
        "capabilities": tuple(Capability(c) for c in r.texts("capabilities", check=capability_problem)),
        "min_supervisor_version": r.optional_text("min_supervisor_version", check=checks.supervisor_version),
        "requires": tuple(PluginKey(key) for key in r.texts("requires", check=key_problem)),
    }


def _read_job(r: Reader) -> JobSpec:
    return JobSpec(
        key=r.text("key", longest=100, check=_name_problem),
        display_name=r.text("display_name", longest=100),
        description=r.optional_text("description"),
        schedule=r.optional_text("schedule", longest=256),
        every=r.optional_text("every", longest=50),
        seconds=r.flag("seconds", default=False),
        timezone=r.optional_text("timezone", longest=100),
        overlap=r.choice("overlap", "skip", ("skip", "allow")),
        catch_up=r.choice("catch_up", "latest", ("latest", "skip")),
        misfire_grace_s=r.optional_number("misfire_grace_s", least=0, most=366 * _DAY_S),
        start_within_s=r.number("start_within_s", 60, least=0, most=_DAY_S),
        timeout_s=r.number("timeout_s", 300, least=0.1, most=366 * _DAY_S),
    )


def _read_method(r: Reader, checks: Checks) -> MethodSpec:
    return MethodSpec(
        name=r.text("name", longest=100, check=_method_problem),
        description=r.optional_text("description"),
        params_schema=_read_schema(r, "params_schema", checks),
        timeout_s=r.optional_number("timeout_s", least=0.1, most=366 * _DAY_S),
    )


def _read_schema(r: Reader, name: str, checks: Checks) -> Mapping[str, Any]:
    schema = r.anything(name)
    if schema is None:
        return {}
    if not isinstance(schema, Mapping):
        r.problem(name, "must be a table: a JSON Schema", schema)
        return {}
    if why := checks.schema(schema):
        r.problem(name, f"is no JSON Schema (draft 2020-12): {why}")
    return schema


def _check_together(reader: Reader, manifest: Manifest, checks: Checks) -> None:
    """What one field alone cannot tell."""
    _refuse_twins(reader, "jobs", "key", [job.key for job in manifest.jobs])
    _refuse_twins(reader, "methods", "name", [method.name for method in manifest.methods])
    _need_capability(reader, manifest, bool(manifest.jobs), "jobs", "jobs.schedule")
    _need_capability(reader, manifest, bool(manifest.methods), "methods", "methods.register")
    if "secrets.read" not in manifest.capabilities:
        for place in checks.secrets(manifest.config_schema):
            name = f"config_schema.{place}" if place else "config_schema"
            reader.problem(name, "is writeOnly: needs the capability 'secrets.read', or the plugin could not read it")
    if manifest.key in manifest.requires:
        reader.problem("plugin.requires", "a plugin cannot require itself", manifest.key)
    for name, why in worker_problems(manifest.worker):
        reader.problem(f"worker.{name}", why)
    if manifest.worker.transport == "none":
        for feature in ("jobs", "methods"):
            if reader.table.get(feature):
                reader.problem(feature, 'need a worker that speaks RPC: set worker.transport = "rpc"')
    for i, job in enumerate(manifest.jobs):
        for name, why in _schedule_faults(job, manifest.key, checks):
            reader.problem(f"jobs[{i}].{name}", why)
    for name, words in manifest.worker.commands():
        for i, why in checks.command(words).items():
            reader.problem(f"worker.{name}[{i}]", why, words[i])


def _schedule_faults(job: JobSpec, key: str, checks: Checks) -> Iterable[tuple[str, str]]:
    """All at once: one mistake of a job does not hide the others."""
    variants = [job]
    faults = []
    if job.schedule is not None and job.every is not None:
        faults.append(("every", "cannot stand beside schedule: keep one of them"))
        variants = [replace(job, every=None), replace(job, schedule=None)]
    for variant in variants:
        fault = checks.schedule(variant, key)
        if fault is not None and fault[0] == "timezone":
            faults.append(fault)
            fault = checks.schedule(replace(variant, timezone=None), key)
        if fault is not None:
            faults.append(fault)
    return dict.fromkeys(faults)


def _refuse_twins(reader: Reader, table: str, name: str, values: list[str]) -> None:
    for value, count in Counter(values).items():
        if value and count > 1:
            reader.problem(table, f"{count} of them have the {name} {value!r}; it must be unique")


def _need_capability(reader: Reader, manifest: Manifest, used: bool, feature: str, capability: str) -> None:
    if used and capability not in manifest.capabilities:
        reader.problem(feature, f"needs the capability {capability!r}: add it to plugin.capabilities")


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], str | None]:
    return lambda value: None if value in choices else f"must be one of {', '.join(choices)}"


def _name_problem(text: str) -> str | None:
    return None if _NAME.fullmatch(text) else "must be 1 to 100 of a-z, 0-9, '.', '_', '-', first a letter or digit"


def _method_problem(text: str) -> str | None:
    return None if _METHOD.fullmatch(text) else "must be 1 to 100 letters, digits, '.', '_', '-'"
