"""plan_launch: argv, environment and directory of a worker."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.worker_spec import Limits, ReadyProbe
from supervisor.worker.launch import CannotLaunch, Launch, Surroundings, plan_launch
from tests.worker.fakes import PLUGIN_ID, make_plugin

PACKAGE, DATA = Path("/packages/p"), Path("/data/p")
FILES = {PACKAGE / name for name in ("main.py", "bin/tool", "etc/settings.toml", "local")}
PLUGIND = {
    "PLUGIND_PLUGIN_KEY": "test.fake",
    "PLUGIND_PLUGIN_ID": PLUGIN_ID,
    "PLUGIND_DATA_DIR": "/data/p",
    "PLUGIND_PACKAGE_DIR": "/packages/p",
    "PLUGIND_API_VERSION": "1",
    "PLUGIND_STATE_ID": "S1",
}
PLAIN = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/data/p",
    "PYTHONDONTWRITEBYTECODE": "1",
    **PLUGIND,
}
PYTHON = {"PYTHONPATH": "/packages/p", "PYTHONUNBUFFERED": "1"}
HOSTILE = {
    "LD_PRELOAD": "/x.so",
    "NOTIFY_SOCKET": "/run/notify",
    "LISTEN_FDS": "1",
    "LISTEN_PID": "1",
    "WATCHDOG_USEC": "1",
    "INVOCATION_ID": "x",
    "PYTHONPATH": "/daemon",
    "PYTHONHOME": "/daemon",
    "HOME": "/root",
    "USER": "root",
    "VIRTUAL_ENV": "/daemon",
    "PLUGIND_SOCKET": "/run/plugind",
    "PLUGIND_STATE_ID": "another",
    "AWS_SECRET_ACCESS_KEY": "secret",
}


def plan(
    *command: str,
    environ: Mapping[str, str] | None = None,
    is_file: Callable[[Path], bool] = lambda path: path in FILES,
    environment: Path | None = None,
    **worker: Any,
) -> Launch:
    return plan_launch(
        make_plugin(command=command, **worker),
        package_dir=PACKAGE,
        data_dir=DATA,
        environment=environment,
        around=Surroundings(python="/venv/bin/python", environ=environ or {}, state_id="S1"),
        is_file=is_file,
        which=lambda name, path: f"/found/{name}" if name in {"sh", "node"} and path else None,
    )


def test_the_environment_of_a_plain_program_whole() -> None:
    assert plan("sh").env == PLAIN


@pytest.mark.parametrize("program", ["python", "python3"])
def test_the_environment_of_a_python_program_whole(program: str) -> None:
    launch = plan(program, "-m", "weather")
    assert launch.env == {**PYTHON, **PLAIN}
    assert launch.argv == ("/venv/bin/python", "-m", "weather")
    assert (launch.cwd, launch.rpc, launch.limits) == (DATA, True, Limits())


VENV = Path("/packages/p/.venv")
OWN = {VENV / "pyvenv.cfg", VENV / "bin/python"}


@pytest.mark.parametrize("program", ["python", "python3"])
def test_its_own_environment_comes_first(program: str) -> None:
    launch = plan(program, "main.py", environment=VENV, is_file=lambda path: path in FILES | OWN)
    assert launch.argv == ("/packages/p/.venv/bin/python", "/packages/p/main.py")
    own = {"PATH": f"/packages/p/.venv/bin:{PLAIN['PATH']}", "VIRTUAL_ENV": "/packages/p/.venv"}
    assert launch.env == {**PYTHON, **PLAIN, **own}


def test_a_script_of_its_environment_is_found_there_first() -> None:
    looked: list[tuple[str, str]] = []

    def which(name: str, path: str) -> str:
        looked.append((name, path))
        return f"{path.split(':')[0]}/{name}"

    launch = plan_launch(
        make_plugin(command=("weatherd", "--now"), env={"PATH": "/mine", "VIRTUAL_ENV": "/theirs"}),
        package_dir=PACKAGE,
        data_dir=DATA,
        environment=VENV,
        around=Surroundings(python="/venv/bin/python", environ={}, state_id="S1"),
        is_file=lambda path: path in OWN,
        which=which,
    )
    assert launch.argv == ("/packages/p/.venv/bin/weatherd", "--now")
    assert looked == [("weatherd", "/packages/p/.venv/bin:/mine")]
    assert launch.env["VIRTUAL_ENV"] == "/packages/p/.venv"
    assert launch.env["PYTHONUNBUFFERED"] == "1"


def test_what_is_run_in_place_keeps_its_environment_elsewhere() -> None:
    venv = Path("/packages/stored/.venv")
    launch = plan(
        "python",
        "main.py",
        environment=venv,
        is_file=lambda path: path in FILES | {venv / "pyvenv.cfg", venv / "bin/python"},
    )
    assert launch.argv == ("/packages/stored/.venv/bin/python", "/packages/p/main.py")
    assert launch.env["PLUGIND_PACKAGE_DIR"] == launch.env["PYTHONPATH"] == "/packages/p"


def test_where_there_is_no_environment_the_daemons_interpreter_runs_it() -> None:
    launch = plan("python", "main.py", environment=VENV)
    assert launch.argv[0] == "/venv/bin/python"
    assert launch.env == {**PYTHON, **PLAIN}


def test_an_environment_whose_interpreter_is_gone_is_not_passed_over() -> None:
    """With the daemon's own interpreter it would start, and miss what it depends on."""
    with pytest.raises(CannotLaunch, match=r"/packages/p/.venv/bin/python leads nowhere"):
        plan("python", "main.py", environment=VENV, is_file=lambda path: path == VENV / "pyvenv.cfg")


def test_nothing_of_the_daemons_environment_but_three() -> None:
    kept = {"PATH": "/opt/bin", "LANG": "de_DE.UTF-8", "TZ": "Europe/Berlin"}
    assert plan("sh", environ={**HOSTILE, **kept}).env == {**PLAIN, **kept}


def test_the_manifest_adds_and_overrides_but_not_ours() -> None:
    ours = dict.fromkeys(PLUGIND, "mine")
    env = {
        "LANG": "fr",
        "TZ": "UTC",
        "PATH": "/p",
        "HOME": "/h",
        "LD_PRELOAD": "/own.so",
        "PYTHONUNBUFFERED": "",
        **ours,
    }
    launch = plan("python", "x", env=env, environ={"LANG": "de", "PATH": "/d"})
    assert launch.env == {**PYTHON, "PYTHONDONTWRITEBYTECODE": "1", **env, **PLUGIND}


def test_arguments_that_name_files_of_the_package() -> None:
    assert plan("python", "main.py", "--config", "etc/settings.toml", "-main.py", "other", "/main.py", "..").argv == (
        "/venv/bin/python",
        "/packages/p/main.py",
        "--config",
        "/packages/p/etc/settings.toml",
        "-main.py",
        "other",
        "/main.py",
        "..",
    )


@pytest.mark.parametrize(
    ("program", "executable"),
    [
        ("bin/tool", "/packages/p/bin/tool"),
        ("local", "/packages/p/local"),
        ("node", "/found/node"),
        ("/usr/bin/env", "/usr/bin/env"),
    ],
)
def test_program(program: str, executable: str) -> None:
    assert plan(program).argv == (executable,)


def test_the_package_comes_before_path() -> None:
    assert plan("sh", is_file=lambda path: path.name == "sh").argv == ("/packages/p/sh",)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(CannotLaunch, match="there is no program 'absent', neither in the package nor in PATH"):
        plan("absent")


def test_a_relative_path_is_never_taken_from_the_daemons_directory() -> None:
    def which(name: str, _: str) -> str:
        raise AssertionError(f"{name} was looked up")

    with pytest.raises(CannotLaunch, match="'bin/absent'"):
        plan_launch(
            make_plugin(command=("bin/absent",)),
            package_dir=PACKAGE,
            data_dir=DATA,
            around=Surroundings(python="/p", environ={}, state_id="S"),
            is_file=lambda _: False,
            which=which,
        )


def test_a_script_behind_c_is_no_file_whatever_its_length() -> None:
    def is_file(path: Path) -> bool:
        if len(path.name) > 255:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return False

    script = "echo hello; " * 100
    assert plan("sh", "-c", script, is_file=is_file).argv == ("/found/sh", "-c", script)
    with pytest.raises(CannotLaunch):
        plan("x" * 300, is_file=is_file)


def test_transport_and_limits_are_passed_on() -> None:
    launch = plan("sh", transport="none", limits=Limits(nofile=256))
    assert (launch.rpc, launch.limits.nofile) == (False, 256)


def test_its_other_commands_are_resolved_like_the_first() -> None:
    launch = plan("sh", stop_command=("bin/tool", "main.py"), ready=ReadyProbe(command=("python3", "main.py")))
    assert launch.stop_argv == ("/packages/p/bin/tool", "/packages/p/main.py")
    assert launch.ready_argv == ("/venv/bin/python", "/packages/p/main.py")
    assert launch.env == {**PYTHON, **PLAIN}
    assert (plan("sh").stop_argv, plan("sh").ready_argv) == ((), ())


@pytest.mark.parametrize("other", [{"stop_command": ("absent",)}, {"ready": ReadyProbe(command=("absent",))}])
def test_a_command_that_is_missing_is_told_at_the_start(other: dict[str, Any]) -> None:
    with pytest.raises(CannotLaunch, match="there is no program 'absent', neither in the package nor in PATH"):
        plan("sh", transport="none", **other)
