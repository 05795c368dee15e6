"""Write what was in an archive: new files and directories below one directory of ours, and nowhere else."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """`target` is there and empty. Names come in parts that hold no "/" and are neither "." nor "..".

    Every step is taken from the descriptor of the directory above: even if somebody could put a link into the tree,
    nothing would follow it.
    """

    def __init__(self, target: Path) -> None:
        self._root = os.open(target, _DIRECTORY)
        self._inside: list[tuple[str, int]] = []
        """The directory we are in: from the top down, each with its descriptor."""
        self._top: dict[str, bool] = {}
        """Name -> whether it is a directory."""

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._leave(0)
        os.close(self._root)

    def directory(self, parts: tuple[str, ...]) -> None:
        self._enter(parts)

    def file(self, parts: tuple[str, ...], content: Iterable[bytes], *, executable: bool) -> None:
        parent = self._enter(parts[:-1])
        if len(parts) == 1:
            self._top[parts[0]] = False
        fd = os.open(parts[-1], _NEW_FILE, 0o700 if executable else 0o600, dir_fd=parent)
        try:
            for chunk in content:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(fd, view) :]
        finally:
            os.close(fd)

    def strip_top(self) -> None:
        """Where all there is, is in one directory, put that one's content in its place."""
        if list(self._top.values()) != [True]:
            return
        self._leave(0)
        (top,) = self._top
        aside = f".{secrets.token_hex(16)}"  # it may well hold something that is called like itself
        os.rename(top, aside, src_dir_fd=self._root, dst_dir_fd=self._root)
        with ExitStack() as stack:
            fd = os.open(aside, _DIRECTORY, dir_fd=self._root)
            stack.callback(os.close, fd)
            for name in os.listdir(fd):
                os.rename(name, name, src_dir_fd=fd, dst_dir_fd=self._root)
        os.rmdir(aside, dir_fd=self._root)

    def _enter(self, parts: tuple[str, ...]) -> int:
        """The descriptor of this directory, which is made if it is new."""
        common = 0
        for (name, _), part in zip(self._inside, parts, strict=False):
            if name != part:
                break
            common += 1
        self._leave(common)
        for name in parts[common:]:
            self._step_into(name)
        return self._inside[-1][1] if self._inside else self._root

    def _step_into(self, name: str) -> None:
        above = self._inside[-1][1] if self._inside else self._root
        if not self._inside:
            self._top[name] = True
        try:
            os.mkdir(name, 0o700, dir_fd=above)
        except FileExistsError:  # by us: we come back to it. Were it no directory, to open it would fail.
            pass
        self._inside.append((name, os.open(name, _DIRECTORY, dir_fd=above)))

    def _leave(self, depth: int) -> None:
        while len(self._inside) > depth:
            os.close(self._inside.pop()[1])
