"""Scratch: a directory beside what is being made, with a home for pip and what it builds; gone afterwards."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from supervisor.core.errors import FailedPrecondition
from supervisor.lifecycle.deleting import delete_tree
from supervisor.lifecycle.operation import Operation
from supervisor.lifecycle.pip_command import EnvironmentTools, raw_progress
from supervisor.lifecycle.said import Said
from supervisor.log import log
from supervisor.worker.process import Exit

_CLEANUP_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """Temporary files, caches and whatever else programs leave in their home end with it: each operation downloads
    anew, unless the daemon's environment names a cache (PIP_CACHE_DIR, UV_CACHE_DIR)."""

    path: Path
    environ: Mapping[str, str]
    tools: EnvironmentTools
    operation: Operation

    async def run(self, *argv: str, said: Said, cwd: Path | None = None, environ: Mapping[str, str] = {}) -> Exit:
        """Run a program; its lines go to `said` and to the operation, without credentials.

        Raises:
            ResourceExhausted: it cannot be started.
        """

        def on_line(line: str) -> None:
            if progress := raw_progress(line):
                self.operation.report(done=progress[0], total=progress[1])
            elif line.strip():
                self.operation.report(line=said.add(line))

        env = {**self.environ, **environ}
        return await self.tools.children.run(argv, env=env, cwd=cwd or self.path, on_line=on_line)

    async def pip(self) -> tuple[str, ...]:
        """How pip is called: the interpreter's own, or else one that is made here.

        Raises:
            FailedPrecondition: there is none, and none can be made.
        """
        if self.tools.pip:
            return self.tools.pip
        home, said = self.path / "pip", Said(self.tools.index_url)
        ended = await self.run(self.tools.python, "-I", "-B", "-m", "venv", str(home), said=said)
        if ended.code != 0:
            raise FailedPrecondition(
                f"{self.tools.python} has no pip, and `-m venv` cannot make one: install pip for this interpreter "
                f"(Debian: python3-venv, python3-pip). It said:\n{said.last_words()}",
                output=said.tail,
            )
        return (str(home / "bin/python"), "-I", "-B", "-m", "pip")


@asynccontextmanager
async def scratch_beside(place: Path, tools: EnvironmentTools, operation: Operation) -> AsyncIterator[Scratch]:
    """In the directory that `place` is in, which is staging: what a daemon that is killed leaves, the next removes."""
    path = Path(tempfile.mkdtemp(dir=place.parent, prefix=".scratch-"))
    try:
        yield Scratch(path=path, environ=_environ(path, tools), tools=tools, operation=operation)
    finally:
        await delete_in_thread(path)


async def delete_in_thread(path: Path) -> None:
    """Also while cancelled. Takes 30 s at most; what is left then is logged, and for the next boot."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLEANUP_S):
        try:
            await trio.to_thread.run_sync(delete_tree, path, abandon_on_cancel=True)
        except OSError as error:
            log.error("install.not_removed", path=str(path), error=str(error))


def _environ(scratch: Path, tools: EnvironmentTools) -> dict[str, str]:
    home, temporary = scratch / "home", scratch / "tmp"
    for directory in (home, temporary):
        directory.mkdir(0o700)
    # pip also reads this one, which no variable names.
    if os.path.isdir(f"{tools.home}/.pip"):
        (home / ".pip").symlink_to(f"{tools.home}/.pip")
    index = {"PIP_INDEX_URL": tools.index_url} if tools.index_url else {}
    return {
        **tools.environ,
        **index,  # not as an argument: every user of the machine could read its password there
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "UV_CACHE_DIR": tools.environ.get("UV_CACHE_DIR") or str(home / ".cache/uv"),
    }


def own_pip_configuration() -> Path | None:
    """What pip reads in the daemon's environment, and would not see in another one."""
    found = Path(sys.prefix) / "pip.conf"
    return found if found.is_file() else None
