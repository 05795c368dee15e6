"""The rules of a manifest: those of its texts, and what one field alone cannot tell. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from supervisor.core.plugin import PLAIN_CAPABILITIES
from supervisor.core.problem import Fault, did_you_mean, nearest
from supervisor.core.reading import Reader
from supervisor.core.worker_spec import worker_problems

if TYPE_CHECKING:
    from supervisor.core.manifest import Checks, JobSpec, Manifest

CATEGORIES: Final = ("connector", "workspace", "automation", "ui")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_WHEN: Final = ("schedule", "every", "at")
_MAX_RUNNING: Final = 8
"""What it is where a job does not say."""
_METHOD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def check_together(reader: Reader, manifest: Manifest, checks: Checks) -> None:
    """What one field alone cannot tell."""
    _refuse_twins(reader, "jobs", "key", [job.key for job in manifest.jobs])
    _refuse_twins(reader, "methods", "name", [method.name for method in manifest.methods])
    _check_capabilities(reader, manifest, checks)
    if manifest.key and manifest.key in manifest.requires:
        place = f"plugin.requires[{reader.table['plugin']['requires'].index(manifest.key)}]"
        reader.problem(place, "a plugin cannot require itself", manifest.key, "take it out")
    for name, fault in worker_problems(manifest.worker):
        reader.problem(f"worker.{name}", fault)
    rpc = manifest.worker.transport != "none"
    if not rpc and reader.table.get("methods"):
        reader.problem("methods", "need a worker that speaks RPC", hint='set worker.transport = "rpc"')
    # One that cannot be read is named already.
    given = {problem.path.partition(".command")[0] for problem in reader.problems if ".command" in problem.path}
    for i, job in enumerate(manifest.jobs):
        needs_command = not rpc and f"jobs[{i}]" not in given
        for name, fault in (*_schedule_faults(job, manifest.key, checks), *_job_faults(job, needs_command)):
            reader.problem(f"jobs[{i}].{name}", fault, getattr(job, name) or None)
        for word, why in checks.command(job.command).items():
            reader.problem(f"jobs[{i}].command[{word}]", why, job.command[word])
    for name, words in manifest.worker.commands():
        for i, why in checks.command(words).items():
            reader.problem(f"worker.{name}[{i}]", why, words[i])


def _check_capabilities(reader: Reader, manifest: Manifest, checks: Checks) -> None:
    """Each feature needs its own. One that is there, and misspelt, is not missing too."""
    head = reader.table.get("plugin")
    given = head.get("capabilities", []) if isinstance(head, Mapping) else None
    if not isinstance(given, list):
        return  # What is there instead is named already.
    there = {*manifest.capabilities, *(nearest(each, PLAIN_CAPABILITIES) for each in given[:256])}

    def need(capability: str, place: str, message: str) -> None:
        if capability not in there:
            reader.problem(place, f"{message} {capability!r}", hint="add it to plugin.capabilities")

    if manifest.jobs:
        need("jobs.schedule", "jobs", "needs the capability")
    if manifest.methods:
        need("methods.register", "methods", "needs the capability")
    for place in checks.secrets(manifest.config_schema):
        name = f"config_schema.{place}" if place else "config_schema"
        need("secrets.read", name, "is writeOnly, which the plugin cannot read without the capability")


def _schedule_faults(job: JobSpec, key: str, checks: Checks) -> Iterable[tuple[str, Fault]]:
    """All at once: one mistake of a job does not hide the others."""
    given = [name for name in _WHEN if getattr(job, name) is not None]
    faults = [(name, Fault(f"cannot stand beside {given[0]}", "keep one of them")) for name in given[1:]]
    none: dict[str, Any] = dict.fromkeys(given)
    # Each as if it stood alone.
    variants = [replace(job, **none | {name: getattr(job, name)}) for name in given] or [job]
    for variant in variants:
        fault = checks.schedule(variant, key)
        if fault is not None and fault[0] == "timezone":
            faults.append(fault)
            fault = checks.schedule(replace(variant, timezone=None), key)
        if fault is not None:
            faults.append(fault)
    return dict.fromkeys(faults)


def _job_faults(job: JobSpec, needs_command: bool) -> Iterable[tuple[str, Fault]]:
    if needs_command and not job.command:
        yield "command", Fault("is required: a worker that does not speak RPC runs no jobs", 'add command = ["…"]')
    if job.max_running != _MAX_RUNNING and job.overlap != "allow":
        yield "max_running", Fault(f'means nothing with overlap = "{job.overlap}"', 'set overlap = "allow"')
    if job.on_timeout == "restart" and job.command:
        yield "on_timeout", Fault("a command has no worker to restart: it is killed itself", "take it out")


def _refuse_twins(reader: Reader, table: str, name: str, values: list[str]) -> None:
    first: dict[str, int] = {}
    for i, value in enumerate(values):
        if value and first.setdefault(value, i) != i:
            message = f"is the {name} of {table}[{first[value]}] too: it must be unique"
            reader.problem(f"{table}[{i}].{name}", message, value, f"give one of them another {name}")


def category_fault(text: str) -> Fault | None:
    if text in CATEGORIES:
        return None
    return Fault(f"must be one of {', '.join(CATEGORIES)}", did_you_mean(text, CATEGORIES))


def name_fault(text: str) -> Fault | None:
    """It is shown on terminals, in a line."""
    if not text.isprintable():
        return Fault("must be one line of printable characters", "take out line ends and control characters")
    return None if text.strip() else Fault("must not be blank")


def text_fault(text: str) -> Fault | None:
    """It is shown on terminals, in lines."""
    if not text.replace("\n", "").replace("\t", "").isprintable():
        return Fault("must be printable characters", "take out control characters")
    return None if text.strip() else Fault("must not be blank")


def job_key_fault(text: str) -> Fault | None:
    if _NAME.fullmatch(text):
        return None
    return Fault("must be 1 to 100 of a-z, 0-9, '.', '_', '-', first a letter or digit", "such as 'refresh'")


def method_fault(text: str) -> Fault | None:
    if _METHOD.fullmatch(text):
        return None
    return Fault("must be 1 to 100 letters, digits, '.', '_', '-', first no '.' or '-'", "such as 'forecast'")
