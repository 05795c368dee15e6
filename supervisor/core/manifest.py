"""Manifest, JobSpec and their checks: what `plugin.toml` says. Pure; parsing TOML is the caller's.

The checks that need a library (versions, cron expressions, JSON Schema) come in as `Checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from supervisor.core.errors import InvalidParams
from supervisor.core.manifest_rules import (
    category_fault,
    check_together,
    job_key_fault,
    method_fault,
    name_fault,
    text_fault,
)
from supervisor.core.plugin import Capability, PluginKey, capability_fault, key_problem
from supervisor.core.problem import Fault, Problem
from supervisor.core.reading import Reader
from supervisor.core.secrets import marked
from supervisor.core.worker_spec import WorkerSpec, read_worker

MANIFEST_NAME: Final = "plugin.toml"
API_VERSION: Final = 1
_DAY_S: Final = 86_400
_MAX_JOBS: Final = 1000
_MAX_METHODS: Final = 1000
_MAX_PROBLEMS: Final = 100
"""Those that are told one by one."""


class InvalidManifest(InvalidParams):
    """The manifest has problems; details: problems, a list of the first 100 as {path, message, value, hint, line},
    count: how many there are, where: the manifest."""

    def __init__(self, where: str, problems: Iterable[Problem]) -> None:
        found = list(problems)
        self.problems: Final = tuple(found[:_MAX_PROBLEMS])
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        first = f"; the first {_MAX_PROBLEMS}" if len(found) > _MAX_PROBLEMS else ""
        super().__init__(
            f"{where} has {count}{first}:\n{lines}",
            problems=[asdict(problem) for problem in self.problems],
            count=len(found),
            where=where,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job as declared. Without `schedule`, `every` and `at` it runs by hand only; `timezone` None is the daemon's."""

    key: str
    display_name: str
    description: str | None = None
    schedule: str | None = None
    every: str | None = None
    at: str | None = None
    """Once: ISO 8601; without an offset, a wall time of its zone."""
    seconds: bool = False
    timezone: str | None = None
    command: tuple[str, ...] = ()
    """Run this program instead of asking the worker."""
    overlap: str = "skip"
    """skip, queue_one, cancel_previous or allow."""
    max_running: int = 8
    """Of its runs at once, with overlap = "allow"; 1 with the others."""
    catch_up: str = "latest"
    """latest, skip or all."""
    misfire_grace_s: float | None = None
    """How late a due time may be served after an outage; None: half the period, from 5 s to an hour."""
    start_within_s: float | None = None
    """How long a run may wait for its worker or a place; None: half the period, from a minute to an hour."""
    jitter_s: float = 0.0
    timeout_s: float = 300.0
    on_timeout: str = "cancel"
    """cancel: the worker is told; restart: one that does not let go of the run in time is restarted."""
    retries: int = 0
    retry_backoff_s: float = 10.0
    """Until the first retry; doubled for each one after it, up to an hour."""

    @property
    def timed(self) -> bool:
        """Whether it says when it is due, if only at each start."""
        return self.schedule is not None or self.every is not None or self.at is not None


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
    jobs: Sequence[JobSpec]
    """A tuple, or what is equal to one: see StoredJobs."""
    methods: tuple[MethodSpec, ...]
    config_schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Checks that need more than the standard library. Each says what is wrong, or None."""

    version: Callable[[str], Fault | None]
    supervisor_version: Callable[[str], Fault | None]
    schema: Callable[[Any], Iterable[tuple[str, Fault]]]
    """A schema -> the places in it at fault, as in `properties.city.type`, and what is wrong there."""
    schedule: Callable[[JobSpec, str], tuple[str, Fault] | None]
    """Job and plugin key -> (the job's field at fault, what is wrong) or None."""
    command: Callable[[Sequence[str]], Mapping[int, str]] = lambda _: {}
    """One of a worker's commands -> what is wrong with its words, by their place in it."""
    secrets: Callable[[Any], Sequence[str]] = marked
    """A schema -> where it marks values as secret, which needs a capability."""


def parse_manifest(
    table: Mapping[str, Any],
    checks: Checks,
    *,
    where: str = MANIFEST_NAME,
    line: Callable[[str], int | None] = lambda _: None,
) -> Manifest:
    """The manifest in a parsed TOML document. `line` tells where a path is in it.

    Raises:
        InvalidManifest: with every problem at once.
    """
    reader = Reader(table)
    manifest = read_manifest(reader, checks, _read_jobs)
    reader.finish()
    check_together(reader, manifest, checks)
    if reader.problems:
        raise InvalidManifest(where, [replace(problem, line=line(problem.path)) for problem in reader.problems])
    return manifest


def read_manifest(reader: Reader, checks: Checks, read_jobs: Callable[[Reader], Sequence[JobSpec]]) -> Manifest:
    """Each field for itself; `reader` collects the problems. `read_jobs` takes out what stands for the jobs."""
    head = reader.optional_sub("plugin", lambda r: _read_head(r, checks))
    worker = reader.optional_sub("worker", read_worker)
    for name in ("plugin", "worker"):
        if name not in reader.table:
            reader.problem(name, f"the table [{name}] is required")
    return Manifest(
        # What is not there is named above; reading it would only repeat that field by field.
        **(head or _read_head(Reader({}), checks)),
        worker=worker or WorkerSpec(command=()),
        jobs=read_jobs(reader),
        methods=reader.subs("methods", lambda r: _read_method(r, checks), most=_MAX_METHODS),
        config_schema=_read_schema(reader, "config_schema", checks),
    )


def _read_head(r: Reader, checks: Checks) -> dict[str, Any]:
    return {
        "key": PluginKey(r.text("key", longest=100, check=key_problem, example="acme.weather")),
        "version": r.text("version", longest=100, check=checks.version, example="1.0.0"),
        "api_version": _read_api_version(r),
        "display_name": r.text("display_name", longest=100, check=name_fault, example="Weather"),
        "description": r.text("description", longest=500, check=text_fault, example="What it does."),
        "author": r.text("author", longest=200, check=name_fault, example="Acme"),
        "categories": r.texts("categories", required=True, check=category_fault, example='["automation"]'),
        "capabilities": tuple(Capability(c) for c in r.texts("capabilities", longest=4200, check=capability_fault)),
        "min_supervisor_version": r.optional_text(
            "min_supervisor_version", longest=100, check=checks.supervisor_version
        ),
        "requires": tuple(PluginKey(key) for key in r.texts("requires", check=key_problem)),
    }


def _read_api_version(r: Reader) -> int:
    version = r.whole("api_version", least=1, most=1_000_000, example=f"{API_VERSION}")
    if version > API_VERSION and not r.trusted:
        r.problem(
            "api_version",
            f"this plugind speaks version {API_VERSION} only",
            version,
            f"upgrade plugind to one that speaks {version}, or write the plugin for {API_VERSION}",
        )
    return version


def _read_jobs(reader: Reader) -> Sequence[JobSpec]:
    return reader.subs("jobs", _read_job, most=_MAX_JOBS)


def _read_job(r: Reader) -> JobSpec:
    return JobSpec(
        key=r.text("key", longest=100, check=job_key_fault, example="refresh"),
        display_name=r.text("display_name", longest=100, check=name_fault, example="Refresh"),
        description=r.optional_text("description", check=text_fault),
        schedule=r.optional_text("schedule", longest=256),
        every=r.optional_text("every", longest=50),
        at=r.optional_text("at", longest=50),
        seconds=r.flag("seconds", default=False),
        timezone=r.optional_text("timezone", longest=100),
        command=r.texts("command", unique=False, longest=4096),
        overlap=r.choice("overlap", "skip", ("skip", "queue_one", "cancel_previous", "allow")),
        max_running=r.whole("max_running", 8, least=1, most=64),
        catch_up=r.choice("catch_up", "latest", ("latest", "skip", "all")),
        misfire_grace_s=r.optional_number("misfire_grace_s", least=0, most=366 * _DAY_S),
        start_within_s=r.optional_number("start_within_s", least=0, most=_DAY_S),
        jitter_s=r.number("jitter_s", 0, least=0, most=_DAY_S),
        timeout_s=r.number("timeout_s", 300, least=0.1, most=366 * _DAY_S),
        on_timeout=r.choice("on_timeout", "cancel", ("cancel", "restart")),
        retries=r.whole("retries", 0, least=0, most=100),
        retry_backoff_s=r.number("retry_backoff_s", 10, least=0.1, most=_DAY_S),
    )


def _read_method(r: Reader, checks: Checks) -> MethodSpec:
    return MethodSpec(
        name=r.text("name", longest=100, check=method_fault, example="forecast"),
        description=r.optional_text("description", check=text_fault),
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
    for place, fault in checks.schema(schema):
        # A place may begin with an index: the schema is data.
        where = f"{name}.{place}" if place else name
        r.problem(where, Fault(f"is no JSON Schema (draft 2020-12): {fault.message}", fault.hint))
    return schema
