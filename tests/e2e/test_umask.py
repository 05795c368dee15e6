"""Under umask 002, the usual one where every user has a group of his own, everything works; under others `new` does."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.trust import private_group_now
from tests.e2e.conftest import EXAMPLES, ROOT

# Under the umask in argv[1]: do what follows in argv[2:] as pluginctl.
PLUGINCTL = "import os, sys; os.umask(int(sys.argv.pop(1), 8)); from client.cli.main import main; sys.exit(main())"
# Under the umask in argv[1]: stage the package at argv[2] in a store of its own at argv[3], and tell its key.
STAGE = """
import os, sys, trio
from pathlib import Path
os.umask(int(sys.argv[1], 8))
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.packages import PackageStore
from tests.packages import directory_source
root, staging = Path(sys.argv[3]) / "packages", Path(sys.argv[3]) / "staging"
for place in (root, staging):
    place.mkdir(parents=True)
store = PackageStore(root, staging, lambda job, key: None)
async def look(manifest):
    print(manifest.key)
trio.run(store.stage, directory_source(Path(sys.argv[2])), Operation(), look)
"""


def run(program: str, *arguments: object) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", ["002", "022", "077", "000"])
def test_a_new_plugin_passes_whatever_the_umask(tmp_path: Path, umask: str) -> None:
    directory = tmp_path / "above/weather"
    run(PLUGINCTL, umask, "new", "acme.weather", directory)
    assert [mode(path) for path in (directory.parent, directory)] == [0o755, 0o755]
    assert {path.name: mode(path) for path in directory.iterdir()} == {"plugin.toml": 0o644, "main.py": 0o644}
    assert "acme.weather 0.1.0 is well" in run(PLUGINCTL, umask, "check", directory)
    assert run(STAGE, umask, directory, tmp_path / "state") == "acme.weather\n"


@pytest.mark.skipif(
    not private_group_now(os.geteuid(), os.getegid()), reason="needs a user with a group of his own, as is usual"
)
def test_what_was_cloned_under_umask_002_passes(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(EXAMPLES / "heartbeat", clone, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [clone, *clone.rglob("*")]:
        path.chmod(0o775 if path.is_dir() else 0o664)
    assert run(STAGE, "002", clone, tmp_path / "state") == "example.heartbeat\n"
