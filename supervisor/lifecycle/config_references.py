"""References in a configuration: `$file:/abs/path` and `$credential:NAME`. They are read when a worker is told."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import trio

from supervisor.core.problem import Problem, joined
from supervisor.core.secrets import REFERENCES, is_reference, spoken
from supervisor.lifecycle.file_systems import is_of_the_kernel
from supervisor.trust import file_problem, parents_problem, user_name

MAX_FILE_BYTES: Final = 64 * 1024
MAX_TOTAL_BYTES: Final = 1024 * 1024
"""Of all that a configuration refers to, so that it fits into a message."""
_FILE: Final = "$file:"
_CREDENTIAL: Final = "$credential:"
_ESCAPE: Final = "$$"
_MAX_LINKS: Final = 40
_MAX_NOTES: Final = 20
_READING_S: Final = 10.0
_THREADS: Final = 8
"""A file system that hangs keeps so many, and not those that others need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A configuration as a worker is told it. `learnt`: what came from elsewhere, in the texts that may say it.
    `problems` name the files and the reasons, never what is in them."""

    config: dict[str, Any]
    learnt: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()


class References:
    """`credentials_dir` is systemd's $CREDENTIALS_DIRECTORY, None where there is none; `uid` is whose daemon it is."""

    def __init__(self, credentials_dir: str | None, *, uid: int) -> None:
        self._credentials_dir = credentials_dir
        self._uid = uid
        self._threads = trio.CapacityLimiter(_THREADS)

    async def resolve(self, config: Mapping[str, Any]) -> Resolved:
        """The configuration with what its references stand for; what cannot be read is a problem of its own.

        A file is regular, UTF-8, at most 64 KiB, and nobody but root and we can change it; a newline at its end is not
        part of the value. `$$` at the beginning of a text stands for one `$`.
        """
        paths = sorted({value for _, value in texts(config) if is_reference(value)})
        if not paths:
            return Resolved(config=_put(config, {}))
        with trio.move_on_after(_READING_S):
            return await trio.to_thread.run_sync(
                self._read_all, config, paths, abandon_on_cancel=True, limiter=self._threads
            )
        late = f"was not read within {_READING_S:g} s"
        problems = [_problem(place, value, late) for place, value in texts(config) if is_reference(value)]
        return Resolved(config=dict(config), problems=tuple(problems))

    def _read_all(self, config: Mapping[str, Any], references: Iterable[str]) -> Resolved:
        """In a thread."""
        found: dict[str, str] = {}
        wrong: dict[str, str] = {}
        left = MAX_TOTAL_BYTES
        for reference in references:
            try:
                data = self._read(reference)
                left -= len(data)
                if left < 0:
                    raise ValueError(f"is too much: all references together have more than {MAX_TOTAL_BYTES} bytes")
                found[reference] = data.decode().removesuffix("\n")
            except UnicodeDecodeError:
                wrong[reference] = "is not UTF-8"  # The error itself holds what is in it.
            except OSError as error:
                wrong[reference] = error.strerror or type(error).__name__
            except ValueError as error:
                wrong[reference] = str(error)
        problems = [_problem(place, value, wrong[value]) for place, value in texts(config) if value in wrong]
        learnt = frozenset(text for value in found.values() for text in spoken(value))
        return Resolved(config=_put(config, found), learnt=learnt, problems=tuple(problems))

    def _read(self, reference: str) -> bytes:
        """
        Raises:
            ValueError: why it is not read; OSError.
        """
        return _read_file(self._place(reference), self._uid)

    def _place(self, reference: str) -> Path:
        if reference.startswith(_FILE):
            path = reference.removeprefix(_FILE)
            if not path.startswith("/") or "\0" in path:
                raise ValueError("is no absolute path: write $file:/some/where")
            return Path(path)
        name = reference.removeprefix(_CREDENTIAL)
        if not name or name in {".", ".."} or "/" in name or "\0" in name:
            raise ValueError("is no name of a credential: write $credential:NAME, as in the unit's LoadCredential=")
        if not self._credentials_dir:
            raise ValueError(
                "cannot be looked up: plugind was started without credentials (LoadCredential= of its unit)"
            )
        return Path(self._credentials_dir) / name


def _read_file(path: Path, uid: int) -> bytes:
    real = _real_path(path, uid)
    # O_NONBLOCK: to open a pipe would wait for its other end.
    fd = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("is no regular file")
        if is_of_the_kernel(fd):
            raise ValueError("is no file on a disk: the kernel makes up what is in it, for whoever reads it")
        if problem := file_problem(fd, real, uid):
            raise ValueError(problem)
        with open(fd, "rb", closefd=False) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"has more than {MAX_FILE_BYTES} bytes")
    return data


def _real_path(path: Path, uid: int) -> Path:
    """The path without symbolic links and `..`; who could put a link elsewhere could choose what we read."""
    if ".." in path.parts:
        raise ValueError("has '..' in it")
    for _ in range(_MAX_LINKS):
        link = next((part for part in (*reversed(path.parents), path) if part.is_symlink()), None)
        if link is None:
            return path
        owner = link.lstat().st_uid
        if owner not in (0, uid):
            raise ValueError(f"is reached by the link {link}, which belongs to {user_name(owner)}")
        if problem := parents_problem(link, uid):
            raise ValueError(problem)
        target = link.parent / os.readlink(link)
        path = Path(os.path.normpath(target)) / path.relative_to(link)
    raise ValueError("is reached by too many links")


def texts(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    """Every text in a configuration, with its place."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from texts(inner, joined(path, str(name)))
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from texts(inner, f"{path}[{i}]")


def notes_on(config: Mapping[str, Any]) -> list[str]:
    """What was made of the values that begin with `$`, with their places; at most 20, and none holds a secret."""
    taken = ((path, value) for path, value in texts(config) if value.startswith((_ESCAPE, *REFERENCES)))
    return [f"{path}: {_note(value)}" for path, value in islice(taken, _MAX_NOTES)]


def _note(value: str) -> str:
    if value.startswith(_ESCAPE):
        return "$$ at its beginning stands for one $; write $$$ for two"
    return f"{value[:300]} is a reference; if it is the value itself, begin it with $$"


def _put(value: Any, found: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return value[1:] if value.startswith(_ESCAPE) else found.get(value, value)
    if isinstance(value, Mapping):
        return {name: _put(inner, found) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_put(inner, found) for inner in value]
    return value


def _problem(place: str, reference: str, why: str) -> Problem:
    return Problem(path=place, message=f"{reference[:300]}: {why}")
