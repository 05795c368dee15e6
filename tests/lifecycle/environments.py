"""What the tests of environments share: tools that ask no index, operations that keep what they were told."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from supervisor.lifecycle.children import Children
from supervisor.lifecycle.operation import Operation, Progress
from supervisor.lifecycle.pip_command import EnvironmentTools, find_tools
from supervisor.lifecycle.sources import Source, SourceKind

STATE_ID = "0123456789abcdef" * 2


def tools_without_index(tmp_path: Path, **environ: str) -> EnvironmentTools:
    """pip, though uv may be there; nothing of this machine's configuration."""
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    return replace(find_tools(given | environ, state_id=STATE_ID, children=Children()), uv=None)


@dataclass
class Watched:
    """An operation, and all that it has told."""

    told: list[Progress] = field(default_factory=list)

    def operation(self, **more: Any) -> Operation:
        return Operation(self.told.append, **more)

    @property
    def lines(self) -> list[str]:
        return [progress.line for progress in self.told if progress.line is not None]


def a_source(path: Path | None = None, requirement: str | None = None, **more: Any) -> Source:
    kind = SourceKind.REQUIREMENT if path is None else SourceKind.DIRECTORY
    return Source(text=str(requirement or path), kind=kind, path=path, requirement=requirement, **more)


def tree(root: Path) -> dict[str, bytes]:
    """Path -> content, or where the link leads."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = b"-> " + os.fsencode(os.readlink(path))
        elif path.is_file():
            found[name] = path.read_bytes()
    return found
