"""A plugin's own environment: built by real pips, moved about, and run."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import signal
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from supervisor.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidParams,
    ResourceExhausted,
    SupervisorError,
    Unavailable,
)
from supervisor.daemon.reaper import reap_orphans
from supervisor.lifecycle.environment import Project, WheelFile, build_environment, is_python_project
from supervisor.lifecycle.pip_command import EnvironmentTools, find_tools
from supervisor.lifecycle.relocation import sdk_directories
from supervisor.worker.procfs import has_variable, processes_of, read_stat
from tests.daemon.processes import as_subreaper
from tests.lifecycle.environments import STATE_ID, Watched, a_source, tools_without_index, tree
from tests.wheels import make_wheel, write_project

UV = shutil.which("uv")
CONTENTS = {
    "tiny/__init__.py": "def main():\n    import sys\n    print('tiny script', sys.argv[1:], sys.prefix)\n",
    "tiny/__main__.py": "import helper, sys\nprint('tiny module', helper.__name__, sys.prefix)\n",
}


@pytest.fixture(params=["pip", "uv"])
def tools(request: pytest.FixtureRequest, tmp_path: Path) -> EnvironmentTools:
    without = tools_without_index(tmp_path)
    if request.param == "pip":
        return without
    if UV is None:
        pytest.skip("there is no uv in PATH")
    return replace(without, uv=UV)


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    path = tmp_path / "state dir" / "staging"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def links(tmp_path: Path) -> Path:
    path = tmp_path / "links"
    path.mkdir()
    make_wheel(path, "helper", "1.0")
    return path


def a_package(staging: Path, name: str = "package") -> Path:
    path = staging / name
    path.mkdir()
    return path


def run(*argv: str | Path, cwd: Path) -> str:
    environ = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(argv, cwd=cwd, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def marked_processes() -> list[int]:
    mark = f"PLUGIND_STATE_ID={STATE_ID}".encode()
    return [found.pid for found in processes_of(os.geteuid()) if not found.is_dead and has_variable(found.pid, mark)]


async def gone(pid: int) -> None:
    await eventually(lambda: (found := read_stat(pid)) is None or found.is_dead)


async def eventually(holds: Callable[[], object]) -> None:
    while not holds():  # noqa: ASYNC110  files and foreign processes tell nobody
        await trio.sleep(0.01)


async def test_a_wheel_and_what_it_requires(tools: EnvironmentTools, staging: Path, links: Path) -> None:
    root = a_package(staging)
    wheel = make_wheel(staging, "tiny", files=CONTENTS, requires=["helper"], scripts={"tiny": "tiny:main"})
    watched, source = Watched(), a_source(wheel, find_links=(str(links),))
    with trio.fail_after(60):
        await build_environment(root, WheelFile(path=wheel, source=source), tools, watched.operation())
    assert sorted(os.listdir(staging)) == ["package", wheel.name]
    assert os.listdir(root) == [".venv"]
    assert any("helper" in line for line in watched.lines)

    away = staging.parent / "else where" / "moved"
    away.parent.mkdir()
    root.rename(away)
    shutil.rmtree(staging)
    venv = away / ".venv"
    assert run(venv / "bin/python", "-m", "tiny", cwd=away) == f"tiny module helper {venv}\n"
    assert run(venv / "bin/tiny", "a b", cwd=away) == f"tiny script ['a b'] {venv}\n"
    (away / "link").symlink_to(venv / "bin/tiny")
    assert run("/bin/sh", "link", cwd=away) == f"tiny script [] {venv}\n"
    sdk = "import supervisor.sdk, msgpack, os; print(supervisor.sdk.__file__); os.fstat(0)"
    assert Path(run(venv / "bin/python", "-c", sdk, cwd=away).strip()).is_relative_to(sdk_directories()[0])
    assert_clean(venv, staging)


def assert_clean(venv: Path, staging: Path) -> None:
    files = tree(venv)
    assert not [name for name, content in files.items() if os.fsencode(staging) in content]
    assert not [name for name in files if "__pycache__" in name or "activate" in name.lower() or name == ".lock"]
    links = {name for name, content in files.items() if content.startswith(b"-> ")}
    assert {Path(name).name.rstrip("0123456789.") for name in links} <= {"python", "lib"}
    assert "command" not in (venv / "pyvenv.cfg").read_text()
    for record in venv.rglob("RECORD"):
        for name, digest, size in csv.reader(record.read_text().splitlines()):
            content = (record.parent.parent / name).read_bytes()
            if digest and not name.endswith("RECORD"):
                expected = urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                assert (digest, int(size)) == (f"sha256={expected}", len(content)), name


async def test_a_project_twice_is_equal_and_stays_as_it_is(tools: EnvironmentTools, staging: Path, links: Path) -> None:
    trees = []
    for name in ("one", "another_name"):
        root = write_project(staging / name, "tiny", files=CONTENTS, requires=["helper"], before="open('built', 'w')")
        before = tree(root)
        what = Project(path=root, source=a_source(root, find_links=(str(links),)))
        with trio.fail_after(60):
            await build_environment(root, what, tools, Watched().operation())
        after = tree(root)
        trees.append(after)
        assert {name: content for name, content in after.items() if not name.startswith(".venv/")} == before
        assert run(root / ".venv/bin/python", "-m", "tiny", cwd=staging).startswith("tiny module helper")
        assert_clean(root / ".venv", staging)
    assert trees[0] == trees[1]
    assert sorted(os.listdir(staging)) == ["another_name", "one"]


async def test_requirements_alone(tools: EnvironmentTools, staging: Path, links: Path) -> None:
    root = a_package(staging)
    vendored = make_wheel(root, "vendored")
    (root / "requirements.txt").write_text(f"helper>=1\n./{vendored.name}\n")
    (root / "pyproject.toml").write_text("[tool.some-linter]\nline-length = 100\n")
    what = Project(path=root, source=a_source(root, find_links=(str(links),)))
    with trio.fail_after(60):
        await build_environment(root, what, tools, Watched().operation())
    assert run(root / ".venv/bin/python", "-c", "import helper, vendored; print(1)", cwd=staging) == "1\n"
    assert_clean(root / ".venv", staging)


async def test_in_place(tools: EnvironmentTools, staging: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path / "mine", "tiny")
    root = a_package(staging)
    what = Project(path=project, source=a_source(project, editable=True))
    with trio.fail_after(60):
        await build_environment(root, what, tools, Watched().operation())
    assert run(root / ".venv/bin/python", "-m", "tiny", cwd=staging) == "this is tiny\n"
    (project / "tiny/__main__.py").write_text("print('changed')\n")
    assert run(root / ".venv/bin/python", "-m", "tiny", cwd=staging) == "changed\n"


async def test_extras(tools: EnvironmentTools, staging: Path, links: Path) -> None:
    root = a_package(staging)
    wheel = make_wheel(staging, "tiny", requires=["helper; extra == 'fast'"], extras=["fast"])
    source = a_source(None, requirement="tiny[fast]", find_links=(str(links),))
    with trio.fail_after(60):
        await build_environment(root, WheelFile(path=wheel, source=source), tools, Watched().operation())
    assert run(root / ".venv/bin/python", "-c", "import helper; print(1)", cwd=staging) == "1\n"


async def test_its_own_version_of_our_libraries_wins(staging: Path, tmp_path: Path) -> None:
    root = a_package(staging)
    wheel = make_wheel(staging, "msgpack", "0.1", files={"msgpack/__init__.py": "version = 'own'\n"})
    what = WheelFile(path=wheel, source=a_source(wheel))
    with trio.fail_after(60):
        await build_environment(root, what, tools_without_index(tmp_path), Watched().operation())
    code = "import msgpack, supervisor; print(msgpack.version)"
    assert run(root / ".venv/bin/python", "-c", code, cwd=staging) == "own\n"


def old_python(staging: Path) -> Project | WheelFile:
    wheel = make_wheel(staging, "tiny", requires_python=">=4.0")
    return WheelFile(path=wheel, source=a_source(wheel))


def other_platform(staging: Path) -> Project | WheelFile:
    wheel = make_wheel(staging, "tiny", tag="cp311-cp311-win_amd64")
    return WheelFile(path=wheel, source=a_source(wheel))


def missing_dependency(staging: Path) -> Project | WheelFile:
    wheel = make_wheel(staging, "tiny", requires=["no-such-thing>=3"])
    return WheelFile(path=wheel, source=a_source(wheel))


def broken_build(staging: Path) -> Project | WheelFile:
    root = write_project(staging / "source", "tiny", before="raise RuntimeError('the build is ' + 'broken')")
    return Project(path=root, source=a_source(root))


def bare_setup_cfg(staging: Path) -> Project | WheelFile:
    root = a_package(staging, "source")
    (root / "setup.cfg").write_text("[metadata]\nname = tiny\n")
    return Project(path=root, source=a_source(root))


def editable_requirement(staging: Path) -> Project | WheelFile:
    root = a_package(staging, "source")
    write_project(root / "inner", "tiny")
    (root / "requirements.txt").write_text("-e ./inner\n")
    return Project(path=root, source=a_source(root))


def full_disk(staging: Path) -> Project | WheelFile:
    root = write_project(staging / "source", "tiny", before="raise OSError(28, 'No space left on device')")
    return Project(path=root, source=a_source(root))


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (old_python, FailedPrecondition, ">=4.0"),
        (other_platform, FailedPrecondition, "it was built for another Python or another system"),
        (missing_dependency, InvalidParams, "no-such-thing"),
        (broken_build, FailedPrecondition, "RuntimeError: the build is broken"),
        (bare_setup_cfg, InvalidParams, "pip needs one of them"),
        (editable_requirement, FailedPrecondition, "take that out of the requirements"),
        (full_disk, ResourceExhausted, "make room"),
    ],
)
async def test_what_cannot_be_installed(
    make: Callable[[Path], Project | WheelFile],
    kind: type[Exception],
    words: str,
    tools: EnvironmentTools,
    staging: Path,
) -> None:
    what, root = make(staging), a_package(staging)
    before = tree(staging)
    with trio.fail_after(60), pytest.raises(kind) as caught:
        await build_environment(root, what, tools, Watched().operation())
    assert words in str(caught.value)
    assert tree(staging) == before
    assert os.listdir(root) == []
    assert len(caught.value.details.get("output", "")) <= 8000  # type: ignore[attr-defined]


async def test_an_index_that_is_not_there_and_a_password_in_its_address(tmp_path: Path, staging: Path) -> None:
    tools = tools_without_index(tmp_path, PIP_NO_INDEX="0", PIP_RETRIES="1")
    root, watched = a_package(staging), Watched()
    wheel = make_wheel(staging, "tiny", requires=["helper"])
    source = a_source(wheel, index_url="http://me:secret@127.0.0.1:1/simple")
    with trio.fail_after(60), pytest.raises(Unavailable, match="is the index to be reached") as caught:
        await build_environment(root, WheelFile(path=wheel, source=source), tools, watched.operation())
    assert "127.0.0.1:1" in caught.value.details["output"]
    assert "secret" not in f"{caught.value.message} {dict(caught.value.details)} {watched.lines}"


async def test_an_environment_that_came_along(tmp_path: Path, staging: Path) -> None:
    root = a_package(staging)
    (root / ".venv").mkdir()
    what = Project(path=root, source=a_source(root))
    with pytest.raises(InvalidParams, match="of its own"):
        await build_environment(root, what, tools_without_index(tmp_path), Watched().operation())
    assert os.listdir(root) == [".venv"]


SLOW = (
    "import subprocess, sys, time\n"
    "    sleeper = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
    "    subprocess.Popen(sleeper)\n"
    "    hidden = subprocess.Popen(sleeper, start_new_session=True)\n"
    "    print('sleeping beside', hidden.pid, flush=True)\n"
    "    open({log!r}, 'w').write('there')\n"
    "    time.sleep(600)"
)


@pytest.mark.parametrize("how", ["cancelled", "aborted", "over time"])
async def test_a_slow_build_ends_with_all_it_has_started(
    how: str, tools: EnvironmentTools, staging: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    source = write_project(staging / "source", "tiny", before=SLOW.format(log=str(there)))
    root, watched = a_package(staging), Watched()
    operation = watched.operation(phase_timeout_s=60)
    before, what = tree(staging), Project(path=source, source=a_source(source))

    async def build(done: trio.Event) -> None:
        try:
            with operation.phase("environment"):
                await build_environment(root, what, tools, operation)
        except SupervisorError as error:
            outcome.append(error)
        done.set()

    outcome: list[SupervisorError] = []
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            done = trio.Event()
            nursery.start_soon(build, done)
            await eventually(lambda: there.exists() or outcome)
            assert len(marked_processes()) >= 3
            assert len(tools.children.pids()) == 1
            if how == "cancelled":
                nursery.cancel_scope.cancel()
            elif how == "aborted":
                operation.abort()
            else:
                operation._scope.deadline = trio.current_time()  # 60 s have passed
            await done.wait()
        for pid in marked_processes():
            await gone(pid)
    if how == "over time":
        assert isinstance(outcome[0], DeadlineExceeded)
    assert tools.children.pids() == frozenset()
    assert tree(staging) == before
    assert sorted(os.listdir(staging)) == ["package", "source"]


async def test_a_child_that_ignores_sigterm_is_killed_and_what_was_said_last_is_heard(tmp_path: Path) -> None:
    children = tools_without_index(tmp_path).children
    lines: list[str] = []
    with trio.fail_after(20):
        ended = await children.run(
            ["/bin/sh", "-c", "echo out; echo err >&2; printf 'no end'; exit 3"],
            env={"PATH": os.environ["PATH"]},
            cwd=tmp_path,
            on_line=lines.append,
        )
    assert (ended.code, sorted(lines)) == (3, ["err", "no end", "out"])

    stubborn = "trap '' TERM; echo ready; while :; do sleep 600; done"
    with trio.fail_after(20):
        started = trio.current_time()
        async with trio.open_nursery() as nursery:

            def on_line(line: str) -> None:
                nursery.cancel_scope.cancel()

            env = {"PATH": os.environ["PATH"], "PLUGIND_STATE_ID": STATE_ID}
            await children.run(["/bin/sh", "-c", stubborn], env=env, cwd=tmp_path, on_line=on_line)
        assert 1.9 < trio.current_time() - started < 10
        for pid in marked_processes():
            await gone(pid)


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    children = tools_without_index(tmp_path).children
    with pytest.raises(ResourceExhausted, match="cannot start /no/such/program"):
        await children.run(["/no/such/program"], env={}, cwd=tmp_path, on_line=print)
    assert children.pids() == frozenset()


async def test_an_escaped_process_that_holds_the_pipe_does_not_hold_us(tmp_path: Path) -> None:
    children = tools_without_index(tmp_path).children
    lines: list[str] = []
    script = "setsid sh -c 'echo $$; sleep 600' & sleep 0.3"
    with trio.fail_after(20):
        await children.run(
            ["/bin/sh", "-c", script], env={"PATH": os.environ["PATH"]}, cwd=tmp_path, on_line=lines.append
        )
        try:
            os.kill(int(lines[0]), signal.SIGKILL)
        except ProcessLookupError:
            return  # A subreaper, as the daemon is, has found it.


async def test_where_orphans_are_reaped_it_is_left_alone_and_what_gets_away_is_killed(tmp_path: Path) -> None:
    children = tools_without_index(tmp_path).children
    lines: list[str] = []
    # Its parent is gone and its session is another one when our child ends.
    script = "(setsid sh -c 'echo $$; sleep 600' &) ; sleep 0.3; exit 7"
    with trio.fail_after(20), as_subreaper():
        async with trio.open_nursery() as nursery:
            reaping = partial(reap_orphans, lambda pid: pid in children.pids(), grace_s=0.01)
            await nursery.start(lambda *, task_status: reaping(task_status=task_status))
            environ = {"PATH": os.environ["PATH"]}
            ended = await children.run(["/bin/sh", "-c", script], env=environ, cwd=tmp_path, on_line=lines.append)
            assert ended.code == 7
            await eventually(lambda: read_stat(int(lines[0])) is None)
            nursery.cancel_scope.cancel()


def test_without_a_pip_one_is_made(tmp_path: Path) -> None:
    pytest.importorskip("ensurepip")

    async def build() -> None:
        tools = replace(tools_without_index(tmp_path), pip=None)
        root = a_package(tmp_path)
        wheel = make_wheel(tmp_path, "tiny")
        await build_environment(root, WheelFile(path=wheel, source=a_source(wheel)), tools, Watched().operation())
        assert run(root / ".venv/bin/python", "-m", "tiny", cwd=tmp_path) == "this is tiny\n"

    trio.run(build)


def test_what_children_inherit(tmp_path: Path) -> None:
    (tmp_path / ".netrc").touch()
    environ = {
        "HOME": str(tmp_path),
        "PATH": "/bin",
        "SECRET": "x",
        "PYTHONPATH": "/evil",
        "PIP_TARGET": "/elsewhere",
        "PIP_INDEX_URL": "https://example.org/simple",
        "UV_INDEX": "https://other.example/simple",
        "UV_CACHE_DIR": "/cache",
        "HTTPS_PROXY": "http://proxy.example",
        "PLUGIND_SOCKET": "/run/x",
    }
    found = find_tools(environ, "https://set.example/", state_id=STATE_ID)
    assert found.uv is None
    assert found.index_url == "https://set.example/"
    assert found.environ == {
        "PATH": "/bin",
        "LANG": "C.UTF-8",
        "PIP_INDEX_URL": "https://example.org/simple",
        "UV_CACHE_DIR": "/cache",
        "HTTPS_PROXY": "http://proxy.example",
        "XDG_CONFIG_HOME": f"{tmp_path}/.config",
        "NETRC": f"{tmp_path}/.netrc",
        "PLUGIND_STATE_ID": STATE_ID,
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "PIP_USER": "0",
        "PIP_REQUIRE_VIRTUALENV": "0",
    }
    other = find_tools({"HOME": str(tmp_path), "XDG_CONFIG_HOME": "/conf"})
    assert other.environ["XDG_CONFIG_HOME"] == "/conf"
    assert "PLUGIND_STATE_ID" not in other.environ


@pytest.mark.parametrize("place", [".config/pip/pip.conf", ".pip/pip.conf"])
async def test_pip_reads_the_configuration_of_the_daemons_user(place: str, tmp_path: Path, links: Path) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text(f"[global]\nno-index = true\nfind-links = {links}\n")
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    tools = replace(find_tools(environ), uv=None)
    root = a_package(tmp_path)
    wheel = make_wheel(tmp_path, "tiny", requires=["helper"])
    with trio.fail_after(60):
        await build_environment(root, WheelFile(path=wheel, source=a_source(wheel)), tools, Watched().operation())
    assert run(root / ".venv/bin/python", "-c", "import helper; print(1)", cwd=tmp_path) == "1\n"


def test_what_is_a_python_project(tmp_path: Path) -> None:
    assert not is_python_project(tmp_path)
    (tmp_path / "setup.cfg").write_text("[flake8]\nmax-line-length = 100\n")
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    assert not is_python_project(tmp_path)
    (tmp_path / "requirements.txt").write_text("")
    assert is_python_project(tmp_path)
    (tmp_path / "requirements.txt").unlink()
    for name, text in (
        ("pyproject.toml", "[project]\nname = 'x'\n"),
        ("pyproject.toml", "[build-system]\nrequires = []\n"),
        ("setup.cfg", "[options]\n"),
        ("setup.py", ""),
    ):
        before = (tmp_path / name).read_text() if (tmp_path / name).exists() else None
        (tmp_path / name).write_text(text)
        assert is_python_project(tmp_path), text
        (tmp_path / name).unlink() if before is None else (tmp_path / name).write_text(before)
    (tmp_path / "pyproject.toml").write_text("[project\n")
    with pytest.raises(InvalidParams, match=r"pyproject\.toml: is not TOML"):
        is_python_project(tmp_path)


def index_is_reached(pip: Sequence[str], target: Path) -> bool:
    argv = [*pip, "download", "--no-deps", "--dest", target, "--retries=0", "--timeout=10", "packaging"]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == 0


async def test_a_dependency_from_the_index(tmp_path: Path) -> None:
    tools = find_tools(os.environ)
    if tools.pip is None or not await trio.to_thread.run_sync(index_is_reached, tools.pip, tmp_path / "try"):
        pytest.skip("pip reaches no package index from here")
    root = a_package(tmp_path)
    wheel = make_wheel(tmp_path, "tiny", requires=["packaging"])
    with trio.fail_after(120):
        await build_environment(root, WheelFile(path=wheel, source=a_source(wheel)), tools, Watched().operation())
    code = "import packaging; print(packaging.__file__)"
    assert Path(run(root / ".venv/bin/python", "-c", code, cwd=tmp_path).strip()).is_relative_to(root)
