"""Hold a child until its limits and its cgroup are set: they come from outside, and a fast program would be ahead."""

from __future__ import annotations

import os
from typing import Final

from supervisor.worker.descriptors import Descriptors

_SHELL: Final = "/bin/sh"
_FD: Final = 4
"""A shell's redirections know one digit; 3 is the worker's socket."""
_WAIT: Final = f'read -r go <&{_FD} || exit 125; exec {_FD}<&-; unset go PWD OLDPWD; exec "$0" "$@"'
"""The end of the pipe without a line: the daemon is gone."""
_ELF: Final = b"\x7fELF"
_HEAD_BYTES: Final = 256


class Gate:
    """Spawn `argv` with `actions` beside your own, then `open` it."""

    def __init__(self, argv: tuple[str, ...], fds: Descriptors) -> None:
        theirs, self._ours = fds.pipe(small=True)
        self.argv: Final = (_SHELL, "-c", _WAIT, *argv)
        self.actions: Final = [(os.POSIX_SPAWN_DUP2, theirs, _FD)]

    def open(self) -> None:
        """
        Raises:
            OSError: the child is gone already.
        """
        os.write(self._ours, b"\n")


def can_be_held(program: str) -> bool:
    """Whether a shell starts `program` just as the kernel would; of the others the kernel itself says what is wrong."""
    head, own = _head(program), _head(_SHELL)
    if head[:4] == _ELF:
        return _kind(head) == _kind(own)
    if head[:2] != b"#!":
        return False
    words = head.splitlines()[0][2:].split()
    return bool(words) and os.access(words[0], os.X_OK)


def _kind(head: bytes) -> tuple[bytes, bytes]:
    """Class and machine."""
    return head[4:6], head[18:20]


def _head(path: str) -> bytes:
    if not os.access(path, os.X_OK):
        return b""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""
