"""Manifest -> argv, environment and working directory of a worker. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from supervisor.core.manifest import API_VERSION
from supervisor.core.plugin import Plugin
from supervisor.core.worker_spec import Limits

RPC_FD: Final = 3
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PLUGIN_ID_VARIABLE: Final = "PLUGIND_PLUGIN_ID"
LIFE_ID_VARIABLE: Final = "PLUGIND_LIFE_ID"
"""Tells the processes of one life from those of another that runs beside it."""
STATE_ID_VARIABLE: Final = "PLUGIND_STATE_ID"
"""Marks the workers of one state directory: a later daemon finds by it what an earlier one left behind."""


class CannotLaunch(OSError):
    """The command cannot be run as it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to execute. `argv[0]` is an absolute path; `rpc` says whether fd 3 is a socket to the daemon.

    `ready_argv` and `stop_argv` are the manifest's `ready.command` and `stop_command`, made absolute like `argv`.
    """

    argv: tuple[str, ...]
    ready_argv: tuple[str, ...] = ()
    stop_argv: tuple[str, ...] = ()
    env: Mapping[str, str]
    cwd: Path
    rpc: bool
    limits: Limits = field(default_factory=Limits)
    plugin_id: str = "none"

    def as_life(self, life_id: str) -> Launch:
        """The same for one life, whose processes are known by its mark."""
        return replace(self, env={**self.env, LIFE_ID_VARIABLE: life_id})

    @property
    def mark(self) -> bytes | None:
        """NAME=value in the environment of one life's processes and of no others'; None before it is `as_life`."""
        life_id = self.env.get(LIFE_ID_VARIABLE)
        return None if life_id is None else f"{LIFE_ID_VARIABLE}={life_id}".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What launching needs to know of the daemon: its interpreter, its own PATH, LANG and TZ, and its mark."""

    python: str
    environ: Mapping[str, str]
    state_id: str


def plan_launch(
    plugin: Plugin,
    *,
    package_dir: Path,
    data_dir: Path,
    around: Surroundings,
    is_file: Callable[[Path], bool],
    which: Callable[[str, str], str | None],
    environment: Path | None = None,
) -> Launch:
    """What to execute for a plugin's worker.

    `package_dir` is where it runs from, its source where it is editable; `environment` is the place of its own virtual
    environment, which counts where there is one. `which(name, path)` looks a program up. An argument that names a file
    of the package becomes its absolute path, since the worker runs in its data directory.

    Raises:
        CannotLaunch: there is no such program, or the environment's interpreter is gone.
    """
    spec = plugin.manifest.worker
    env = _environment(plugin, package_dir=package_dir, data_dir=data_dir, around=around)
    commands = spec.commands()
    python = around.python
    own = environment if environment is not None and is_file(environment / "pyvenv.cfg") else None
    if own is not None:
        python = _interpreter(own, is_file)
        env |= {"PATH": f"{own}/bin:{env['PATH']}", "VIRTUAL_ENV": str(own)}
    if own is not None or any(words[0] in PYTHONS for _, words in commands if words):
        env = {"PYTHONPATH": str(package_dir), **_PYTHON, **env}

    def resolved(where: str, words: tuple[str, ...]) -> tuple[str, ...]:
        if not words:
            return ()
        program, *arguments = words
        executable = _executable(program, package_dir, python, is_file, lambda name: which(name, env["PATH"]))
        if executable is None:
            # What is launched itself needs no name: it may be a job's command too.
            of = "" if where == "command" else f" (worker.{where})"
            what = f"there is no program {program!r}, neither in the package nor in PATH{of}"
            raise CannotLaunch(f"cannot be started: {what}")
        return (executable, *(_inside(package_dir, argument, is_file) for argument in arguments))

    argv, ready_argv, stop_argv = (resolved(where, words) for where, words in commands)
    return Launch(
        argv=argv,
        ready_argv=ready_argv,
        stop_argv=stop_argv,
        env=env,
        cwd=data_dir,
        rpc=spec.transport == "rpc",
        limits=spec.limits,
        plugin_id=plugin.id,
    )


PYTHONS: Final = ("python", "python3")
# Output must be there when a worker dies.
_PYTHON: Final = {"PYTHONUNBUFFERED": "1"}


def _interpreter(environment: Path, is_file: Callable[[Path], bool]) -> str:
    python = environment / "bin/python"
    if not is_file(python):
        raise CannotLaunch(
            f"cannot be started: the Python that its environment was made for is gone ({python} leads nowhere), as "
            "after an upgrade of the system: upgrade the plugin, or unload and install it again (its data stays)"
        )
    return str(python)


def _executable(
    program: str,
    package_dir: Path,
    python: str,
    is_file: Callable[[Path], bool],
    look_up: Callable[[str], str | None],
) -> str | None:
    if program in PYTHONS:
        return python
    if _is_inside(package_dir, program, is_file):
        return str(package_dir / program)
    # A relative path is not looked up: it would be taken from the daemon's own working directory.
    return (program if program.startswith("/") else None) if "/" in program else look_up(program)


def _environment(plugin: Plugin, *, package_dir: Path, data_dir: Path, around: Surroundings) -> dict[str, str]:
    inherited = {name: around.environ[name] for name in ("PATH", "LANG", "TZ") if name in around.environ}
    return {
        "PATH": DEFAULT_PATH,
        "LANG": "C.UTF-8",
        **inherited,
        "HOME": str(data_dir),
        # For every worker, since a script may start a Python too: a file more in the package would be its end.
        "PYTHONDONTWRITEBYTECODE": "1",
        **plugin.manifest.worker.env,
        "PLUGIND_PLUGIN_KEY": plugin.key,
        PLUGIN_ID_VARIABLE: plugin.id,
        "PLUGIND_DATA_DIR": str(data_dir),
        "PLUGIND_PACKAGE_DIR": str(package_dir),
        "PLUGIND_API_VERSION": str(API_VERSION),
        STATE_ID_VARIABLE: around.state_id,
    }


def _inside(package_dir: Path, argument: str, is_file: Callable[[Path], bool]) -> str:
    if argument.startswith(("-", "/")):
        return argument
    return str(package_dir / argument) if _is_inside(package_dir, argument, is_file) else argument


def _is_inside(package_dir: Path, name: str, is_file: Callable[[Path], bool]) -> bool:
    try:
        return is_file(package_dir / name)
    except OSError:
        return False  # Too long for a name, such as a whole script behind `-c`: no file then.
