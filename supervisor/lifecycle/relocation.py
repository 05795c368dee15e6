"""Make a fresh virtual environment relocatable, and equal wherever it was built. Blocking; for threads."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from supervisor.core.errors import FailedPrecondition

SDK_PTH: Final = "zz_plugind.pth"
"""The last in the alphabet: whatever else the plugin's environment holds comes first."""

_MOST_BYTES: Final = 16 * 1024 * 1024
_ACTIVATE: Final = re.compile(r"[Aa]ctivate(\..+)?")
_SH_HEADER: Final = re.compile(rb"#!/bin/sh\n'''exec' ([^\n]*)\n' '''\n")
_SHEBANG: Final = re.compile(rb"#![ \t]*([^\n]*)\n")
_LINK: Final = re.compile(r"bin/python[0-9.]*|lib64")


def sdk_directories() -> list[Path]:
    """Where the daemon's own `supervisor` and the libraries that its SDK needs are found."""
    found = []
    for package in ("supervisor", "msgpack"):
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise FailedPrecondition(f"the package {package} of the daemon itself cannot be found: reinstall plugind")
        found.append(Path(spec.origin).parents[1])
    return list(dict.fromkeys(found))


def what_is_ours(venv: Path) -> dict[str, bytes]:
    """Of an environment that is bare still: its settings, and where its links lead."""
    links = [path for path in [*(venv / "bin").iterdir(), venv / "lib64"] if path.is_symlink()]
    return {
        "pyvenv.cfg": _content(venv / "pyvenv.cfg"),
        **{str(path.relative_to(venv)): os.fsencode(path.readlink()) for path in links},
    }


def make_relocatable(
    venv: Path, ours: Mapping[str, bytes], staging: Path, sdk: Sequence[Path], check_cancelled: Callable[[], object]
) -> None:
    """Take every trace of where it was built out of `venv`, and add the path to the SDK.

    Nothing in it may lead into `staging`, since that is gone or elsewhere when the environment is used. `ours` is what
    `what_is_ours` said before anything was installed.

    Raises:
        FailedPrecondition: something in it would only work where it was built, or stands where something else has to.
    """
    try:
        _check_files(venv, check_cancelled)
        _refuse_replaced(venv, ours)
        _relocate(venv, staging, sdk, check_cancelled)
    except (IsADirectoryError, NotADirectoryError) as error:
        inner = os.path.relpath(os.fsdecode(error.filename), venv)
        kind = "a directory" if isinstance(error, IsADirectoryError) else "a file"
        raise FailedPrecondition(
            f"the installation made {inner} {kind}, which in an environment is something else: take it out of the "
            "package that brings it"
        ) from error


def _refuse_replaced(venv: Path, ours: Mapping[str, bytes]) -> None:
    for name, was in ours.items():
        path = venv / name
        if name == "pyvenv.cfg":
            same = path.is_file() and _content(path) == was
        else:
            same = path.is_symlink() and os.fsencode(path.readlink()) == was
        if not same:
            raise FailedPrecondition(
                f"the installation replaced {name}, which belongs to the environment itself: take it out of the "
                "package that brings it"
            )


def _relocate(venv: Path, staging: Path, sdk: Sequence[Path], check_cancelled: Callable[[], object]) -> None:
    for name in os.listdir(venv / "bin"):
        if _ACTIVATE.fullmatch(name):
            (venv / "bin" / name).unlink()
    (venv / ".lock").unlink(missing_ok=True)
    _without_command(venv / "pyvenv.cfg")
    rewritten = {path for path in sorted((venv / "bin").iterdir()) if _rewrite_script(path, venv)}
    for site_packages in venv.glob("lib/python*/site-packages"):
        _refuse_editables(site_packages, staging)
        for info in sorted(site_packages.glob("*.dist-info")):
            check_cancelled()
            try:
                _clean_record(info, staging, rewritten)
            except (ValueError, csv.Error) as error:
                raise FailedPrecondition(f"the records in {info.name} are damaged: {error}") from error
        (site_packages / SDK_PTH).write_bytes(b"".join(os.fsencode(path) + b"\n" for path in sdk))


def _without_command(config: Path) -> None:
    lines = config.read_text("utf-8").splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith("command =")), "utf-8")


def _check_files(venv: Path, check_cancelled: Callable[[], object]) -> None:
    """First of all: a build runs foreign code, and what it has put there is not to lead us elsewhere."""
    for parent, directories, files in os.walk(venv):
        check_cancelled()
        if "__pycache__" in directories:
            shutil.rmtree(Path(parent, "__pycache__"))
            directories.remove("__pycache__")
        for name in directories + files:
            path = Path(parent, name)
            mode, inner = path.lstat().st_mode, str(path.relative_to(venv))
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and _LINK.fullmatch(inner))):
                kind = f"a symbolic link to {os.readlink(path)}" if stat.S_ISLNK(mode) else "no regular file"
                raise FailedPrecondition(f"the installation made {inner}, {kind}: an environment holds files only")


def _content(path: Path) -> bytes:
    """Of a file that may be anything."""
    if path.stat().st_size > _MOST_BYTES:
        raise FailedPrecondition(f"{path.name}, which the installation made, is larger than {_MOST_BYTES} bytes")
    return path.read_bytes()


def _rewrite_script(path: Path, venv: Path) -> bool:
    """Whether it was one that names the environment's interpreter by its path."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        if file.read(2) != b"#!":
            return False
    text = _content(path)
    here = os.fsencode(venv / "bin") + b"/"
    header = _SH_HEADER.match(text) or _SHEBANG.match(text)
    if header is None or here not in header[1]:
        return False
    program, _, options = header[1].partition(here)[2].replace(b'"', b" ").replace(b"'", b" ").partition(b" ")
    if not re.fullmatch(rb"python[0-9.]*", program):
        raise FailedPrecondition(f"the script {path.name} runs {program!r} of the place where it was built")
    flags = b"".join(b" " + word for word in options.split() if re.fullmatch(rb"-[A-Za-z=.]+", word))
    path.write_bytes(_header(program, flags) + text[header.end() :])
    return True


def _header(program: bytes, flags: bytes) -> bytes:
    """For the shell the way to the interpreter beside this file, for Python a text that nobody reads."""
    beside = b'"$(dirname -- "$(readlink -f -- "$0")")/' + program + b'"'
    return b"#!/bin/sh\n'''exec' " + beside + flags + b" \"$0\" \"$@\"\n' '''\n"


def _refuse_editables(site_packages: Path, staging: Path) -> None:
    for file in [*site_packages.glob("*.pth"), *site_packages.glob("__editable__*.py")]:
        if os.fsencode(staging) in _content(file):
            raise FailedPrecondition(
                f"{file.name} leads to the place where the environment was built: a package was installed with -e "
                "(editable); take that out of the requirements"
            )


def _clean_record(info: Path, staging: Path, rewritten: set[Path]) -> None:
    """Bring a distribution's RECORD up to date with what was changed of its files, or is taken away here."""
    direct = info / "direct_url.json"
    if direct.is_file() and str(staging) in unquote(_content(direct).decode()):
        direct.unlink()
    (info / "uv_cache.json").unlink(missing_ok=True)
    record, site_packages = info / "RECORD", info.parent
    if not record.is_file():
        return
    rows = [row for row in csv.reader(io.StringIO(_content(record).decode(), newline="")) if row]
    kept = [_renewed(row, site_packages, rewritten) for row in rows if os.path.lexists(site_packages / row[0])]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(sorted(kept))
    record.write_text(out.getvalue(), "utf-8", newline="")


def _renewed(row: list[str], site_packages: Path, rewritten: set[Path]) -> list[str]:
    path = Path(os.path.normpath(site_packages / row[0]))
    if path not in rewritten:
        return row
    content = path.read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return [row[0], f"sha256={digest}", str(len(content))]
