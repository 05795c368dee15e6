"""Delete directories that programs of others have worked in. Blocking; for threads."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Final

_TRIES: Final = 5


def delete_tree(path: Path) -> None:
    """Also with directories that a build has made unwritable, and while a process that was just killed is ending.

    Raises:
        OSError: it cannot be deleted. What is not there is fine.
    """
    for left in reversed(range(_TRIES)):
        try:
            shutil.rmtree(path)
            return
        except FileNotFoundError:
            if not os.path.lexists(path):
                return
        except OSError as error:
            if not left or error.errno not in (errno.EACCES, errno.ENOTEMPTY):
                raise
            _make_writable(path)


def _make_writable(path: Path) -> None:
    os.chmod(path, 0o700)
    for parent, directories, _files in os.walk(path):
        for name in directories:
            if not os.path.islink(os.path.join(parent, name)):
                os.chmod(os.path.join(parent, name), 0o700)
