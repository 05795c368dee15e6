"""Build a plugin's own virtual environment, in `<package>/.venv`, with the plugin and what it depends on."""

from __future__ import annotations

import configparser
import platform
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from supervisor.core.errors import InvalidParams
from supervisor.core.package import ENVIRONMENT_DIR
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.pip_command import EnvironmentTools, find_links, pip_install
from supervisor.lifecycle.relocation import make_relocatable, sdk_directories, what_is_ours
from supervisor.lifecycle.said import Said
from supervisor.lifecycle.scratch import Scratch, delete_in_thread, own_pip_configuration, scratch_beside
from supervisor.lifecycle.sources import Source
from supervisor.lifecycle.threads import Threads, check_cancelled
from supervisor.lifecycle.uv_command import UvIndexes, read_pip_configuration, uv_install


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A directory with a Python project in it; `source` says whether it is run in place, and which index to ask."""

    path: Path
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFile:
    """`path` keeps the name that says for which Python the wheel is."""

    path: Path
    source: Source


def is_python_project(root: Path) -> bool:
    """Whether pip can install what is in this directory, or what it requires. Blocking."""
    return _is_installable(root) or (root / "requirements.txt").is_file()


async def build_environment(
    root: Path, what: Project | WheelFile, tools: EnvironmentTools, operation: Operation
) -> None:
    """Make `root/.venv`, fit to be moved with `root`. Within a phase of the operation, which bounds and cancels it.

    A project is built from a copy, so that a build leaves nothing in it; one that is run in place, where it is. If this
    raises there is no `.venv`, and nothing is left beside `root`, where pip works meanwhile.

    Raises:
        InvalidParams: what is wanted cannot be found, or its parts do not fit together.
        FailedPrecondition: it cannot be built, or not for this Python; details: output, the last of it.
        Unavailable: the index cannot be reached. ResourceExhausted: no space is left.
    """
    venv = root / ENVIRONMENT_DIR
    if venv.exists():
        raise InvalidParams(
            f"{what.source.text} brings a {ENVIRONMENT_DIR} of its own, where plugind makes one: leave it out"
        )
    try:
        async with scratch_beside(root, tools.asking(what.source), operation) as scratch:
            await _make_bare(venv, scratch)
            ours = await Threads(1).run(lambda: what_is_ours(venv))
            await _install(venv, what, scratch)
            await Threads(1).run(lambda: make_relocatable(venv, ours, root.parent, sdk_directories(), check_cancelled))
    except BaseException:  # trio.Cancelled too
        await delete_in_thread(venv)
        raise


def _is_installable(root: Path) -> bool:
    return (root / "setup.py").is_file() or _has_project_table(root / "pyproject.toml") or _has_setup_cfg(root)


def _has_project_table(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return not {"build-system", "project"}.isdisjoint(tomllib.load(opened))
    except FileNotFoundError:
        return False
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParams(f"{file.name}: is not TOML: {error}") from error


def _has_setup_cfg(root: Path) -> bool:
    """Many have one that only holds the settings of a linter."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(root / "setup.cfg", "utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return False
    return parser.has_section("metadata") or parser.has_section("options")


async def _make_bare(venv: Path, scratch: Scratch) -> None:
    said, tools = Said(scratch.tools.index_url), scratch.tools
    ended = await scratch.run(tools.python, "-I", "-B", "-m", "venv", "--without-pip", str(venv), said=said)
    if ended.code != 0:
        raise said.failure(
            "cannot make a virtual environment (Debian: is python3-venv installed?)",
            platform.python_version(),
            lambda: str(ended),
        )


async def _install(venv: Path, what: Project | WheelFile, scratch: Scratch) -> None:
    said = Said(scratch.tools.index_url)
    target, cwd = await _target(what, scratch)
    command, environ = await _command(venv, scratch, what.source)
    ended = await scratch.run(*command, *find_links(what.source), *target, said=said, cwd=cwd, environ=environ)
    (venv / "pip.conf").unlink(missing_ok=True)
    if ended.code != 0:
        raise said.failure(
            f"cannot install {what.source.text} into an environment of its own",
            platform.python_version(),
            lambda: str(ended),
        )


async def _command(venv: Path, scratch: Scratch, source: Source) -> tuple[list[str], Mapping[str, str]]:
    """uv where it is there and would look where pip looks; pip otherwise."""
    python, tools = venv / "bin/python", scratch.tools
    if configuration := own_pip_configuration():
        # pip works in the new environment, and would not see that of the daemon's.
        (venv / "pip.conf").symlink_to(configuration)
    if tools.uv and (indexes := await _uv_indexes(scratch)):
        return uv_install(tools.uv, python, indexes), indexes.environ
    return pip_install(await scratch.pip(), python, tools), {}


async def _uv_indexes(scratch: Scratch) -> UvIndexes | None:
    """What pip is configured with; None: it cannot be told."""
    if scratch.tools.pip is None:
        return None
    lines: list[str] = []
    argv = (*scratch.tools.pip, "config", "list")
    # Not through `Scratch.run`: these lines may hold passwords, which uv needs and nobody else is to see.
    ended = await scratch.tools.children.run(argv, env=scratch.environ, cwd=scratch.path, on_line=lines.append)
    return read_pip_configuration("\n".join(lines)) if ended.code == 0 else None


async def _target(what: Project | WheelFile, scratch: Scratch) -> tuple[list[str], Path]:
    """What to install, in pip's words, and where to stand meanwhile."""
    extras = _extras(what.source)
    if isinstance(what, WheelFile):
        return [f"{what.path}{extras}"], scratch.path
    path = what.path
    if not what.source.editable:
        path = scratch.path / "source"
        await Threads(1).run(lambda: _copy(what.path, path))
    if not _is_installable(path):
        return ["-r", str(path / "requirements.txt")], path
    if not (path / "setup.py").is_file() and not (path / "pyproject.toml").is_file():
        raise InvalidParams(
            f"{what.source.text} has a setup.cfg and neither a pyproject.toml nor a setup.py: pip needs one of them "
            "(a pyproject.toml with [build-system] will do)"
        )
    return (["--editable"] if what.source.editable else []) + [f"{path}{extras}"], scratch.path


def _extras(source: Source) -> str:
    from packaging.requirements import Requirement

    extras = sorted(Requirement(source.requirement).extras) if source.requirement else []
    return f"[{','.join(extras)}]" if extras else ""


def _copy(source: Path, target: Path) -> None:
    def copy(one: str, other: str) -> None:
        check_cancelled()
        shutil.copy2(one, other)

    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(ENVIRONMENT_DIR), copy_function=copy)
