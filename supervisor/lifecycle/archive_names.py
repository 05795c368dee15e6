"""What may be called how in an archive: one name for one file, below the top, the same on every file system. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from supervisor.lifecycle.copying import PackageLimits

AGAIN: Final = "build or download it again"
_MAX_PART_BYTES: Final = 255
"""NAME_MAX of Linux file systems."""
_SHOWN_CHARS: Final = 80
_DRIVE: Final = re.compile(r"[A-Za-z]:")
# Controls, line and paragraph separators, and what turns the reading direction: a message that names them would lie.
_UNSEEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Flaw(Exception):
    """What is wrong with an archive, or with `member`, as the rest of a sentence that ends with the way out."""

    def __init__(self, why: str, member: bytes | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.member = member


class TooMuch(Flaw):
    """It is over a limit."""


class NoArchive(Flaw):
    """It is something else, or nothing."""


def shown(name: bytes) -> str:
    """A name as a message may hold it: quoted, escaped and not too long."""
    cut = name[: 4 * _SHOWN_CHARS].decode(errors="backslashreplace")
    text = ascii(cut) if _UNSEEN.search(cut) else repr(cut)
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 30]}…{text[-20:]}"


def split_name(raw: bytes, limits: PackageLimits) -> tuple[str, ...]:
    """The parts of a member's name below the archive's top; none for the top itself ("./").

    A leading "./" is what `tar -C DIRECTORY .` makes, so it alone is let pass.

    Raises:
        Flaw: a name that is not allowed; without its member.
    """
    if not raw:
        raise Flaw(f"has an empty name; {AGAIN}")
    if len(raw) > limits.max_name_bytes:
        raise TooMuch(f"has a name of {len(raw)} bytes, at most {limits.max_name_bytes} are allowed; shorten it")
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise Flaw("has a name that is not UTF-8; rename it") from None
    if _UNSEEN.search(name):
        raise Flaw("has a control character in its name (a line end, NUL, an escape); rename it")
    if "\\" in name:
        raise Flaw("has a backslash in its name, which is a path elsewhere; names are separated by '/'")
    if name.startswith("/") or _DRIVE.match(name):
        raise Flaw("is an absolute path; names must be relative to the package's directory")
    parts = name.removesuffix("/").split("/")
    if parts[0] == ".":
        parts = parts[1:]
    for part in parts:
        _refuse_part(part)
    if len(parts) > limits.max_depth:
        raise TooMuch(f"is more than {limits.max_depth - 1} directories deep; make it flatter")
    return tuple(parts)


def _refuse_part(part: str) -> None:
    if part == "..":
        raise Flaw("leads out of its directory with '..'; names must stay below the package's directory")
    if part in ("", "."):
        raise Flaw("has an empty or '.' part in its name; name it by its plain path")
    if len(part.encode()) > _MAX_PART_BYTES:
        raise Flaw(f"has a part of more than {_MAX_PART_BYTES} bytes in its name; shorten it")


class Names:
    """All members so far. Files and directories are counted, those too that are only named as part of a path."""

    def __init__(self, limits: PackageLimits) -> None:
        self._limits = limits
        self._files: set[str] = set()
        self._directories: dict[str, bool] = {"": True}
        """Whether it is a member of its own; False while it is only part of a path."""
        self._folded: dict[str, str] = {}
        self._counted = 0
        self._bytes_left = limits.max_bytes

    @property
    def has_files(self) -> bool:
        return bool(self._files)

    def count(self, size: int) -> None:
        """One more entry of `size` bytes.

        Raises:
            TooMuch: that is more than a package may hold.
        """
        self._counted += 1
        self._bytes_left -= size
        if self._counted > self._limits.max_entries:
            raise TooMuch(f"is one too many: more than {self._limits.max_entries} files and directories; pack fewer")
        if self._bytes_left < 0:
            raise TooMuch(f"is too much: files of more than {self._limits.max_bytes} bytes in all; leave some out")

    def add(self, parts: tuple[str, ...], *, is_dir: bool) -> None:
        """One more name.

        Raises:
            Flaw: it is there already, in this or in another spelling, or a file is its directory.
            TooMuch: its directories are more than a package may hold.
        """
        parent = "/".join(parts[:-1])
        if parent not in self._directories:
            for depth in range(1, len(parts)):
                self._add_parent("/".join(parts[:depth]))
        path = "/".join(parts)
        if is_dir != (path in self._directories) and (path in self._files or path in self._directories):
            raise Flaw("is a file and a directory at once; rename one of them")
        if path in self._files or self._directories.get(path):
            raise Flaw("is in it twice; keep one of them")
        self._refuse_twin(path)
        if is_dir:
            self._directories[path] = True
        else:
            self._files.add(path)

    def _add_parent(self, path: str) -> None:
        if path in self._directories:
            return
        if path in self._files:
            raise Flaw(f"uses the file {shown(path.encode())} as a directory; rename one of them")
        self.count(0)
        self._refuse_twin(path)
        self._directories[path] = False

    def _refuse_twin(self, path: str) -> None:
        twin = self._folded.setdefault(_folded(path), path)
        if twin != path:
            raise Flaw(
                f"and {shown(twin.encode())} are the same name on some file systems (upper and lower case, or two "
                "spellings in Unicode); rename one of them"
            )


def _folded(path: str) -> str:
    if path.isascii():
        return path.lower()
    # As file systems compare that ignore case: canonical decomposition, folded, and once more for what that made.
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())
