"""The checks of a package: its manifest, with versions, schemas, and the files its command names. Blocking."""

from __future__ import annotations

import codecs
import errno
import itertools
import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from supervisor.core.errors import InvalidParams
from supervisor.core.manifest import MANIFEST_NAME, Checks, InvalidManifest, JobSpec, Manifest, parse_manifest
from supervisor.core.problem import Fault, Problem
from supervisor.core.stored_manifest import compact
from supervisor.core.toml_lines import TomlLines, TooDeep
from supervisor.lifecycle.copying import SKIPPED
from supervisor.lifecycle.schema_budget import Budget
from supervisor.lifecycle.schema_checks import CHECK_S, MAX_PARTS, parts_of, schema_faults
from supervisor.version import VERSION

CheckSchedule = Callable[[JobSpec, str], tuple[str, Fault] | None]
"""Job and plugin key -> (the job's field at fault, what is wrong) or None."""

_MAX_LOOKED_AT: Final = 200
MAX_MANIFEST_BYTES: Final = 128 * 1024
"""A thousand jobs and their methods fit in; what is larger would keep the daemon busy for seconds."""
_NO_BOM: Final = "save it without one"
_TWICE: Final = "a table is begun once, and each table of a list with two brackets, as [[jobs]]"
_TOML_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")
# Programs whose first argument is a script, unless it is an option.
_INTERPRETER = re.compile(r"python(3(\.\d+)?)?|pypy3?|node|nodejs|ruby|perl|php|lua|bash|dash|sh|zsh")
_SCRIPTS: Final = (".py", ".js", ".mjs", ".cjs", ".sh", ".rb", ".pl", ".php", ".lua")


def standard_checks(check_schedule: CheckSchedule, package: Path) -> Checks:
    """The checks of a manifest; `package` is the directory it stands in."""
    return Checks(
        version=_version_fault,
        supervisor_version=_supervisor_version_fault,
        schema=_check_schemas(),
        schedule=check_schedule,
        command=lambda words: command_problems(words, package),
    )


def check_directory(path: Path, check_schedule: CheckSchedule, *, where: Path | None = None) -> Manifest:
    """Read and check the manifest of the package in `path`; runs nothing of it.

    Cron expressions are the business of supervisor.jobs, so their check comes in. `where` is the directory that
    messages name, if not `path`.

    Raises:
        InvalidParams: there is no readable manifest.
        InvalidManifest: it has problems; all of them.
    """
    file = (where or path) / MANIFEST_NAME
    try:
        data = _read_bounded(path / MANIFEST_NAME, MAX_MANIFEST_BYTES)
    except FileNotFoundError as error:
        raise InvalidParams(_no_manifest(path, file.parent)) from error
    except NotADirectoryError as error:
        raise InvalidParams(f"{file.parent} is no directory: name the one that {MANIFEST_NAME} is in") from error
    except OSError as error:
        why = "is a symbolic link" if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"
        raise InvalidParams(f"{file}: {why}") from error
    return check_manifest(data, standard_checks(check_schedule, path), where=str(file))


def _no_manifest(path: Path, shown: Path) -> str:
    if not path.is_dir():
        return f"there is no directory {shown}: a plugin is a directory with a {MANIFEST_NAME} in it"
    deeper = [f"{below}{MANIFEST_NAME}" for below in _places_below(path) if (path / below / MANIFEST_NAME).is_file()]
    way_out = f"there is {deeper[0]}: move it up, or build a wheel" if deeper else "a plugin's stands at its top"
    return f"{shown} has no {MANIFEST_NAME}; {way_out}"


def _places_below(path: Path) -> list[str]:
    """Where a project may have its packages: in itself, or in src."""
    places = []
    for below in ("", "src/"):
        if (path / below).is_dir():
            with os.scandir(path / below) as entries:
                places += [f"{below}{entry.name}/" for entry in itertools.islice(entries, _MAX_LOOKED_AT)]
    return places


def check_manifest(data: bytes, checks: Checks, *, where: str = MANIFEST_NAME) -> Manifest:
    """The manifest in the content of a plugin.toml.

    Raises:
        InvalidManifest: it is no TOML, or has problems; all of them.
    """
    if data.startswith(codecs.BOM_UTF8):
        raise InvalidManifest(where, [Problem(path="", message="begins with a byte order mark", line=1, hint=_NO_BOM)])
    try:
        text = data.decode()
        lines = TomlLines(text)
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidManifest(where, [_no_toml(error)]) from error
    return compact(parse_manifest(table, checks, where=where, line=lines.line))


def _no_toml(error: ValueError | RecursionError) -> Problem:
    if isinstance(error, UnicodeDecodeError):
        line = error.object[: error.start].count(b"\n") + 1
        return Problem(path="", message=f"is not UTF-8 (byte {error.start})", line=line, hint="save it as UTF-8")
    if isinstance(error, TooDeep):
        return Problem(path="", message=error.rule, line=error.line)
    if not isinstance(error, tomllib.TOMLDecodeError):
        # Neither says where: a number of thousands of digits, and what our own look at the depth has let pass.
        return Problem(path="", message="holds a number of too many digits, or is nested too deeply")
    text = str(error)
    found = _TOML_PLACE.search(text)
    if found is None:
        return Problem(path="", message=f"is not TOML: {text}")
    message = f"is not TOML: {text[: found.start()]} (column {found[2]})"
    return Problem(path="", message=message, line=int(found[1]), hint=_TWICE if "Cannot declare" in text else None)


def command_problems(command: Sequence[str], package: Path) -> Mapping[int, str]:
    """The words of a worker's command that name files which are not in `package`, by their place.

    A program's plain name is left alone, since PATH may know it where the plugin runs, and so is an absolute path.
    """
    if not command:
        return {}
    program, *arguments = command
    problems = {}
    if "/" in program and _is_missing(program, package):
        problems[0] = "is not in the package"
    script = _script_at(program, arguments)
    if script is not None and _is_missing(command[script], package):
        problems[script] = "is not in the package"
    return problems


def _script_at(program: str, arguments: Sequence[str]) -> int | None:
    """Where in the command the script stands that `program` is to run, if it is one."""
    interpreter = _INTERPRETER.fullmatch(PurePosixPath(program).name) is not None
    for place, word in enumerate(arguments, 1):
        if word.endswith(_SCRIPTS):
            return place
        if interpreter and (word in {"-m", "-c", "-e", "-", "-p"} or not word.startswith("-")):
            # A module or a text to run, or a script without a suffix; behind an option it may be that option's value.
            return place if place == 1 and not word.startswith("-") else None
    return None


def _is_missing(name: str, package: Path) -> bool:
    """Whether a relative path leads to no file that the package will hold."""
    path = PurePosixPath(name)
    if path.is_absolute():
        return False
    try:
        return ".." in path.parts or not SKIPPED.isdisjoint(path.parts) or not (package / path).is_file()
    except OSError:
        return True  # too long for a name


def _check_schemas() -> Callable[[Any], Sequence[tuple[str, Fault]]]:
    """The check of a manifest's schemas, bounded for all of them together."""
    left = MAX_PARTS
    budget = Budget(CHECK_S)

    def check(schema: Any) -> Sequence[tuple[str, Fault]]:
        nonlocal left
        before, left = left, left - parts_of(schema)
        if left >= 0:
            return schema_faults(schema, budget)
        # Told once.
        message = f"with it, the schemas have more than {MAX_PARTS} tables and lists together"
        return [("", Fault(message, "make them simpler"))] if before >= 0 else []

    return check


def _version_fault(text: str) -> Fault | None:
    from packaging.version import InvalidVersion, Version

    if text != text.strip():
        return Fault("has blanks around it", f"write {text.strip()!r}")
    try:
        Version(text)
    except InvalidVersion:
        return Fault("is no version (PEP 440)", "such as '1.2.0' or '2.0rc1'")
    return None


def _supervisor_version_fault(text: str) -> Fault | None:
    from packaging.version import Version

    if fault := _version_fault(text):
        return fault
    if Version(VERSION) < Version(text):
        return Fault(f"this plugind is {VERSION}, which is older", "upgrade plugind first")
    return None


def _read_bounded(path: Path, most: int) -> bytes:
    """A regular file of at most `most` bytes. O_NONBLOCK: to open a pipe would wait for its other end."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidParams(f"{path}: is not a regular file")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(most + 1)
    finally:
        os.close(fd)
    if len(data) > most:
        raise InvalidParams(f"{path}: is larger than {most} bytes")
    return data
