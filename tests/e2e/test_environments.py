"""Plugins with a virtual environment of their own, through a real daemon: from wheels, with an index and without."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE_S, Daemon, Refused, Rpc
from tests.e2e.versions import stored
from tests.wheels import make_wheel, write_project

KEY = "acme"
DISTRIBUTION = "plugind_tests_acme"
"""A name that no index knows: it would be asked too."""
_MANIFEST = """
[plugin]
key = "acme"
version = "{version}"
api_version = 1
display_name = "Acme"
description = "Tells what it is made of."
author = "plugind's tests"
categories = ["automation"]
capabilities = ["methods.register"]

[worker]
command = ["{program}"{arguments}]

[[methods]]
name = "made_of"
"""
_CODE = """
import sys
{imports}
from supervisor.sdk import Plugin, run

plugin = Plugin()

@plugin.method("made_of")
def made_of(ctx):
    return [{version!r}, {made_of}, sys.prefix]

def main():
    run(plugin)

if __name__ == "__main__":
    main()
"""


def plugin_wheel(
    directory: Path, version: str, *, requires: str | None = None, imports: str = "", made_of: str = "None"
) -> Path:
    """Version 1.0 is run as a module, all others by their console script."""
    as_module = version == "1.0"
    program, arguments = ("python", ', "-m", "acme"') if as_module else ("acme-worker", "")
    directory.mkdir(exist_ok=True, mode=0o755)
    wheel = make_wheel(
        directory,
        DISTRIBUTION,
        version,
        files={
            "acme/__init__.py": "",
            "acme/__main__.py": _CODE.format(imports=imports, version=version, made_of=made_of),
            "acme/plugin.toml": _MANIFEST.format(version=version, program=program, arguments=arguments),
        },
        requires=[requires] if requires else [],
        scripts={"acme-worker": "acme.__main__:main"},
    )
    wheel.chmod(0o644)
    return wheel


def made_of(rpc: Rpc) -> list[str]:
    version, what, prefix = rpc.call("plugins.call", plugin=KEY, method="made_of")["result"]
    assert prefix == str(Path(rpc.call("plugins.get", plugin=KEY)["package_dir"]) / ".venv")
    return [version, what]


def without_index() -> dict[str, str]:
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}


def test_wheels_and_requirements_without_an_index(daemon: Daemon, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    first = plugin_wheel(wheels, "1.0")
    plugin_wheel(wheels, "2.0")
    with daemon.start(**without_index()) as rpc:
        assert rpc.load(first)["version"] == "1.0"
        assert made_of(rpc) == ["1.0", None]
        links = [str(wheels)]
        rpc.call("plugins.upgrade", plugin=KEY, source=f"{DISTRIBUTION}>=1.5", find_links=links)
        assert made_of(rpc) == ["2.0", None]
        with pytest.raises(Refused, match=r"INVALID_PARAMS.*acme>=3"):
            rpc.call("plugins.upgrade", plugin=KEY, source=f"{DISTRIBUTION}>=3", find_links=links)
        rpc.call("plugins.rollback", plugin=KEY)
        assert made_of(rpc) == ["1.0", None]
        rpc.call("plugins.unload", plugin=KEY, remove_data=True)
        assert stored(daemon.state) == {"": []}


def test_its_tools_end_with_a_killed_daemon(daemon: Daemon, tmp_path: Path) -> None:
    began = tmp_path / "began"
    wait = f"open({str(began)!r}, 'w').close(); import time; time.sleep(600)"
    project = write_project(
        tmp_path / "acme",
        "acme",
        before=wait,
        files={"plugin.toml": _MANIFEST.format(version="1.0", program="python", arguments=', "-m", "acme"')},
    )
    for path in [project, *project.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    with daemon.start(**without_index()) as rpc:
        rpc.send("plugins.install", source=str(project))
        deadline = time.monotonic() + PATIENCE_S
        while not began.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert [pid for pid in daemon.processes() if pid != daemon.pid]
        daemon.kill()
    with daemon.start(**without_index()) as rpc:
        assert rpc.call("plugins.list") == []
        assert daemon.processes() == []
        assert stored(daemon.state) == {"": []}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """pip reaches a package index."""
    asked = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--retries", "0", "six==1.16.0"]
    there = tmp_path_factory.mktemp("asked")
    if subprocess.run(asked, cwd=there, capture_output=True, check=False).returncode:
        pytest.skip("pip reaches no package index from here")


@pytest.mark.usefixtures("index")
def test_dependencies_from_the_index(daemon: Daemon, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    for version, six in (("1.0", "1.16.0"), ("2.0", "1.17.0")):
        plugin_wheel(wheels, version, requires=f"six=={six}", imports="import six", made_of="six.__version__")
    links = [str(wheels)]
    with daemon.start() as rpc:
        rpc.call("plugins.install", source=f"{DISTRIBUTION}==1.0", find_links=links)
        rpc.call("plugins.load", plugin=KEY)
        assert made_of(rpc) == ["1.0", "1.16.0"]
        rpc.call("plugins.upgrade", plugin=KEY, source=DISTRIBUTION, find_links=links)
        assert made_of(rpc) == ["2.0", "1.17.0"]
    daemon.stop()
    # Back without any network.
    with daemon.start(**without_index()) as rpc:
        rpc.up(KEY)
        rpc.call("plugins.rollback", plugin=KEY)
        assert made_of(rpc) == ["1.0", "1.16.0"]
        rpc.call("plugins.unload", plugin=KEY, remove_data=True)
        assert stored(daemon.state) == {"": []}
