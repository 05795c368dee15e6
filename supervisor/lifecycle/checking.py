"""The checks of a package directory: its manifest, with versions, schemas, and the files its command names."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from supervisor.core.errors import InvalidParams
from supervisor.core.manifest import MANIFEST_NAME, Checks, JobSpec, Manifest, parse_manifest
from supervisor.lifecycle.copying import SKIPPED
from supervisor.lifecycle.schemas import schema_problem

CheckSchedule = Callable[[JobSpec, str], tuple[str, str] | None]
"""Job and plugin key -> (the job's field at fault, what is wrong) or None."""

_MAX_MANIFEST_BYTES: Final = 1024 * 1024
# Programs whose first argument is a script, unless it is an option.
_INTERPRETER = re.compile(r"python(3(\.\d+)?)?|pypy3?|node|nodejs|ruby|perl|php|lua|bash|dash|sh|zsh")
_SCRIPTS: Final = (".py", ".js", ".mjs", ".cjs", ".sh", ".rb", ".pl", ".php", ".lua")


def standard_checks(check_schedule: CheckSchedule, package: Path) -> Checks:
    """The checks of a manifest; `package` is the directory it stands in."""
    return Checks(
        version=_version_problem,
        supervisor_version=_supervisor_version_problem,
        schema=schema_problem,
        schedule=check_schedule,
        command=lambda words: command_problems(words, package),
    )


def check_directory(path: Path, check_schedule: CheckSchedule, *, where: Path | None = None) -> Manifest:
    """Read and check the manifest of the package in `path`; runs nothing of it. Blocking.

    Cron expressions are the business of supervisor.jobs, so their check comes in. `where` is the directory that
    messages name, if not `path`.

    Raises:
        InvalidParams: there is no readable manifest.
        InvalidManifest: it has problems; all of them.
    """
    file = (where or path) / MANIFEST_NAME
    try:
        text = _read_bounded(path / MANIFEST_NAME, _MAX_MANIFEST_BYTES).decode()
        table = tomllib.loads(text)
    except FileNotFoundError as error:
        what = f"{file.parent} has no {MANIFEST_NAME}" if path.is_dir() else f"there is no directory {file.parent}"
        raise InvalidParams(f"{what}: a plugin is a directory with a {MANIFEST_NAME} in it") from error
    except NotADirectoryError as error:
        raise InvalidParams(f"{file.parent} is no directory: name the one that {MANIFEST_NAME} is in") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidParams(f"{file}: is not UTF-8 (line {line}, byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidParams(f"{file}: is not TOML: {error}") from error
    except RecursionError as error:
        raise InvalidParams(f"{file}: is nested too deeply") from error
    except OSError as error:
        why = "is a symbolic link" if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"
        raise InvalidParams(f"{file}: {why}") from error
    return parse_manifest(table, standard_checks(check_schedule, path), where=str(file))


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


def _version_problem(text: str) -> str | None:
    from packaging.version import InvalidVersion, Version

    try:
        Version(text)
    except InvalidVersion:
        return "is no version (PEP 440), such as '1.2.0' or '2.0rc1'"
    return None


def _supervisor_version_problem(text: str) -> str | None:
    from packaging.version import Version

    if problem := _version_problem(text):
        return problem
    own = importlib.metadata.version("plugind")
    return f"this plugind is {own}, which is older; upgrade it first" if Version(own) < Version(text) else None


def _read_bounded(path: Path, most: int) -> bytes:
    """A regular file of at most `most` bytes. O_NONBLOCK: to open a pipe would wait for its other end."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not path.is_file():
            raise InvalidParams(f"{path}: is not a regular file")
        data = file.read(most + 1)
    if len(data) > most:
        raise InvalidParams(f"{path}: is larger than {most} bytes")
    return data
